"""The time of a search while the machine's clock is set."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from plgan_tune.study import clock
from plgan_tune.study.clock import steady_clock

DAY = timedelta(days=1)


def test_the_clock_counts_seconds_whatever_the_machine_s_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    since_boot = 1000.0
    monkeypatch.setattr(clock, "seconds_awake_or_asleep", lambda: since_boot)
    now = steady_clock()
    begun = now()
    assert abs(begun - datetime.now(UTC)) < DAY
    monkeypatch.setattr(time, "time", lambda: 0.0)
    since_boot += 90
    assert now() - begun == timedelta(seconds=90)
