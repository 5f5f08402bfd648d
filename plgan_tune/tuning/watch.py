"""Looks at the cluster while a search runs."""

import logging
from collections.abc import Callable
from dataclasses import replace
from threading import Event, Thread
from types import TracebackType
from typing import Self

import ray
from ray.exceptions import RayError

from plgan_tune.tuning.cluster import node_resources
from plgan_tune.tuning.room import Room
from plgan_tune.tuning.share import Share

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0


def look(share: Share, at_a_time: int) -> Room:
    """The joined cluster now."""
    living = [node for node in ray.nodes() if node["Alive"]]
    resources = node_resources()
    gpus = sum(node.get("GPU", 0.0) for node in resources)
    busy = max(0.0, gpus - ray.available_resources().get("GPU", 0.0))
    return Room(
        share,
        at_a_time,
        nodes=tuple(sorted(node["NodeManagerAddress"] for node in living)),
        gpus=gpus,
        busy=busy,
        holds=share.trials_on(resources),
        largest=max((node.get("GPU", 0.0) for node in resources), default=0.0),
        most_busy=busy,
    )


class RoomWatch:
    """Looks every few seconds, in a thread of its own, for Ray may take long to answer. A context manager.

    Attributes:
        room: as it was when last looked at.
    """

    def __init__(self, share: Share, at_a_time: int, news: Callable[[], None] = lambda: None) -> None:
        self.room = look(share, at_a_time)
        self.news = news
        self._closing = Event()
        self._thread = Thread(target=self._look_until_closed, name="room-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()

    def _look_until_closed(self) -> None:
        while not self._closing.wait(EVERY_SECONDS):
            try:
                now = look(self.room.share, self.room.at_a_time)
            except (RayError, RuntimeError, ConnectionError) as error:
                logger.debug("the cluster could not be looked at: %s", error)
                continue
            self.room = replace(now, most_busy=max(now.busy, self.room.most_busy))
            self.news()
