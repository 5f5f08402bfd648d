"""Tune's searcher: asks the coordinator what to train."""

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from plgan_tune.backends.ray.local import Local
from plgan_tune.study.coordinator import Coordinator


class CoordinatorSearcher(Local, Searcher):
    """Hands out the coordinator's assignments. What becomes of them it hears from the scheduler."""

    def __init__(self, coordinator: Coordinator) -> None:
        super().__init__()
        self._coordinator = coordinator

    def suggest(self, trial_id: str) -> dict[str, Any] | str:  # noqa: ARG002
        """A trial's config; `Searcher.FINISHED` after the last."""
        assignment = self._coordinator.ask()
        return str(Searcher.FINISHED) if assignment is None else {"assignment": assignment}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the coordinator knows."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study resumes from its rows, never from Tune's snapshots."""
