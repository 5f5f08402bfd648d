"""Looks at the cluster while a search runs."""

import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread
from types import TracebackType
from typing import Self

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError

from plgan_tune.study.cluster_status import Room
from plgan_tune.study.state import StudyState
from plgan_tune.study.trial_resources import Share

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0

LOOKS = 12
"""In a minute: so long a trial must find no room to be said to wait. A slow machine takes half of it to begin one."""


def look(share: Share, at_a_time: int) -> Room:
    """The joined cluster now."""
    living = [node for node in ray.nodes() if node["Alive"]]
    free = available_resources_per_node()
    resources = [node["Resources"] for node in living]
    # A node's resources that are all taken are left out of what is free; of its accelerator it always keeps some.
    unused = [free.get(node["NodeID"], {}) for node in living]
    gpus = [node.get("GPU", 0.0) for node in resources]
    busy = max(0.0, sum(gpus) - sum(node.get("GPU", 0.0) for node in unused))
    return Room(
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


class RoomWatch:
    """Looks every few seconds, in a thread of its own, for Ray may take long to answer. A context manager.

    Attributes:
        room: as it was when last looked at. A trial waits where nothing has been free for LOOKS: between two trials,
            and while the first start, what is not free is taken by those that begin.
        news: called after every look.
    """

    def __init__(self, share: Share, at_a_time: int, state: StudyState) -> None:
        self.room = look(share, at_a_time)
        self.news: Callable[[], None] = lambda: None
        self._state = state
        self._idle = [0] * LOOKS
        self._closing = Event()
        self._thread = Thread(target=self._look_until_closed, name="room-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join(timeout=EVERY_SECONDS)

    def _look_until_closed(self) -> None:
        while not self._closing.wait(EVERY_SECONDS):
            try:
                self._look_again()
            except (RayError, RuntimeError, ConnectionError) as error:
                logger.debug("the cluster could not be looked at: %s", error)

    def _look_again(self) -> None:
        now = look(self.room.share, self.room.at_a_time)
        self._idle = [*self._idle[1:], 0 if now.free else self._state.idle(now.at_a_time)]
        self.room = replace(now, waiting=min(self._idle), most_busy=max(now.busy, self.room.most_busy))
        if not self._closing.is_set():
            self.news()
