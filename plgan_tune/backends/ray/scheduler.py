"""Early stopping as Ray Tune asks for it, and as the log implies it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from plgan_tune.backends.ray.controller import Controller
from plgan_tune.config.advice import rungs
from plgan_tune.config.study import StudySpec
from plgan_tune.records import DecisionRow, Report, TrialStatus, Verdict
from plgan_tune.study.halving import Halving, Judgement, decision
from plgan_tune.study.history import History, Left, brought_to_date, unwritten_decisions

StartOf = Callable[[Mapping[str, Any]], int]
"""A trial's point -> the epoch from which its rungs count."""


def build_halving(spec: StudySpec) -> Halving:
    """The study's rule; without early stopping one that has no rung."""
    asha = spec.search.early_stopping.asha
    if asha is None:
        return Halving((), 2)
    return Halving(
        rungs(asha, spec.any_trial().training.epochs), asha.reduction_factor, asha.min_competitors, asha.smoothing
    )


def start_of(spec: StudySpec) -> StartOf:
    """Where rungs count from: 0, or where `align` is `switch` a trial's own switch epoch (patent paragraph 0060)."""
    asha = spec.search.early_stopping.asha
    if asha is None or asha.align == "epoch":
        return lambda point: 0  # noqa: ARG005
    return lambda point: spec.trial(point).loss.switch_epoch


class EarlyStopping(FIFOScheduler):  # type: ignore[misc,unused-ignore]
    """Stops trials by `halving`, and ends those that have failed once too often.

    Tune's own ASHA is not used: it forgets its rungs, and lets NaN go on. Nor is its count of failures: it counts a
    lost machine, and we do not.

    Args:
        halving: told every epoch, in the order in which Tune reports them.
        start: where a trial's rungs count from.

    Attributes:
        controller: Tune's, from the first trial on.
    """

    def __init__(self, halving: Halving, start: StartOf) -> None:
        super().__init__()
        self.controller = Controller()
        self._halving, self._start = halving, start
        self._places: dict[str, int] = {}  # Ray's id -> the place in the order in which trials were handed out
        self._starts: dict[str, int] = {}
        self._latest: dict[str, Judgement] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Notes its place; one that Tune starts again keeps the first."""
        self._places.setdefault(trial.trial_id, len(self._places))
        self.controller.take(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Of those that wait, the first that was handed out. One that has failed once too often ends here instead.

        Called at each of Tune's steps; Tune's own would look at all trials of the study each time.
        """
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == Trial.PENDING]
        for trial in waiting:
            if trial.config["failures"] > trial.config["max_failures"]:
                tune_controller._set_trial_status(trial, Trial.RUNNING)  # else the sampler is not told how it ended
                trial.update_last_result({"status": TrialStatus.FAILED.value, "error": trial.config["last_error"]})
                tune_controller.stop_trial(trial)
        ready = [trial for trial in waiting if trial.status == Trial.PENDING]
        return min(ready, key=lambda trial: self._places[trial.trial_id], default=None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Tune ends trials that are `done` itself: a completed one is judged by nobody, a broken one has no epoch."""
        if result["status"] != TrialStatus.RUNNING:
            return str(TrialScheduler.CONTINUE)
        trial_id = trial.config["trial_id"]
        if trial_id not in self._starts:  # once a trial: it may build a whole configuration
            self._starts[trial_id] = self._start(trial.config["point"])
        judgement = self._halving.report(trial_id, result["epoch"], result["val_error"], self._starts[trial_id])
        if judgement is None:
            return str(TrialScheduler.CONTINUE)
        self._latest[trial_id] = judgement
        return str(TrialScheduler.STOP if judgement.verdict is Verdict.STOP else TrialScheduler.CONTINUE)

    def taken(self, trial_id: str) -> Judgement | None:
        """The judgement of the epoch that the trial has just reported, once."""
        return self._latest.pop(trial_id, None)


def left_behind(known: History, spec: StudySpec, halving: Halving, start: StartOf) -> Left:
    """What the log implies under the rule of now; `halving` is told all of it.

    Args:
        known: what the log holds.
    """
    starts = {row.trial_id: start(row.params) for row in known.trials}
    implied = replayed(known.reports, halving, starts, spec.any_trial().training.epochs)
    decisions = unwritten_decisions(known, implied)
    return Left(known, brought_to_date(known, spec, decisions), decisions)


def replayed(
    reports: Iterable[Report], halving: Halving, starts: Mapping[str, int], last: int
) -> Iterator[DecisionRow]:
    """Tells `halving` the log's reports in their order; yields what it decided.

    Args:
        starts: trial_id -> the epoch from which its rungs count.
        last: epochs of a whole training, after which nobody is judged.
    """
    for report in reports:
        if report.epoch < last:
            judgement = halving.report(report.trial_id, report.epoch, report.val_error, starts[report.trial_id])
            if judgement is not None:
                yield decision(report, judgement)
