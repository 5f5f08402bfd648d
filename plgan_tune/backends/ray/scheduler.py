"""Tune's scheduler: passes reports to the coordinator, and starts trials in the order of their suggestion."""

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from plgan_tune.backends.ray.local import Local
from plgan_tune.backends.ray.ray_private import Controller
from plgan_tune.records import Verdict
from plgan_tune.study.coordinator import Coordinator


class CoordinatorScheduler(Local, FIFOScheduler):  # type: ignore[misc,unused-ignore]
    """Stops trials as the coordinator decides, and ends those that have failed too often.

    Tune's ASHA is not used, because it forgets its rungs and continues trials with NaN. Tune's count of failures is not
    used, because it counts lost machines.

    Args:
        coordinator: Receives each report, in the order in which Tune receives them.

    Attributes:
        controller: Tune's controller, from the first trial on.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__()
        self.controller = Controller()
        self._coordinator = coordinator
        self._places: dict[str, int] = {}  # Tune's trial id -> place in the order of suggestion

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Note the trial's place in the order; a trial that Tune restarts keeps its first."""
        self._places.setdefault(trial.trial_id, len(self._places))
        self.controller.take(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the waiting trial that was suggested first; end a waiting trial that has failed too often.

        Tune calls this at each step. Its own implementation would look at all trials of the study each time.
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
        """Pass on the report; return the verdict. Only this decides whether a trial continues: no result is `done`."""
        verdict = self._coordinator.report(trial.config["assignment"], result["report"])
        return str(TrialScheduler.STOP if verdict is Verdict.STOP else TrialScheduler.CONTINUE)
