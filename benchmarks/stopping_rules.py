"""Rules of early stopping that are not in the program, to be judged by stopping.py. Epochs are simulated ones."""

import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from scipy.special import stdtr

from plgan_tune.records import DecisionRow, Report, Value, Verdict
from plgan_tune.study.halving import Halving

Point = Mapping[str, Value]


def decided(report: Report, cutoff: float, competitors: int, *, stop: bool) -> DecisionRow:
    return DecisionRow(
        seq=report.seq,
        trial_id=report.trial_id,
        attempt=report.attempt,
        epoch=report.epoch,
        rung=report.epoch,
        value=report.value,
        cutoff=cutoff,
        competitors=competitors,
        verdict=Verdict.STOP if stop else Verdict.CONTINUE,
        reason="",
    )


class Brackets:
    """ASHA whose trials are dealt in turn to brackets; each has rungs and values of its own (Li et al. 2018).

    Args:
        brackets: The rungs of each.
        factor: One in this many continues.
    """

    def __init__(self, brackets: Sequence[Sequence[int]], factor: int) -> None:
        self._brackets = [Halving(rungs, factor, min_competitors=3) for rungs in brackets]
        self._of: dict[str, Halving] = {}

    def report(self, report: Report, point: Point) -> DecisionRow | None:
        next_bracket = self._brackets[len(self._of) % len(self._brackets)]
        return self._of.setdefault(report.trial_id, next_bracket).report(report, point)


class Median:
    """Stops a trial above the median of all errors at its epoch (Golovin et al. 2017).

    Args:
        first: The first epoch that is judged.
        least: Errors at an epoch before a trial is stopped there.
    """

    def __init__(self, first: int = 1, least: int = 5) -> None:
        self._first, self._least = first, least
        self._errors: dict[int, list[float]] = {}

    def report(self, report: Report, point: Point) -> DecisionRow | None:  # noqa: ARG002
        errors = self._errors.setdefault(report.epoch, [])
        errors.append(report.value)
        if report.epoch < self._first or len(errors) < self._least:
            return None
        cutoff = median(errors)
        return decided(report, cutoff, len(errors), stop=report.value > cutoff)


@dataclass(frozen=True, slots=True)
class Line:
    """A linear regression of last errors on errors at an epoch, of the trials that have completed.

    Attributes:
        slope: Last error per error at the epoch.
        start: Last error where the error at the epoch is 0.
        deviation: Of last errors around the line.
        middle: Mean error at the epoch.
        spread: Sum of squares of the errors at the epoch around it.
        count: Completed trials.
    """

    slope: float
    start: float
    deviation: float
    middle: float
    spread: float
    count: int

    def at(self, error: float) -> float:
        return self.start + self.slope * error

    def chance_below(self, last: float, error: float) -> float:
        """Return the probability that a trial of such an error ends below `last`, by Student's prediction interval."""
        wide = math.sqrt(1 + 1 / self.count + (error - self.middle) ** 2 / self.spread)
        return float(stdtr(self.count - 2, (last - self.at(error)) / (self.deviation * wide)))


@dataclass(slots=True)
class Sums:
    """Of the errors at an epoch (x) and the last errors (y) of the trials that have completed."""

    count: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0

    def add(self, x: float, y: float) -> None:
        self.count += 1
        self.x += x
        self.y += y
        self.xx += x * x
        self.xy += x * y
        self.yy += y * y

    def line(self) -> Line | None:
        """Fit by least squares; None if all errors at the epoch are the same, or the line holds them all."""
        middle, last = self.x / self.count, self.y / self.count
        spread = self.xx - self.count * middle**2
        if spread < ALMOST_0:
            return None
        slope = (self.xy - self.count * middle * last) / spread
        left = self.yy - self.count * last**2 - slope**2 * spread
        if left < ALMOST_0:
            return None
        return Line(slope, last - slope * middle, math.sqrt(left / (self.count - 2)), middle, spread, self.count)


ALMOST_0: Final = 1e-9
"""A sum of squares of errors below this is one of rounding: validation images are hundreds, not ten thousands."""


class Completed:
    """What the trials of a search that have completed say about last errors.

    Args:
        least: Trials that must have completed before anything is known.

    Attributes:
        lasts: Their last errors, the lowest first.
    """

    def __init__(self, least: int = 5) -> None:
        self._least = least
        self._running: dict[str, list[float]] = {}
        self._sums: dict[int, Sums] = {}
        self.lasts: list[float] = []

    def add(self, report: Report) -> None:
        self._running.setdefault(report.trial_id, []).append(report.value)

    def end(self, trial_id: str, error: float) -> None:
        insort(self.lasts, error)
        for epoch, early in enumerate(self._running.pop(trial_id), start=1):
            self._sums.setdefault(epoch, Sums()).add(early, error)

    def line(self, epoch: int) -> Line | None:
        return self._sums[epoch].line() if len(self.lasts) >= self._least else None


class Margin:
    """ASHA that stops a trial only if the interval of its last error is above that of a trial at the cutoff.

    The interval is of the regression of last errors on the rung's, over the completed trials of the search; while there
    are too few, no trial is stopped.

    Args:
        halving: ASHA.
        width: Of the interval to each side, in deviations around the line.
    """

    def __init__(self, halving: Halving, width: float) -> None:
        self._halving, self._width, self._completed = halving, width, Completed()

    def completed(self, trial_id: str, error: float) -> None:
        self._completed.end(trial_id, error)

    def report(self, report: Report, point: Point) -> DecisionRow | None:
        self._completed.add(report)
        decision = self._halving.report(report, point)
        if decision is None or decision.verdict is not Verdict.STOP or decision.cutoff is None:
            return decision
        line = self._completed.line(report.epoch)
        if line is not None and line.slope * (decision.value - decision.cutoff) > self._width * line.deviation:
            return decision
        return replace(decision, verdict=Verdict.CONTINUE)


class Extrapolating:
    """Stops a trial that will hardly end among the best.

    The probability that its last error is below that of the `top`-th best completed trial comes from the regression of
    last errors on those at its epoch, over the completed trials of the search. Of few completed trials, the third that
    is best is the top.

    Args:
        level: The probability below which a trial is stopped.
        top: How many trials are to be found.
        first: The first epoch that is judged.
    """

    def __init__(self, level: float, top: int, first: int = 1) -> None:
        self._level, self._top, self._first, self._completed = level, top, first, Completed()

    def completed(self, trial_id: str, error: float) -> None:
        self._completed.end(trial_id, error)

    def report(self, report: Report, point: Point) -> DecisionRow | None:  # noqa: ARG002
        self._completed.add(report)
        line = self._completed.line(report.epoch) if report.epoch >= self._first else None
        if line is None:
            return None
        lasts = self._completed.lasts
        goal = lasts[min(self._top, math.ceil(len(lasts) / 3)) - 1]
        chance = line.chance_below(goal, report.value)
        return decided(report, goal, len(lasts), stop=chance < self._level)
