"""Looks at the cluster while a search runs."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import ray
from ray.exceptions import RayError

from plgan_tune.backends.ray.ray_private import free_resources
from plgan_tune.store.repeat import Repeating
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.state import StudyState
from plgan_tune.study.trial_resources import TrialResources

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0

LOOKS = 12
"""In a minute: so long a trial must find no room to be said to wait. A slow machine takes half of it to begin one."""


def look(share: TrialResources, at_a_time: int) -> ClusterStatus:
    """The joined cluster now."""
    living = [node for node in ray.nodes() if node["Alive"]]
    free = free_resources()
    resources = [node["Resources"] for node in living]
    # A node's resources that are all taken are left out of what is free; of its accelerator it always keeps some.
    unused = [free.get(node["NodeID"], {}) for node in living]
    gpus = [node.get("GPU", 0.0) for node in resources]
    busy = max(0.0, sum(gpus) - sum(node.get("GPU", 0.0) for node in unused))
    return ClusterStatus(
        share,
        at_a_time,
        nodes=tuple(sorted(node["NodeManagerAddress"] for node in living)),
        gpus=sum(gpus),
        largest=max((node.get("GPU", 0.0) for node in resources if share.may_be_on(node)), default=0.0),
        busy=busy,
        holds=share.trials_on(resources),
        free=share.trials_on(unused),
        most_busy=busy,
    )


class ClusterMonitor:
    """Looks every few seconds, in a thread of its own, for Ray may take long to answer.

    Attributes:
        status: as it was when last looked at. A trial waits where nothing has been free for LOOKS: between two trials,
            and while the first start, what is not free is taken by those that begin.
    """

    def __init__(self, share: TrialResources, at_a_time: int) -> None:
        self.status = look(share, at_a_time)
        self._idle = [0] * LOOKS

    @contextmanager
    def watching(self, state: StudyState, on_look: Callable[[], None]) -> Iterator[None]:
        """Looks until the block's end.

        Args:
            state: says how many trials should run and do not.
            on_look: called after every look.
        """

        def look_again() -> None:
            try:
                self._look_again(state)
            except (RayError, RuntimeError, ConnectionError) as error:
                logger.debug("the cluster could not be looked at: %s", error)
                return
            if not repeating.closing.is_set():
                on_look()

        repeating = Repeating(look_again, EVERY_SECONDS, "cluster-monitor", patience=EVERY_SECONDS)
        with repeating:
            yield

    def _look_again(self, state: StudyState) -> None:
        now = look(self.status.share, self.status.at_a_time)
        self._idle = [*self._idle[1:], 0 if now.free else state.idle(now.at_a_time)]
        self.status = replace(now, waiting=min(self._idle), most_busy=max(now.busy, self.status.most_busy))
