"""Diagnostics of the balance between the two networks at the end of an epoch, on a small probe."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Draws, Stream, rng_for
from plgan_tune.gan.games import Logistic
from plgan_tune.gan.objective import feature_distance
from plgan_tune.gan.pairs.base import DiscriminatorOutput, draw_latent
from plgan_tune.gan.passes import Pass
from plgan_tune.training.state import TrainState

PROBE: Final = 200
"""Images of each kind, whatever the batch size, so that gradient norms are comparable between trials."""


class Diagnostics(NamedTuple):
    """Columns of `EpochMetrics`, which documents them."""

    grad_norm_adversarial: float
    grad_norm_feature: float
    accuracy_real: float
    accuracy_generated: float
    real_max_logit_positive: float
    entropy_generated: float


def diagnose(state: TrainState, data: Dataset, w: float) -> Diagnostics:
    """Measure the raw weights as the generator's step uses them, noise on, and change nothing.

    The probe is 200 generated images and as many unlabelled ones (all, if the pool has fewer), drawn for each epoch
    from a stream of its own. Every rank computes all of it, without a collective: weights and draws are the same on all
    ranks, so the results are too, and it takes no longer than on one rank.

    Args:
        state: the networks, at the end of an epoch.
        data: the images.
        w: the epoch's ramp, for V_log.
    """
    trial = state.trial
    rng = rng_for(trial.seed, state.epoch, Stream.DIAGNOSTICS, state.device)
    draws = Draws(rng, PROBE, dtype=state.precision.dtype)
    with state.precision.autocast():
        real = _judge_real(state, data, rng)
        fakes = state.G.network(draw_latent(draws, trial.model))
        fake = state.D.network(fakes, Pass(draws)).to(state.precision.dtype)
    game = Logistic(w, trial.loss.smoothing or None)
    V_log = game.for_generator(fake.logits).mean()
    V_feature = feature_distance(real.features.mean(dim=0), fake.features.mean(dim=0), trial.loss.feature_norm)
    weights = list(state.G.network.parameters())
    values = torch.stack(
        [
            get_total_norm(torch.autograd.grad(V_log, weights, retain_graph=True)),
            get_total_norm(torch.autograd.grad(V_feature, weights)),
            *_shares(real.logits, fake.logits.detach(), game.zero),
        ]
    )
    return Diagnostics(*values.tolist())


@torch.no_grad()
def _judge_real(state: TrainState, data: Dataset, rng: torch.Generator) -> DiscriminatorOutput:
    pool = data.split.pool
    rows = pool[torch.randperm(len(pool), generator=rng, device=rng.device)[:PROBE]]
    images = state.D.network.traits.pixels.from_uint8(data.images[rows], state.precision.dtype)
    draws = Draws(rng, len(images), dtype=state.precision.dtype)
    return state.D.network(images, Pass(draws)).to(state.precision.dtype)  # type: ignore[no-any-return]


def _shares(real: Tensor, fake: Tensor, zero: float) -> Sequence[Tensor]:
    """Return the last four diagnostics from logits (n, classes); D takes an image for real above the game's `zero`."""
    histogram = _share(fake.argmax(dim=1, keepdim=True) == torch.arange(fake.shape[1], device=fake.device))
    return (
        _share(real.logsumexp(dim=1) > zero),
        _share(fake.logsumexp(dim=1) < zero),
        _share(real.amax(dim=1) > 0),
        torch.special.entr(histogram).sum(),
    )


def _share(is_so: Tensor) -> Tensor:
    """Compute the mean in float64, so that 150 of 200 is 0.75."""
    return is_so.to(torch.float64).mean(dim=0)
