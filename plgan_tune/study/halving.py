"""Asynchronous successive halving (Li et al. 2018) as a replayable rule: epochs in, decisions out. No Ray, no clock."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from plgan_tune.records import DecisionRow, Report, Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a trial's value at a rung came to.

    Attributes:
        rung: epochs, counted from where the rule's rungs are (see `Halving`).
        value: the trial's, a fraction.
        cutoff: the largest value that goes on; None where too few have come.
        competitors: values at the rung, the trial's own among them.
    """

    rung: int
    value: float
    cutoff: float | None
    competitors: int
    verdict: Verdict
    reason: str


class Halving:
    """Judges each trial once a rung, against all values that trials reported AT that rung.

    A trial goes on where its value is among the best ceil(n / reduction_factor) of the n values seen at the rung, its
    own included; of equal values all go on. While fewer than `min_competitors` are there, all go on.

    The rule is a function of the epochs' order alone: told the log's rows by their `seq`, it stands where it stood.

    Args:
        rungs: epochs, ascending.
        reduction_factor: one of this many goes on.
        min_competitors: values at a rung before anyone is stopped there.
        smoothing: a trial's value is the mean of its last so many epochs' errors, none from before its rungs' start.
    """

    def __init__(
        self,
        rungs: Sequence[int],
        reduction_factor: int,
        min_competitors: int = 1,
        smoothing: int = 1,
    ) -> None:
        self._values: Mapping[int, list[float]] = {rung: [] for rung in rungs}
        self._judged: dict[str, int] = {}
        self._recent: dict[str, deque[tuple[int, float]]] = {}
        self._reduction_factor = reduction_factor
        self._min_competitors = min_competitors
        self._smoothing = smoothing

    def report(self, trial_id: str, epoch: int, error: float, start: int = 0) -> Judgement | None:
        """A trial's error after `epoch` epochs; its judgement where that is a rung at which it was not judged yet.

        An epoch that an attempt repeats replaces what the attempt before reported, but is not judged again: a rung
        holds one value a trial.

        Args:
            start: the epoch from which the trial's rungs count.
        """
        recent = self._recent.setdefault(trial_id, deque(maxlen=self._smoothing))
        while recent and recent[-1][0] >= epoch:
            recent.pop()
        recent.append((epoch, error))
        rung = epoch - start
        if rung not in self._values or rung <= self._judged.get(trial_id, 0):
            return None
        self._judged[trial_id] = rung
        return self._judge(rung, fmean(value for at, value in recent if at > start))

    def _judge(self, rung: int, value: float) -> Judgement:
        values = self._values[rung]
        insort(values, value)
        n = len(values)
        if n < self._min_competitors:
            return Judgement(rung, value, None, n, Verdict.CONTINUE, f"fewer than {self._min_competitors} values")
        goes_on = -(-n // self._reduction_factor)
        cutoff = values[goes_on - 1]
        place = bisect_left(values, value) + 1
        verdict = Verdict.CONTINUE if value <= cutoff else Verdict.STOP
        return Judgement(rung, value, cutoff, n, verdict, f"place {place} of {n}, of which {goes_on} go on")


def decision(report: Report, judgement: Judgement) -> DecisionRow:
    """The judgement as the log holds it."""
    return DecisionRow(
        seq=report.seq,
        trial_id=report.trial_id,
        attempt=report.attempt,
        epoch=report.epoch,
        rung=judgement.rung,
        value=judgement.value,
        cutoff=judgement.cutoff,
        competitors=judgement.competitors,
        verdict=judgement.verdict,
        reason=judgement.reason,
    )
