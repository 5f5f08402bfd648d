"""The engine: a trial as a stream of epochs. It yields its measurements and takes no callbacks."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.gan.own import PREFIX
from plgan_tune.gan.schedules import learning_rate_factor, ramp
from plgan_tune.records import EpochMetrics
from plgan_tune.training.diagnostics import diagnose
from plgan_tune.training.evaluate import classify
from plgan_tune.training.judge import Judge
from plgan_tune.training.ranks import ALONE, Ranks
from plgan_tune.training.reference import Reference
from plgan_tune.training.state import TrainState
from plgan_tune.training.step_runner import StepRunner

Clock = Callable[[], float]


class Diverged(Exception):  # noqa: N818 - it ends a trial, not a program
    """A loss or a logit is not finite."""

    def __init__(self, epoch: int, term: str, step: int | None = None) -> None:
        at = "" if step is None else f", step {step}"
        super().__init__(f"{term} is not finite in epoch {epoch}{at}")
        self.epoch = epoch
        self.term = term


def epochs(
    state: TrainState,
    data: Dataset,
    ranks: Ranks = ALONE,
    clock: Clock = time.perf_counter,
    judge: Judge | None = None,
) -> Iterator[EpochMetrics]:
    """Train from the epoch of `state` to the trial's last and yield one `EpochMetrics` per epoch.

    `state` is up to date when a row is yielded, so a caller may save it between rows.

    Args:
        state: changed in place.
        data: the images, on the state's device.
        ranks: this process's place.
        clock: seconds.
        judge: measures generated images, the same on every rank; without one only `val_transport` does.

    Raises:
        Diverged: if a loss term or D's output stops being finite, with the epoch and the term.
    """
    yield from run(StepRunner(state, data, ranks), clock, Reference.of(data, judge))


def run(
    runner: StepRunner, clock: Clock = time.perf_counter, reference: Reference | None = None
) -> Iterator[EpochMetrics]:
    """Train as `epochs` does, with a runner and a reference that an earlier trial on these data may have left."""
    state, reference = runner.state, reference or Reference.of(runner.data, None)
    # On equal machines the tensors are equal already; on others calibration and whitening may round differently.
    runner.ranks.broadcast_(state.tensors())
    _keep_freed_memory()
    state.precision.allow_tf32()
    while state.epoch < state.trial.training.epochs:
        yield _epoch(runner, reference, clock)


def _keep_freed_memory() -> None:
    """Make glibc keep the memory that a step frees for the next step. Without glibc this does nothing.

    Returning it to the system and getting it back, zeroed, takes 5 to 10 % of a step of the MLP pair on a CPU. glibc
    keeps up to twice the largest block it has seen freed, counting blocks up to 32 MiB (mallopt(3)).
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def _epoch(runner: StepRunner, reference: Reference, clock: Clock) -> EpochMetrics:
    state, data, ranks = runner.state, runner.data, runner.ranks
    trial, began = state.trial, clock()
    w = ramp(state.epoch, trial.loss.switch_epoch, trial.loss.ramp)
    factor = learning_rate_factor(state.epoch, trial.optim.decay_epoch, trial.optim.min_factor)
    lr_d, lr_g = trial.optim.lr_discriminator * factor, trial.optim.lr_generator * factor
    state.before_epoch(w, lr_d, lr_g)
    runner.prepare()
    plan = plan_epoch(trial, data, state.epoch)
    losses, own = _finite_means(state, ranks.all_sum(_train(runner, plan)))
    trained = clock()
    state.settle(data)
    errors = _validate(state, data, ranks)
    diagnostics = diagnose(state, data, w)
    if not all(math.isfinite(measure) for measure in diagnostics if measure is not None):
        raise Diverged(state.epoch + 1, "generator output")
    quality = reference.measure(state, ranks)
    state.epoch += 1
    images = plan.unlabelled_d.numel()
    return EpochMetrics(
        epoch=state.epoch,
        **errors._asdict(),
        **{"loss_supervised": None, **losses},
        ramp=w,
        lr_discriminator=lr_d,
        lr_generator=lr_g,
        images_per_second=images / max(trained - began, 1e-9),
        seconds=clock() - began,
        **diagnostics._asdict(),
        **quality._asdict(),
        own=own,
    )


class EpochPlan(NamedTuple):
    """Rows of the data set for each step of an epoch, for the global batch. A round is k steps of D, then g of G.

    Shapes: labelled and unlabelled_d (rounds, k, batch), unlabelled_g (rounds, g, batch). If no image has a label,
    labelled is (rounds, k, 0).
    """

    labelled: Tensor
    unlabelled_d: Tensor
    unlabelled_g: Tensor


def plan_epoch(trial: TrialSpec, data: Dataset, epoch: int) -> EpochPlan:
    """Draw the epoch's batches: floor(pool / batch) rounds, at least one; drop the remainder.

    Labelled rows are independent permutations tiled to the epoch's length (patent table 1); the generator steps'
    unlabelled rows come from permutations of their own.
    """
    batch, k, g = trial.training.batch_size, trial.training.discriminator_steps, trial.training.generator_steps
    pool, labelled = data.split.pool, data.split.labelled
    rounds = max(len(pool) // batch, 1)

    def rows(of: Tensor, length: int, stream: Stream) -> Tensor:
        return of[_tiled(len(of), length, rng_for(trial.seed, epoch, stream)).to(of.device)]

    return EpochPlan(
        rows(labelled, rounds * k * batch, Stream.LABELLED).view(rounds, k, batch if len(labelled) else 0),
        rows(pool, rounds * k * batch, Stream.UNLABELLED_D).view(rounds, k, batch),
        rows(pool, rounds * g * batch, Stream.UNLABELLED_G).view(rounds, g, batch),
    )


def _tiled(count: int, length: int, rng: torch.Generator) -> Tensor:
    """Concatenate independent permutations of `count`, none of 0, and cut them at `length`."""
    repeats = -(-length // count) if count else 1
    return torch.cat([torch.randperm(count, generator=rng) for _ in range(repeats)])[:length]


def _train(runner: StepRunner, plan: EpochPlan) -> Tensor:
    """Run all steps of an epoch. Return this rank's part of the terms of each round, its means, (rounds, terms)."""
    state = runner.state
    (rounds, k, batch), g = plan.unlabelled_d.shape, plan.unlabelled_g.shape[1]
    own = runner.ranks.rows(batch)
    names_d, names_g = state.term_names()
    of_d = torch.zeros(rounds, len(names_d), dtype=state.precision.dtype, device=state.device)
    of_g = torch.zeros(rounds, len(names_g), dtype=state.precision.dtype, device=state.device)
    for step in range(rounds):
        for turn in range(k):
            of_d[step] += runner.discriminator(plan.labelled[step, turn, own], plan.unlabelled_d[step, turn, own]) / k
        for turn in range(g):
            of_g[step] += runner.generator(plan.unlabelled_g[step, turn, own], turn) / g
    return torch.cat([of_d, of_g], dim=1)


def _finite_means(state: TrainState, terms: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """Return means over steps, of the method's terms by column and of own terms by name.

    Raises:
        Diverged: with the first step and term that are not finite.
    """
    names_d, names_g = state.term_names()
    columns = [name if name.startswith(PREFIX) else f"loss_{name}" for name in (*names_d, *names_g)]
    broken = terms.isfinite().logical_not().nonzero().tolist()
    if broken:
        step, term = broken[0]
        raise Diverged(state.epoch + 1, columns[term], step)
    means = dict(zip(columns, terms.mean(dim=0).tolist(), strict=True))
    own = {name.removeprefix(PREFIX): mean for name, mean in means.items() if name.startswith(PREFIX)}
    return {name: mean for name, mean in means.items() if not name.startswith(PREFIX)}, own


class Errors(NamedTuple):
    """Columns of `EpochMetrics`, which documents them."""

    val_error: float | None = None
    val_error_raw: float | None = None
    error_gap: float | None = None
    val_balanced_error: float | None = None


def _validate(state: TrainState, data: Dataset, ranks: Ranks) -> Errors:
    """Return the errors of the averaged and of the raw weights; none if D has no classes."""
    if not state.classes:
        return Errors()
    images, labels = data.images[data.split.validation], data.labels[data.split.validation]
    averaged, raw = (classify(D, images, labels, state.precision, ranks) for D in (state.averaged, state.D.network))
    if not (averaged.finite and raw.finite):
        raise Diverged(state.epoch + 1, "discriminator output")
    return Errors(averaged.error, raw.error, raw.error - averaged.error, averaged.balanced_error)
