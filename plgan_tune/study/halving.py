"""Asynchronous successive halving (Li et al. 2018) as a replayable rule, without Ray and without a clock."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.records import DecisionRow, Report, Value, Verdict

StartOf = Callable[[Mapping[str, Value]], int]
"""A trial's point -> the epoch from which its rungs count."""


def from_the_first_epoch(point: Mapping[str, Value]) -> int:  # noqa: ARG001
    """Count rungs from a trial's start."""
    return 0


class NeverStop:
    """A rule that stops no trial."""

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:  # noqa: ARG002
        """Return None: no decision."""
        return None


class Halving:
    """Judges each trial once per rung, against all values that trials reported AT that rung.

    A trial continues if its value is among the best ceil(n / reduction_factor) of the n values seen at the rung, its
    own included; equal values all continue. While a rung has fewer than `min_competitors` values, all trials continue.

    The rule depends only on the order of the epochs: a replay of the log's rows by `seq` restores its state.

    Args:
        rungs: epochs, ascending, counted from the start of a trial's rungs.
        reduction_factor: one in this many trials continues.
        min_competitors: values that a rung needs before a trial is stopped there.
        smoothing: a trial's value is the mean of its last `smoothing` epochs after the start of its rungs.
        start_of: the epoch from which a trial's rungs count.
        metric: what the reports hold. Rungs hold its costs; decisions are in its own unit.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: int,
        min_competitors: int = 1,
        smoothing: int = 1,
        start_of: StartOf = from_the_first_epoch,
        metric: Metric = VAL_ERROR,
    ) -> None:
        self._costs: Mapping[int, list[float]] = {rung: [] for rung in rungs}
        self._judged: dict[str, int] = {}
        self._recent: dict[str, deque[tuple[int, float]]] = {}
        self._starts: dict[str, int] = {}
        self._reduction_factor = reduction_factor
        self._min_competitors = min_competitors
        self._smoothing = smoothing
        self._start_of = start_of
        self._metric = metric

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        """Return the decision on a trial if the epoch is a rung at which it was not judged yet, else None.

        An epoch that an attempt repeats replaces the earlier report, but is not judged again: a rung holds one value
        per trial.
        """
        trial_id, epoch = report.trial_id, report.epoch
        start = self._start(trial_id, point)
        recent = self._recent.setdefault(trial_id, deque(maxlen=self._smoothing))
        while recent and recent[-1][0] >= epoch:
            recent.pop()
        recent.append((epoch, self._metric.cost(report.value)))
        rung = epoch - start
        if rung not in self._costs or rung <= self._judged.get(trial_id, 0):
            return None
        self._judged[trial_id] = rung
        return self._decide(report, rung, fmean(cost for at, cost in recent if at > start))

    def _start(self, trial_id: str, point: Mapping[str, Value]) -> int:
        """Return where the trial's rungs start. `start_of` is called once per trial: it may build a configuration."""
        start = self._starts.get(trial_id)
        if start is None:
            start = self._starts[trial_id] = self._start_of(point)
        return start

    def _decide(self, report: Report, rung: int, cost: float) -> DecisionRow:
        costs = self._costs[rung]
        insort(costs, cost)
        n = len(costs)
        cutoff, verdict = None, Verdict.CONTINUE
        reason = f"fewer than {self._min_competitors} values"
        if n >= self._min_competitors:
            goes_on = -(-n // self._reduction_factor)
            cutoff = costs[goes_on - 1]
            verdict = Verdict.CONTINUE if cost <= cutoff else Verdict.STOP
            reason = f"place {bisect_left(costs, cost) + 1} of {n}, of which {goes_on} continue"
        return DecisionRow(
            seq=report.seq,
            trial_id=report.trial_id,
            attempt=report.attempt,
            epoch=report.epoch,
            rung=rung,
            value=self._metric.cost(cost),
            cutoff=None if cutoff is None else self._metric.cost(cutoff),
            competitors=n,
            verdict=verdict,
            reason=reason,
        )
