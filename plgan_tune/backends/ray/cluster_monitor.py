"""Monitor the cluster while a search runs."""

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
"""Looks without free resources, over a minute, before a trial counts as waiting. A slow machine needs half of that to
start one."""


def look(share: TrialResources, at_a_time: int) -> ClusterStatus:
    """Return the current state of the joined cluster."""
    living = [node for node in ray.nodes() if node["Alive"]]
    free = free_resources()
    resources = [node["Resources"] for node in living]
    # Ray omits a node's exhausted resources from the free ones. Some of its accelerator resource is always free.
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
    """Looks at the cluster every few seconds, in a separate thread because Ray may take long to answer.

    Attributes:
        status: The state at the last look. A trial counts as waiting only after LOOKS looks without free resources:
            between two trials, and while the first ones start, starting trials hold them.
    """

    def __init__(self, share: TrialResources, at_a_time: int) -> None:
        self.status = look(share, at_a_time)
        self._idle = [0] * LOOKS

    @contextmanager
    def watching(self, state: StudyState, on_look: Callable[[], None]) -> Iterator[None]:
        """Look until the block ends.

        Args:
            state: Says how many trials should be running but are not.
            on_look: Called after every look.
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
