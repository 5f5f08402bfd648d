"""A search whose log cannot be written comes to rest, and goes on."""

import logging
import signal
from collections.abc import Callable, Iterator

import pytest

from plgan_tune.tuning.pause import Pause


class Log:
    def __init__(self, waiting: int, failure: str | None) -> None:
        self.waiting, self.failure, self.followed = waiting, failure, False


class Clock:
    """Sleeps, and lets something happen after the third time."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.slept, self._then = 0, then

    def __call__(self, seconds: float) -> None:
        self.slept += 1
        if self.slept == 3:
            self._then()


@pytest.mark.parametrize(("waiting", "failure"), [(11, None), (10, "no space left")])
def test_neither_rows_nor_a_failure_alone_hold_it(waiting: int, failure: str | None) -> None:
    Pause(Log(waiting, failure), 10, lambda _: pytest.fail("slept")).on_trial_result(trial=None, result={})


def test_it_rests_until_the_store_is_back(caplog: pytest.LogCaptureFixture) -> None:
    log = Log(11, "no space left")
    clock = Clock(lambda: setattr(log, "failure", None))
    with caplog.at_level(logging.WARNING):
        Pause(log, 10, clock).on_trial_result(trial=None, result={})
    assert clock.slept == 3
    assert caplog.messages == [
        "the search pauses: 11 rows wait in memory, at most 10 may, and the store fails: no space left",
        "the search goes on",
    ]


@pytest.fixture
def handler_of_now() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("handler_of_now")
def test_ctrl_c_ends_the_rest() -> None:
    """Tune's handler notes that it is to stop, and gives the handler before it back."""
    clock = Clock(lambda: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_IGN))
    Pause(Log(11, "no space left"), 10, clock).on_trial_result(trial=None, result={})
    assert clock.slept == 3


@pytest.mark.usefixtures("handler_of_now")
@pytest.mark.parametrize("waiting", [0, 11])
def test_a_search_that_another_has_followed_ends_as_by_ctrl_c_and_once(
    waiting: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Also in its rest, from which no store's return would wake it."""
    log, interrupts = Log(waiting, "no space left"), []
    signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    clock = Clock(lambda: vars(log).update(followed=True, failure="taken over by process 7"))
    pause = Pause(log, 10, clock)
    if waiting == 0:
        pause.on_trial_result(trial=None, result={})
        assert interrupts == []
        vars(log).update(followed=True, failure="taken over by process 7")
    for _ in range(2):
        pause.on_trial_result(trial=None, result={})
    assert interrupts == [signal.SIGINT]
    assert caplog.messages[-1] == "the search ends: taken over by process 7"
