"""The time of a search while the machine's clock is set."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plgan_tune.backends.ray import tune_run
from plgan_tune.backends.ray.tune_run import TimeLimit
from plgan_tune.study import clock
from plgan_tune.study.clock import steady_clock
from plgan_tune.study.state import Ending
from tests.factories import Search, small

DAY = timedelta(days=1)


class Seconds:
    """Seconds since the machine's boot, as a test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> Seconds:
    since_boot = Seconds()
    monkeypatch.setattr(clock, "seconds_awake_or_asleep", since_boot)
    monkeypatch.setattr(tune_run, "seconds_awake_or_asleep", since_boot)
    return since_boot


def test_the_clock_counts_seconds_whatever_the_machine_s_is_set_to(
    seconds: Seconds, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = steady_clock()
    begun = now()
    assert abs(begun - datetime.now(UTC)) < DAY
    monkeypatch.setattr(time, "time", lambda: 0.0)
    seconds.now += 90
    assert now() - begun == timedelta(seconds=90)


def test_a_limit_counts_from_when_it_is_first_asked(seconds: Seconds) -> None:
    limit = TimeLimit(hours=2)
    seconds.now += 8000
    assert not limit.stop_all()
    seconds.now += 7199
    assert not limit.stop_all()
    seconds.now += 1
    assert limit.stop_all()
    assert not TimeLimit(hours=None).stop_all()


@pytest.mark.ray
def test_a_search_keeps_its_hours_where_the_clock_is_set(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day forward at each look: Tune's own limit would end the search at once."""
    days = iter(range(1_000_000))
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + next(days) * DAY.total_seconds())
    result = search(small(trials=2, hours=2.0, early_stopping="none"))
    assert result.ending is Ending.DONE
    trials: Any = pd.read_parquet(tmp_path / "study" / "trials")
    assert list(trials["status"]) == ["completed"] * 2
    assert ((trials["ended_at"] - trials["started_at"]) < DAY).all()
