"""Searches without training, judged by the true means of what they choose: what confirming on fresh seeds brings.

    OMP_NUM_THREADS=1 python benchmarks/simulate.py [--searches 1000] [--components table]

Each search draws its configurations anew from a super-population that is fitted to table/curves.parquet: their true
means, the residual of each training, what all trainings of a seed share, and learning curves. Every search of a number
meets the same ones, so rows of the table are paired. The search is the driver's own: `Coordinator`, `StudyState`, the
rule of early stopping, `Confirming` and `Race`; only the log, the screen and the training are left out.

Prints tables and writes them to noise.md.
"""

import argparse
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from machine import machine
from make_table import PATENT
from optuna.pruners import MedianPruner
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from plgan_tune.config.load import load_study
from plgan_tune.config.study import ConfirmSpec, StudySpec
from plgan_tune.records import (
    DecisionRow,
    EpochMetrics,
    EpochRow,
    Report,
    TrialRow,
    TrialStatus,
    Value,
    Verdict,
)
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.confirming import Confirming
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.early_stopping import build_rule
from plgan_tune.study.history import History
from plgan_tune.study.protocols import Rule, Suggestions
from plgan_tune.study.race import Confirmed, Race, Standing, race_of
from plgan_tune.study.state import StudyState
from plgan_tune.tuning.sampler import OptunaSampler

Errors = npt.NDArray[np.float64]

TABLE: Final = Path(__file__).with_name("table")
IMAGES: Final = 400
EPOCHS: Final = 60
AT_A_TIME: Final = 2
BUDGETS: Final = (2160, 6480)
SHARES: Final = (0.25, 0.4, 0.5)
FINALISTS: Final = (3, 4, 6)
SEEDS: Final = (3, 5, 8)
DEFAULT: Final = ConfirmSpec()
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)

# The super-population


@dataclass(frozen=True, slots=True)
class Components:
    """Means and standard deviations of errors at the last epoch, in fractions.

    Attributes:
        mean: Of all configurations.
        between: Deviation of configurations' true means.
        residual: Of a training: what neither its configuration nor its seed explains.
        seed: Of what all trainings of a seed share.
        first: True mean of the first point, as far as it is known.
        first_known: Deviation of that knowledge.
    """

    mean: float
    between: float
    residual: float
    seed: float
    first: float
    first_known: float


NOISE: Final = Components(0.180, 0.0180, 0.0127, 0.0081, 0.189, 0.005)
"""Of ../shared/NOISE.md: 64 configurations x 6 seeds."""

BANDWIDTH: Final = 0.3
"""Deviation of a drawn true mean around that of its table's configuration, in deviations between configurations."""

POOL: Final = 12
"""Residuals that a configuration's replicates are drawn from, at least; the nearest others' are taken, too."""

TRIALS: Final = 6480 // 10 + AT_A_TIME
"""More configurations than any search tries."""


@dataclass(frozen=True, slots=True)
class Table:
    """Curves of configurations x seeds, whole trainings only.

    Attributes:
        trainings: How many trainings the file holds.
        curves: Shape (configurations, seeds, epochs), fractions. The first is that of the patent's point.
    """

    trainings: int
    curves: Errors

    @property
    def finals(self) -> Errors:
        return self.curves[:, :, -1]


def read_table(file: Path) -> Table:
    """Read all configurations that have every seed which the first block of them has."""
    frame = pd.read_parquet(file)
    whole = frame[(frame["varied"] == "seed") & (frame["wrong"].map(len) == EPOCHS)]
    counts = whole.groupby("seed").size()
    seeds = [int(seed) for seed in counts.index[counts >= 0.9 * counts.max()]]
    rows = {(int(one), int(seed)): wrong for one, seed, wrong in whole[["configuration", "seed", "wrong"]].to_numpy()}
    numbers = sorted({one for one, _ in rows})
    complete = [one for one in numbers if all((one, seed) in rows for seed in seeds)]
    curves = np.array([[rows[one, seed] for seed in seeds] for one in complete], float) / IMAGES
    return Table(len(frame), curves)


def components_of(finals: Errors) -> Components:
    """Estimate by a two-way analysis of variance without replication; at least two seeds."""
    configurations, seeds = finals.shape
    means = finals.mean(axis=1)
    error = float((residuals_of(finals) ** 2).sum()) / ((configurations - 1) * (seeds - 1))
    between = max(0.0, float(means.var(ddof=1)) - error / seeds)
    seed = max(0.0, float(finals.mean(axis=0).var(ddof=1)) - error / configurations)
    kept = between / (between + error / seeds)
    first = float(means.mean() + kept * (means[0] - means.mean()))
    return Components(
        mean=float(means.mean()),
        between=math.sqrt(between),
        residual=math.sqrt(error),
        seed=math.sqrt(seed),
        first=first,
        first_known=math.sqrt(kept * error / seeds),
    )


def residuals_of(finals: Errors) -> Errors:
    return finals - finals.mean(axis=1, keepdims=True) - finals.mean(axis=0, keepdims=True) + finals.mean()


class World:
    """What a search meets: a configuration a number, with its true mean, its own curve and its replicates' errors.

    Args:
        truths: True mean error at the last epoch, a configuration each.
        curves: Shape (configurations, epochs).
        replicates: Shape (configurations, seeds).
    """

    def __init__(self, truths: Errors, curves: Errors, replicates: Errors) -> None:
        self.truths = truths
        self._curves, self._replicates = counted(curves), counted(replicates)

    def curve(self, number: int, replicate: int | None) -> list[float]:
        """Return the errors of a training, an epoch each. Of a replicate only the last is drawn: none else counts."""
        if replicate is None:
            return list(self._curves[number].tolist())
        return [float(self._replicates[number, replicate - 1])] * EPOCHS


def counted(errors: Errors) -> Errors:
    """Return the errors as they would be counted on the validation images."""
    return np.clip(np.round(errors * IMAGES) / IMAGES, 0, 1)


@dataclass(frozen=True, slots=True)
class Population:
    """Draws worlds.

    Attributes:
        components: Deviations.
        curves: The table's, shape (configurations, seeds, epochs).
        fitted: Whether true means and residuals are those of the table, smoothed; else they are normal.
    """

    components: Components
    curves: Errors
    fitted: bool

    def world(self, search: int) -> World:
        """Draw the world of a search; a function of its number."""
        draw = np.random.default_rng([search, 20261130])
        truths, residuals, finals_of = self._fitted(draw) if self.fitted else self._normal(draw)
        seeds = draw.normal(0, self.components.seed, residuals.shape[1])
        finals = truths[:, None] + residuals + seeds
        donors = finals_of(finals[:, 0])
        return World(truths, donors + (finals[:, 0] - donors[:, -1])[:, None], finals[:, 1:])

    def _fitted(self, draw: np.random.Generator) -> tuple[Errors, Errors, Callable[[Errors], Errors]]:
        """Take configurations of the table with their trainings; move their means a little."""
        known, means = self.components, self._means()
        finals = self.curves[:, :, -1]
        configurations, seeds = finals.shape
        spread = math.sqrt(configurations * seeds / ((configurations - 1) * (seeds - 1)))
        residuals = residuals_of(finals) * spread
        of, training = draw.integers(configurations, size=TRIALS), draw.integers(seeds, size=TRIALS)
        of[0] = 0
        noise = BANDWIDTH * known.between * draw.normal(size=TRIALS)
        truths = known.mean + (means[of] - known.mean + noise) / math.sqrt(1 + BANDWIDTH**2)
        truths[0] = known.first + known.first_known * draw.normal()
        pools = residuals[self._neighbours(means, -(-POOL // seeds))].reshape(configurations, -1)
        others = draw.integers(pools.shape[1], size=(TRIALS, max(SEEDS)))
        drawn = np.column_stack([residuals[of, training], pools[of[:, None], others]])
        return truths, drawn, lambda _: self.curves[of, training]

    def _means(self) -> Errors:
        """Return the configurations' means, drawn together until they deviate as true means do."""
        means: Errors = self.curves[:, :, -1].mean(axis=1)
        return self.components.mean + (means - means.mean()) * self.components.between / means.std(ddof=1)

    @staticmethod
    def _neighbours(means: Errors, count: int) -> npt.NDArray[np.intp]:
        """Return the nearest `count` configurations of each, itself among them."""
        return np.argsort(np.abs(means[:, None] - means[None, :]), axis=1, kind="stable")[:, :count]

    def _normal(self, draw: np.random.Generator) -> tuple[Errors, Errors, Callable[[Errors], Errors]]:
        """Draw from normal distributions; a curve is that of a training which ends near."""
        known = self.components
        truths = draw.normal(known.mean, known.between, TRIALS)
        truths[0] = draw.normal(known.first, known.first_known)
        residuals = draw.normal(0, known.residual, (TRIALS, 1 + max(SEEDS)))
        curves = self.curves.reshape(-1, EPOCHS)
        curves = curves[np.argsort(curves[:, -1], kind="stable")]
        jitter = draw.integers(-4, 5, size=TRIALS)

        def ending_near(finals: Errors) -> Errors:
            places = np.searchsorted(curves[:, -1], finals) + jitter
            return curves[np.clip(places, 0, len(curves) - 1)]

        return truths, residuals, ending_near


# A search


class NoLog:
    def epoch(self, row: EpochRow, /) -> None: ...
    def decision(self, row: DecisionRow, /) -> None: ...
    def trial(self, row: TrialRow, /) -> None: ...


class NoDisplay:
    def started(self, row: TrialRow, /) -> None: ...
    def progressed(self, row: TrialRow, /) -> None: ...
    def ended(self, row: TrialRow, /) -> None: ...
    def stopping(self, waits_for: str, /) -> None: ...
    def silent(self, trial_id: str, /) -> None: ...
    def noted(self, note: str, /) -> None: ...


@cache
def study(budget: int, confirm: ConfirmSpec | None, asha: bool = True, seed: int = 0) -> StudySpec:
    """The table's space, searched at random for a number of epochs, confirming included."""
    spec = load_study(
        TABLE / "space.yaml",
        [f"search.epochs={budget}", f"search.seed={seed}", "search.trials=100000"]
        + (
            ["search.early_stopping.asha.grace_period=10", "search.early_stopping.asha.reduction_factor=3"]
            if asha
            else ["search.early_stopping=none"]
        ),
    ).study
    return replace(spec, search=spec.search.model_copy(update={"confirm": confirm, "first": (dict(PATENT),)}))


class RandomPoints:
    """Suggests random points, the same ones in every search: their configurations are the world's, by their numbers."""

    def __init__(self, spec: StudySpec) -> None:
        self._left = iter(assignments(spec))

    def ask(self) -> Assignment | None:
        return next(self._left, None)

    def report(self, trial_id: str, epoch: int, val_error: float) -> None: ...

    def tell(self, trial_id: str, status: TrialStatus) -> None: ...


_known: dict[str, tuple[Assignment, ...]] = {}


def assignments(spec: StudySpec) -> tuple[Assignment, ...]:
    if spec.study not in _known:
        sampler = OptunaSampler(spec)
        found = (sampler.ask() for _ in range(TRIALS))
        _known[spec.study] = tuple(one for one in found if one is not None)
    return _known[spec.study]


Suggest = Callable[[StudySpec], Suggestions]
Stop = Callable[[StudySpec], Rule]


def searched(
    spec: StudySpec, world: World, *, stop: Stop = build_rule, suggest: Suggest = RandomPoints, to_the_end: bool = False
) -> StudyState:
    """Search, two trials at a time, an epoch of each in turn.

    Args:
        spec: The study; `search.epochs` is its budget.
        world: What trainings come to.
        stop: Makes the rule of early stopping.
        suggest: Makes the sampler.
        to_the_end: Whether trials that the end of the budget meets under way train to their own ends.
    """
    epochs = spec.any_trial().training.epochs
    race = race_of(spec)
    state = StudyState(
        spec.study, trials=spec.search.trials, epochs=epochs, started_at=NOW, budget=spec.search.epochs, race=race
    )
    suggestions = suggest(spec)
    if race is not None:
        suggestions = Confirming(suggestions, race, spec, state, History())
    coordinator = Coordinator(state, NoLog(), NoDisplay(), lambda: NOW, suggestions, stop(spec), 0)
    turns: deque[tuple[Assignment, Iterator[tuple[int, float]]]] = deque()
    while to_the_end or not coordinator.is_over():
        while len(turns) < AT_A_TIME and isinstance(assignment := coordinator.ask(), Assignment):
            coordinator.start(assignment)
            turns.append((assignment, enumerate(course(world, assignment), start=1)))
        if not turns:
            break
        assignment, left = turns.popleft()
        epoch, error = next(left)
        status = TrialStatus.COMPLETED if epoch == epochs else TrialStatus.RUNNING
        if coordinator.report(assignment, reported(status, epoch, error)) is not Verdict.STOP:
            turns.append((assignment, left))
    coordinator.check_whole("the simulation")
    return state


def course(world: World, assignment: Assignment) -> list[float]:
    of = assignment.trial_id if assignment.replicate_of is None else assignment.replicate_of
    return world.curve(number_of(of), assignment.replicate)


def number_of(trial_id: str) -> int:
    return int(trial_id[1:])


def reported(status: TrialStatus, epoch: int, error: float) -> EpochReport:
    metrics = EpochMetrics(
        epoch=epoch,
        val_error=error,
        val_error_raw=None,
        loss_supervised=None,
        loss_unsupervised=None,
        loss_adversarial=None,
        loss_feature=None,
        ramp=None,
        lr_discriminator=0.0,
        lr_generator=0.0,
        images_per_second=None,
        seconds=0.0,
        grad_norm_adversarial=None,
        grad_norm_feature=None,
        accuracy_real=None,
        accuracy_generated=None,
        real_max_logit_positive=None,
        entropy_generated=None,
        error_gap=None,
    )
    return EpochReport(status, 1, metrics, "", "", NOW)


def raced(rows: Sequence[TrialRow], race: Race, world: World) -> list[TrialRow]:
    """Race the finalists of a search that has ended, one training after another, and return all rows."""
    found = list(rows)
    while ready := race.next_replicates(found, ()):
        of, number = ready[0]
        error = world.curve(number_of(of), number)[-1]
        found.append(
            replace(
                found[number_of(of)],
                seq=found[-1].seq + EPOCHS,
                trial_id=f"t{len(found):04d}",
                number=len(found),
                status=TrialStatus.COMPLETED,
                epochs=EPOCHS,
                val_error_last=error,
                replicate_of=of,
                replicate=number,
            )
        )
    return found


# Other rules


class RaysAsha:
    """Ray's own scheduler as a rule."""

    def __init__(self, spec: StudySpec) -> None:
        self._scheduler = AsyncHyperBandScheduler(
            metric="val_error", mode="min", max_t=EPOCHS, grace_period=10, reduction_factor=3
        )
        self._trials: dict[str, Any] = {}

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        trial = self._trials.get(report.trial_id)
        if trial is None:
            trial = self._trials[report.trial_id] = SimpleNamespace(trial_id=report.trial_id)
            self._scheduler.on_trial_add(None, trial)
        result = {"training_iteration": report.epoch, "val_error": report.val_error}
        return stopped(report) if self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP else None


class OptunasMedian:
    """Optuna's MedianPruner as a rule; it judges at epochs 10, 20, and so on."""

    def __init__(self, spec: StudySpec) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner = MedianPruner(n_startup_trials=5, n_warmup_steps=10, interval_steps=10)
        self._study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(0))
        self._trials: dict[str, optuna.Trial] = {}

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        trial = self._trials.get(report.trial_id)
        if trial is None:
            trial = self._trials[report.trial_id] = self._study.ask()
        trial.report(report.val_error, report.epoch)
        if report.epoch == EPOCHS - 1:
            self._study.tell(trial, report.val_error)  # it completes; its last epoch is not judged
            return None
        if report.epoch % 10 or not trial.should_prune():
            return None
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return stopped(report)


def stopped(report: Report) -> DecisionRow:
    return DecisionRow(
        seq=report.seq,
        trial_id=report.trial_id,
        attempt=1,
        epoch=report.epoch,
        rung=report.epoch,
        value=report.val_error,
        cutoff=None,
        competitors=1,
        verdict=Verdict.STOP,
        reason="",
    )


# What a search came to


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search, judged by the truth.

    Attributes:
        printed: The number that it prints for its choice.
        truth: True mean of its choice.
        best: Lowest true mean among the configurations that it tried.
        first: True mean of the first point.
        says: Whether it says that its choice is better than the first point.
        epochs: Trained in all.
        tried: Configurations.
    """

    printed: float
    truth: float
    best: float
    first: float
    says: bool
    epochs: int
    tried: int


def judged(choice: str, printed: float, says: bool, rows: Sequence[TrialRow], world: World) -> Outcome:
    own = [row.number for row in rows if row.replicate_of is None]
    return Outcome(
        printed=printed,
        truth=float(world.truths[number_of(choice)]),
        best=float(world.truths[own].min()),
        first=float(world.truths[0]),
        says=says,
        epochs=sum(row.epochs for row in rows),
        tried=len(own),
    )


def by_search(state: StudyState, world: World) -> Outcome:
    """What the search itself says. One that confirms nothing says that it has found a better point if it prints one."""
    best, standing = state.best(), state.standing()
    assert best is not None
    assert best.val_error_last is not None
    confirmed = next((place for place in standing.places if place.trial_id == best.trial_id), None)
    if confirmed is None:
        return judged(best.trial_id, best.val_error_last, best.number > 0, state.rows(), world)
    return judged(best.trial_id, confirmed.mean, says(confirmed), state.rows(), world)


def says(place: Confirmed) -> bool:
    return place.difference is not None and place.difference.is_better


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to choose among those that stayed in the race, and what to print of it.

    Attributes:
        own: Weight of the search's own error in what chooses, in fresh seeds.
        shrunk: Whether the printed mean is drawn to that of all who stayed, by the noise that it has.
    """

    own: float = 0.0
    shrunk: bool = False


FRESH: Final = Choice()


def by_choice(choice: Choice, standing: Standing, rows: Sequence[TrialRow], world: World) -> Outcome:
    stayed = [place for place in standing.places if place.dropped is None]
    own = {row.trial_id: row.val_error_last for row in rows if row.replicate_of is None}
    finalists = [place for place in stayed if place.trial_id != standing.first]

    def value(place: Confirmed) -> float:
        error = own[place.trial_id]
        if choice.own == 0 or error is None or place.trial_id == standing.first:
            return place.mean
        return (sum(place.errors) + choice.own * error) / (len(place.errors) + choice.own)

    # The first point is no finalist by selection: its own error is not like theirs. It wins by fresh seeds alone.
    best = min(finalists, key=value) if finalists else stayed[0]
    if choice.own == 0:
        best = stayed[0]
    printed = shrunk(best, finalists) if choice.shrunk else best.mean
    return judged(best.trial_id, printed, says(best), rows, world)


def shrunk(best: Confirmed, finalists: Sequence[Confirmed]) -> float:
    """Return the mean, drawn to the finalists' common one (James and Stein 1961, positive part)."""
    count = len(finalists)
    if count < 4 or best not in finalists or len(best.errors) < 2:
        return best.mean
    table = np.array([place.errors for place in finalists])
    means = table.mean(axis=1)
    noise = float((residuals_of(table) ** 2).sum()) / ((count - 1) * (table.shape[1] - 1)) / table.shape[1]
    spread = float(((means - means.mean()) ** 2).sum())
    kept = max(0.0, 1 - (count - 3) * noise / spread) if spread else 0.0
    return float(means.mean() + kept * (best.mean - means.mean()))
