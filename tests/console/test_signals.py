"""A signal, and a Ray that dies, under a picture that is redrawn: nothing of it is torn."""

import io
import os
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.live import Live

from plgan_tune.console import signals
from plgan_tune.console.format import terminal
from plgan_tune.console.signals import (
    ANNOUNCED,
    asked_to_stop,
    ending_with_ray,
    signals_as_ctrl_c,
    stopping_as_ctrl_c,
)
from tests.screen import lines_on_screen

GO_ON = f"python -m plgan_tune.search --name mine --resume{' --set trial.loss.alpha=0.5' * 5}"


@pytest.fixture
def console() -> Console:
    return terminal(file=io.StringIO(), force_terminal=True, width=40, _environ={"TERM": "xterm"})


@pytest.fixture(autouse=True)
def _usual_handlers() -> Iterator[None]:
    """A job in a shell's background has no Ctrl-C, and a Ray that an earlier test started keeps its SIGTERM."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in ANNOUNCED}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def shown(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return lines_on_screen(console.file.getvalue())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_at_a_signal_the_command_stands_above_the_picture(console: Console, number: signal.Signals) -> None:
    picture = Live("a picture\nof two lines", console=console, auto_refresh=False)
    with picture:
        picture.refresh()
        with pytest.raises(KeyboardInterrupt), stopping_as_ctrl_c(GO_ON, console):
            signal.raise_signal(number)
        picture.refresh()
    assert shown(console) == [
        "Stopping. If the process is killed",
        "first, resume with:",
        f"  {GO_ON}",
        "a picture",
        "of two lines",
        "",
    ]


def test_a_command_that_outlives_its_ray_is_ended_with_the_command_last(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(signals, "RAY_SECONDS", 0.0)
    monkeypatch.setattr(os, "_exit", ended.append)
    with (
        Live("a picture", console=console, transient=True, refresh_per_second=50),
        ending_with_ray(console, GO_ON) as died,
    ):
        died("Ray has died")
        while not ended:
            pass
    assert ended == [1]
    *_, why, command, after = shown(console)
    assert (why, command, after) == ("Resume with:", f"  {GO_ON}", "")
    assert "a picture" not in shown(console)


def test_a_command_that_ends_by_itself_is_let_alone(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(signals, "RAY_SECONDS", 0.05)
    monkeypatch.setattr(os, "_exit", ended.append)
    with ending_with_ray(console, GO_ON) as died:
        died("Ray has died")
    signal.sigtimedwait([], 0.2)
    assert ended == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_the_first_signal_lets_an_epoch_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with asked_to_stop() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_leaves_the_cursor_where_it_can_be_seen(console: Console, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals_as_ctrl_c(), Live("a picture", console=console, auto_refresh=False):
        signal.raise_signal(number)
    assert signal.getsignal(number) == before
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().endswith("\x1b[?25h")
