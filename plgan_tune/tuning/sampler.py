"""What to try: Optuna's ask and tell."""

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import optuna
from numpy.random import SeedSequence
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import CmaesSpec, GpSpec, SamplerSpec, SearchSpec, StudySpec, TpeSpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.history import History
from plgan_tune.tuning.distributions import distributions, from_optuna, quiet, to_optuna
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
        for row in history.unfinished:
            self.study.enqueue_trial(to_optuna(spec.domains, row.params))
        for number in self._to_come:
            if number < len(spec.search.first):
                self.study.enqueue_trial(to_optuna(spec.domains, spec.search.first[number]))

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
        """The next trial; None after `search.trials`."""
        if not self._unfinished and not self._to_come:
            return None
        asked = self.study.ask(self._distributions)
        point = from_optuna(self._spec.domains, asked.params)
        trial = self._spec.trial(point)
        number, attempt, curve = self._next_start()
        for epoch, error in curve.items():
            asked.report(error, step=epoch)
        logged = max(curve, default=0)
        trial_id = trial_name(number)
        self._asked[trial_id] = _Asked(asked, trial.training.epochs, logged)
        return Assignment(trial_id, number, attempt, logged, point, trial)

    def _next_start(self) -> tuple[int, int, Mapping[int, float]]:
        """Number, attempt and logged curve: of a trial that an earlier start left unfinished, else of a new one."""
        if self._unfinished:
            row = self._unfinished.pop(0)
            return row.number, row.attempt + 1, self._curves.get(row.trial_id, {})
        return self._to_come.popleft(), 1, {}

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
        completed = status is TrialStatus.COMPLETED
        error = asked.error if completed and asked.reported == asked.epochs else None
        end = self._end(error, broken=completed or status in BROKEN, missing=asked.epochs - asked.reported)
        if end.violation is not None:
            asked.trial.set_constraint(EPOCHS_MISSING, end.violation)
        self.study.tell(asked.trial, end.value, state=end.state)


def trial_name(number: int) -> str:
    """The study's own id of its trial `number`, from 0."""
    return f"t{number:04d}"
