"""One update of D and one of G: the only `.backward()` of the project (patent claim 1, steps 2 and 3)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from plgan_tune.gan.draws import Draws, Stream
from plgan_tune.gan.losses import (
    adversarial,
    feature_distance,
    supervised_one_vs_all,
    supervised_softmax,
    unsupervised,
)
from plgan_tune.gan.pairs.base import draw_latent
from plgan_tune.training.ranks import Ranks
from plgan_tune.training.state import TrainState


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps of a trial share.

    Attributes:
        rows: this rank's rows in a pass over one global batch; None means all.
        rows_of_three: the same for three concatenated batches.
    """

    state: TrainState
    ranks: Ranks
    rows: Tensor | None
    rows_of_three: Tensor | None

    def draws(self, stream: Stream, parts: int = 1) -> Draws:
        """Return the draws of this step's `stream` for a pass over `parts` global batches (1 or 3)."""
        state = self.state
        rows = self.rows if parts == 1 else self.rows_of_three
        return Draws(state.rngs[stream], parts * state.trial.training.batch_size, rows, state.precision.dtype)

    def fakes(self, stream: Stream) -> Tensor:
        """Generate this rank's images from z of `stream`."""
        latent = draw_latent(self.draws(stream), self.state.trial.model)
        return self.state.generator(latent, self.ranks.all_sum if self.ranks.count > 1 else None)  # type: ignore[no-any-return]


def discriminator_step(context: StepContext, labelled: Tensor, labels: Tensor, unlabelled: Tensor) -> Tensor:
    """Update D on labelled, unlabelled and as many generated images in one concatenated pass, after `before_d`.

    Args:
        context: what all steps share.
        labelled: this rank's images, (b, channels, size, size).
        labels: classes of `labelled`, (b,).
        unlabelled: this rank's images, (b, channels, size, size).

    Returns:
        This rank's part of C_sup and C_unsup, shape (2,), detached; parts of all ranks add up to the means.
    """
    state, trial = context.state, context.state.trial
    with state.precision.autocast():
        with torch.no_grad():
            fakes = context.fakes(Stream.LATENT_D)
        images = torch.cat([labelled, unlabelled, fakes.to(labelled.dtype)])
        logits = state.discriminator(images, context.draws(Stream.NOISE_D, parts=3)).logits
    on_labelled, on_unlabelled, on_fakes = logits.to(state.precision.dtype).chunk(3)
    supervised = supervised_softmax if trial.loss.supervised == "softmax" else supervised_one_vs_all
    terms = (
        torch.stack(
            [
                supervised(on_labelled, labels).sum(),
                unsupervised(on_unlabelled, on_fakes, state.scalars.unsupervised_scale.value).sum(),
            ]
        )
        / trial.training.batch_size
    )
    state.adam_d.zero_grad()
    terms.sum().backward()  # type: ignore[no-untyped-call]
    context.ranks.sum_gradients(state.trained_d)
    state.adam_d.step()
    state.update_average()
    return terms.detach()


def generator_step(context: StepContext, unlabelled: Tensor) -> Tensor:
    """Update G on other unlabelled images and new fakes, after `before_g`; D is frozen, its noise on.

    Returns:
        This rank's part of V_log and V_feature, shape (2,), detached; parts of all ranks add up to the values.
    """
    state, trial, scalars, ranks = context.state, context.state.trial, context.state.scalars, context.ranks
    batch = trial.training.batch_size
    with _frozen(state.trained_d), state.precision.autocast():
        with torch.no_grad():
            real = state.discriminator(unlabelled, context.draws(Stream.NOISE_REAL)).features
        judged = state.discriminator(context.fakes(Stream.LATENT_G), context.draws(Stream.NOISE_FAKE))
    dtype = state.precision.dtype
    real_mean = ranks.all_sum(real.to(dtype).sum(dim=0)) / batch
    fake_mean = ranks.all_sum(judged.features.to(dtype).sum(dim=0)) / batch
    V_log = adversarial(judged.logits.to(dtype), scalars.w.value).sum() / batch
    # Every rank holds the whole V_feature, so each contributes 1 / count of it to the sum over ranks.
    V_feature = feature_distance(real_mean, fake_mean, trial.loss.feature_norm) / ranks.count
    state.adam_g.zero_grad()
    (scalars.alpha.value * V_log + scalars.beta.value * V_feature).backward()  # type: ignore[no-untyped-call]
    ranks.sum_gradients(state.generator.parameters())
    state.adam_g.step()
    return torch.stack([V_log, V_feature]).detach()


@contextmanager
def _frozen(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Exclude these parameters from the graphs of passes in the block."""
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
