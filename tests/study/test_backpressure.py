"""A search whose log cannot be written comes to rest, and goes on."""

import logging

import pytest

from plgan_tune.study.backpressure import Backpressure
from tests.factories import CountedSleep, WaitingLog


@pytest.mark.parametrize(("waiting", "failure"), [(11, None), (10, "no space left")])
def test_neither_rows_nor_a_failure_alone_hold_it(waiting: int, failure: str | None) -> None:
    Backpressure(WaitingLog(waiting, failure), 10, lambda _: pytest.fail("slept")).hold(lambda: False)


def test_it_rests_until_the_store_is_back(caplog: pytest.LogCaptureFixture) -> None:
    log = WaitingLog(11, "no space left")
    clock = CountedSleep(lambda: setattr(log, "failure", None))
    with caplog.at_level(logging.WARNING):
        Backpressure(log, 10, clock).hold(lambda: False)
    assert clock.slept == 3
    assert caplog.messages == [
        "the search pauses: 11 rows wait in memory, at most 10 may, and the store fails: no space left",
        "the search continues",
    ]


def test_an_interrupt_ends_the_rest() -> None:
    clock = CountedSleep(lambda: None)
    Backpressure(WaitingLog(11, "no space left"), 10, clock).hold(lambda: clock.slept == 3)
    assert clock.slept == 3


def test_only_a_log_that_another_search_writes_ends_the_search() -> None:
    log = WaitingLog(0, "no space left")
    assert Backpressure(log).why_to_end() is None
    log.followed = True
    assert Backpressure(log).why_to_end() == "no space left"
