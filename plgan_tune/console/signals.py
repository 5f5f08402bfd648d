"""Stop a command at a signal: from a batch system, from a terminal that closes, or Ctrl-C from a user."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import SimpleQueue
from threading import Thread, Timer
from typing import Any, Final

from rich.console import Console

from plgan_tune.console.format import close_picture, redrawn, say, visible

ANNOUNCED: Final[tuple[int, ...]] = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
"""The signals by which batch systems announce the end, and SIGHUP of a terminal that closes. Windows has the first."""


def heard() -> list[int]:
    """Return those of them that this process does not ignore, as it does SIGHUP under `nohup`."""
    return [number for number in ANNOUNCED if signal.getsignal(number) is not signal.SIG_IGN]


def _terminals() -> list[int]:
    """Return which of stdout and stderr are a terminal."""
    return [number for number in (1, 2) if os.isatty(number)]


def _write_nowhere(terminals: Iterable[int]) -> None:
    """Drop what is written from now on to those terminals that have closed: it would raise, and end the search."""
    for number in terminals:
        if not os.isatty(number):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


@contextmanager
def _handlers_restored(before: Mapping[int, Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def stopping_as_ctrl_c(go_on: str, console: Console) -> Iterator[None]:
    """Let the signals that announce an end stop the block as Ctrl-C does.

    A batch system may not wait until it has stopped, so the command to resume is printed at once.
    """
    waiting: SimpleQueue[str | None] = SimpleQueue()
    # A handler may interrupt the console in the middle of a line: another thread waits for the end of the line.
    speaker = Thread(target=_say_all, args=[console, waiting, go_on])

    terminals = _terminals()

    def stop(*_: object) -> None:
        _write_nowhere(terminals)
        waiting.put("Stopping")
        signal.raise_signal(signal.SIGINT)

    before = {number: signal.signal(number, stop) for number in heard()}
    speaker.start()
    try:
        with _handlers_restored(before):
            yield
    finally:
        waiting.put(None)
        speaker.join()


def _say_all(console: Console, waiting: SimpleQueue[str | None], go_on: str) -> None:
    while (why := waiting.get()) is not None:
        say_before_the_end(console, why, go_on)


def say_before_the_end(console: Console, why: str, go_on: str) -> None:
    """Print the command to resume, above a live display if any, because this process may be killed at any moment."""
    text = f"{why}. If the process is killed first, resume with:\n  {go_on}"
    if redrawn(console):
        say(console, text, "yellow")
        return
    with suppress(OSError):  # the reader may be gone
        os.write(1, f"{visible(text)}\n".encode())


def say_how_to_resume(console: Console, why: str, go_on: str) -> None:
    """Print why the command has ended, and the command to resume."""
    say(console, f"{why}. Resume with:", "yellow")
    say(console, f"  {go_on}")


RAY_SECONDS: Final = 15.0
"""Time for a command whose own Ray has died to end by itself. Without its GCS, Ray ends the process after a minute, and
prints the last lines."""


@contextmanager
def ending_with_ray(console: Console, go_on: str) -> Iterator[Callable[[str], None]]:
    """Yield a function to call, in any thread, with a message when the block's own Ray has died.

    It prints the command to resume at once. If the block does not end within RAY_SECONDS, the process exits with status
    1, and the command to resume is the last line.
    """
    ends: list[Timer] = []

    def end(died: str) -> None:
        close_picture(console)
        say_how_to_resume(console, f"{died}; finished epochs are saved", go_on)
        sys.stdout.flush()
        os._exit(1)

    def died(what: str) -> None:
        say_before_the_end(console, what, go_on)
        ends.append(Timer(RAY_SECONDS, end, [what]))
        ends[-1].daemon = True
        ends[-1].start()

    try:
        yield died
    finally:
        for timer in ends:
            timer.cancel()


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Let the signals that announce an end raise KeyboardInterrupt in the block, so that it restores the terminal."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with _handlers_restored({number: signal.signal(number, stop) for number in heard()}):
        yield


@contextmanager
def asked_to_stop(on_first: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C, or a signal that announces an end, has arrived.

    The first signal lets the epoch end, so that a checkpoint can be written. A second one does what it did before the
    block. If the program handles such a signal itself, its handlers are kept. Outside the main thread, no signal
    is handled.

    Args:
        on_first: Called in the handler of the first signal.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before: dict[int, Any] = {
        number: handler
        for number in (signal.SIGINT, *ANNOUNCED)
        if (handler := signal.getsignal(number)) is signal.SIG_DFL or number == signal.SIGINT
    }

    terminals = _terminals()

    def ask(number: int, frame: object) -> None:  # noqa: ARG001
        _write_nowhere(terminals)
        asked.append(number)
        signal.signal(number, before[number])
        on_first()

    for number in before:
        signal.signal(number, ask)
    with _handlers_restored(before):
        yield lambda: bool(asked)
