"""Ends a search that has stopped improving, by its log's trials in the order of their ends."""

from collections.abc import Callable, Iterable
from math import sqrt

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.history import OUTSIDE


def standard_error(error: float, other: float, images: int) -> float:
    """Return the standard error of the difference of two errors, each counted on this many images."""
    return sqrt((error * (1 - error) + other * (1 - other)) / images)


Noise = Callable[[float, float], float]
"""Returns by how much two values differ by chance."""


def patience_of(spec: StudySpec) -> "Patience | None":
    """Return the rule of `search.patience`; None if it is not given."""
    trials, metric = spec.search.patience, spec.metric
    return None if trials is None else Patience(trials, metric.images(spec.any_trial().data.validation), metric)


def noise_of(metric: Metric, images: int) -> Noise:
    """Return the noise of a metric's values, each measured on this many validation images.

    A share of images has binomial noise. How far any other measure deviates is known only from fresh seeds, which a
    search trains after its own trials: until then every improvement counts, which ends a search later, not sooner.
    """
    return (lambda value, other: standard_error(value, other, images)) if metric.is_share else (lambda *_: 0.0)


class Patience:
    """Counts the trials that have ended since the best value last improved by more than its noise.

    A value that is better by less is no improvement. The next one is compared with the same best value, so several
    small steps add up to an improvement. No trial counts before the first has completed. A trial that failed, or that
    lies outside the current domains, does not count: it says nothing about its point.

    Args:
        trials: this many trials without an improvement end the search.
        images: number of images on which values are measured.
        metric: what the trials are ranked by.
    """

    def __init__(self, trials: int, images: int, metric: Metric = VAL_ERROR) -> None:
        self._trials, self._metric, self._noise = trials, metric, noise_of(metric, images)
        self._best: float | None = None
        self._since = 0

    def replay(self, rows: Iterable[TrialRow]) -> None:
        """Take the trials of a log that have ended, in the order of their ends."""
        for row in sorted(rows, key=lambda row: (row.seq, row.ended_at or row.started_at, row.number)):
            self.take(row)

    def take(self, row: TrialRow) -> None:
        """Take a trial that has ended."""
        if self._improves(row):
            self._best, self._since = row.value_last, 0
        elif self._best is not None and row.status is not TrialStatus.FAILED and row.error != OUTSIDE:
            self._since += 1

    def is_over(self) -> bool:
        """Return whether the search has stopped improving."""
        return self._since >= self._trials

    def _improves(self, row: TrialRow) -> bool:
        value, cost = row.value_last, self._metric.cost
        if row.status is not TrialStatus.COMPLETED or value is None:
            return False
        return self._best is None or cost(self._best) - cost(value) > self._noise(self._best, value)
