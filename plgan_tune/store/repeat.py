"""Something done again and again beside what a search does."""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Repeating:
    """Calls an action every so often, in a thread of its own, for the time of a block. It never keeps a process alive.

    Args:
        action: called first after `seconds`; True ends the calls.
        seconds: between the end of a call and the next.
        name: of the thread.
        patience: how long the block's end waits for a call under way, in seconds; None is until it ends.

    Attributes:
        closing: set at the block's end, which an action that takes long may look at.
    """

    def __init__(
        self, action: Callable[[], bool | None], seconds: float, name: str, patience: float | None = None
    ) -> None:
        self.closing = Event()
        self._action, self._seconds, self._patience = action, seconds, patience
        self._thread = Thread(target=self._repeat, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._thread.join(self._patience)

    def _repeat(self) -> None:
        while not self.closing.wait(self._seconds):
            if self._action():
                return
