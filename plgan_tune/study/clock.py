"""A clock for a search, which ignores changes of the system time, and what it says of a machine that slept."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from plgan_tune.records import DecisionRow, EpochRow, TrialRow
from plgan_tune.store.lock import seconds_awake_or_asleep

Now = Callable[[], datetime]
"""Returns the UTC time."""


def steady_clock() -> Now:
    """Return a clock that starts at the machine's UTC time and then counts seconds, also while it is suspended.

    Later changes of the machine's clock, by its user or over the network, have no effect.
    """
    begun, at = datetime.now(UTC), seconds_awake_or_asleep()
    return lambda: begun + timedelta(seconds=seconds_awake_or_asleep() - at)


WORTH_SAYING = 60.0
"""Seconds of sleep."""


class SleepNotes:
    """A log listener that says, at the first row after it, that this machine slept. Epochs do not count that time.

    Args:
        note: Takes the sentence.
        awake: Seconds that stand still while the machine sleeps.
        awake_or_asleep: Seconds that do not.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        awake: Callable[[], float] = time.monotonic,
        awake_or_asleep: Callable[[], float] = seconds_awake_or_asleep,
    ) -> None:
        self._note, self._awake, self._awake_or_asleep = note, awake, awake_or_asleep
        self._slept = self._asleep()

    def epoch(self, row: EpochRow) -> None:  # noqa: ARG002
        """Look how long the machine has slept."""
        slept = self._asleep()
        if slept - self._slept >= WORTH_SAYING:
            for_so_long = timedelta(seconds=round(slept - self._slept))
            self._note(f"this machine slept for {for_so_long}: no epoch counts that time, but search.hours does")
            self._slept = slept

    def decision(self, row: DecisionRow) -> None:
        """Do nothing."""

    def trial(self, row: TrialRow) -> None:
        """Do nothing."""

    def _asleep(self) -> float:
        return self._awake_or_asleep() - self._awake()
