"""Confirms the best trials of a search: a race of its finalists on fresh seeds, as a function of the trials' rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import ceil, sqrt
from statistics import fmean
from typing import Final

import numpy as np

from plgan_tune.config.study import ConfirmSpec, Point, StudySpec
from plgan_tune.records import DecisionRow, TrialRow, TrialStatus, Verdict

CONFIDENCE: Final = 0.95
"""Of every interval. Those of differences hold together, for all finalists of the last round."""

REDUCTION: Final = 3
"""Of the finalists of a round, one in so many goes on."""

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
    """How much higher a configuration's error is than that of the first point, on the same seeds.

    Attributes:
        mean: Mean difference; negative if the configuration is better.
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
        errors: Validation error at the last epoch, a fresh seed each: replicate 1, 2, and so on.
        earlier: How many of `errors`, the first ones, are of rounds before its last. They chose it, as the search's own
            error did, so its mean leaves them out.
        dropped: Why it takes part no longer, like `out after 1 seed`; None if it stayed to the end.
        difference: From the first point; None if it is the first point, was dropped, or if there is no first point.
    """

    trial_id: str
    errors: tuple[float, ...]
    earlier: int = 0
    dropped: str | None = None
    difference: Difference | None = None

    @property
    def judging(self) -> tuple[float, ...]:
        """The errors that have chosen nothing before: those of its last round."""
        return self.errors[self.earlier :]

    @property
    def mean(self) -> float:
        """Mean error over the fresh seeds of its last round."""
        return fmean(self.judging)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean, by the deviation of all fresh seeds; None with a single one."""
        count = len(self.errors)
        if count < 2:
            return None
        half = _t(CONFIDENCE, 1, count - 1) * float(np.std(self.errors, ddof=1)) / sqrt(len(self.judging))
        return max(0.0, self.mean - half), min(1.0, self.mean + half)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a race stands.

    Attributes:
        rounds: Those of the race, the last ones still to come.
        ended: How many of them have ended.
        places: All that have an error, the best first: those that take part, then the dropped, the latest first.
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
    `rounds_of`; a round's seeds are trained to the last epoch. After a round the finalists of lowest mean go on, by
    their fresh seeds and the search's own error. One whose replicate diverged or failed is dropped. The first point
    takes part in every round. What the last round trains has chosen nothing: it alone gives the printed means and the
    differences from the first point.

    `share` decides how many take part: see `rounds_within`.

    Where everything stands is a function of the rows alone, so a resume goes on where the log ends.

    Args:
        confirm: The settings.
        epochs: Epochs of a whole training.
        first: The first of `search.first`, to compare with; None if there is none.
        budget: `search.epochs`.
    """

    def __init__(
        self, confirm: ConfirmSpec, epochs: int, first: Point | None = None, budget: int | None = None
    ) -> None:
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
        return _Course(self._runners(rows)).standing()

    def latest(self, rows: Iterable[TrialRow]) -> Standing:
        """Return how the race stands; until that of an extended search is over, how the one before it ended.

        Args:
            rows: All trials of the study.
        """
        rows = list(rows)
        now = self.standing(rows)
        newest = max((row.number for row in rows if row.replicate_of is None), default=0)
        before = max((row.number for row in rows if row.replicate_of is not None and row.number < newest), default=None)
        if now.is_over or before is None:
            return now
        return self.standing(row for row in rows if row.number <= before)

    def next_replicates(self, rows: Sequence[TrialRow], under_way: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return the trainings that may start now: the search's trial_id and the replicate's number, in their order.

        Those of the next round if the share of epochs holds it whole; then, where a slot would wait, those that the
        first point needs later. While the search still trains, the first point's are the only sure ones, so they come
        first.

        Args:
            rows: All trials of the study.
            under_way: Replicates that were handed out; they may have no row yet.
        """
        runners = self._runners(rows)
        standing = _Course(runners).standing()
        if standing.is_over:
            return []
        begun = {(row.replicate_of, row.replicate) for row in rows if row.replicate_of is not None} | set(under_way)
        left = self._allowance(rows) - len(begun)
        now, last = standing.rounds[standing.ended].seeds, standing.rounds[-1].seeds
        racing = [one for one in standing.active if runners.broken(one, now) is None]
        due = [(one, number) for number in range(1, now + 1) for one in racing if (one, number) not in begun]
        sure = [(one, number) for number in range(1, last + 1) for one in racing if runners.is_sure(one)]
        if len(due) > left:
            return []
        wanted = dict.fromkeys(sure + due if runners.searching else due + sure)
        return [one for one in wanted if one not in begun][:left]

    def goes_on(self, rows: Sequence[TrialRow]) -> bool:
        """Return whether a trial of any kind trains, which may change the race, or a replicate may start."""
        running = any(row.status is TrialStatus.RUNNING for row in rows)
        return running or bool(self.next_replicates(rows, ()))

    def _allowance(self, rows: Iterable[TrialRow]) -> int:
        """Return how many trainings the share of epochs holds."""
        searched = sum(row.epochs for row in rows if row.replicate_of is None)
        if self._budget is not None:
            return min(max(0, self._budget - searched), int(self._budget * self._share)) // self._epochs
        return int(searched * self._share / (1 - self._share)) // self._epochs

    def _runners(self, rows: Iterable[TrialRow]) -> "_Runners":
        rows = list(rows)
        own = [row for row in rows if row.replicate_of is None]
        first = next((row for row in sorted(own, key=lambda row: row.number) if self._is_first(row)), None)
        completed = [
            (row.val_error_last, row.number, row)
            for row in own
            if row.status is TrialStatus.COMPLETED and row.val_error_last is not None and row is not first
        ]
        candidates = [row for _, _, row in sorted(completed, key=lambda entry: entry[:2])]
        rounds = self._rounds(rows, [row.trial_id for row in candidates], first)
        replicates: dict[str, dict[int, TrialRow]] = {}
        for row in rows:
            if row.replicate_of is not None and row.replicate is not None and row.status is not TrialStatus.RUNNING:
                replicates.setdefault(row.replicate_of, {})[row.replicate] = row
        return _Runners(
            rounds,
            tuple(candidates[: rounds[0].finalists]) if rounds else (),
            first,
            replicates,
            searching=any(row.status is TrialStatus.RUNNING for row in own),
        )

    def _is_first(self, row: TrialRow) -> bool:
        return (
            self._first is not None
            and self._first.items() <= row.params.items()
            and row.status in (TrialStatus.COMPLETED, TrialStatus.STOPPED)
        )

    def _rounds(self, rows: Sequence[TrialRow], candidates: Sequence[str], first: TrialRow | None) -> tuple[Round, ...]:
        """Return the rounds that the allowance holds, without what was trained before the search's last trial ended.

        Of that, the race still needs the first point's seeds and the first seeds of those who take part. A function of
        what no replicate of the race changes: the rounds stay as they are while it runs.
        """
        most = min(self._confirm.finalists, len(candidates))
        if most == 0:
            return ()
        allowance, with_first = self._allowance(rows), first is not None
        old = _replicates_before_the_last_search_ended(rows)
        old = [(of, number) for of, number in old if first is None or of != first.trial_id]
        rounds = rounds_within(allowance, most, self._confirm.seeds, with_first)
        while True:
            use = set(candidates[: rounds[0].finalists])
            wasted = sum(number > 1 or of not in use for of, number in old)
            fewer = rounds_within(allowance - wasted, most, self._confirm.seeds, with_first)
            if fewer[0].finalists == rounds[0].finalists:
                return fewer
            rounds = fewer


def trainings(rounds: Iterable[Round], with_first: bool) -> int:
    """Return how many replicates the rounds train, those of the first point included if there is one."""
    steps = pairwise((Round(0, 0), *rounds))
    return sum((now.finalists + with_first) * (now.seeds - before.seeds) for before, now in steps)


@cache
def rounds_within(allowance: int, finalists: int, seeds: int, with_first: bool) -> tuple[Round, ...]:
    """Return the rounds of a race that takes at most so many trainings.

    The most seeds that it holds with at least one finalist fewer; then as many more finalists as it holds.

    Args:
        allowance: Trainings.
        finalists: At most, and at least 1.
        seeds: At most.
        with_first: Whether the first point takes part, too.
    """
    for most in range(min(seeds, max(1, allowance)), 1, -1):
        fewest = min(most - 1, finalists)
        if trainings(rounds_of(fewest, most), with_first) <= allowance:
            counts = range(fewest, finalists + 1)
            affordable = (count for count in counts if trainings(rounds_of(count, most), with_first) <= allowance)
            return rounds_of(max(affordable), most)
    return rounds_of(1, 1)


def _replicates_before_the_last_search_ended(rows: Sequence[TrialRow]) -> list[tuple[str, int]]:
    """Return the replicates that had ended when the search's last trial did: of an earlier race, or early ones."""
    last = max((row.seq for row in rows if row.replicate_of is None), default=0)
    return [
        (row.replicate_of, row.replicate)
        for row in rows
        if row.replicate_of is not None
        and row.replicate is not None
        and row.status is not TrialStatus.RUNNING
        and row.seq < last
    ]


@dataclass(frozen=True, slots=True)
class _Runners:
    """Who takes part.

    Attributes:
        rounds: Those of the race; none if there is no finalist.
        finalists: The search's trials of lowest error, best first, without the first point.
        first: The first point's trial, if it takes part.
        replicates: trial_id -> number -> the ended replicate.
        searching: Whether a trial of the search still trains, so that the finalists may change.
    """

    rounds: tuple[Round, ...]
    finalists: tuple[TrialRow, ...]
    first: TrialRow | None
    replicates: Mapping[str, Mapping[int, TrialRow]]
    searching: bool

    @property
    def all(self) -> tuple[TrialRow, ...]:
        return self.finalists if self.first is None else (self.first, *self.finalists)

    def errors(self, trial_id: str, seeds: int) -> tuple[float, ...]:
        """Return the errors on the seeds from 1 to `seeds`, up to the first that has none."""
        return tuple(self._known(trial_id, seeds))

    def _known(self, trial_id: str, seeds: int) -> Iterator[float]:
        for number in range(1, seeds + 1):
            replicate = self.replicates.get(trial_id, {}).get(number)
            if replicate is None or replicate.status is not TrialStatus.COMPLETED or replicate.val_error_last is None:
                return
            yield replicate.val_error_last

    def broken(self, trial_id: str, seeds: int) -> TrialRow | None:
        """Return the first replicate on the seeds from 1 to `seeds` that diverged or failed."""
        ended = sorted(self._ended(trial_id, seeds), key=lambda row: row.replicate or 0)
        return next((row for row in ended if row.status is not TrialStatus.COMPLETED), None)

    def is_sure(self, trial_id: str) -> bool:
        """Return whether it takes part to the end, whatever comes: the first point, unless it broke down."""
        is_first = self.first is not None and self.first.trial_id == trial_id
        return is_first and self.broken(trial_id, self.rounds[-1].seeds) is None

    def last_seq(self, trial_id: str, seeds: int) -> int:
        """Return the highest seq of the ended replicates on the seeds from 1 to `seeds`."""
        return max(row.seq for row in self._ended(trial_id, seeds))

    def _ended(self, trial_id: str, seeds: int) -> list[TrialRow]:
        return [row for number, row in self.replicates.get(trial_id, {}).items() if number <= seeds]


class _Course:
    """Works out a race, round after round."""

    def __init__(self, runners: _Runners) -> None:
        self._runners = runners
        self._active = list(runners.all)
        self._part = self._active
        """Those who took part in the last round that ended, and did not break down."""
        self._last: dict[str, int] = {}
        """trial_id -> place of the last round that it took part in."""
        self._dropped: dict[str, str] = {}
        self._decisions: list[DecisionRow] = []
        self._ended = 0

    def standing(self) -> Standing:
        rounds = self._runners.rounds
        while self._is_next_complete():
            self._end_round(rounds[self._ended])
        return Standing(
            rounds=rounds,
            ended=self._ended,
            places=self._places(),
            active=tuple(row.trial_id for row in self._active),
            first=self._runners.first.trial_id if self._runners.first else None,
            is_over=self._ended == len(rounds) or not self._finalists(self._active),
            decisions=tuple(self._decisions),
        )

    def _is_next_complete(self) -> bool:
        """Whether all that take part have ended the next round, or broken down in it."""
        if self._runners.searching or self._ended == len(self._runners.rounds) or not self._finalists(self._active):
            return False
        seeds = self._runners.rounds[self._ended].seeds
        return all(
            len(self._runners.errors(row.trial_id, seeds)) == seeds or self._runners.broken(row.trial_id, seeds)
            for row in self._active
        )

    def _end_round(self, ending: Round) -> None:
        """Drop who broke down, then all but the best few if another round follows."""
        self._ended += 1
        seq = max(self._runners.last_seq(row.trial_id, ending.seeds) for row in self._active) - 1
        self._last |= {row.trial_id: self._ended for row in self._active}
        for row in list(self._active):
            if (broken := self._runners.broken(row.trial_id, ending.seeds)) is not None:
                self._drop(row, seq, 1.0, None, f"its replicate {broken.replicate} {broken.status}")
        self._part = list(self._active)
        ranked = sorted(self._finalists(self._active), key=self._choosing)
        if self._ended < len(self._runners.rounds) and ranked:
            go_on = self._runners.rounds[self._ended].finalists
            cutoff = self._choosing(ranked[:go_on][-1])[0]
            for row in ranked[go_on:]:
                self._drop(row, seq, self._choosing(row)[0], cutoff, out_after(ending.seeds))

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
        self._dropped[row.trial_id] = why

    def _finalists(self, rows: Iterable[TrialRow]) -> list[TrialRow]:
        return [row for row in rows if row is not self._runners.first]

    def _choosing(self, row: TrialRow) -> tuple[float, int]:
        """Return what ranks finalists: the mean of the search's own error and those of all fresh seeds so far."""
        errors = [error for error in (row.val_error_last,) if error is not None]
        return fmean([*errors, *self._errors(row)]), row.number

    def _errors(self, row: TrialRow) -> tuple[float, ...]:
        """Return its errors on the fresh seeds, to the end of the last round that it took part in."""
        return self._runners.errors(row.trial_id, self._seeds_after(self._last.get(row.trial_id, 0)))

    def _seeds_after(self, rounds: int) -> int:
        return self._runners.rounds[rounds - 1].seeds if rounds else 0

    def _places(self) -> tuple[Confirmed, ...]:
        if self._ended == 0:
            return ()
        rows = {row.trial_id: row for row in self._runners.all}
        finalists = [self._confirmed(row) for row in sorted(self._finalists(self._active), key=self._choosing)]
        places = [*self._first_among(finalists)]
        dropped = sorted(
            (rows[trial_id] for trial_id in self._dropped if self._errors(rows[trial_id])),
            key=lambda row: (-self._last[row.trial_id], self._choosing(row)),
        )
        return (*places, *map(self._confirmed, dropped))

    def _first_among(self, finalists: Sequence[Confirmed]) -> list[Confirmed]:
        """Put the first point in front of the finalists if its mean is no higher than that of the best, else behind."""
        if self._runners.first not in self._active:
            return list(finalists)
        first = self._confirmed(self._runners.first)
        wins = not finalists or first.mean <= finalists[0].mean
        return [first, *finalists] if wins else [*finalists, first]

    def _confirmed(self, row: TrialRow) -> Confirmed:
        errors = self._errors(row)
        earlier = self._seeds_after(self._last[row.trial_id] - 1)
        return Confirmed(
            trial_id=row.trial_id,
            errors=errors,
            earlier=earlier if earlier < len(errors) else 0,
            dropped=self._dropped.get(row.trial_id),
            difference=self._difference(row),
        )

    def _difference(self, row: TrialRow) -> Difference | None:
        """Return the difference from the first point on the last round's seeds.

        The noise is that of all fresh seeds of those who took part. The intervals hold together for those finalists.
        """
        first = self._runners.first
        if first is None or row is first or first not in self._active or row not in self._active:
            return None
        table = np.array([self._errors(one) for one in self._part])
        seeds = table.shape[1]
        if seeds < 2:
            return None
        variance, freedom = residual(table)
        judging = seeds - self._seeds_after(self._ended - 1)
        half = _t(CONFIDENCE, len(self._part) - 1, freedom) * sqrt(2 * variance / judging)
        mean = fmean(self._errors(row)[-judging:]) - fmean(self._errors(first)[-judging:])
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
    return Race(search.confirm, spec.any_trial().training.epochs, first, search.epochs)


def residual(errors: np.ndarray) -> tuple[float, int]:
    """Return the variance of an error that neither its configuration nor its seed explains, and its freedom.

    Args:
        errors: One row a configuration, one column a seed; at least two of each.
    """
    configurations, seeds = errors.shape
    expected = errors.mean(axis=1, keepdims=True) + errors.mean(axis=0, keepdims=True) - errors.mean()
    freedom = (configurations - 1) * (seeds - 1)
    return float(((errors - expected) ** 2).sum()) / freedom, freedom


@cache
def _t(confidence: float, comparisons: int, freedom: int) -> float:
    """Return Student's two-sided quantile for intervals that hold together (Bonferroni)."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a tenth of a second, for those whose search confirms

    return float(stdtrit(freedom, 1 - (1 - confidence) / (2 * comparisons)))
