"""Tune's controller: what a search needs of it and has no public name."""

from collections.abc import Mapping
from typing import Any


class Controller:
    """Holds Tune's controller, which only a scheduler is given, and that wrapped. Does nothing before `take`."""

    def __init__(self) -> None:
        self._tune: Any = None

    def take(self, wrapped: Any) -> None:
        self._tune = wrapped._tune_controller

    def processes(self) -> Mapping[Any, Any]:
        """Each trial whose process runs or starts -> the process's actor. One that waits for room has none."""
        if self._tune is None:
            return {}
        live = self._tune._actor_manager._live_actors_to_ray_actors_resources
        return {trial: live[actor][0] for trial, actor in self._tune._trial_to_actor.items() if actor in live}

    def wait_at_a_stop(self, seconds: float) -> None:
        """How long a trial may take to stop before Tune kills it; Tune's own is 10 s, and has no setting."""
        if self._tune is not None:
            self._tune._actor_force_cleanup_timeout = seconds
