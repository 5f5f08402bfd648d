"""What to try: Optuna's ask and tell."""

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import repeat
from typing import Final

import numpy as np
import optuna
from numpy.random import SeedSequence
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import CmaesSpec, GpSpec, Point, SamplerSpec, SearchSpec, StudySpec, TpeSpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.history import OUTSIDE, History
from plgan_tune.tuning.distributions import distributions, from_optuna, quiet, to_optuna
from plgan_tune.tuning.points import Sobol, first_that, grid, key_of
from plgan_tune.tuning.warm_start import Older

EPOCHS_MISSING = "epochs_missing"
"""The Optuna constraint a diverged or failed trial breaks, by the epochs it fell short of its last one."""


WORST = 1.0
"""The highest error that there is."""


def build_sampler(search: SearchSpec, already: int = 0, told: Sequence[FrozenTrial] = ()) -> BaseSampler:
    """The sampler that `search.sampler` names, seeded, every setting stated: Optuna's defaults move.

    Args:
        search: names the sampler and its seed.
        already: trials that earlier starts of the study suggested; the sampler's random numbers are not theirs.
        told: finished trials that its study will know. CMA-ES keeps what it has learned in trials that it suggested
            itself, so of others it has to be told apart.
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
    """Raises RuleError where the sampler's own package is not there."""
    if search.sampler.cmaes is not None and find_spec("cmaes") is None:
        raise RuleError("search.sampler: cmaes needs the package cmaes (pip install cmaes)", "none installed")


def _cmaes(seed: int, startup: int, completed: list[FrozenTrial]) -> CmaEsSampler:
    with warnings.catch_warnings():
        # Experimental, but without it early stopping would leave it the few completed trials alone.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return CmaEsSampler(
            seed=seed,
            n_startup_trials=startup,
            consider_pruned_trials=True,
            source_trials=completed if len(completed) >= CMAES_SOURCES else None,
            warn_independent_sampling=False,  # of choices: it has no other way
        )


CMAES_SOURCES = 10
"""Completed trials from which CMA-ES can start: it takes the best tenth of them (Nomura et al. 2021)."""


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
    """Latest epoch Optuna knows; an attempt that starts from a checkpoint repeats earlier ones."""
    error: float | None = None
    """At that epoch, where this start has seen it."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """What is known of a point: it is not trained again, for with its seed it would come to the same.

    Attributes:
        trial_id: whose it is.
        epochs: at which that trial stands.
        error: at the last of them.
    """

    trial_id: str
    status: TrialStatus
    epochs: int = 0
    error: float | None = None


MOST_REPEATS: Final = 20
"""Suggestions of tried points in a row after which a point is drawn among those that are not."""


BROKEN: Final = (TrialStatus.DIVERGED, TrialStatus.FAILED)


@dataclass(frozen=True, slots=True)
class _End:
    """How Optuna is told that a trial has ended."""

    state: TrialState
    value: float | None = None
    violation: float | None = None


class OptunaSampler:
    """Suggests the trials of a study and tells the sampler how they ended.

    The points of `search.first` come first, in their order; keys that such a point leaves out are sampled.

    A point that breaks a rule of `search.rules` is suggested again, at most so often in a row as one that was tried.

    No point is suggested twice. The sampler is told of one that it repeats what it would have been told had the trial
    been trained again, so that it moves on; where it repeats too often, a point is drawn among the others. Where there
    are no others, the search ends.

    What the sampler is told (`TPESampler._split_trials` of Optuna 5.0, read for this):

    - completed: COMPLETE with the error at the LAST epoch, the search's objective;
    - stopped early: PRUNED. TPE ranks pruned trials after complete ones, deeper first, then by the error at
      the last epoch, which is therefore reported, too;
    - diverged or failed: PRUNED with a broken constraint. FAIL would not do: TPE ignores it and proposes the
      same region again. A made-up bad value on a COMPLETE trial would not do either: complete trials rank
      before all pruned ones, so where early stopping leaves few complete trials it counts among the good. An
      infeasible trial ranks after every feasible one, the longest-lived first, and pushes away. Where half of
      a square diverges and nearly all other trials are stopped, TPE proposes the bad half 93 % of the time
      after FAIL, 66 % after a worst value, 18 % after the constraint (trials 20 to 59, eight seeds).
      CMA-ES and the Gaussian process know no constraint: they are told COMPLETE with an error of WORST.

    The finished trials of `older` studies are told first, as if they had been this one's. `build` makes the sampler;
    by default the one that `search.sampler` names.

    NaN is never told. No trial that has ended stays running in Optuna, where constant_liar would hold it for bad
    for ever.
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
        self._unfinished = list(history.unfinished)
        self._first = deque(_left_of_first(spec, history))
        self._tried = {
            key_of(spec.domains, row.params): _Tried(row.trial_id, row.status, row.epochs, row.val_error_last)
            for row in history.trials
            if row.error != OUTSIDE and spec.holds(row.params)
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
        known = [(row, history.curves) for row in history.ended if spec.holds(row.params)]
        brought = [(row, study.curves) for study in older for row in study.trials]
        told = [self._as_told(row, curves.get(row.trial_id, {})) for row, curves in (*brought, *known)]
        with quiet():
            sampler = build(spec.search, history.next_number, told)
            self.study = optuna.create_study(sampler=sampler, direction="minimize")
        self.study.add_trials(told)

    def _as_told(self, row: TrialRow, curve: Mapping[int, float]) -> FrozenTrial:
        """A trial of the log as the sampler would know it, had it been told while the trial ran."""
        error = row.val_error_last if row.status is TrialStatus.COMPLETED else None
        end = self._end(error, broken=row.status is not TrialStatus.STOPPED, missing=self._epochs - row.epochs)
        return optuna.trial.create_trial(
            state=end.state,
            value=end.value,
            params=to_optuna(self._spec.domains, row.params),
            distributions=self._distributions,
            intermediate_values=dict(curve),
            constraints=None if end.violation is None else {EPOCHS_MISSING: end.violation},
        )

    def _end(self, error: float | None, *, broken: bool, missing: int) -> _End:
        """Of a trial that completed with an error, broke with epochs missing, or else was stopped early."""
        if error is not None:
            return _End(TrialState.COMPLETE, error)
        if not broken:
            return _End(TrialState.PRUNED)
        if not self._constrained:
            return _End(TrialState.COMPLETE, WORST)
        return _End(TrialState.PRUNED, violation=max(1, missing))

    def ask(self) -> Assignment | None:
        """The next trial; None after `search.trials`, and where every point is tried."""
        if self._unfinished:
            return self._next_attempt(self._unfinished.pop(0))
        return self._next_trial() if self._to_come else None

    def _next_attempt(self, row: TrialRow) -> Assignment:
        """Of a trial that an earlier start left unfinished."""
        asked, point = self._suggestion(row.params)
        curve = self._curves.get(row.trial_id, {})
        for epoch, error in curve.items():
            asked.report(error, step=epoch)
        return self._assigned(asked, row.number, row.attempt + 1, max(curve, default=0), point)

    def _next_trial(self) -> Assignment | None:
        """A new trial, at the first suggested point that none has tried."""
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
        """What to hold fixed of the next suggestion, until it is of a new point; none where every point is tried."""
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
        """The Sobol point of the next trial's number, so that a resume gives what would have been given."""
        number, tpe = self._to_come[0], self._spec.search.sampler.tpe
        if self._sobol is None or tpe is None or number >= tpe.startup_trials:
            return None
        return self._sobol.nth(number)

    def _suggestion(self, wish: Point) -> tuple[optuna.Trial, Point]:
        """The sampler's, with these values where they are given."""
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
        """Of a trial that runs nothing can be told: FAIL is what samplers pass over."""
        if tried.status is TrialStatus.RUNNING:
            self.study.tell(asked, state=TrialState.FAIL)
            return
        if tried.error is not None and math.isfinite(tried.error):
            asked.report(tried.error, step=tried.epochs)
        self._tell(_Asked(asked, self._epochs, tried.epochs, tried.error), tried.status)

    def report(self, trial_id: str, epoch: int, val_error: float) -> None:
        """Reports the epoch's error with the epoch itself as its step."""
        asked = self._asked.get(trial_id)
        if asked is None or epoch <= asked.reported or not math.isfinite(val_error):
            return
        asked.trial.report(val_error, step=epoch)
        asked.reported, asked.error = epoch, val_error

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """Tells how the trial ended. One that completed without an error is broken."""
        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        params = from_optuna(self._spec.domains, asked.trial.params)
        self._tried[key_of(self._spec.domains, params)] = _Tried(trial_id, status, asked.reported, asked.error)
        self._tell(asked, status)

    def _tell(self, asked: _Asked, status: TrialStatus) -> None:
        completed = status is TrialStatus.COMPLETED
        error = asked.error if completed and asked.reported == asked.epochs else None
        end = self._end(error, broken=completed or status in BROKEN, missing=asked.epochs - asked.reported)
        if end.violation is not None:
            asked.trial.set_constraint(EPOCHS_MISSING, end.violation)
        self.study.tell(asked.trial, end.value, state=end.state)


def _left_of_first(spec: StudySpec, history: History) -> list[Point]:
    """The points of `search.first` that no trial of the log has taken up, each trial one."""
    left: list[Point] = list(spec.search.first)
    for row in history.trials:
        taken_up = next((point for point in left if point.items() <= row.params.items()), None)
        if taken_up is not None:
            left.remove(taken_up)
    return left


def _notes(trial_id: str, skipped: Sequence[str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    known = ", ".join(dict.fromkeys(skipped))
    return (f"{trial_id}: {len(skipped)} suggestion{'s' * (len(skipped) > 1)} skipped, already tried by {known}",)


def trial_name(number: int) -> str:
    """The study's own id of its trial `number`, from 0."""
    return f"t{number:04d}"
