"""A search pauses while its log cannot be written and memory must not take more rows, and ends once another has it."""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from plgan_tune.backends.ray.local_callback import LocalCallback

logger = logging.getLogger(__name__)

MOST_WAITING: Final = 100_000
"""Rows that may wait in memory, about 100 MB."""

POLL: Final = 0.5
"""Seconds between two looks at the log."""


class Waiting(Protocol):
    """A log whose rows wait in memory while its store fails, or for good once another search writes there."""

    @property
    def failure(self) -> str | None: ...
    @property
    def followed(self) -> bool: ...
    @property
    def waiting(self) -> int: ...


class Pause(LocalCallback):
    """Holds Tune's only thread while the store fails and more than `most` rows wait.

    A trial asks for its next epoch only once Tune has taken its last, so all trials come to rest. Ctrl-C ends the
    pause, and Tune then the search. Where another search has followed this one, it ends as by Ctrl-C: two that train
    the same trials would write over each other's checkpoints.
    """

    def __init__(self, log: Waiting, most: int = MOST_WAITING, sleep: Callable[[float], None] = time.sleep) -> None:
        self._log, self._most, self._sleep = log, most, sleep
        self._ending = False

    def on_trial_result(self, *, trial: Any, result: Mapping[str, Any], **_info: Any) -> None:  # noqa: ARG002
        if self._fails() and not self._log.followed and self._log.waiting > self._most:
            self._rest()
        if self._log.followed and not self._ending:
            self._ending = True
            logger.warning("the search ends: %s", self._log.failure)
            signal.raise_signal(signal.SIGINT)

    def _rest(self) -> None:
        logger.warning(
            "the search pauses: %d rows wait in memory, at most %d may, and the store fails: %s",
            self._log.waiting,
            self._most,
            self._log.failure,
        )
        asked = signal.getsignal(signal.SIGINT)
        while self._fails() and not self._log.followed:
            if signal.getsignal(signal.SIGINT) != asked:  # Tune gives the handler back at the first Ctrl-C
                return
            self._sleep(POLL)
        if not self._fails():
            logger.warning("the search goes on")

    def _fails(self) -> bool:
        return self._log.failure is not None
