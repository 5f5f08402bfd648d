"""Tune's searcher: gets trials from the coordinator."""

from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.search import Searcher

from plgan_tune.backends.ray.local import Local
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.coordinator import Coordinator


class CoordinatorSearcher(Local, Searcher):
    """Hands the coordinator's assignments to Tune. The scheduler reports their results.

    Args:
        coordinator: Where they come from.
        has_room: Returns whether one more may train beside so many that have not ended.
    """

    def __init__(self, coordinator: Coordinator, has_room: Callable[[int], bool] = lambda _: True) -> None:
        super().__init__()
        self._coordinator, self._has_room = coordinator, has_room
        self._live: set[str] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return a trial's config; `Searcher.FINISHED` after the last; None, if none yet: Tune asks again."""
        if not self._has_room(len(self._live)):
            return None
        assignment = self._coordinator.ask()
        if isinstance(assignment, Assignment):
            self._live.add(trial_id)
            return {"assignment": assignment}
        return str(Searcher.FINISHED) if assignment is None else None

    def on_trial_complete(
        self,
        trial_id: str,
        result: Mapping[str, Any] | None = None,  # noqa: ARG002
        error: bool = False,  # noqa: ARG002
    ) -> None:
        """Note the end, which the coordinator already knows."""
        self._live.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a study resumes from its rows, never from Tune's snapshots."""
