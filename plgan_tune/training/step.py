"""One update of D and one of G (patent claim 1, steps 2 and 3)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from plgan_tune.gan.draws import Draws, Stream
from plgan_tune.gan.games import Logistic
from plgan_tune.gan.objective import Objective
from plgan_tune.gan.pairs.base import DiscriminatorOutput, draw_latent
from plgan_tune.training.player import Network, Player
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
        return self.state.G.network(latent, self.ranks.all_sum if self.ranks.count > 1 else None)  # type: ignore[no-any-return]

    def objective(self) -> Objective:
        """Return the losses of this step."""
        trial, scalars, ranks = self.state.trial, self.state.scalars, self.ranks
        return Objective(
            trial.loss,
            Logistic(scalars.w.value, scalars.smoothing.value if trial.loss.smoothing else None),
            unsupervised_scale=scalars.unsupervised_scale.value,
            alpha=scalars.alpha.value,
            beta=scalars.beta.value,
            batch=trial.training.batch_size,
            all_sum=ranks.all_sum,
            ranks=ranks.count,
        )


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
    state = context.state
    with state.precision.autocast():
        with torch.no_grad():
            fakes = context.fakes(Stream.LATENT_D)
        images = torch.cat([labelled, unlabelled, fakes.to(labelled.dtype)])
        logits = state.D.network(images, context.draws(Stream.NOISE_D, parts=3)).logits
    on_labelled, on_unlabelled, on_fakes = logits.to(state.precision.dtype).chunk(3)
    loss = context.objective().discriminator(on_labelled, labels, on_unlabelled, on_fakes)
    descend(loss.value, state.D, context.ranks)
    state.update_average()
    return loss.terms


def generator_step(context: StepContext, unlabelled: Tensor) -> Tensor:
    """Update G on other unlabelled images and new fakes, after `before_g`; D is frozen, its noise on.

    Returns:
        This rank's part of V_log and V_feature, shape (2,), detached; parts of all ranks add up to the values.
    """
    state, dtype = context.state, context.state.precision.dtype
    with _frozen(state.D.trained), state.precision.autocast():
        with torch.no_grad():
            real = state.D.network(unlabelled, context.draws(Stream.NOISE_REAL)).features.to(dtype)
        logits, features = state.D.network(context.fakes(Stream.LATENT_G), context.draws(Stream.NOISE_FAKE))
    loss = context.objective().generator(real, DiscriminatorOutput(logits.to(dtype), features.to(dtype)))
    descend(loss.value, state.G, context.ranks)
    return loss.terms


def descend(loss: Tensor, player: Player[Network], ranks: Ranks) -> None:
    """Update a player from its loss, of which every rank has a part: the only `.backward()` of the project."""
    player.adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    ranks.sum_gradients(player.trained)
    for pull in player.pulls:
        pull.add_gradients()
    player.adam.step()


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
