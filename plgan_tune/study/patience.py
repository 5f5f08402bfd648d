"""Ends a search that has stopped improving, by its log's trials in the order of their ends."""

from collections.abc import Iterable
from math import sqrt

from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.history import OUTSIDE


def standard_error(error: float, other: float, images: int) -> float:
    """Return the standard error of the difference of two errors, each counted on this many images."""
    return sqrt((error * (1 - error) + other * (1 - other)) / images)


class Patience:
    """Counts the trials that have ended since the best error last fell by more than its noise.

    An error that is lower by less is no improvement. The next one is compared with the same best error, so several
    small steps add up to an improvement. No trial counts before the first has completed. A trial that failed, or that
    lies outside the current domains, does not count: it says nothing about its point.

    Args:
        trials: this many trials without an improvement end the search.
        images: number of images on which errors are counted.
    """

    def __init__(self, trials: int, images: int) -> None:
        self._trials, self._images = trials, images
        self._best: float | None = None
        self._since = 0

    def replay(self, rows: Iterable[TrialRow]) -> None:
        """Take the trials of a log that have ended, in the order of their ends."""
        for row in sorted(rows, key=lambda row: (row.seq, row.ended_at or row.started_at, row.number)):
            self.take(row)

    def take(self, row: TrialRow) -> None:
        """Take a trial that has ended."""
        if self._improves(row):
            self._best, self._since = row.val_error_last, 0
        elif self._best is not None and row.status is not TrialStatus.FAILED and row.error != OUTSIDE:
            self._since += 1

    def is_over(self) -> bool:
        """Return whether the search has stopped improving."""
        return self._since >= self._trials

    def _improves(self, row: TrialRow) -> bool:
        error = row.val_error_last
        if row.status is not TrialStatus.COMPLETED or error is None:
            return False
        return self._best is None or self._best - error > standard_error(self._best, error, self._images)
