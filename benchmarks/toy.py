"""Eight Gaussians on a circle: does a critic's generator of points find them all?

    OMP_NUM_THREADS=1 python benchmarks/toy.py [--clip] [--steps 3] [--seed 0]

The networks are those of simWIRGAN (Feng et al. 2020, figure 5), with 128 units in a layer in place of 512. Points are
no images, so they live here; the game and the penalty are the project's. Prints how many of the eight modes have at
least 1 % of the generated points, and which share of all points lies near one. A minute of a core.
"""

import argparse
import math

import torch
from torch import Tensor, nn

from plgan_tune.gan.games import Wasserstein, gradient_penalty, realness

MODES, RADIUS, SPREAD, NEAR = 8, 2.0, 0.05, 0.3
"""Number, distance from the middle and deviation of the Gaussians; the distance up to which a point lies near one."""
BATCH, UNITS, K = 128, 128, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", action="store_true", help="clipped weights and RMSprop in place of the penalty")
    parser.add_argument("--steps", type=int, default=1, help="T, in which the generator draws")
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    points = train(asked.rounds, asked.steps, clip=asked.clip, seed=asked.seed)
    found, near = modes_of(points)
    print(f"{found} of {MODES} modes; {near:.0%} of the points lie near one")


class Drawing(nn.Module):
    """f and g of a generator that draws a point in T steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.f = dense(2 + (UNITS if steps > 1 else 0), 2)
        self.g = nn.Sequential(nn.Linear(2, UNITS), nn.ReLU()) if steps > 1 else None

    def forward(self, z: Tensor) -> Tensor:
        """Return points (B, 2) for z (B, T, 2)."""
        point = torch.zeros_like(z[:, 0])
        for step in range(self.steps):
            h = [] if self.g is None else [self.g(point) if step else z.new_zeros(len(z), UNITS)]
            point = self.f(torch.cat([z[:, step], *h], dim=1))
        return point


def dense(inputs: int, outputs: int) -> nn.Sequential:
    """Return four dense layers."""
    layers: list[nn.Module] = [nn.Linear(inputs, UNITS), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Linear(UNITS, UNITS), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(UNITS, outputs))


def train(rounds: int, steps: int = 1, *, clip: bool = False, seed: int = 0) -> Tensor:
    """Train a pair, and return 2,000 of its points, (2000, 2)."""
    torch.manual_seed(seed)
    rng, game = torch.Generator().manual_seed(seed), Wasserstein()
    D, G = dense(2, 1), Drawing(steps)
    descent = [
        torch.optim.RMSprop(net.parameters(), lr=2e-4) if clip else torch.optim.Adam(net.parameters(), 5e-4, (0.5, 0.9))
        for net in (D, G)
    ]

    def draw(count: int = BATCH) -> Tensor:
        points: Tensor = G(torch.randn(count, steps, 2, generator=rng))
        return points

    for _ in range(rounds):
        for _ in range(K):
            real, fake = some_points(rng), draw().detach()
            loss = game.on_real(D(real)).mean() + game.on_fake(D(fake)).mean()
            if not clip:
                share = torch.rand(BATCH, 1, generator=rng)
                between = (share * real + (1 - share) * fake).requires_grad_()
                loss = loss + 1.0 * gradient_penalty(between, realness(D(between))).mean()
            descend(descent[0], loss)
            for weight in D.parameters() if clip else ():
                weight.data.clamp_(-0.1, 0.1)
        descend(descent[1], game.for_generator(D(draw())).mean())
    with torch.no_grad():
        return draw(2000)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def centres() -> Tensor:
    """Return the middles of the Gaussians, (8, 2)."""
    angles = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angles.cos(), angles.sin()], dim=1)


def some_points(rng: torch.Generator) -> Tensor:
    """Draw a batch of points of the Gaussians."""
    which = torch.randint(MODES, (BATCH,), generator=rng)
    return centres()[which] + SPREAD * torch.randn(BATCH, 2, generator=rng)


def modes_of(points: Tensor) -> tuple[int, float]:
    """Return how many modes at least 1 % of the points lie near, and the share of points near any."""
    distance, nearest = torch.cdist(points, centres()).min(dim=1)
    counts = torch.bincount(nearest[distance < NEAR], minlength=MODES)
    return int((counts >= len(points) / 100).sum()), float((distance < NEAR).float().mean())


if __name__ == "__main__":
    main()
