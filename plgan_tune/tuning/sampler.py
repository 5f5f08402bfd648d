"""Suggests points with Optuna's ask-and-tell interface."""

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
from plgan_tune.tuning.distributions import distributions, quiet
from plgan_tune.tuning.warm_start import Older

EPOCHS_MISSING = "epochs_missing"
"""The Optuna constraint that a diverged or failed trial violates, by the number of epochs it lacks to its last one."""


WORST = 1.0
"""The highest possible error."""


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
    error: float | None = None
    """Error at that epoch; None if this start has not seen it."""


BROKEN: Final = (TrialStatus.DIVERGED, TrialStatus.FAILED)


@dataclass(frozen=True, slots=True)
class _End:
    """How a trial's end is reported to Optuna."""

    state: TrialState
    value: float | None = None
    violation: float | None = None


class OptunaSampler:
    """Suggests the trials of a study and tells the sampler how they ended.

    The points of `search.first` come first, in their order; keys that such a point leaves out are sampled.

    How a trial's end is reported (based on `TPESampler._split_trials` of Optuna 5.0):

    - completed: COMPLETE with the error at the LAST epoch, the search's objective;
    - stopped early: PRUNED. TPE ranks pruned trials after complete ones, deeper first, then by the error at
      the last epoch, which is therefore reported, too;
    - diverged or failed: PRUNED with a violated constraint. FAIL does not work: TPE ignores it and proposes the
      same region again. An invented bad value on a COMPLETE trial does not work either: complete trials rank
      before all pruned ones, so if early stopping leaves few complete trials it counts among the good ones. An
      infeasible trial ranks after every feasible one, the longest-lived first, and repels. If half of a square
      diverges and nearly all other trials are stopped, TPE proposes the bad half 93 % of the time after FAIL,
      66 % after a worst value, 18 % after the constraint (trials 20 to 59, eight seeds).
      CMA-ES and the Gaussian process do not support constraints: they get COMPLETE with an error of WORST.

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
            self.study.enqueue_trial(dict(row.params))
        for number in self._to_come:
            if number < len(spec.search.first):
                self.study.enqueue_trial(dict(spec.search.first[number]))

    def _as_told(self, row: TrialRow, curve: Mapping[int, float]) -> FrozenTrial:
        """Convert a trial of the log to what the sampler would hold if it had followed the trial."""
        error = row.val_error_last if row.status is TrialStatus.COMPLETED else None
        end = self._end(error, broken=row.status is not TrialStatus.STOPPED, missing=self._epochs - row.epochs)
        return optuna.trial.create_trial(
            state=end.state,
            value=end.value,
            params=dict(row.params),
            distributions=self._distributions,
            intermediate_values=dict(curve),
            constraints=None if end.violation is None else {EPOCHS_MISSING: end.violation},
        )

    def _end(self, error: float | None, *, broken: bool, missing: int) -> _End:
        """Return the end of a trial that completed with `error`, else was `broken`, else was stopped early."""
        if error is not None:
            return _End(TrialState.COMPLETE, error)
        if not broken:
            return _End(TrialState.PRUNED)
        if not self._constrained:
            return _End(TrialState.COMPLETE, WORST)
        return _End(TrialState.PRUNED, violation=max(1, missing))

    def ask(self) -> Assignment | None:
        """Return the next trial; None after `search.trials`."""
        if not self._unfinished and not self._to_come:
            return None
        asked = self.study.ask(self._distributions)
        point = {path: asked.params[path] for path in self._spec.domains}
        trial = self._spec.trial(point)
        number, attempt, curve = self._next_start()
        for epoch, error in curve.items():
            asked.report(error, step=epoch)
        logged = max(curve, default=0)
        trial_id = trial_name(number)
        self._asked[trial_id] = _Asked(asked, trial.training.epochs, logged)
        return Assignment(trial_id, number, attempt, logged, point, trial)

    def _next_start(self) -> tuple[int, int, Mapping[int, float]]:
        """Return number, attempt and logged curve of an unfinished trial of an earlier start, else of a new one."""
        if self._unfinished:
            row = self._unfinished.pop(0)
            return row.number, row.attempt + 1, self._curves.get(row.trial_id, {})
        return self._to_come.popleft(), 1, {}

    def report(self, trial_id: str, epoch: int, val_error: float) -> None:
        """Report an epoch's error to Optuna, with the epoch as the step."""
        asked = self._asked.get(trial_id)
        if asked is None or epoch <= asked.reported or not math.isfinite(val_error):
            return
        asked.trial.report(val_error, step=epoch)
        asked.reported, asked.error = epoch, val_error

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """Report how the trial ended. One that completed without an error counts as broken."""
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
    """Return the study's id of its trial `number`, which counts from 0."""
    return f"t{number:04d}"
