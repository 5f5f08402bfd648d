"""Run a trial of several ranks on Ray: one actor per rank, all in the trial's placement group."""

import logging
from contextlib import ExitStack
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from plgan_tune.backends.trial_worker import TrialWorker, device_for
from plgan_tune.config.study import threads_of
from plgan_tune.store.location import Location
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.training.launch import Rendezvous, join_ranks, open_rendezvous

logger = logging.getLogger(__name__)

CAUSE_SECONDS = 5.0
"""How long to look for the cause after a rank reports that it has lost another."""


class RankActor:
    """A rank's process. The process group is kept from trial to trial."""

    def __init__(self, study: str, index: int, count: int, cpus: float, gpus: float) -> None:
        self._study, self._index, self._count = study, index, count
        self._threads = threads_of(cpus)
        self._device = device_for(gpus)
        self._stack = ExitStack()
        self._meeting: Rendezvous | None = None
        self._worker: TrialWorker | None = None

    def open_rendezvous(self) -> str:
        """Open the rendezvous on rank 0's node; return its URL: an address that other nodes reach, a free port."""
        self._meeting = open_rendezvous(ray.util.get_node_ip_address())
        return self._meeting.url

    def join(self, url: str) -> None:
        """Join the process group at the rendezvous."""
        ranks = self._stack.enter_context(join_ranks(url, self._index, self._count, self._device))
        self._meeting = None
        node = ray.util.get_node_ip_address()
        self._worker = TrialWorker(ranks, self._device, node, Location.at(self._study), self._threads)

    def begin(self, assignment: Assignment) -> None:
        """See `TrialWorker.begin`."""
        assert self._worker is not None
        self._worker.begin(assignment)

    def step(self) -> EpochReport:
        """See `TrialWorker.step`."""
        assert self._worker is not None
        return self._worker.step()

    def save(self) -> None:
        """See `TrialWorker.save`."""
        if self._worker is not None:
            self._worker.save()


class Gang:
    """The ranks of a trial, with the interface of `TrialWorker`.

    The Trainable that owns it only waits, so a hanging collective cannot block it. If a rank raises or dies, all ranks
    are ended at once and its error is raised.
    """

    def __init__(self, study: str, count: int, cpus: float, gpus: float) -> None:
        group = ray.util.get_current_placement_group()
        remote = ray.remote(RankActor)
        self._actors = [
            remote.options(
                num_cpus=cpus,
                num_gpus=gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            ).remote(study, index, count, cpus, gpus)
            for index in range(count)
        ]
        url = ray.get(self._actors[0].open_rendezvous.remote())
        self._all("join", url)

    def begin(self, assignment: Assignment) -> None:
        """See `TrialWorker.begin`."""
        self._all("begin", assignment)

    def step(self) -> EpochReport:
        """See `TrialWorker.step`."""
        return cast("EpochReport", self._all("step"))

    def save(self) -> None:
        """See `TrialWorker.save`."""
        self._all("save")

    def end(self) -> None:
        """End the process of every rank."""
        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, *arguments: Any) -> Any:
        """Call a method on every rank and return rank 0's result.

        Raises:
            Exception: The error of the first rank to fail, after every rank has been ended.
        """
        calls = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        waiting = calls
        try:
            while waiting:
                done, waiting = ray.wait(waiting, num_returns=1)
                ray.get(done)
        except Exception as error:
            cause = _cause(error, waiting)
            self.end()
            raise cause from None
        return ray.get(calls[0])


def _cause(first: Exception, waiting: list[Any]) -> Exception:
    """Return the root cause: a rank often reports a lost rank before Ray notices that the other has died."""
    if "RankLostError" not in str(first) and "RankFailedError" not in str(first):
        return first
    done, _ = ray.wait(waiting, num_returns=len(waiting), timeout=CAUSE_SECONDS) if waiting else ([], [])
    for call in done:
        try:
            ray.get(call)
        except Exception as error:
            if "RankLostError" not in str(error) and "RankFailedError" not in str(error):
                return error
    return first
