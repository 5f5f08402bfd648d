"""One update of D and one of G (patent claim 1, steps 2 and 3)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import Tensor

from plgan_tune.gan.draws import Draws, Stream
from plgan_tune.gan.games import Game, Logistic, Wasserstein, gradient_penalty, realness
from plgan_tune.gan.objective import Labelled, Objective, Terms, weighted_sum
from plgan_tune.gan.own import TERMS_D, TERMS_G, Own, Seen, View
from plgan_tune.gan.own_file import naming
from plgan_tune.gan.pairs.base import Discriminator, draw_latent
from plgan_tune.gan.passes import EVALUATION, Pass
from plgan_tune.training.player import Network, Player
from plgan_tune.training.ranks import RankLostError, Ranks
from plgan_tune.training.state import TrainState


@dataclass(frozen=True, slots=True)
class StepContext:
    """What all steps of a trial share.

    Attributes:
        rows: for a pass over 1, 2 or 3 concatenated global batches, this rank's rows; None means all.
    """

    state: TrainState
    ranks: Ranks
    rows: Mapping[int, Tensor | None]

    @classmethod
    def of(cls, state: TrainState, ranks: Ranks) -> Self:
        """Return the context of a trial's steps on this rank."""
        batch = state.trial.training.batch_size
        rows = {parts: ranks.row_indices(batch, parts, state.device) for parts in (1, 2, 3)}
        return cls(state, ranks, rows)

    def draws(self, stream: Stream, parts: int = 1) -> Draws:
        """Return the draws of this step's `stream` for a pass over `parts` global batches."""
        state = self.state
        batch = parts * state.trial.training.batch_size
        return Draws(state.rngs[stream], batch, self.rows[parts], state.precision.dtype)

    def seen(self, draws: Draws | None, parts: int = 1) -> Pass:
        """Return a pass over this rank's rows of `parts` global batches."""
        ranks, batch = self.ranks, self.state.trial.training.batch_size
        if ranks.count == 1:
            return Pass(draws, parts)
        return Pass(draws, parts, ranks.all_sum, lambda own: ranks.gather(own, batch))

    def fakes(self, stream: Stream) -> Tensor:
        """Generate this rank's images from z of `stream`."""
        latent = draw_latent(self.draws(stream), self.state.trial.model)
        return self.state.G.network(latent, self.seen(None))  # type: ignore[no-any-return]

    def objective(self) -> Objective:
        """Return the losses of this step."""
        trial, scalars, ranks = self.state.trial, self.state.scalars, self.ranks
        return Objective(
            trial.loss,
            self.game(),
            supervised_scale=scalars.supervised_scale.value,
            unsupervised_scale=scalars.unsupervised_scale.value,
            alpha=scalars.alpha.value,
            beta=scalars.beta.value,
            batch=trial.training.batch_size,
            all_sum=ranks.all_sum,
            ranks=ranks.count,
            self_scale=scalars.self_scale.value,
            self_threshold=scalars.self_threshold.value,
            gradient_penalty=scalars.gradient_penalty.value,
        )

    def game(self) -> Game:
        """Return the game of this step."""
        loss, scalars = self.state.trial.loss, self.state.scalars
        if loss.game == "wasserstein":
            return Wasserstein()
        return Logistic(scalars.w.value, scalars.smoothing.value if loss.smoothing else None)

    def teacher(self, unlabelled: Tensor, fakes: Tensor) -> Tensor | None:
        """Return the averaged D's logits of the images that C_self is about, (b, N), noise off; None without C_self."""
        loss = self.state.trial.loss
        if not loss.self_scale:
            return None
        images = fakes if loss.self_images == "generated" else unlabelled
        logits: Tensor = self.state.averaged(images, EVALUATION).logits
        return logits.to(self.state.precision.dtype)

    def penalty(self, unlabelled: Tensor, fakes: Tensor) -> Tensor | None:
        """Return the gradient penalty of an image between each real and generated one, (b,); None if it has no weight.

        It is taken in full precision: a norm near 1 less 1 would lose the digits that a narrower type has.
        """
        state = self.state
        if not state.trial.loss.gradient_penalty:
            return None
        share = self.draws(Stream.INTERPOLATE).uniform(()).view(-1, 1, 1, 1)
        between = (share * unlabelled + (1 - share) * fakes).requires_grad_()
        judged = state.D.network(between, self.seen(self.draws(Stream.NOISE_PENALTY)))
        return gradient_penalty(between, realness(judged.logits))

    def view(self, stream: Stream) -> View:
        """Return what own terms may know of this step; their draws are those of `stream`."""
        state, ranks = self.state, self.ranks

        def seen_by(D: Discriminator, images: Tensor) -> Seen:
            with state.precision.autocast():
                judged = D(images)
            return Seen(images, *judged.to(state.precision.dtype))

        return View(
            batch=state.trial.training.batch_size,
            w=state.scalars.w.value,
            draws=self.draws(stream),
            judge=partial(seen_by, state.D.network),
            average=torch.no_grad()(partial(seen_by, state.averaged)),
            all_sum=ranks.all_sum,
        )


class LabelledImages(NamedTuple):
    """This rank's labelled images, (b, channels, size, size), and their classes, (b,)."""

    images: Tensor
    classes: Tensor


def discriminator_step(context: StepContext, labelled: LabelledImages | None, unlabelled: Tensor) -> Tensor:
    """Update D on labelled, unlabelled and as many generated images in one concatenated pass, after `before_d`.

    Args:
        context: what all steps share.
        labelled: None if no image of the trial has a label.
        unlabelled: this rank's images, (b, channels, size, size).

    Returns:
        This rank's part of each term of L_D, shape (k,), detached; parts of all ranks add up to the means.
    """
    state = context.state
    with state.precision.autocast():
        with torch.no_grad():
            fakes = context.fakes(Stream.LATENT_D).to(unlabelled.dtype)
            teacher = context.teacher(unlabelled, fakes)
        parts = [*([] if labelled is None else [labelled.images]), unlabelled, fakes]
        images, count = torch.cat(parts), len(parts)
        judged = state.D.network(images, context.seen(context.draws(Stream.NOISE_D, count), count))
    judged = judged.to(state.precision.dtype)
    logits = judged.logits.chunk(count)
    on_labelled = None if labelled is None else Labelled(logits[0], labelled.classes)
    penalty = context.penalty(unlabelled, fakes)
    terms = context.objective().discriminator(on_labelled, logits[-2], logits[-1], teacher, penalty)
    if state.own is not None:
        terms = {**terms, **own_terms_of_d(context, state.own, Seen(images, *judged), labelled)}
    descend(terms, state.D, context.ranks)
    state.update_average()
    return measured(terms)


def generator_step(context: StepContext, unlabelled: Tensor) -> Tensor:
    """Update G on other unlabelled images and new fakes, after `before_g`; D is frozen, its noise on.

    Returns:
        This rank's part of each term of L_G, shape (k,), detached; parts of all ranks add up to the values.
    """
    state, dtype = context.state, context.state.precision.dtype
    with _frozen(state.D.trained), state.precision.autocast():
        with torch.no_grad():
            D, seen = state.D.network, context.seen(context.draws(Stream.NOISE_REAL))
            judged = None if state.own is None else D(unlabelled, seen).to(dtype)
            real = D.features(unlabelled, seen).to(dtype) if judged is None else judged.features
        images = context.fakes(Stream.LATENT_G)
        fakes = D(images, context.seen(context.draws(Stream.NOISE_FAKE))).to(dtype)
    terms = context.objective().generator(real, fakes)
    if state.own is not None and judged is not None:
        with _frozen(state.D.trained):
            terms = {**terms, **own_terms_of_g(context, state.own, Seen(unlabelled, *judged), Seen(images, *fakes))}
    descend(terms, state.G, context.ranks)
    state.update_average_g()
    return measured(terms)


def own_terms_of_d(context: StepContext, own: Own, seen: Seen, labelled: LabelledImages | None) -> Terms:
    """Return the terms that a user's file adds to L_D, from one pass over labelled, unlabelled, generated images."""
    parts = zip(*(tensor.chunk(2 if labelled is None else 3) for tensor in seen), strict=True)
    *on_labelled, unlabelled, generated = (Seen(*part) for part in parts)
    known = {} if labelled is None else {"labelled": on_labelled[0], "labels": labelled.classes}
    batch, view = context.state.trial.training.batch_size, context.view(Stream.OWN_D)
    with naming(own.name, RankLostError):
        return own.terms(TERMS_D, batch, **known, unlabelled=unlabelled, generated=generated, view=view)


def own_terms_of_g(context: StepContext, own: Own, unlabelled: Seen, generated: Seen) -> Terms:
    """Return the terms that a user's file adds to L_G."""
    batch, view = context.state.trial.training.batch_size, context.view(Stream.OWN_G)
    with naming(own.name, RankLostError):
        return own.terms(TERMS_G, batch, unlabelled=unlabelled, generated=generated, view=view)


def measured(terms: Terms) -> Tensor:
    """Return this rank's part of the terms, before they are weighted, shape (k,), detached."""
    return torch.stack([term.value for term in terms.values()]).detach()


def descend(terms: Terms, player: Player[Network], ranks: Ranks) -> None:
    """Update a player from its loss, of which every rank has a part: the only `.backward()` of the project."""
    player.optimiser.zero_grad()
    weighted_sum(terms).backward()  # type: ignore[no-untyped-call]
    ranks.sum_gradients(player.trained)
    for pull in player.pulls:
        pull.add_gradients()
    player.step()


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
