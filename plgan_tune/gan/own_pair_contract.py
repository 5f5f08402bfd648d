"""What a user's own pair of networks must keep, tried on a small batch in float64.

It has the shapes of its images; draws from no global random numbers; says of an image alone what it says of it in a
batch; gives two ranks the numbers of one; trains all its weights; and is whole in its state_dict.
"""

from copy import deepcopy
from typing import Final

import torch
from torch import Tensor

from plgan_tune.config.trial import ModelSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.objective import supervised_softmax
from plgan_tune.gan.own import PAIR, Own
from plgan_tune.gan.own_contract import BATCH, Shapes, on_two_ranks, own_random_numbers
from plgan_tune.gan.pairs.base import DiscriminatorOutput, Pair, Traits, draw_latent
from plgan_tune.gan.pairs.build import build
from plgan_tune.gan.passes import AllSum, Pass, gather

_EVERY: Final = slice(None)


def check_pair(own: Own, model: ModelSpec, shapes: Shapes) -> None:
    """Check the contract of a file's `build_pair`.

    Args:
        own: the file, with the values of a trial.
        model: the trial's, of kind own.
        shapes: those of the images.

    Raises:
        RuleError: naming what the pair breaks.
    """
    with own_random_numbers() as touched:
        pair = _built(own, model, shapes)
        _check_traits(own, pair)
        trial = _Trial(own, pair, model, shapes)
        trial.run()
        if found := touched():
            rule = "must draw from no global random numbers: rng_d, rng_g and the draws of a pass have some"
            raise own.refuse(PAIR, rule, f"draws from those of {' and '.join(found)}")
        trial.check()


def _built(own: Own, model: ModelSpec, shapes: Shapes, seed: int = 0) -> Pair:
    generators = (torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1))
    D, G = build(model, shapes.image, shapes.classes, generators, own=own)
    return Pair(D.to(torch.float64), G.to(torch.float64))


def _check_traits(own: Own, pair: Pair) -> None:
    for network in pair:
        if not isinstance(getattr(network, "traits", None), Traits):
            raise own.refuse(PAIR, f"{type(network).__name__} must have `traits`, a Traits", "none")
    if pair.discriminator.traits.pixels != pair.generator.traits.pixels:
        rule = "both networks must have one range of pixels"
        raise own.refuse(PAIR, rule, f"{pair.discriminator.traits.pixels} and {pair.generator.traits.pixels}")


class _Trial:
    """A pair on a batch of images and latent vectors."""

    def __init__(self, own: Own, pair: Pair, model: ModelSpec, shapes: Shapes) -> None:
        self.own, self.pair, self.model, self.shapes = own, pair, model, shapes
        image = shapes.image
        pixels = pair.discriminator.traits.pixels
        rng = torch.Generator().manual_seed(2)
        shape = (3, BATCH, image.channels, image.size, image.size)
        self.parts = torch.rand(shape, generator=rng, dtype=torch.float64) * (pixels.high - pixels.low) + pixels.low
        self.latent = draw_latent(self._draws(1), model)

    def run(self) -> None:
        """Take a pass of G, and one of D in evaluation and one in training, for what else they do."""
        D, G = self.pair
        with torch.no_grad():
            G(self.latent)
            D(self.parts[0])
            D(self.parts[0], Pass(self._draws(1)))

    def check(self) -> None:
        """Check each rule in turn."""
        D, G = self.pair
        with torch.no_grad():
            fakes = G(self.latent)
            self._shape("the generator's images", fakes, (BATCH, *self.parts.shape[2:]))
            low, high = D.traits.pixels
            if not bool(((fakes >= low) & (fakes <= high)).all()):
                rule = f"generated pixels must lie in [{low:g}, {high:g}], the range of `traits`"
                raise self._refuse(rule, f"{fakes.min().item():.3g} to {fakes.max().item():.3g}")
            D.settle(self.parts[0])
            self._evaluation(deepcopy(D)(self.parts[0]))
        self._round_trip()
        self._ranks_and_gradients()

    def _evaluation(self, judged: DiscriminatorOutput) -> None:
        D = self.pair.discriminator
        self._shape("the logits", judged.logits, (BATCH, self.shapes.classes))
        self._shape("the features", judged.features, (BATCH, *judged.features.shape[1:2]))
        alone = torch.cat([D(image.unsqueeze(0)).logits for image in self.parts[0]])
        self._alike("evaluation of an image alone and in a batch", judged.logits, alone)
        self._alike("two evaluations of the same images", judged.logits, D(self.parts[0]).logits)

    def _round_trip(self) -> None:
        other = _built(self.own, self.model, self.shapes, seed=7)
        for network, twin in zip(self.pair, other, strict=True):
            twin.load_state_dict(network.state_dict())
        with torch.no_grad():
            one, two = (pair.discriminator(self.parts[0]).logits for pair in (self.pair, other))
            self._alike("D, and one that has loaded its state_dict,", one, two)
            one, two = (pair.generator(self.latent) for pair in (self.pair, other))
            self._alike("G, and one that has loaded its state_dict,", one, two)

    def _ranks_and_gradients(self) -> None:
        alone = [self._losses(_EVERY, None)]
        shares = on_two_ranks(self._losses)
        for loss, network in enumerate(self.pair):
            named = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
            weights = [weight for _, weight in named]
            one, two = (
                torch.autograd.grad(sum(share[loss] for share in ranks), weights, allow_unused=True)  # type: ignore[arg-type]
                for ranks in (alone, shares)
            )
            for (name, _), expected, found in zip(named, one, two, strict=True):
                which = f"{name} of {type(network).__name__}"
                if expected is None or found is None:
                    raise self._refuse("every trained weight must have a gradient", f"none for {which}")
                if not bool(expected.isfinite().all()):
                    raise self._refuse("gradients must be finite at the first step", f"nan or inf for {which}")
                self._alike(f"the gradient of {which} on one rank and on two", expected, found)

    def _losses(self, rows: slice, all_sum: AllSum | None) -> tuple[Tensor, Tensor]:
        """Return this rank's part of a loss of D and of one of G, as a step has them."""
        D, G = self.pair
        index = torch.arange(BATCH)[rows]
        own = torch.cat([index + part * BATCH for part in range(3)])

        def seen(draws: Draws | None, parts: int = 1) -> Pass:
            if all_sum is None:
                return Pass(draws, parts)
            return Pass(draws, parts, all_sum, lambda held: gather(held, rows, BATCH, all_sum))

        fakes = G(self.latent[rows], seen(None))
        real = self.parts[:2, rows].flatten(0, 1)
        judged = D(torch.cat([real, fakes.detach()]), seen(self._draws(3, own), parts=3))
        labelled, *others = judged.logits.chunk(3)
        of_d = supervised_softmax(labelled, index % self.shapes.classes).sum() + sum(
            x.logsumexp(1).square().sum() for x in others
        )
        logits, features = D(fakes, seen(self._draws(1, index)))
        return of_d, logits.logsumexp(1).square().sum() + features.square().sum()

    def _draws(self, parts: int, rows: Tensor | None = None) -> Draws:
        return Draws(torch.Generator().manual_seed(3), parts * BATCH, rows, torch.float64)

    def _shape(self, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(tensor.shape) != shape:
            raise self._refuse(f"{what} must have shape {shape} for {BATCH} images", f"{tuple(tensor.shape)}")
        if not bool(tensor.isfinite().all()):
            raise self._refuse(f"{what} must be finite at the first step", "nan or inf")

    def _alike(self, what: str, one: Tensor, two: Tensor) -> None:
        if not torch.allclose(one, two, rtol=1e-9, atol=1e-9):
            raise self._refuse(f"{what} must be the same", f"a difference of {(one - two).abs().max().item():.2g}")

    def _refuse(self, rule: str, value: str) -> Exception:
        return self.own.refuse(PAIR, rule, value)
