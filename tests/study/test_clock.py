"""The time of a search while the machine's clock is set."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from plgan_tune.study import clock
from plgan_tune.study.clock import SleepNotes, steady_clock
from tests.factories import make_epoch

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


def test_a_sleep_is_said_once_with_its_length() -> None:
    awake, since_boot = 100.0, 100.0
    said: list[str] = []
    notes = SleepNotes(said.append, lambda: awake, lambda: since_boot)
    awake, since_boot = 150.0, 150.0
    notes.epoch(make_epoch(0, "t0000", 1))
    assert said == []
    awake, since_boot = 160.0, 7360.0  # two hours, of which it was awake for ten seconds
    notes.epoch(make_epoch(1, "t0000", 2))
    notes.epoch(make_epoch(2, "t0000", 3))
    assert said == ["this machine slept for 2:00:00: no epoch counts that time, but search.hours does"]
