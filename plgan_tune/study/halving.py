"""Asynchronous successive halving (Li et al. 2018) as a replayable rule: epochs in, decisions out. No Ray, no clock."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from plgan_tune.records import DecisionRow, Report, Value, Verdict

StartOf = Callable[[Mapping[str, Value]], int]
"""A trial's point -> the epoch from which its rungs count."""


def from_the_first_epoch(point: Mapping[str, Value]) -> int:  # noqa: ARG001
    """Rungs count from a trial's start."""
    return 0


class NeverStop:
    """Early stopping that stops nobody."""

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:  # noqa: ARG002
        return None


class Halving:
    """Judges each trial once a rung, against all values that trials reported AT that rung.

    A trial goes on where its value is among the best ceil(n / reduction_factor) of the n values seen at the rung, its
    own included; of equal values all go on. While fewer than `min_competitors` are there, all go on.

    The rule is a function of the epochs' order alone: given the log's rows by their `seq`, it stands where it stood.

    Args:
        rungs: epochs, ascending, counted from where a trial's rungs start.
        reduction_factor: one of this many goes on.
        min_competitors: values at a rung before anyone is stopped there.
        smoothing: a trial's value is the mean of its last so many epochs' errors, none from before its rungs' start.
        start_of: where a trial's rungs count from.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: int,
        min_competitors: int = 1,
        smoothing: int = 1,
        start_of: StartOf = from_the_first_epoch,
    ) -> None:
        self._values: Mapping[int, list[float]] = {rung: [] for rung in rungs}
        self._judged: dict[str, int] = {}
        self._recent: dict[str, deque[tuple[int, float]]] = {}
        self._starts: dict[str, int] = {}
        self._reduction_factor = reduction_factor
        self._min_competitors = min_competitors
        self._smoothing = smoothing
        self._start_of = start_of

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        """The decision on a trial, where the epoch is a rung at which it was not judged yet.

        An epoch that an attempt repeats replaces what the attempt before reported, but is not judged again: a rung
        holds one value a trial.
        """
        trial_id, epoch = report.trial_id, report.epoch
        start = self._start(trial_id, point)
        recent = self._recent.setdefault(trial_id, deque(maxlen=self._smoothing))
        while recent and recent[-1][0] >= epoch:
            recent.pop()
        recent.append((epoch, report.val_error))
        rung = epoch - start
        if rung not in self._values or rung <= self._judged.get(trial_id, 0):
            return None
        self._judged[trial_id] = rung
        return self._decide(report, rung, fmean(value for at, value in recent if at > start))

    def _start(self, trial_id: str, point: Mapping[str, Value]) -> int:
        """Once a trial, for it may build a whole configuration."""
        start = self._starts.get(trial_id)
        if start is None:
            start = self._starts[trial_id] = self._start_of(point)
        return start

    def _decide(self, report: Report, rung: int, value: float) -> DecisionRow:
        values = self._values[rung]
        insort(values, value)
        n = len(values)
        cutoff, verdict = None, Verdict.CONTINUE
        reason = f"fewer than {self._min_competitors} values"
        if n >= self._min_competitors:
            goes_on = -(-n // self._reduction_factor)
            cutoff = values[goes_on - 1]
            verdict = Verdict.CONTINUE if value <= cutoff else Verdict.STOP
            reason = f"place {bisect_left(values, value) + 1} of {n}, of which {goes_on} continue"
        return DecisionRow(
            seq=report.seq,
            trial_id=report.trial_id,
            attempt=report.attempt,
            epoch=report.epoch,
            rung=rung,
            value=value,
            cutoff=cutoff,
            competitors=n,
            verdict=verdict,
            reason=reason,
        )
