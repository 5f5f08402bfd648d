"""Pauses a search while its log cannot be written and memory must not take more rows."""

import logging
import time
from collections.abc import Callable
from typing import Final

from plgan_tune.study.protocols import LogHealth

logger = logging.getLogger(__name__)

MOST_WAITING: Final = 100_000
"""Rows that may wait in memory, about 100 MB."""

POLL: Final = 0.5
"""Seconds between two checks of the log."""


class Backpressure:
    """Blocks the thread that takes reports: a trial starts its next epoch only after its last report was taken."""

    def __init__(self, log: LogHealth, most: int = MOST_WAITING, sleep: Callable[[float], None] = time.sleep) -> None:
        self._log, self._most, self._sleep = log, most, sleep

    def hold(self, interrupted: Callable[[], bool]) -> None:
        """Wait while the store fails and more than `most` rows wait, unless the search must end."""
        if self._fails() and not self._log.followed and self._log.waiting > self._most:
            self._rest(interrupted)

    def why_to_end(self) -> str | None:
        """Return why this search must end: another one writes its log now, and each would overwrite the other's files.

        None if no other search writes.
        """
        return self._log.failure if self._log.followed else None

    def _rest(self, interrupted: Callable[[], bool]) -> None:
        logger.warning(
            "the search pauses: %d rows wait in memory, at most %d may, and the store fails: %s",
            self._log.waiting,
            self._most,
            self._log.failure,
        )
        while self._fails() and not self._log.followed:
            if interrupted():
                return
            self._sleep(POLL)
        if not self._fails():
            logger.warning("the search continues")

    def _fails(self) -> bool:
        return self._log.failure is not None
