"""Tune's scheduler: passes reports to the coordinator, and starts trials in the order of their suggestion."""

from collections.abc import Iterable, Mapping
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
        self._at_most: int | None = None
        self._coordinator = coordinator
        self._places: dict[str, int] = {}  # Tune's trial id -> place in the order of suggestion

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Note the trial's place in the order; a trial that Tune restarts keeps its first."""
        self._places.setdefault(trial.trial_id, len(self._places))
        self.controller.take(tune_controller)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the waiting trial that was suggested first; end a waiting trial that has failed too often.

        Tune calls this at each step. Its own implementation would look at all trials of the study each time.
        Whatever is chosen, Tune starts pending trials; held ones only if they are chosen.
        """
        live = tune_controller.get_live_trials()
        waiting = [trial for trial in live if trial.status in (Trial.PENDING, Trial.PAUSED)]
        for trial in waiting:
            assignment = trial.config["assignment"]
            if not self._coordinator.may_try(assignment):
                self._coordinator.fail(assignment, assignment.last_error)
                tune_controller.stop_trial(trial)
        active = sum(trial.status in (Trial.PENDING, Trial.RUNNING) for trial in live)
        may_start = [Trial.PENDING] if self._is_enough(active) else [Trial.PENDING, Trial.PAUSED]
        ready = [trial for trial in waiting if trial.status in may_start]
        return min(ready, key=lambda trial: self._places[trial.trial_id], default=None)

    def train_fewer(self, trial: Any, trials: Iterable[Any]) -> int | None:
        """Train fewer trials at a time from now on, and hold this one back, whose process Ray ended for lack of memory.

        Args:
            trial: It waits to start again.
            trials: All trials.

        Returns:
            How many train at a time now; None if it trained alone, so that no fewer can.
        """
        others = sum(other.status == Trial.RUNNING for other in trials if other is not trial)
        if others == 0:
            return None
        self._at_most = others if self._at_most is None else min(self._at_most, others)
        self.controller.hold(trial)
        return self._at_most

    def has_room(self, live: int) -> bool:
        """Return whether one more trial may be suggested beside so many that have not ended."""
        return not self._is_enough(live)

    def _is_enough(self, active: int) -> bool:
        return self._at_most is not None and active >= self._at_most

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:  # noqa: ARG002
        """Pass on the report; return the verdict. Only this decides whether a trial continues: no result is `done`."""
        verdict = self._coordinator.report(trial.config["assignment"], result["report"])
        return str(TrialScheduler.STOP if verdict is Verdict.STOP else TrialScheduler.CONTINUE)
