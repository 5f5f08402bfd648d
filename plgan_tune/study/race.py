"""Confirms the best trials of a search: a race of its finalists on fresh seeds, as a function of the trials' rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import ceil, nan, sqrt
from statistics import fmean
from typing import Final

import numpy as np

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.config.study import ConfirmSpec, Point, StudySpec
from plgan_tune.records import DecisionRow, TrialRow, TrialStatus, Verdict, about

CONFIDENCE: Final = 0.95
"""Of every interval. Those of differences hold together, for all finalists of the last round."""

REDUCTION: Final = 3
"""Of the finalists of a round, one in so many goes on."""

SURE_SEEDS: Final = 2
"""Seeds that the first point gets in any race of four trainings or more."""

LAST: Final = 2
"""Finalists of the last round, at least: one more choice on many seeds is worth its trainings (benchmarks/noise.md)."""


@dataclass(frozen=True, slots=True)
class Round:
    """A round of a race.

    Attributes:
        finalists: How many take part, the first point aside.
        seeds: Fresh seeds that each has by its end.
    """

    finalists: int
    seeds: int


def rounds_of(finalists: int, seeds: int) -> tuple[Round, ...]:
    """Return the rounds of a race: few seeds for many, then many for few.

    A third goes on after 1 fresh seed, a third of those after 2 more, then after 4 more, and so on. The last two get
    all seeds (successive halving, Karnin et al. 2013, over seeds instead of epochs).

    Args:
        finalists: That begin, at least 1.
        seeds: That the last ones end with, at least 1.
    """
    rounds: list[Round] = []
    count, done, more = finalists, 0, 1
    while count > LAST and done + more < seeds:
        done += more
        rounds.append(Round(count, done))
        count, more = max(LAST, count // REDUCTION), 2 * more
    return (*rounds, Round(count, seeds))


@dataclass(frozen=True, slots=True)
class Difference:
    """How much worse a configuration is than the first point, on the same seeds: the difference of their costs.

    Attributes:
        mean: Mean difference in the metric's unit; negative if the configuration is better.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    low: float
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the interval says that the configuration is better."""
        return self.high < 0


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A configuration and what it came to on fresh seeds.

    Attributes:
        trial_id: The search's trial at this point.
        values: The metric's value at the last epoch, a fresh seed each: replicate 1, 2, and so on.
        earlier: How many of `values`, the first ones, are of rounds before its last. They chose it, as the search's own
            value did, so its mean leaves them out.
        dropped: Why it takes part no longer, like `out after 1 seed`; None if it stayed to the end.
        difference: From the first point; None if it is the first point, was dropped, or if there is no first point.
        metric: What the values are of.
    """

    trial_id: str
    values: tuple[float, ...]
    earlier: int = 0
    dropped: str | None = None
    difference: Difference | None = None
    metric: Metric = VAL_ERROR

    @property
    def judging(self) -> tuple[float, ...]:
        """The values that have chosen nothing before: those of its last round."""
        return self.values[self.earlier :]

    @property
    def mean(self) -> float:
        """Mean value over the fresh seeds of its last round."""
        return fmean(self.judging)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean, by the deviation of all fresh seeds; None with a single one.

        What of it lies beyond the metric's own bounds is cut off.
        """
        count = len(self.values)
        if count < 2:
            return None
        half = _t(CONFIDENCE, 1, count - 1) * float(np.std(self.values, ddof=1)) / sqrt(len(self.judging))
        least, most = about(self.metric.name)["least"], about(self.metric.name)["most"]
        low, high = self.mean - half, self.mean + half
        return low if least is None else max(float(least), low), high if most is None else min(float(most), high)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a race stands.

    Attributes:
        rounds: Those of the race, the last ones still to come.
        ended: How many of them have ended.
        places: All that have a value, the best first: those that take part, then the dropped, the latest first.
        active: trial_ids of those that take part.
        first: trial_id of the first point; None if there is none.
        is_over: Whether no further round comes.
        decisions: One for each that was dropped.
    """

    rounds: tuple[Round, ...] = ()
    ended: int = 0
    places: tuple[Confirmed, ...] = ()
    active: tuple[str, ...] = ()
    first: str | None = None
    is_over: bool = True
    decisions: tuple[DecisionRow, ...] = ()

    @property
    def winner(self) -> Confirmed | None:
        """The best of those that stayed to the end; None before the first round ends."""
        return next((place for place in self.places if place.dropped is None), None)


class Race:
    """Races the search's best trials, and its first point, against each other on fresh seeds.

    Replicate r of every configuration has the same seed, so differences are paired. The rounds are those of
    `rounds_of`; a round's seeds are trained to the last epoch. After a round the finalists of best mean go on, by
    their fresh seeds and the search's own value. One whose replicate diverged or failed is dropped. The first point
    takes part in every round. What the last round trains has brought nobody into it: it alone gives the printed means
    and the differences from the first point.

    `share` decides how many take part: see `plans_within`.

    Where everything stands is a function of the rows alone, so a resume goes on where the log ends.

    Args:
        confirm: The settings.
        epochs: Epochs of a whole training.
        first: The first of `search.first`, to compare with; None if there is none.
        budget: `search.epochs`.
        metric: What the trials are ranked by.
    """

    def __init__(
        self,
        confirm: ConfirmSpec,
        epochs: int,
        first: Point | None = None,
        budget: int | None = None,
        metric: Metric = VAL_ERROR,
    ) -> None:
        self._metric = metric
        self._confirm, self._epochs, self._first, self._budget = confirm, epochs, first, budget
        self._share = Fraction(str(confirm.share))  # 0.7 of 1,000 epochs are 700, which they are not as floats

    def most_trainings(self, trials: int) -> int:
        """Return how many replicates there are at most: each of the search's trials may be a finalist for a time."""
        return self._confirm.seeds * trials

    def searched_epochs(self) -> int | None:
        """Return the epochs of `search.epochs` after which the search starts no more trials of its own.

        The rest is the race's share, or less if the largest race takes less.
        """
        if self._budget is None:
            return None
        largest = trainings(rounds_of(self._confirm.finalists, self._confirm.seeds), self._first is not None)
        return ceil(self._budget - min(self._budget * self._share, Fraction(largest * self._epochs)))

    def standing(self, rows: Iterable[TrialRow]) -> Standing:
        """Return how the race stands.

        Args:
            rows: All trials of the study.
        """
        return self._course(list(rows)).standing()

    def latest(self, rows: Iterable[TrialRow]) -> Standing:
        """Return how the race stands; until that of an extended or changed search is over, how the last one ended.

        Args:
            rows: All trials of the study.
        """
        rows = list(rows)
        now = self.standing(rows)
        if now.rounds and now.is_over:
            return now
        before = [standing for cut in _before_extensions(rows) if (standing := self._ended(cut)) is not None]
        if before:  # one that was broken off has fewer seeds
            return max(before, key=lambda standing: standing.rounds[-1].seeds)
        goes_on = self.goes_on(rows)
        if now.ended and goes_on:
            return now
        ended = self._ended(rows)
        if ended is None or (ended.rounds[-1].seeds == 1 and goes_on):
            return now
        return ended

    def next_replicates(self, rows: Sequence[TrialRow], under_way: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return the trainings that may start now: the search's trial_id and the replicate's number, in their order.

        Those of the next round if the share of epochs holds it whole; then, where a slot would wait, those that the
        first point needs later. While the search still trains, only what the race needs in any case: the first point's
        first two seeds.

        Args:
            rows: All trials of the study.
            under_way: Replicates that were handed out; they may have no row yet.
        """
        course = self._course(rows)
        standing = course.standing()
        if standing.is_over:
            return []
        begun = course.field.begun | set(under_way)
        left = self._allowance(rows) - len(begun)
        now, last = standing.rounds[standing.ended].seeds, standing.rounds[-1].seeds
        if course.field.searching:
            return [one for one in course.field.sure(min(last, SURE_SEEDS)) if one not in begun][: max(0, left)]
        due = [one for one in course.due(now) if one not in begun]
        if len(due) > left:
            return []
        later = [one for one in course.field.sure(last) if standing.first in standing.active and one not in begun]
        return list(dict.fromkeys(due + later))[:left]

    def may_win(self, rows: Sequence[TrialRow]) -> set[str]:
        """Return the trial_ids of those that may still win while the study goes on."""
        course = self._course(rows)
        standing = course.standing()
        if standing.ended:
            return set(standing.active)
        first = [] if course.field.first is None else [course.field.first]
        return {row.trial_id for row in (*first, *course.field.candidates[: self._confirm.finalists])}

    def goes_on(self, rows: Sequence[TrialRow]) -> bool:
        """Return whether a trial of any kind trains, which may change the race, or a replicate may start."""
        running = any(row.status is TrialStatus.RUNNING for row in rows)
        return running or bool(self.next_replicates(rows, ()))

    def _course(self, rows: Sequence[TrialRow]) -> "_Course":
        """Return the race by the first of the plans that the share holds, beside what earlier races have wasted.

        No replicate of the race itself changes the plan: it stays as it is once the search has ended.
        """
        field, allowance = self._field(rows), self._allowance(rows)
        most = min(self._confirm.finalists, len(field.candidates))
        for rounds in plans_within(allowance, most, self._confirm.seeds, field.first is not None):
            if trainings(rounds, field.first is not None) + field.wasted(rounds) <= allowance:
                return _Course(rounds, field)
        return _Course((), field)

    def _ended(self, rows: Sequence[TrialRow]) -> Standing | None:
        """Return how a race has ended that these rows hold, whatever its settings; None if they hold none."""
        field = self._field(rows)
        seeds = max((number for _, number in field.begun), default=0)
        finalists = min(len({trial_id for trial_id, _ in field.begun}), len(field.candidates))
        for most in range(seeds, 0, -1):
            for count in range(finalists, 0, -1):
                standing = _Course(rounds_of(count, most), field).standing()
                if standing.ended == len(standing.rounds):
                    return standing
        return None

    def _allowance(self, rows: Iterable[TrialRow]) -> int:
        """Return how many trainings the share of epochs holds."""
        searched = sum(row.epochs for row in rows if row.replicate_of is None)
        if self._budget is not None:
            return min(max(0, self._budget - searched), int(self._budget * self._share)) // self._epochs
        return int(searched * self._share / (1 - self._share)) // self._epochs

    def _field(self, rows: Sequence[TrialRow]) -> "_Field":
        own = [row for row in rows if row.replicate_of is None]
        first = next((row for row in sorted(own, key=lambda row: row.number) if self._is_first(row)), None)
        completed = [
            (self._metric.cost(row.value_last), row.number, row)
            for row in own
            if row.status is TrialStatus.COMPLETED and row.value_last is not None and row is not first
        ]
        newest = max((row.number for row in own), default=0)
        begun: set[tuple[str, int]] = set()
        earlier: set[tuple[str, int]] = set()
        ended: dict[str, dict[int, TrialRow]] = {}
        for row in rows:
            if row.replicate_of is not None and row.replicate is not None:
                begun.add((row.replicate_of, row.replicate))
                if row.number < newest:
                    earlier.add((row.replicate_of, row.replicate))
                if row.status is not TrialStatus.RUNNING:
                    ended.setdefault(row.replicate_of, {})[row.replicate] = row
        return _Field(
            candidates=tuple(row for _, _, row in sorted(completed, key=lambda entry: entry[:2])),
            first=first,
            ended=ended,
            begun=begun,
            earlier=earlier,
            searching=any(row.status is TrialStatus.RUNNING for row in own),
            metric=self._metric,
        )

    def _is_first(self, row: TrialRow) -> bool:
        return (
            self._first is not None
            and self._first.items() <= row.params.items()
            and row.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
        )


def _before_extensions(rows: Sequence[TrialRow]) -> Iterator[list[TrialRow]]:
    """Yield the rows up to the last replicate before further trials of the search, the latest such moment first."""
    own = [row.number for row in rows if row.replicate_of is None]
    replicates = [row.number for row in rows if row.replicate_of is not None]
    ends = {max((number for number in replicates if number < one), default=-1) for one in own} - {-1}
    for end in sorted(ends, reverse=True):
        yield [row for row in rows if row.number <= end]


def trainings(rounds: Iterable[Round], with_first: bool) -> int:
    """Return how many replicates the rounds train, those of the first point included if there is one."""
    steps = pairwise((Round(0, 0), *rounds))
    return sum((now.finalists + with_first) * (now.seeds - before.seeds) for before, now in steps)


def plans_within(allowance: int, finalists: int, seeds: int, with_first: bool) -> Iterator[tuple[Round, ...]]:
    """Yield the races that take at most so many trainings, the preferred first.

    First the most seeds, as long as there is at most one finalist fewer than seeds; then the most finalists.

    Args:
        allowance: Trainings.
        finalists: At most.
        seeds: At most.
        with_first: Whether the first point takes part, too.
    """
    for most in range(min(seeds, allowance), 1, -1):
        fewest = min(most - 1, finalists)
        if fewest and trainings(rounds_of(fewest, most), with_first) <= allowance:
            for count in range(min(finalists, allowance), fewest - 1, -1):
                rounds = rounds_of(count, most)
                if trainings(rounds, with_first) <= allowance:
                    yield rounds
    if finalists and trainings(rounds_of(1, 1), with_first) <= allowance:
        yield rounds_of(1, 1)


@dataclass(frozen=True, slots=True)
class _Field:
    """Who may take part, and what they have trained.

    Attributes:
        candidates: The search's completed trials, the best value first, without the first point.
        first: The first point's trial, if it takes part.
        ended: trial_id -> number -> the ended replicate.
        begun: trial_id and number of every replicate.
        earlier: Those that were handed out before the search's last trial was.
        searching: Whether a trial of the search still trains, so that the candidates may change.
        metric: What they are ranked by.
    """

    candidates: tuple[TrialRow, ...]
    first: TrialRow | None
    ended: Mapping[str, Mapping[int, TrialRow]]
    begun: Set[tuple[str, int]]
    earlier: Set[tuple[str, int]]
    searching: bool
    metric: Metric

    def wasted(self, rounds: Sequence[Round]) -> int:
        """Return how many of the earlier replicates such a race may not need.

        It needs the first point's, and the first seeds of those who begin.
        """
        begin = {row.trial_id for row in self.candidates[: rounds[0].finalists]}
        needed = {(trial_id, 1) for trial_id in begin}
        if self.first is not None:
            needed |= {(self.first.trial_id, number) for number in range(1, rounds[-1].seeds + 1)}
        return len(self.earlier - needed)

    def values(self, trial_id: str, seeds: int) -> tuple[float, ...]:
        """Return the values on the seeds from 1 to `seeds`, up to the first that has none."""
        return tuple(self._known(trial_id, seeds))

    def _known(self, trial_id: str, seeds: int) -> Iterator[float]:
        for number in range(1, seeds + 1):
            replicate = self.ended.get(trial_id, {}).get(number)
            if replicate is None or replicate.status is not TrialStatus.COMPLETED or replicate.value_last is None:
                return
            yield replicate.value_last

    def broken(self, trial_id: str, seeds: int) -> TrialRow | None:
        """Return the first replicate on the seeds from 1 to `seeds` that did not complete."""
        ended = self.ended.get(trial_id, {})
        numbers = sorted(number for number in ended if number <= seeds)
        return next((ended[one] for one in numbers if ended[one].status is not TrialStatus.COMPLETED), None)

    def needed(self, trial_id: str, seeds: int) -> int:
        """Return the last seed that tells what it comes to: `seeds`, or that of its first broken replicate."""
        broken = self.broken(trial_id, seeds)
        return seeds if broken is None or broken.replicate is None else broken.replicate

    def has_ended(self, trial_id: str, seeds: int) -> bool:
        """Return whether all replicates have ended that tell what it comes to."""
        ended = self.ended.get(trial_id, {})
        return all(number in ended for number in range(1, self.needed(trial_id, seeds) + 1))

    def last_seq(self, trial_id: str, seeds: int) -> int:
        """Return the highest seq of those replicates."""
        return max(self.ended[trial_id][number].seq for number in range(1, self.needed(trial_id, seeds) + 1))

    def sure(self, seeds: int) -> list[tuple[str, int]]:
        """Return the first point's replicates up to `seeds`: it takes part to the end, unless it broke down."""
        if self.first is None or self.broken(self.first.trial_id, seeds) is not None:
            return []
        return [(self.first.trial_id, number) for number in range(1, seeds + 1)]


class _Course:
    """Works out a race, round after round.

    Attributes:
        field: Who may take part, and what they have trained.
    """

    def __init__(self, rounds: tuple[Round, ...], field: _Field) -> None:
        self.field, self._rounds = field, rounds
        first = () if field.first is None else (field.first,)
        self._active = [*first, *field.candidates[: rounds[0].finalists]] if rounds else list(first)
        self._part = self._active
        """Those who took part in the last round that ended, and did not break down."""
        self._last: dict[str, int] = {}
        """trial_id -> place of the last round that it took part in."""
        self._dropped: dict[str, tuple[TrialRow, str]] = {}
        self._decisions: list[DecisionRow] = []
        self._ended = 0
        while self._is_next_complete():
            self._end_round(rounds[self._ended])

    def standing(self) -> Standing:
        return Standing(
            rounds=self._rounds,
            ended=self._ended,
            places=self._places(),
            active=tuple(row.trial_id for row in self._active),
            first=self.field.first.trial_id if self.field.first else None,
            is_over=self._ended == len(self._rounds) or not self._finalists(self._active),
            decisions=tuple(self._decisions),
        )

    def due(self, seeds: int) -> list[tuple[str, int]]:
        """Return the replicates that a round to `seeds` takes, seed by seed."""
        last = {row.trial_id: self.field.needed(row.trial_id, seeds) for row in self._active}
        return [(one, number) for number in range(1, seeds + 1) for one in last if number <= last[one]]

    def _is_next_complete(self) -> bool:
        """Whether all that take part have ended the next round, or broken down in it."""
        if self.field.searching or self._ended == len(self._rounds) or not self._finalists(self._active):
            return False
        seeds = self._rounds[self._ended].seeds
        return all(self.field.has_ended(row.trial_id, seeds) for row in self._active)

    def _end_round(self, ending: Round) -> None:
        """Drop who broke down, then all but the best few if another round follows."""
        self._ended += 1
        seq = max(self.field.last_seq(row.trial_id, ending.seeds) for row in self._active) - 1
        self._last |= {row.trial_id: self._ended for row in self._active}
        for row in list(self._active):
            if (broken := self.field.broken(row.trial_id, ending.seeds)) is not None:
                self._drop(row, seq, self._worst(row), None, f"its replicate {broken.replicate} {broken.status}")
        self._part = list(self._active)
        ranked = sorted(self._finalists(self._active), key=self._choosing)
        if self._ended < len(self._rounds) and ranked:
            go_on = self._rounds[self._ended].finalists
            cutoff = self._mean(ranked[:go_on][-1])
            for row in ranked[go_on:]:
                self._drop(row, seq, self._mean(row), cutoff, out_after(ending.seeds))

    def _drop(self, row: TrialRow, seq: int, value: float, cutoff: float | None, why: str) -> None:
        self._decisions.append(
            DecisionRow(
                seq=seq,
                trial_id=row.trial_id,
                attempt=row.attempt,
                epoch=max(1, row.epochs),
                rung=row.epochs,
                value=value,
                cutoff=cutoff,
                competitors=len(self._active),
                verdict=Verdict.DROP,
                reason=f"dropped: {why}",
            )
        )
        self._active.remove(row)
        self._dropped[row.trial_id] = row, why

    def _finalists(self, rows: Iterable[TrialRow]) -> list[TrialRow]:
        return [row for row in rows if row is not self.field.first]

    def _choosing(self, row: TrialRow) -> tuple[float, int]:
        """Return what ranks finalists: their mean, and their number where it is equal."""
        return self.field.metric.cost(self._mean(row)), row.number

    def _mean(self, row: TrialRow) -> float:
        """Return the mean of the search's own value and those of all fresh seeds so far."""
        values = [value for value in (row.value_last,) if value is not None]
        values += self._values(row)
        return fmean(values) if values else nan

    def _worst(self, row: TrialRow) -> float:
        """Return what a configuration comes to that broke down: the metric's worst, or its mean where there is none."""
        worst = self.field.metric.worst
        return self._mean(row) if worst is None else worst

    def _values(self, row: TrialRow) -> tuple[float, ...]:
        """Return its values on the fresh seeds, to the end of the last round that it took part in."""
        return self.field.values(row.trial_id, self._seeds_after(self._last.get(row.trial_id, 0)))

    def _seeds_after(self, rounds: int) -> int:
        return self._rounds[rounds - 1].seeds if rounds else 0

    def _places(self) -> tuple[Confirmed, ...]:
        if self._ended == 0:
            return ()
        finalists = [self._confirmed(row) for row in sorted(self._finalists(self._active), key=self._choosing)]
        dropped = sorted(
            (row for row, _ in self._dropped.values() if self._values(row)),
            key=lambda row: (-self._last[row.trial_id], self._choosing(row)),
        )
        return (*self._with_first(finalists), *map(self._confirmed, dropped))

    def _with_first(self, finalists: Sequence[Confirmed]) -> list[Confirmed]:
        """Put the first point behind the finalists whose mean is better, and in front of the others."""
        first = self.field.first
        if first is None or first not in self._active:
            return list(finalists)
        place, cost = self._confirmed(first), self.field.metric.cost
        better = [one for one in finalists if cost(one.mean) < cost(place.mean)]
        return [*better, place, *(one for one in finalists if one not in better)]

    def _confirmed(self, row: TrialRow) -> Confirmed:
        values = self._values(row)
        earlier = self._seeds_after(self._last[row.trial_id] - 1)
        return Confirmed(
            trial_id=row.trial_id,
            values=values,
            earlier=earlier if earlier < len(values) else 0,
            dropped=self._dropped[row.trial_id][1] if row.trial_id in self._dropped else None,
            difference=self._difference(row),
            metric=self.field.metric,
        )

    def _difference(self, row: TrialRow) -> Difference | None:
        """Return the difference from the first point on the last round's seeds.

        The noise is that of all fresh seeds of those who took part. The intervals hold together for those finalists.
        """
        first = self.field.first
        if first is None or row is first or first not in self._active or row not in self._active:
            return None
        table = np.array([self._values(one) for one in self._part])
        seeds = table.shape[1]
        if seeds < 2:
            return None
        variance, freedom = residual(table)
        judging = seeds - self._seeds_after(self._ended - 1)
        half = _t(CONFIDENCE, len(self._part) - 1, freedom) * sqrt(2 * variance / judging)
        mean = self.field.metric.cost(fmean(self._values(row)[-judging:]) - fmean(self._values(first)[-judging:]))
        if not self.field.metric.is_share:
            return Difference(mean, mean - half, mean + half)
        return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half))


def out_after(seeds: int) -> str:
    """Return why a configuration is dropped that has so many seeds when the better ones go on."""
    return f"out after {seeds} seed{'s' * (seeds > 1)}"


def race_of(spec: StudySpec) -> Race | None:
    """Return the race of `search.confirm`; None if nothing is confirmed."""
    search = spec.search
    if search.confirm is None:
        return None
    first = search.first[0] if search.first else None
    return Race(search.confirm, spec.any_trial().training.epochs, first, search.epochs, spec.metric)


def residual(values: np.ndarray) -> tuple[float, int]:
    """Return the variance of a value that neither its configuration nor its seed explains, and its freedom.

    Args:
        values: One row a configuration, one column a seed; at least two of each.
    """
    configurations, seeds = values.shape
    expected = values.mean(axis=1, keepdims=True) + values.mean(axis=0, keepdims=True) - values.mean()
    freedom = (configurations - 1) * (seeds - 1)
    return float(((values - expected) ** 2).sum()) / freedom, freedom


@cache
def _t(confidence: float, comparisons: int, freedom: int) -> float:
    """Return Student's two-sided quantile for intervals that hold together (Bonferroni)."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a tenth of a second, for those whose search confirms

    return float(stdtrit(freedom, 1 - (1 - confidence) / (2 * comparisons)))
