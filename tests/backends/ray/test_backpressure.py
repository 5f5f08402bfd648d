"""Tune while the log cannot be written."""

import logging
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plgan_tune.backends import run
from plgan_tune.backends.ray import tune_run
from plgan_tune.backends.ray.backpressure import Pause
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.log import StudyLog
from plgan_tune.study import log_session
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.state import Ending
from tests.factories import Search, small


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
    Pause(Backpressure(Log(11, "no space left"), 10, clock)).on_trial_result(trial=None, result={})
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
    pause = Pause(Backpressure(log, 10, clock))
    if waiting == 0:
        pause.on_trial_result(trial=None, result={})
        assert interrupts == []
        vars(log).update(followed=True, failure="taken over by process 7")
    for _ in range(2):
        pause.on_trial_result(trial=None, result={})
    assert interrupts == [signal.SIGINT]
    assert caplog.messages[-1] == "the search ends: taken over by process 7"


class Outage:
    """A store that refuses epochs from a search's first result until the search has rested for a while."""

    def __init__(self) -> None:
        self.refuses = False
        self.rests: list[datetime] = []

    def write(self, file: Location, content: bytes, scratch: Location | None) -> None:
        if self.refuses and "/epochs/" in file.url:
            raise StoreError("no space left")
        WRITE(file, content, scratch)

    def rest(self, seconds: float) -> None:
        self.rests.append(datetime.now(UTC))
        self.refuses = len(self.rests) < 4
        time.sleep(seconds)


WRITE = Location.write_bytes


@pytest.mark.ray
@pytest.mark.slow
def test_a_search_rests_while_too_many_rows_wait_and_then_nothing_is_missing(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage()

    class Resting(Pause):
        def on_trial_result(self, **event: Any) -> None:
            outage.refuses = not outage.rests
            super().on_trial_result(**event)

    def write_bytes(file: Location, content: bytes, scratch: Location | None = None) -> None:
        outage.write(file, content, scratch)

    monkeypatch.setattr(Location, "write_bytes", write_bytes)
    monkeypatch.setattr(log_session, "StudyLog", partial(StudyLog, interval=0.1))
    monkeypatch.setattr(run, "Backpressure", partial(Backpressure, most=3, sleep=outage.rest))
    monkeypatch.setattr(tune_run, "Pause", Resting)
    with caplog.at_level(logging.WARNING):
        assert search(small(trials=4, early_stopping="none")).ending is Ending.DONE
    assert [line.partition(":")[0] for line in caplog.messages if line.startswith("the search")] == [
        "the search pauses",
        "the search continues",
    ]
    epochs = pd.read_parquet(tmp_path / "study" / "epochs")
    assert epochs["seq"].tolist() == list(range(4 * 4))
    meanwhile = epochs["reported_at"].between(outage.rests[0], outage.rests[-1])
    assert meanwhile.sum() <= 1  # one trial at a time, which asks for its next epoch only once the last is taken
