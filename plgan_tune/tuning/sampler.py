"""Suggests points with Optuna's ask-and-tell interface."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import repeat
from math import isfinite, log
from typing import Final

import numpy as np
import optuna
from numpy.random import SeedSequence
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from plgan_tune.config.errors import RuleError
from plgan_tune.config.metrics import Metric
from plgan_tune.config.study import CmaesSpec, GpSpec, Point, SamplerSpec, SearchSpec, StudySpec, TpeSpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.assignment import Assignment, trial_name
from plgan_tune.study.history import OUTSIDE, History
from plgan_tune.tuning.distributions import distributions, from_optuna, quiet, to_optuna
from plgan_tune.tuning.points import Sobol, first_that, grid, key_of
from plgan_tune.tuning.warm_start import Older

EPOCHS_MISSING = "epochs_missing"
"""The Optuna constraint that a diverged or failed trial violates, by the number of epochs it lacks to its last one."""

LEAST: Final = 1e-12
"""What a sampler is told that fits values without upper bound is the logarithm of at least this."""


def build_sampler(search: SearchSpec, already: int = 0, told: Sequence[FrozenTrial] = ()) -> BaseSampler:
    """Build the sampler that `search.sampler` names, seeded, with every setting explicit: Optuna's defaults change.

    Args:
        search: names the sampler and its seed.
        already: number of trials that earlier starts of the study suggested; the random numbers must differ from
            theirs.
        told: finished trials that the sampler's study will hold. CMA-ES learns only from trials that it suggested
            itself, so these are passed to it separately.
    """
    seed = search.seed if already == 0 else int(SeedSequence([search.seed, already]).generate_state(1)[0])
    match search.sampler:
        case SamplerSpec(tpe=TpeSpec(startup_trials=startup)):
            return _tpe(seed, startup)
        case SamplerSpec(cmaes=CmaesSpec(startup_trials=startup)):
            return _cmaes(seed, startup, [trial for trial in told if trial.state is TrialState.COMPLETE])
        case SamplerSpec(gp=GpSpec(startup_trials=startup)):
            return GPSampler(
                seed=seed, n_startup_trials=startup, deterministic_objective=False, warn_independent_sampling=False
            )
        case _:
            return RandomSampler(seed=seed)


def check_sampler(search: SearchSpec) -> None:
    """Check that the sampler's package is installed.

    Raises:
        RuleError: if it is not.
    """
    if search.sampler.cmaes is not None and find_spec("cmaes") is None:
        raise RuleError("search.sampler: cmaes needs the package cmaes (pip install cmaes)", "none installed")


def _cmaes(seed: int, startup: int, completed: list[FrozenTrial]) -> CmaEsSampler:
    with warnings.catch_warnings():
        # consider_pruned_trials is experimental, but without it only the few completed trials would count.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(
            seed=seed,
            n_startup_trials=startup,
            consider_pruned_trials=True,
            source_trials=completed if len(completed) >= CMAES_SOURCES else None,
            warn_independent_sampling=False,  # CMA-ES can only sample choices independently
        )


CMAES_SOURCES = 10
"""Completed trials that CMA-ES needs for a warm start: it uses the best tenth of them (Nomura et al. 2021)."""


def _tpe(seed: int, startup: int) -> TPESampler:
    return TPESampler(
        seed=seed,
        n_startup_trials=startup,
        n_ei_candidates=24,
        multivariate=True,
        group=False,  # decomposes conditional spaces; here every trial has every key
        constant_liar=True,
    )


BuildSampler = Callable[[SearchSpec, int, Sequence[FrozenTrial]], BaseSampler]
"""Makes an Optuna sampler, as `build_sampler` does."""


@dataclass(slots=True)
class _Asked:
    trial: optuna.Trial
    epochs: int
    """Epochs of a whole training."""
    reported: int = 0
    """Latest epoch that Optuna knows; an attempt that starts from a checkpoint repeats earlier ones."""
    values: tuple[float, ...] | None = None
    """Value of each objective at that epoch; None if this start has not seen it."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What is known of a point: it is not trained again, for with its seed it would come to the same.

    Attributes:
        trial_id: whose it is.
        epochs: at which that trial stands.
        values: of each objective, at the last of them.
    """

    trial_id: str
    status: TrialStatus
    epochs: int = 0
    values: tuple[float, ...] | None = None


MOST_REPEATS: Final = 20
"""Suggestions of tried points in a row after which a point is drawn among those that are not."""


BROKEN: Final = (TrialStatus.DIVERGED, TrialStatus.FAILED)


@dataclass(frozen=True, slots=True)
class _End:
    """How a trial's end is reported to Optuna."""

    state: TrialState
    values: tuple[float, ...] | None = None
    violation: float | None = None


class OptunaSampler:
    """Suggests the trials of a study and tells the sampler how they ended.

    The points of `search.first` come first, in their order; keys that such a point leaves out are sampled.

    A point that breaks a rule of `search.rules` is suggested again, at most `MOST_REPEATS` times in a row.

    No point is suggested twice. If the sampler repeats a point, it gets the known result again, so that it moves on. If
    it repeats points too often, a point is drawn among the untried ones. If none is left, the search ends.

    Optuna minimises, so it is told costs (`Metric.cost`). TPE and CMA-ES go by their order alone. The Gaussian process
    fits them, so of a metric without upper bound it is told the logarithm: such a one spans decades.

    How a trial's end is reported (based on `TPESampler._split_trials` of Optuna 5.0):

    - completed: COMPLETE with the cost at the LAST epoch, the search's objective;
    - stopped early: PRUNED. TPE ranks pruned trials after complete ones, deeper first, then by the cost at
      the last epoch, which is therefore reported, too;
    - diverged or failed: PRUNED with a violated constraint. FAIL does not work: TPE ignores it and proposes the
      same region again. An invented bad value on a COMPLETE trial does not work either: complete trials rank
      before all pruned ones, so if early stopping leaves few complete trials it counts among the good ones. An
      infeasible trial ranks after every feasible one, the longest-lived first, and repels. If half of a square
      diverges and nearly all other trials are stopped, TPE proposes the bad half 93 % of the time after FAIL,
      66 % after a worst value, 18 % after the constraint (trials 20 to 59, eight seeds).
      CMA-ES and the Gaussian process do not support constraints: they get COMPLETE with the metric's worst value; where
      it has none, with the worst that a completed trial has come to, and FAIL before there is one.

    Of two objectives, completed trials are told both costs. Optuna then takes no value of an epoch (`Trial.report`
    raises), and TPE would rank pruned trials by their number. So all that did not complete are told as infeasible:
    stopped ones by the epochs that they lack, deeper first, as with one objective; broken ones behind all of them. Of
    the same depth none ranks first by its values, since any order of two costs would weigh them. TPE breaks ties of a
    front by hypervolume, which goes by numbers, so a metric without upper bound is told as its logarithm there, too.

    Replicates that earlier starts trained are trials like others: further values at the same points.

    The finished trials of `older` studies are added first, as if they were this study's. `build` makes the sampler; by
    default the one that `search.sampler` names.

    NaN is never reported. No ended trial stays running in Optuna, where constant_liar would treat it as bad forever.
    """

    def __init__(
        self,
        spec: StudySpec,
        history: History = History(),  # noqa: B008 - frozen
        older: Sequence[Older] = (),
        build: BuildSampler = build_sampler,
    ) -> None:
        self._spec = spec
        self._distributions = distributions(spec.domains)
        self._asked: dict[str, _Asked] = {}
        self._to_come = deque(history.to_come(spec.search.trials))
        self._unfinished = [row for row in history.unfinished if row.replicate_of is None]
        self._first = deque(_left_of_first(spec, history))
        self._replicates = [row.number for row in history.trials if row.replicate_of is not None]
        self._tried = {
            key_of(spec.domains, row.params): _Tried(row.trial_id, row.status, row.epochs, values_of(spec, row))
            for row in history.trials
            if row.error != OUTSIDE and row.replicate_of is None and spec.holds(row.params)
        }
        tpe = spec.search.sampler.tpe
        self._sobol: Sobol | None = None
        if tpe is not None and tpe.startup == "sobol":
            self._sobol = Sobol(spec.domains, spec.search.seed, self._keeps_rules)
        self._grid = None
        if spec.search.sampler.grid is not None and spec.points is not None:
            self._grid = grid(spec.domains, spec.points, spec.search.seed)
        self._draw = np.random.default_rng([spec.search.seed, history.next_number])
        self._curves = history.curves
        self._epochs = spec.any_trial().training.epochs
        self._constrained = spec.search.sampler.cmaes is None and spec.search.sampler.gp is None
        logarithm = spec.search.sampler.gp is not None or spec.second is not None
        self._told = [partial(told, metric, logarithm=logarithm) for metric in spec.objectives]
        known = [(row, history.curves) for row in history.ended if spec.holds(row.params)]
        brought = [(row, study.curves) for study in older for row in study.trials]
        self._worst = [
            None if metric.worst is None else told(metric.worst)
            for metric, told in zip(spec.objectives, self._told, strict=True)
        ]
        for row, _ in (*brought, *known):
            self._note_worst(values_of(spec, row) if row.status is TrialStatus.COMPLETED else None)
        ended = [self._as_told(row, curves.get(row.trial_id, {})) for row, curves in (*brought, *known)]
        with quiet():
            sampler = build(spec.search, history.next_number, ended)
            self.study = optuna.create_study(sampler=sampler, directions=["minimize"] * len(spec.objectives))
        self.study.add_trials(ended)

    def _as_told(self, row: TrialRow, curve: Mapping[int, float]) -> FrozenTrial:
        """Convert a trial of the log to what the sampler would hold if it had followed the trial."""
        values = values_of(self._spec, row) if row.status is TrialStatus.COMPLETED else None
        end = self._end(values, broken=row.status is not TrialStatus.STOPPED, missing=self._epochs - row.epochs)
        return optuna.trial.create_trial(
            state=end.state,
            values=end.values,
            params=to_optuna(self._spec.domains, row.params),
            distributions=self._distributions,
            intermediate_values={} if self._two else {epoch: self._told[0](value) for epoch, value in curve.items()},
            constraints=None if end.violation is None else {EPOCHS_MISSING: end.violation},
        )

    @property
    def _two(self) -> bool:
        return self._spec.second is not None

    def _end(self, values: tuple[float, ...] | None, *, broken: bool, missing: int) -> _End:
        """Return the end of a trial that completed with `values`, else was `broken`, else was stopped early."""
        if values is not None:
            costs = tuple(told(value) for told, value in zip(self._told, values, strict=True))
            return _End(TrialState.COMPLETE, costs)
        if self._constrained and (broken or self._two):
            behind_stopped = self._epochs if broken and self._two else 0
            return _End(TrialState.PRUNED, violation=behind_stopped + max(1, missing))
        if not broken:
            return _End(TrialState.PRUNED)
        worst = tuple(cost for cost in self._worst if cost is not None)
        return _End(TrialState.COMPLETE, worst) if len(worst) == len(self._worst) else _End(TrialState.FAIL)

    def _note_worst(self, values: tuple[float, ...] | None) -> None:
        """Keep what broken trials are told as, of a metric that has no worst value, from the values of whole ones."""
        for place, value in enumerate(values or ()):
            if isfinite(value) and self._spec.objectives[place].worst is None:
                cost, known = self._told[place](value), self._worst[place]
                self._worst[place] = cost if known is None else max(known, cost)

    def ask(self) -> Assignment | None:
        """Return the next trial; None after `search.trials`, or if every point has been tried."""
        if self._unfinished:
            return self._next_attempt(self._unfinished.pop(0))
        return self._next_trial() if self._to_come else None

    def _next_attempt(self, row: TrialRow) -> Assignment:
        """Return the next attempt of a trial that an earlier start left unfinished."""
        asked, point = self._suggestion(row.params)
        curve = self._curves.get(row.trial_id, {})
        for epoch, value in curve.items() if not self._two else ():
            asked.report(self._told[0](value), step=epoch)
        return self._assigned(asked, row.number, row.attempt + 1, max(curve, default=0), point)

    def _next_trial(self) -> Assignment | None:
        """Return a new trial at the first suggested point that is untried."""
        skipped: list[str] = []
        for wish in self._wishes():
            asked, point = self._suggestion(wish)
            if not self._keeps_rules(point):
                self.study.tell(asked, state=TrialState.FAIL)
                continue
            tried = self._tried.get(key_of(self._spec.domains, point))
            if tried is None:
                return self._assigned(asked, self._to_come.popleft(), 1, 0, point, skipped)
            skipped.append(tried.trial_id)
            self._tell_again(asked, tried)
        return None

    def _wishes(self) -> Iterator[Point]:
        """Yield the values to fix in the next suggestion, until it is a new point; nothing if every point is tried."""
        points = self._spec.points
        if points is not None and len(self._tried) >= points:
            return
        while self._first:
            point = self._first.popleft()
            yield from repeat(point, 1 if point.keys() == self._spec.domains.keys() else MOST_REPEATS)
        if (start := self._startup()) is not None:
            yield start
        if self._grid is not None:
            yield from filter(self._may_be_tried, self._grid)
            return
        yield from repeat({}, MOST_REPEATS)
        found = first_that(self._may_be_tried, self._spec.domains, points, self._draw)
        if found is not None:
            yield found

    def _keeps_rules(self, point: Point) -> bool:
        return self._spec.broken_rule(point) is None

    def _may_be_tried(self, point: Point) -> bool:
        return key_of(self._spec.domains, point) not in self._tried and self._keeps_rules(point)

    def _startup(self) -> Point | None:
        """Return the Sobol point of the next trial's number among the search's own, so that a resume continues them."""
        number, tpe = self._to_come[0], self._spec.search.sampler.tpe
        place = number - sum(replicate < number for replicate in self._replicates)
        if self._sobol is None or tpe is None or place >= tpe.startup_trials:
            return None
        return self._sobol.nth(place)

    def _suggestion(self, wish: Point) -> tuple[optuna.Trial, Point]:
        """Return the sampler's suggestion, with the values of `wish` fixed."""
        if wish:
            self.study.enqueue_trial(to_optuna(self._spec.domains, wish))
        asked = self.study.ask(self._distributions)
        return asked, from_optuna(self._spec.domains, asked.params)

    def _assigned(
        self, asked: optuna.Trial, number: int, attempt: int, logged: int, point: Point, skipped: Sequence[str] = ()
    ) -> Assignment:
        trial, trial_id = self._spec.trial(point), trial_name(number)
        self._asked[trial_id] = _Asked(asked, trial.training.epochs, logged)
        self._tried[key_of(self._spec.domains, point)] = _Tried(trial_id, TrialStatus.RUNNING)
        return Assignment(trial_id, number, attempt, logged, point, trial, notes=_notes(trial_id, skipped))

    def _tell_again(self, asked: optuna.Trial, tried: _Tried) -> None:
        """Report a repeated point. Of a running trial nothing is known: samplers ignore FAIL."""
        if tried.status is TrialStatus.RUNNING:
            self.study.tell(asked, state=TrialState.FAIL)
            return
        if tried.values is not None and all(map(isfinite, tried.values)) and not self._two:
            asked.report(self._told[0](tried.values[0]), step=tried.epochs)
        self._tell(_Asked(asked, self._epochs, tried.epochs, tried.values), tried.status)

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:
        """Report an epoch's value to Optuna, with the epoch as the step. Of two objectives, keep them for the end."""
        asked, values = self._asked.get(trial_id), (value, *others)
        if asked is None or epoch <= asked.reported or not all(map(isfinite, values)):
            return
        if not self._two:
            asked.trial.report(self._told[0](value), step=epoch)
        asked.reported, asked.values = epoch, values

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """Report how the trial ended. One that completed without a value counts as broken."""
        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        params = from_optuna(self._spec.domains, asked.trial.params)
        self._tried[key_of(self._spec.domains, params)] = _Tried(trial_id, status, asked.reported, asked.values)
        self._tell(asked, status)

    def _tell(self, asked: _Asked, status: TrialStatus) -> None:
        completed = status is TrialStatus.COMPLETED
        values = asked.values if completed and asked.reported == asked.epochs else None
        self._note_worst(values)
        end = self._end(values, broken=completed or status in BROKEN, missing=asked.epochs - asked.reported)
        if end.violation is not None:
            asked.trial.set_constraint(EPOCHS_MISSING, end.violation)
        self.study.tell(asked.trial, end.values, state=end.state)


def values_of(spec: StudySpec, row: TrialRow) -> tuple[float, ...] | None:
    """Return a row's value of each objective of the study, in its own unit; None if it lacks one."""
    values = [row.value_last, row.second_last][: len(spec.objectives)]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None


def told(metric: Metric, value: float, *, logarithm: bool) -> float:
    """Return what an Optuna study that minimises is told of a metric's value.

    Args:
        metric: The metric.
        value: In its own unit.
        logarithm: Whether the sampler fits the numbers themselves, and not their order.
    """
    if logarithm and metric.worst is None:
        return log(max(value, LEAST))
    return metric.cost(value)


def _left_of_first(spec: StudySpec, history: History) -> list[Point]:
    """The points of `search.first` that no trial of the log has taken up, each trial one."""
    left: list[Point] = list(spec.search.first)
    for row in (row for row in history.trials if row.replicate_of is None):
        taken_up = next((point for point in left if point.items() <= row.params.items()), None)
        if taken_up is not None:
            left.remove(taken_up)
    return left


def _notes(trial_id: str, skipped: Sequence[str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    known = ", ".join(dict.fromkeys(skipped))
    return (f"{trial_id}: {len(skipped)} suggestion{'s' * (len(skipped) > 1)} skipped, already tried by {known}",)
