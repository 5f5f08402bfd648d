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
from copy import deepcopy
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
from no_display import NoDisplay
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
from plgan_tune.study.race import Confirmed, Race, race_of
from plgan_tune.study.state import StudyState
from plgan_tune.tuning.sampler import OptunaSampler

Errors = npt.NDArray[np.float64]

TABLE: Final = Path(__file__).with_name("table")
IMAGES: Final = 400
EPOCHS: Final = 60
STEP: Final = 10
"""Epochs that a simulated one stands for: rungs are at 10 and 30, budgets are multiples."""
AT_A_TIME: Final = 2
BUDGETS: Final = (2160, 6480)
SETTINGS: Final = (
    *((16, 8, share) for share in (0.25, 0.5)),
    *((finalists, 8, 0.4) for finalists in (4, 8, 32)),
    *((16, seeds, 0.4) for seeds in (4, 12)),
)
"""Finalists, seeds and share of `search.confirm`."""

MOST_SEEDS: Final = 12
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

TRIALS: Final = max(BUDGETS) // STEP + AT_A_TIME
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
    expected = finals.mean(axis=1, keepdims=True) + finals.mean(axis=0, keepdims=True) - finals.mean()
    left: Errors = finals - expected
    return left


class World:
    """What a search meets: a configuration a number, with its true mean, its own curve and its replicates' errors.

    Args:
        truths: True mean error at the last epoch, a configuration each.
        curves: Shape (configurations, steps).
        replicates: Shape (configurations, seeds).
    """

    def __init__(self, truths: Errors, curves: Errors, replicates: Errors) -> None:
        self.truths = truths
        self._curves, self._replicates = counted(curves), counted(replicates)

    def curve(self, number: int, replicate: int | None) -> list[float]:
        """Return the errors of a training, one each STEP epochs; those of a replicate are all its last."""
        if replicate is None:
            return list(self._curves[number].tolist())
        return [float(self._replicates[number, replicate - 1])] * (EPOCHS // STEP)


def counted(errors: Errors) -> Errors:
    """Return the errors as they would be counted on the validation images."""
    found: Errors = np.clip(np.round(errors * IMAGES) / IMAGES, 0, 1)
    return found


@dataclass(frozen=True, slots=True)
class Population:
    """Draws worlds.

    Attributes:
        components: Deviations.
        curves: The table's, shape (configurations, seeds, epochs).
        fitted: Whether residuals are those of the table, with their trainings' curves; else they are normal, and a
            curve is that of a training which ends near. True means are always those of the table, moved a little.
    """

    components: Components
    curves: Errors
    fitted: bool

    def world(self, search: int) -> World:
        """Draw the world of a search; a function of its number."""
        draw = np.random.default_rng([search, 20261130])
        truths, of = self._truths(draw)
        seeds = draw.normal(0, self.components.seed, 1 + MOST_SEEDS)
        if self.fitted:
            residuals, curves = self._measured(draw, of)
            finals = truths[:, None] + seeds + residuals
        else:
            finals = truths[:, None] + seeds + draw.normal(0, self.components.residual, (TRIALS, 1 + MOST_SEEDS))
            curves = self._ending_near(draw, finals[:, 0])
        curves = curves + (finals[:, 0] - curves[:, -1])[:, None]
        return World(truths, curves[:, STEP - 1 :: STEP], finals[:, 1:])

    def _truths(self, draw: np.random.Generator) -> tuple[Errors, npt.NDArray[np.intp]]:
        """Take means of the table, moved a little; return whose they are, too."""
        known, means = self.components, self._means()
        of = draw.integers(len(means), size=TRIALS)
        of[0] = 0
        noise = BANDWIDTH * known.between * draw.normal(size=TRIALS)
        truths = known.mean + (means[of] - known.mean + noise) / math.sqrt(1 + BANDWIDTH**2)
        truths[0] = draw.normal(known.first, known.first_known)
        return truths, of

    def _means(self) -> Errors:
        """Return the configurations' means, drawn together until they deviate as true means do."""
        raw = self.curves[:, :, -1].mean(axis=1)
        means: Errors = self.components.mean + (raw - raw.mean()) * self.components.between / raw.std(ddof=1)
        return means

    def _measured(self, draw: np.random.Generator, of: npt.NDArray[np.intp]) -> tuple[Errors, Errors]:
        """Draw residuals of the table, and the curves of the trainings that the first of them are of."""
        finals = self.curves[:, :, -1]
        configurations, seeds = finals.shape
        spread = math.sqrt(configurations * seeds / ((configurations - 1) * (seeds - 1)))
        residuals = residuals_of(finals) * spread
        training = draw.integers(seeds, size=TRIALS)
        pools = residuals[self._neighbours(-(-POOL // seeds))].reshape(configurations, -1)
        others = draw.integers(pools.shape[1], size=(TRIALS, MOST_SEEDS))
        return np.column_stack([residuals[of, training], pools[of[:, None], others]]), self.curves[of, training]

    def _neighbours(self, count: int) -> npt.NDArray[np.intp]:
        """Return the nearest `count` configurations of each, itself among them."""
        means = self._means()
        return np.argsort(np.abs(means[:, None] - means[None, :]), axis=1, kind="stable")[:, :count]

    def _ending_near(self, draw: np.random.Generator, finals: Errors) -> Errors:
        """Return curves of the table that end near."""
        curves = self.curves.reshape(-1, EPOCHS)
        curves = curves[np.argsort(curves[:, -1], kind="stable")]
        places = np.searchsorted(curves[:, -1], finals) + draw.integers(-4, 5, size=len(finals))
        found: Errors = curves[np.clip(places, 0, len(curves) - 1)]
        return found


# A search


class NoLog:
    def epoch(self, row: EpochRow, /) -> None: ...
    def decision(self, row: DecisionRow, /) -> None: ...
    def trial(self, row: TrialRow, /) -> None: ...


ASHA: Final = ("search.early_stopping.asha.grace_period=1", "search.early_stopping.asha.reduction_factor=3")
WHOLE: Final = ("search.early_stopping=none",)


@cache
def study(epochs: int, confirm: ConfirmSpec | None, stopping: Sequence[str] = ASHA) -> StudySpec:
    """The table's space, searched for so many epochs, confirming included. All epochs are in STEPs."""
    limits = [f"search.epochs={epochs // STEP}", f"trial.training.epochs={EPOCHS // STEP}", "search.trials=100000"]
    spec = load_study(TABLE / "space.yaml", [*limits, *stopping]).study
    return replace(spec, search=spec.search.model_copy(update={"confirm": confirm, "first": (dict(PATENT),)}))


class RandomPoints:
    """Suggests random points, the same ones in every search: their configurations are the world's, by their numbers."""

    def __init__(self, spec: StudySpec) -> None:
        self._left = iter(assignments(spec))

    def ask(self) -> Assignment | None:
        return next(self._left, None)

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None: ...

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


class Search:
    """A search by the driver's own parts, two trials at a time, an epoch of each in turn.

    Args:
        spec: The study; `search.epochs` is its budget.
        world: What trainings come to.
        stop: Makes the rule of early stopping.
        suggest: Makes the sampler.

    Attributes:
        state: Where it stands.
        trained: Epochs so far.
    """

    def __init__(
        self, spec: StudySpec, world: World, *, stop: Stop = build_rule, suggest: Suggest = RandomPoints
    ) -> None:
        self._world, self._epochs, self._rule = world, spec.any_trial().training.epochs, stop(spec)
        self.trained = 0
        self.state = StudyState(
            spec.study,
            trials=spec.search.trials,
            epochs=self._epochs,
            started_at=NOW,
            budget=spec.search.epochs,
            race=race_of(spec),
        )
        suggestions = suggest(spec)
        if self.state.race is not None:
            suggestions = Confirming(suggestions, self.state.race, spec, self.state, History())
        self._coordinator = Coordinator(
            self.state, NoLog(), NoDisplay(), lambda: NOW, suggestions, self._rule, max_failures=0
        )
        self._turns: deque[tuple[Assignment, list[float]]] = deque()

    def step(self) -> bool:
        """Train an epoch; return whether there was one to train."""
        if self._coordinator.is_over():
            return False
        while len(self._turns) < AT_A_TIME and isinstance(assignment := self._coordinator.ask(), Assignment):
            self._coordinator.start(assignment)
            self._turns.append((assignment, course(self._world, assignment)))
        if not self._turns:
            return False
        self.trained += 1
        assignment, errors = self._turns.popleft()
        epoch = self.state.trial(assignment.trial_id).epochs + 1
        report = reported(self._status(epoch), epoch, errors[epoch - 1])
        if self._coordinator.report(assignment, report) is not Verdict.STOP:
            self._turns.append((assignment, errors))
        return True

    def run(self) -> "Search":
        """Search to the end."""
        while self.step():
            pass
        self._coordinator.check_whole("the simulation")
        return self

    def _status(self, epoch: int) -> TrialStatus:
        return TrialStatus.COMPLETED if epoch == self._epochs else TrialStatus.RUNNING

    def would_exceed(self, epochs: int) -> bool:
        """Whether one more trial would, if all that train now train to their ends."""
        rest = sum(self._epochs - row.epochs for row in self.state.running())
        return STEP * (self.trained + rest + self._epochs) > epochs

    def if_no_more_came(self) -> list[TrialRow]:
        """Return all rows as they would be if no trial started any more and those under way trained to their ends."""
        rows = {row.trial_id: row for row in self.state.rows()}
        rule, turns, seq = deepcopy(self._rule), deque(self._turns), self.trained
        while turns:
            assignment, errors = turns.popleft()
            trial_id, epoch = assignment.trial_id, rows[assignment.trial_id].epochs + 1
            error, status = errors[epoch - 1], self._status(epoch)
            if status is TrialStatus.RUNNING:
                decision = rule.report(Report(seq, trial_id, 1, epoch, error), assignment.point)
                if decision is not None and decision.verdict is Verdict.STOP:
                    status = TrialStatus.STOPPED
            rows[trial_id] = replace(rows[trial_id], epochs=epoch, value_last=error, status=status)
            seq += 1
            if status is TrialStatus.RUNNING:
                turns.append((assignment, errors))
        return list(rows.values())


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
    """Race the finalists of a search that has ended, and return all rows."""
    found = list(rows)
    while ready := race.next_replicates(found, ()):
        for of, number in ready:
            found.append(replicate_of(found[number_of(of)], number, len(found), world))
    return found


def replicate_of(row: TrialRow, replicate: int, number: int, world: World) -> TrialRow:
    return replace(
        row,
        seq=(number + 1) * EPOCHS,
        trial_id=f"t{number:04d}",
        number=number,
        status=TrialStatus.COMPLETED,
        epochs=EPOCHS // STEP,
        value_last=world.curve(row.number, replicate)[-1],
        replicate_of=row.trial_id,
        replicate=replicate,
    )


# Other rules


class RaysAsha:
    """Ray's own scheduler as a rule."""

    def __init__(self, spec: StudySpec) -> None:  # noqa: ARG002 - a rule is made from a study
        self._scheduler = AsyncHyperBandScheduler(
            metric="val_error", mode="min", max_t=EPOCHS // STEP, grace_period=1, reduction_factor=3
        )
        self._trials: dict[str, Any] = {}

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:  # noqa: ARG002
        trial = self._trials.get(report.trial_id)
        if trial is None:
            trial = self._trials[report.trial_id] = SimpleNamespace(trial_id=report.trial_id)
            self._scheduler.on_trial_add(None, trial)
        result = {"training_iteration": report.epoch, "val_error": report.value}
        return stopped(report) if self._scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP else None


class OptunasMedian:
    """Optuna's MedianPruner as a rule; it judges each STEP."""

    def __init__(self, spec: StudySpec) -> None:  # noqa: ARG002 - a rule is made from a study
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        pruner = MedianPruner(n_startup_trials=5, n_warmup_steps=1)
        self._study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.RandomSampler(0))
        self._trials: dict[str, optuna.Trial] = {}

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:  # noqa: ARG002
        trial = self._trials.get(report.trial_id)
        if trial is None:
            trial = self._trials[report.trial_id] = self._study.ask()
        trial.report(report.value, report.epoch)
        if not trial.should_prune():
            if report.epoch == EPOCHS // STEP - 1:
                self._study.tell(trial, report.value)  # it will complete; its last epoch is not judged
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
        value=report.value,
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
        epochs=STEP * sum(row.epochs for row in rows),
        tried=len(own),
    )


def by_search(state: StudyState, world: World) -> Outcome:
    """What the search itself says. One that confirms nothing says that it has found a better point if it prints one."""
    best, standing = state.best(), state.standing()
    assert best is not None
    assert best.value_last is not None
    confirmed = next((place for place in standing.places if place.trial_id == best.trial_id), None)
    if confirmed is None:
        return judged(best.trial_id, best.value_last, best.number > 0, state.rows(), world)
    return judged(best.trial_id, confirmed.mean, says(confirmed), state.rows(), world)


def by_all_seeds(state: StudyState, world: World) -> Outcome:
    """The same search if it printed the mean of all fresh seeds."""
    winner = state.standing().winner
    assert winner is not None
    return judged(winner.trial_id, fmean(winner.values), says(winner), state.rows(), world)


def says(place: Confirmed) -> bool:
    return place.difference is not None and place.difference.is_better


Kind = tuple[int, str]
"""Budget and name."""


@dataclass(frozen=True, slots=True)
class Contest:
    """A race after a search of at most `before` epochs."""

    name: str
    before: int
    race: Race


def contests(budget: int) -> Iterator[Contest]:
    for finalists, seeds, share in SETTINGS:
        race = Race(ConfirmSpec(finalists=finalists, seeds=seeds, share=share), EPOCHS // STEP, PATENT, budget // STEP)
        yield Contest(named(finalists, seeds, share), STEP * (race.searched_epochs() or 0), race)


def named(finalists: int, seeds: int, share: float) -> str:
    return f"{finalists} finalists, {seeds} seeds, share {share}"


SHIPPED: Final = named(DEFAULT.finalists, DEFAULT.seeds, DEFAULT.share)
ALL_SEEDS: Final = f"{SHIPPED}, prints the mean of all fresh seeds"
IDIOM: Final = "ASHA, lowest error wins"
WHOLES: Final = "whole trainings, lowest error wins"
RAY: Final = "Ray's ASHA, lowest error wins"
MEDIAN: Final = "Optuna's median, lowest error wins"


def outcomes(population: Population, search: int) -> dict[Kind, Outcome]:
    """All kinds of search in one world. Those with ASHA are parts of one long search: its starts are the same."""
    world = population.world(search)
    asked = [(budget, contest) for budget in BUDGETS for contest in contests(budget)]
    found: dict[Kind, Outcome] = {}
    ended: dict[int, list[TrialRow]] = {}
    to_stop = {contest.before for _, contest in asked}
    long = Search(study(max(BUDGETS), None), world)
    while long.step():
        at = STEP * long.trained
        if at in BUDGETS:
            found[at, IDIOM] = by_search(long.state, world)
        for before in [before for before in to_stop if long.would_exceed(before)]:
            ended[before] = long.if_no_more_came()
            to_stop.remove(before)
    for budget in BUDGETS:
        found[budget, WHOLES] = by_search(Search(study(budget, None, WHOLE), world).run().state, world)
        ours = Search(study(budget, DEFAULT), world).run().state
        found[budget, SHIPPED] = by_search(ours, world)
        found[budget, ALL_SEEDS] = by_all_seeds(ours, world)
    for budget, contest in asked:
        after = raced(ended[contest.before], contest.race, world)
        standing = contest.race.standing(after)
        winner = standing.winner
        assert winner is not None
        found[budget, contest.name] = judged(winner.trial_id, winner.mean, says(winner), after, world)
    return found


def outcomes_of_others(population: Population, search: int) -> dict[Kind, Outcome]:
    """The rules of others, which take longer."""
    world = population.world(search)
    found: dict[Kind, Outcome] = {}
    for budget in BUDGETS:
        for name, stop in ((RAY, RaysAsha), (MEDIAN, OptunasMedian)):
            found[budget, name] = by_search(Search(study(budget, None), world, stop=stop).run().state, world)
    return found


# The page


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or a share with its 95 % interval."""

    value: float
    low: float
    high: float


def mean_of(values: Sequence[float]) -> Estimate:
    half = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    mean = float(np.mean(values))
    return Estimate(mean, mean - half, mean + half)


def share_of(are: Sequence[bool]) -> Estimate:
    """Estimate by Wilson's interval."""
    count, z = len(are), 1.96
    if count == 0:
        return Estimate(math.nan, 0, 1)
    share = sum(are) / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half))


HEAD: Final = """| search | prints | it is | optimism | below ASHA's choice by | regret | \
better than the first point | says so | is so when said | epochs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def row_of(name: str, ours: Sequence[Outcome], idiom: Sequence[Outcome]) -> str:
    """Return a line of the table; `idiom` has the same worlds."""
    said = [one.truth < one.first for one in ours if one.says]
    cells = [
        f"{100 * fmean(one.printed for one in ours):.2f}",
        points(mean_of([one.truth for one in ours])),
        points(mean_of([one.truth - one.printed for one in ours])),
        points(mean_of([other.truth - one.truth for one, other in zip(ours, idiom, strict=True)])),
        f"{100 * fmean(one.truth - one.best for one in ours):.2f}",
        percent(share_of([one.truth < one.first for one in ours])),
        percent(share_of([one.says for one in ours])),
        percent(share_of(said)),
        f"{fmean(one.epochs for one in ours):,.0f}",
    ]
    return f"| {name} | {' | '.join(cells)} |\n"


def points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.2f} ± {50 * (estimate.high - estimate.low):.2f}"


def percent(estimate: Estimate) -> str:
    if math.isnan(estimate.value):
        return "-"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


Found = Sequence[Mapping[Kind, Outcome]]
"""A mapping a search's number, from 0."""


def tables(found: Found, others: Found) -> str:
    text = ""
    for budget in BUDGETS:
        idiom = [one[budget, IDIOM] for one in found]
        text += f"\n## {budget:,} epochs\n\n{HEAD}"
        for name in (IDIOM, WHOLES):
            text += row_of(name, [one[budget, name] for one in found], idiom)
        for name in (name for at, name in (others[0] if others else ()) if at == budget):
            theirs = [one[budget, name] for one in others]
            text += row_of(f"{name} ({len(others):,} searches)", theirs, idiom[: len(others)])
        for name in (name for at, name in found[0] if at == budget and name not in (IDIOM, WHOLES)):
            bold = f"**{name} (shipped)**" if name == SHIPPED else name
            text += row_of(bold, [one[budget, name] for one in found], idiom)
    return text


def bars(found: Found) -> str:
    """Say which bars the shipped settings meet."""
    text = f"\n## Bars: as shipped, {SHIPPED}\n\n"
    for budget in BUDGETS:
        ours, idiom, wholes = ([one[budget, name] for one in found] for name in (SHIPPED, IDIOM, WHOLES))
        optimism = mean_of([one.truth - one.printed for one in ours])
        below = mean_of([other.truth - one.truth for one, other in zip(ours, idiom, strict=True)])
        below_wholes = mean_of([other.truth - one.truth for one, other in zip(ours, wholes, strict=True)])
        so = share_of([one.truth < one.first for one in ours if one.says])
        text += bar(budget, "optimism within 0.3 points", points(optimism), abs(optimism.value) <= 0.003)
        text += bar(budget, "truly below ASHA's choice", points(below), below.low > 0)
        text += bar(budget, "truly below the choice of whole trainings", points(below_wholes), below_wholes.low > 0)
        if budget == max(BUDGETS):
            text += bar(budget, "at least 0.5 points below ASHA's choice", points(below), below.value >= 0.005)
        text += bar(budget, "better in 95 % of those that say so", percent(so), so.value >= 0.95)
    return text


def bar(budget: int, what: str, measured: str, is_met: bool) -> str:
    return f"- {budget:,} epochs: {what}: {measured}, {'met' if is_met else 'MISSED'}.\n"


ABOUT: Final = """# Searches judged by the true means of what they choose

{machine}.
`OMP_NUM_THREADS=1 python benchmarks/simulate.py --searches {searches} --others {others} --components {components}`

No training: each search meets configurations of its own from a super-population, and is judged by their true means.
{searches:,} searches a row unless it says otherwise; a row's searches meet the same configurations as the next row's.
All of them try the first point, the patent's, first and then random points, two at a time; confirming is within the
epochs. A simulated epoch stands for {step} (rungs are at 10 and 30 of 60).

The super-population: {trainings:,} trainings of the table, of which {configurations} configurations x {seeds} seed{s} \
are of use.
{source}
Deviations, in points: between configurations {between:.2f}, residual of a training {residual:.2f}, shared by all
trainings of a seed {seed:.2f}; mean {mean:.2f} %, the first point {first:.2f} ± {known:.2f} %. True means are those of
the table's configurations, scaled to that deviation and moved by {bandwidth} of it, so they are as skewed as the
table's. A search's own trial follows {curves}, shifted to end at its drawn error. Errors are counted on {images}
images.

- prints: the number that the search shows for its choice: of those that confirm, the mean over fresh seeds; else its
  lowest error at the last epoch. Errors in %.
- it is: the true mean of its choice. Optimism is this less what it prints. Regret is this less the lowest true mean
  that it tried.
- below ASHA's choice by: true mean of ASHA's choice in the same world less this one's; positive is better.
- says so: the interval of the difference from the first point excludes 0. A search that confirms nothing is taken to
  say so if it chooses another point than the first.
- ± and brackets: 95 % intervals.
- finalists and seeds: at most; the share decides how many (docs/how_it_works.md). The printed mean is that of the last
  round's seeds, which have chosen nothing before.
"""

ESTIMATED: Final = "Deviations are estimated from it by an analysis of variance of configurations x seeds."
NOTED: Final = (
    "It has too few seeds to tell a seed's part: deviations are those of 64 configurations x 6 seeds (NOISE.md)."
)

FINDINGS: Final = "\n## What follows\n"
"""From here on the page is written by hand and kept."""


def page(population: Population, table: Table, found: Found, others: Found, about: str) -> str:
    known, (configurations, seeds, _) = population.components, table.curves.shape
    text = ABOUT.format(
        machine=about,
        searches=len(found),
        others=len(others),
        components="table" if population.fitted else "noise",
        step=STEP,
        trainings=table.trainings,
        configurations=configurations,
        seeds=seeds,
        s="s" * (seeds > 1),
        source=ESTIMATED if population.fitted else NOTED,
        between=100 * known.between,
        residual=100 * known.residual,
        seed=100 * known.seed,
        mean=100 * known.mean,
        first=100 * known.first,
        known=100 * known.first_known,
        bandwidth=BANDWIDTH,
        curves="a training of its configuration" if population.fitted else "a training that ends near",
        images=IMAGES,
    )
    text += tables(found, others)
    return text + bars(found)


def population_of(table: Table, components: str) -> Population:
    if components == "table":
        return Population(components_of(table.finals), table.curves, fitted=True)
    return Population(NOISE, table.curves, fitted=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--others", type=int, default=200, help="searches of the kinds that take longer")
    parser.add_argument("--components", choices=["table", "noise"], help="default: table if it has three seeds")
    parser.add_argument("--table", type=Path, default=TABLE / "curves.parquet")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    table = read_table(asked.table)
    components = asked.components or ("table" if table.curves.shape[1] >= 3 else "noise")
    print(f"{table.trainings:,} trainings in the table; deviations of: {components}", flush=True)
    population = population_of(table, components)
    began = time.perf_counter()
    with ProcessPoolExecutor(asked.processes) as pool:
        found = list(pool.map(partial(outcomes, population), range(asked.searches), chunksize=10))
        others = list(pool.map(partial(outcomes_of_others, population), range(asked.others), chunksize=10))
    races = sum(len(one) for one in (*found, *others))
    print(f"{races:,} searches and choices in {time.perf_counter() - began:,.0f} s")
    text = page(population, table, found, others, machine())
    print(text)
    write(Path(__file__).with_name("noise.md"), text)


def write(file: Path, text: str) -> None:
    """Write the page; keep what was written by hand at its end."""
    kept = file.read_text().partition(FINDINGS)[2] if file.exists() else ""
    file.write_text(text + (FINDINGS + kept if kept else ""))


if __name__ == "__main__":
    main()
