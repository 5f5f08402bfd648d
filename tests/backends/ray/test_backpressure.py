"""Tune while the log cannot be written."""

import signal
from collections.abc import Iterator

import pytest

from plgan_tune.backends.ray.backpressure import Pause
from plgan_tune.study.backpressure import Backpressure
from tests.factories import CountedSleep, WaitingLog


@pytest.fixture
def handler_of_now() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handler_of_now")
def test_ctrl_c_ends_the_rest() -> None:
    """Tune's handler notes that it is to stop, and gives the handler before it back."""
    clock = CountedSleep(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_IGN))
    Pause(Backpressure(WaitingLog(11, "no space left"), 10, clock)).on_trial_result(trial=None, result={})
    assert clock.slept == 3


@pytest.mark.usefixtures("handler_of_now")
@pytest.mark.parametrize("waiting", [0, 11])
def test_a_search_that_another_has_followed_ends_as_by_ctrl_c_and_once(
    waiting: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in its rest, from which no store's return would wake it."""
    log, interrupts = WaitingLog(waiting, "no space left"), []
    signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    clock = CountedSleep(lambda: vars(log).update(followed=True, failure="taken over by process 7"))
    pause = Pause(Backpressure(log, 10, clock))
    if waiting == 0:
        pause.on_trial_result(trial=None, result={})
        assert interrupts == []
        vars(log).update(followed=True, failure="taken over by process 7")
    for _ in range(2):
        pause.on_trial_result(trial=None, result={})
    assert interrupts == [signal.SIGINT]
    assert caplog.messages[-1] == "the search ends: taken over by process 7"
