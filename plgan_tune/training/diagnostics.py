"""Diagnostics of the balance between the two networks at the end of an epoch, on a small probe."""

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Draws, Stream, rng_for
from plgan_tune.gan.games import Game, Logistic, Wasserstein, realness
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
    real_max_logit_positive: float | None = None
    entropy_generated: float | None = None
    critic_gap: float | None = None
    critic_gap_val: float | None = None


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
    pool, held_out = data.split.pool, data.split.validation
    with state.precision.autocast():
        real = _judge_real(state, data, pool, rng)
        fakes = state.G.network(draw_latent(draws, trial.model))
        fake = state.D.network(fakes, Pass(draws)).to(state.precision.dtype)
        unseen = _judge_real(state, data, held_out, rng) if trial.loss.game == "wasserstein" else None
    game: Game = Logistic(w, trial.loss.smoothing or None) if unseen is None else Wasserstein()
    V_log = game.for_generator(fake.logits).mean()
    V_feature = feature_distance(real.features.mean(dim=0), fake.features.mean(dim=0), trial.loss.feature_norm)
    weights = list(state.G.network.parameters())
    norms = {
        "grad_norm_adversarial": get_total_norm(torch.autograd.grad(V_log, weights, retain_graph=True)),
        "grad_norm_feature": get_total_norm(torch.autograd.grad(V_feature, weights)),
    }
    fake = DiscriminatorOutput(fake.logits.detach(), fake.features)
    r, r_of_fakes = realness(real.logits), realness(fake.logits)
    threshold = game.threshold(r, r_of_fakes)
    shares = {"accuracy_real": _share(r > threshold), "accuracy_generated": _share(r_of_fakes < threshold)}
    gaps = {} if unseen is None else _gaps(r, r_of_fakes, realness(unseen.logits))
    measures = {**norms, **shares, **gaps, **(_of_classes(real.logits, fake.logits) if state.classes else {})}
    return Diagnostics(**dict(zip(measures, torch.stack(list(measures.values())).tolist(), strict=True)))


@torch.no_grad()
def _judge_real(state: TrainState, data: Dataset, of: Tensor, rng: torch.Generator) -> DiscriminatorOutput:
    """Return D's output for 200 of these rows of the data, all if there are fewer."""
    rows = of[torch.randperm(len(of), generator=rng, device=rng.device)[:PROBE]]
    images = state.D.network.traits.pixels.from_uint8(data.images[rows], state.precision.dtype)
    draws = Draws(rng, len(images), dtype=state.precision.dtype)
    return state.D.network(images, Pass(draws)).to(state.precision.dtype)  # type: ignore[no-any-return]


def _gaps(real: Tensor, fake: Tensor, unseen: Tensor) -> dict[str, Tensor]:
    """Return the critic's estimate of the distance, on training and on validation images, from their realness (n,)."""
    on_fakes = fake.double().mean()
    return {"critic_gap": real.double().mean() - on_fakes, "critic_gap_val": unseen.double().mean() - on_fakes}


def _of_classes(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Return what the logits of classes, (n, classes), say beside the realness."""
    histogram = _share(fake.argmax(dim=1, keepdim=True) == torch.arange(fake.shape[1], device=fake.device))
    return {
        "real_max_logit_positive": _share(real.amax(dim=1) > 0),
        "entropy_generated": torch.special.entr(histogram).sum(),
    }


def _share(is_so: Tensor) -> Tensor:
    """Compute the mean in float64, so that 150 of 200 is 0.75."""
    return is_so.to(torch.float64).mean(dim=0)
