"""Tune's searcher: gets trials from the coordinator."""

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from plgan_tune.backends.ray.local import Local
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.coordinator import Coordinator


class CoordinatorSearcher(Local, Searcher):
    """Hands the coordinator's assignments to Tune. The scheduler reports their results."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__()
        self._coordinator = coordinator

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # noqa: ARG002
        """Return a trial's config; `Searcher.FINISHED` after the last; None, if none yet: Tune asks again."""
        assignment = self._coordinator.ask()
        if isinstance(assignment, Assignment):
            return {"assignment": assignment}
        return str(Searcher.FINISHED) if assignment is None else None

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing: the coordinator already knows."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: a study resumes from its rows, never from Tune's snapshots."""
