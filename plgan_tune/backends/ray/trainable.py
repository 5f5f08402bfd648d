"""The Trainable of Ray Tune: one epoch per step. Its process, ranks and data are kept from trial to trial."""

from typing import Any

import ray
from ray import tune

from plgan_tune.backends.ray.gang import Gang
from plgan_tune.backends.trial_worker import TrialWorker, device_for
from plgan_tune.config.study import threads_of
from plgan_tune.store.location import Location
from plgan_tune.study.assignment import Assignment
from plgan_tune.training.ranks import ALONE


class PlganTrainable(tune.Trainable):
    """One trial. A single rank trains in this process, several ranks in a gang of actors.

    Its config has an `assignment`, and what all trials share: `study` (its URL), `ranks`, `cpus` and `gpus`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start the worker and begin the first trial."""
        self._worker: TrialWorker | Gang | None = None
        self._next: dict[str, Any] | None = None
        self._take_up(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial, to begin in its first step: an error or a loss here would fail the trial for good."""
        self._next = new_config
        return True

    def _take_up(self, config: dict[str, Any]) -> None:
        if self._worker is None:
            self._worker = _start_worker(config)
        assignment: Assignment = config["assignment"]
        self._worker.begin(assignment)

    def step(self) -> dict[str, Any]:
        """Train one epoch and return its report under `report`."""
        if self._next is not None:
            config, self._next = self._next, None
            self._take_up(config)
        assert self._worker is not None
        return {"report": self._worker.step()}

    def cleanup(self) -> None:
        """Save a checkpoint and end the ranks. Also called when the search stops; the trial resumes from it."""
        if self._worker is None:
            return
        if self._next is None:
            self._worker.save()
        if isinstance(self._worker, Gang):
            self._worker.end()


def _start_worker(config: dict[str, Any]) -> TrialWorker | Gang:
    study, ranks, cpus, gpus = config["study"], config["ranks"], config["cpus"], config["gpus"]
    if ranks > 1:
        return Gang(study, ranks, cpus, gpus)
    node = ray.util.get_node_ip_address()
    return TrialWorker(ALONE, device_for(gpus), node, Location.at(study), threads_of(cpus))
