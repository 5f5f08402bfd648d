"""Asynchronous successive halving (Li et al. 2018) as a replayable rule, without Ray and without a clock."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from statistics import fmean
from typing import NamedTuple

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.records import DecisionRow, Report, Value, Verdict
from plgan_tune.study.front import Costs, places

StartOf = Callable[[Mapping[str, Value]], int]
"""A trial's point -> the epoch from which its rungs count."""


def from_the_first_epoch(point: Mapping[str, Value]) -> int:  # noqa: ARG001
    """Count rungs from a trial's start."""
    return 0


class Judged(NamedTuple):
    """A trial's place at a rung.

    Attributes:
        place: one more than there are trials in front of it.
        cutoff: the highest first cost that continues; None if more than that one decides.
        front: the front that it is in, in words; nothing where there is none.
    """

    place: int
    cutoff: float | None
    front: str = ""


Judge = Callable[[Sequence[Costs], Costs, int], Judged]
"""The costs at a rung, ascending, one trial's among them, and how many continue -> that trial's place."""


def by_the_first(costs: Sequence[Costs], mine: Costs, goes_on: int) -> Judged:
    """Judge by the first cost alone."""
    return Judged(bisect_left(costs, mine[0], key=itemgetter(0)) + 1, costs[goes_on - 1][0])


def by_fronts(costs: Sequence[Costs], mine: Costs, goes_on: int) -> Judged:  # noqa: ARG001
    """Judge by both costs: front by front, in each the larger crowding distance first (Deb et al. 2002)."""
    place = places(costs)[bisect_left(costs, mine)]
    return Judged(place.number, None, f"front {place.front}, ")


class NeverStop:
    """A rule that stops no trial."""

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:  # noqa: ARG002
        """Return None: no decision."""
        return None


class Halving:
    """Judges each trial once per rung, against all values that trials reported AT that rung.

    A trial continues if its place is among the best ceil(n / reduction_factor) of the n trials seen at the rung, itself
    included; of equal ones all continue. While a rung has fewer than `min_competitors` values, all trials continue.

    The rule depends only on the order of the epochs: a replay of the log's rows by `seq` restores its state.

    Args:
        rungs: epochs, ascending, counted from the start of a trial's rungs.
        reduction_factor: one in this many trials continues.
        min_competitors: values that a rung needs before a trial is stopped there.
        smoothing: a trial's value is the mean of its last `smoothing` epochs after the start of its rungs.
        start_of: the epoch from which a trial's rungs count.
        metric: what the reports hold. Rungs hold its costs; decisions are in its own unit.
        second: what else the reports hold, if the study has two objectives.
        judge: by which of the costs a trial is judged.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: int,
        min_competitors: int = 1,
        smoothing: int = 1,
        start_of: StartOf = from_the_first_epoch,
        metric: Metric = VAL_ERROR,
        second: Metric | None = None,
        judge: Judge = by_the_first,
    ) -> None:
        self._costs: Mapping[int, list[Costs]] = {rung: [] for rung in rungs}
        self._judged: dict[str, int] = {}
        self._recent: dict[str, deque[tuple[int, Costs]]] = {}
        self._starts: dict[str, int] = {}
        self._reduction_factor = reduction_factor
        self._min_competitors = min_competitors
        self._smoothing = smoothing
        self._start_of = start_of
        self._metric, self._second, self._judge = metric, second, judge

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
        recent.append((epoch, self._costs_of(report)))
        rung = epoch - start
        if rung not in self._costs or rung <= self._judged.get(trial_id, 0):
            return None
        self._judged[trial_id] = rung
        firsts, seconds = zip(*(costs for at, costs in recent if at > start), strict=True)
        return self._decide(report, rung, (fmean(firsts), fmean(seconds)))

    def _costs_of(self, report: Report) -> Costs:
        """Return a report's costs; that of a study's only metric stands twice: its fronts are then its order."""
        first = self._metric.cost(report.value)
        if self._second is None:
            return first, first
        assert report.second is not None  # a trial without it has failed before
        return first, self._second.cost(report.second)

    def _start(self, trial_id: str, point: Mapping[str, Value]) -> int:
        """Return where the trial's rungs start. `start_of` is called once per trial: it may build a configuration."""
        start = self._starts.get(trial_id)
        if start is None:
            start = self._starts[trial_id] = self._start_of(point)
        return start

    def _decide(self, report: Report, rung: int, mine: Costs) -> DecisionRow:
        costs = self._costs[rung]
        insort(costs, mine)
        n = len(costs)
        cutoff, verdict = None, Verdict.CONTINUE
        reason = f"fewer than {self._min_competitors} values"
        if n >= self._min_competitors:
            goes_on = -(-n // self._reduction_factor)
            place, cutoff, front = self._judge(costs, mine, goes_on)
            verdict = Verdict.CONTINUE if place <= goes_on else Verdict.STOP
            reason = f"{front}place {place} of {n}, of which {goes_on} continue"
        return DecisionRow(
            seq=report.seq,
            trial_id=report.trial_id,
            attempt=report.attempt,
            epoch=report.epoch,
            rung=rung,
            value=self._metric.cost(mine[0]),
            cutoff=None if cutoff is None else self._metric.cost(cutoff),
            competitors=n,
            verdict=verdict,
            reason=reason,
        )
