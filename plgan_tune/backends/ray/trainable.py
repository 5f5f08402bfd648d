"""A trial as Ray Tune sees it: one epoch a step, its process, ranks and data kept from trial to trial."""

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
    """One trial: of one rank in this process, of several in a gang of actors.

    Its config is an `assignment` and what all trials share: `study` (its URL), `ranks`, `cpus` and `gpus`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._worker: TrialWorker | Gang | None = None
        self._next: dict[str, Any] | None = None
        self._take_up(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The trial is taken up in its first step: one that breaks, or is lost, here would have failed for good."""
        self._next = new_config
        return True

    def _take_up(self, config: dict[str, Any]) -> None:
        if self._worker is None:
            self._worker = _start_worker(config)
        assignment: Assignment = config["assignment"]
        self._worker.begin(assignment)

    def step(self) -> dict[str, Any]:
        """`report`: the epoch's."""
        if self._next is not None:
            config, self._next = self._next, None
            self._take_up(config)
        assert self._worker is not None
        return {"report": self._worker.step()}

    def cleanup(self) -> None:
        """Also called when the search is asked to stop: the trial resumes from here."""
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
