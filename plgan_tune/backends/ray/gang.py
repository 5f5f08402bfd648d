"""A trial of several ranks on Ray: one actor a rank, all in the trial's own placement group."""

import logging
from contextlib import ExitStack
from typing import Any, cast

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from plgan_tune.backends.trial_worker import Result, TrialRank, device_for
from plgan_tune.training.launch import Meeting, joined, open_meeting

logger = logging.getLogger(__name__)

CAUSE_SECONDS = 5.0
"""How long to look for the cause where the first news is that a rank has lost another."""


class RankActor:
    """A rank's process. The process group stays from trial to trial."""

    def __init__(self, index: int, count: int, gpus: float) -> None:
        self._index, self._count = index, count
        self._device = device_for(gpus)
        self._stack = ExitStack()
        self._meeting: Meeting | None = None
        self._rank: TrialRank | None = None

    def open_meeting(self) -> str:
        """Rank 0's own node's address, as other nodes reach it, and a free port there."""
        self._meeting = open_meeting(ray.util.get_node_ip_address())
        return self._meeting.url

    def join(self, url: str) -> None:
        ranks = self._stack.enter_context(joined(url, self._index, self._count, self._device))
        self._meeting = None
        self._rank = TrialRank(ranks, self._device, ray.util.get_node_ip_address())

    def begin(self, config: dict[str, Any]) -> None:
        assert self._rank is not None
        self._rank.begin(config)

    def step(self) -> Result:
        assert self._rank is not None
        return self._rank.step()

    def save(self) -> None:
        if self._rank is not None:
            self._rank.save()


class Gang:
    """The ranks of a trial, seen from its Trainable, which only waits: no collective can take it along.

    Offers what `TrialRank` does. Where a rank raises or dies, all are ended at once and its error is raised.
    """

    def __init__(self, count: int, cpus: float, gpus: float) -> None:
        group = ray.util.get_current_placement_group()
        remote = ray.remote(RankActor)
        self._actors = [
            remote.options(
                num_cpus=cpus,
                num_gpus=gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index),
            ).remote(index, count, gpus)
            for index in range(count)
        ]
        url = ray.get(self._actors[0].open_meeting.remote())
        self._all("join", url)

    def begin(self, config: dict[str, Any]) -> None:
        self._all("begin", config)

    def step(self) -> Result:
        return cast("Result", self._all("step"))

    def save(self) -> None:
        self._all("save")

    def end(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _all(self, method: str, *arguments: Any) -> Any:
        """Calls every rank and answers what rank 0 does.

        Raises:
            Exception: the first rank's to fail, once every rank has been ended.
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
    """A rank that has lost another often says so before Ray notices that the other has died."""
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
