"""How a signal stops a command: batch systems announce the end by SIGTERM or SIGUSR1, a user by Ctrl-C."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from plgan_tune.console.format import visible


@contextmanager
def stopping_as_ctrl_c(go_on: str) -> Iterator[None]:
    """SIGTERM and SIGUSR1 stop what the block does as Ctrl-C does.

    A batch system may not wait until it has stopped: the command that goes on is printed at once.
    """

    def stop(*_: object) -> None:
        say_before_the_end("Stopping", go_on)
        signal.raise_signal(signal.SIGINT)

    numbers = (signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def say_before_the_end(why: str, go_on: str) -> None:
    """Prints the command that goes on, where this process may be ended at any moment."""
    with suppress(OSError):  # whoever reads it may be gone
        os.write(1, f"{visible(why)}. If the process is killed first, resume with:\n  {visible(go_on)}\n".encode())


@contextmanager
def asked_to_stop(
    on_first: Callable[[], None] = lambda: None, numbers: Sequence[signal.Signals] = (signal.SIGINT,)
) -> Iterator[Callable[[], bool]]:
    """Whether one of these signals has come: the first lets the epoch end, so that a checkpoint can be written.

    A second does what it did before the block. On another thread than the main one, no signal is taken.

    Args:
        on_first: called in the handler of the first.
        numbers: the signals.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}

    def ask(number: int, frame: object) -> None:  # noqa: ARG001
        asked.append(number)
        signal.signal(number, before[number])
        on_first()

    for number in before:
        signal.signal(number, ask)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
