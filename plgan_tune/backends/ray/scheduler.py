"""Tune's scheduler: takes reports to the coordinator, and starts trials in the order in which they were handed out."""

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from plgan_tune.backends.ray.local import Local
from plgan_tune.backends.ray.ray_private import Controller
from plgan_tune.records import Verdict
from plgan_tune.study.coordinator import Coordinator


class CoordinatorScheduler(Local, FIFOScheduler):  # type: ignore[misc,unused-ignore]
    """Stops trials as the coordinator says, and ends those that have failed once too often.

    Tune's own ASHA is not used: it forgets its rungs, and lets NaN go on. Nor is its count of failures: it counts a
    lost machine, and we do not.

    Args:
        coordinator: takes each report, in the order in which Tune hears of them.

    Attributes:
        controller: Tune's, from the first trial on.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__()
        self.controller = Controller()
        self._coordinator = coordinator
        self._places: dict[str, int] = {}  # Ray's id -> the place in the order in which trials were handed out

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
            assignment = trial.config["assignment"]
            if not self._coordinator.may_try(assignment):
                self._coordinator.fail(assignment, assignment.last_error)
                tune_controller.stop_trial(trial)
        ready = [trial for trial in waiting if trial.status == Trial.PENDING]
        return min(ready, key=lambda trial: self._places[trial.trial_id], default=None)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Takes the report. Tune asks nobody else whether the trial goes on: no result is `done` by itself."""
        verdict = self._coordinator.report(trial.config["assignment"], result["report"])
        return str(TrialScheduler.STOP if verdict is Verdict.STOP else TrialScheduler.CONTINUE)
