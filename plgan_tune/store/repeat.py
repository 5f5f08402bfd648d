"""An action that a thread repeats."""

from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType
from typing import Self


class Repeating:
    """Repeats an action in its own thread for the time of a `with` block. The thread never keeps a process alive.

    Args:
        action: The action. The first call comes after `seconds`. True ends the calls.
        seconds: Seconds between the end of a call and the next call.
        name: The thread's name.
        patience: Seconds for which the end of the block waits for a running call. None waits until it ends.

    Attributes:
        closing: Set at the end of the block. A long action may look at it.
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
