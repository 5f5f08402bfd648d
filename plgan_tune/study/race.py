"""Confirms the best trials of a search: a race of its finalists on fresh seeds, as a function of the trials' rows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import ceil, sqrt
from statistics import fmean
from typing import Final

import numpy as np

from plgan_tune.config.study import ConfirmSpec, Point, StudySpec
from plgan_tune.records import DecisionRow, TrialRow, TrialStatus, Verdict

FALSE_DROPS: Final = 0.1
"""The probability that a race of equal configurations drops any of them, over all of its rounds."""

ENOUGH_ROUNDS: Final = 3
"""Rounds that the share should hold; if it does not, fewer finalists take part."""

CONFIDENCE: Final = 0.95
"""Of every interval. Those of differences hold together, for all finalists."""


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
        trial_id: The search's trial at this point. Its own error chose it, so it is not among `errors`.
        errors: Validation error at the last epoch, a fresh seed each: replicate 1, 2, and so on.
        dropped: Why it takes part no longer; None if it stayed to the end.
        difference: From the first point; None if it is the first point, was dropped, or if there is no first point.
    """

    trial_id: str
    errors: tuple[float, ...]
    dropped: str | None = None
    difference: Difference | None = None

    @property
    def mean(self) -> float:
        """Mean error over the fresh seeds."""
        return fmean(self.errors)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's interval of the mean, within [0, 1]; None with a single seed."""
        count = len(self.errors)
        if count < 2:
            return None
        half = _t(CONFIDENCE, 1, count - 1) * float(np.std(self.errors, ddof=1)) / sqrt(count)
        return max(0.0, self.mean - half), min(1.0, self.mean + half)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a race stands.

    Attributes:
        rounds: Rounds that have ended. In each, all that take part train with one more seed.
        places: All that have an error, the best first: those that take part, then the dropped, the latest first.
        active: trial_ids of those that take part.
        first: trial_id of the first point; None if there is none.
        is_over: Whether no further round is of use.
        decisions: One for each that was dropped.
    """

    rounds: int = 0
    places: tuple[Confirmed, ...] = ()
    active: tuple[str, ...] = ()
    first: str | None = None
    is_over: bool = True
    decisions: tuple[DecisionRow, ...] = ()

    @property
    def winner(self) -> Confirmed | None:
        """The configuration of the lowest mean among those that stayed to the end; None before the first round ends."""
        return next((place for place in self.places if place.dropped is None), None)


class Race:
    """Races the search's best trials, and its first point, against each other on fresh seeds.

    Replicate r of every configuration has the same seed, so differences are paired. In round r, each configuration that
    takes part is trained once more, to its last epoch. After a round, a finalist is dropped if its mean is above the
    lowest by more than Tukey's honestly significant difference on the residual of configurations x seeds (Tukey 1949;
    the level of `FALSE_DROPS` is shared by the rounds), or at once if a replicate diverged or failed. The first point
    is never dropped by its error. The race ends when one finalist is left and told apart from the first point, when
    `seeds` rounds are done, or when the next round would exceed `share`.

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
        """Return the epochs of `search.epochs` after which the search starts no more trials of its own."""
        return None if self._budget is None else ceil(self._budget * (1 - self._share))

    def standing(self, rows: Iterable[TrialRow]) -> Standing:
        """Return how the race stands.

        Args:
            rows: All trials of the study.
        """
        runners = self._runners(rows)
        return _Rounds(runners, self._confirm.seeds).standing()

    def next_replicates(self, rows: Sequence[TrialRow], under_way: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
        """Return the trainings that may start now: the search's trial_id and the replicate's number, in their order.

        The next round, and the one after it where a slot would wait, if the share of epochs holds the whole round.

        Args:
            rows: All trials of the study.
            under_way: Replicates that were handed out; they may have no row yet.
        """
        standing = self.standing(rows)
        if standing.is_over:
            return []
        begun = {(row.replicate_of, row.replicate) for row in rows if row.replicate_of is not None} | set(under_way)
        left = self._allowance(rows) - len(begun)
        found: list[tuple[str, int]] = []
        for number in (standing.rounds + 1, standing.rounds + 2):
            round_ = [(trial_id, number) for trial_id in standing.active]
            missing = [one for one in round_ if one not in begun]
            if number > self._confirm.seeds or len(missing) > left:
                break
            found += missing
            left -= len(missing)
        return found

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
        completed = sorted(
            (row.val_error_last, row.number, row)
            for row in own
            if row.status is TrialStatus.COMPLETED and row.val_error_last is not None
        )
        first = next((row for row in sorted(own, key=lambda row: row.number) if self._is_first(row)), None)
        count = self._finalists(self._allowance(rows), first is not None)
        finalists = [row for _, _, row in completed if row is not first][:count]
        replicates: dict[str, dict[int, TrialRow]] = {}
        for row in rows:
            if row.replicate_of is not None and row.replicate is not None and row.status is not TrialStatus.RUNNING:
                replicates.setdefault(row.replicate_of, {})[row.replicate] = row
        return _Runners(
            tuple(finalists),
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

    def _finalists(self, trainings: int, has_first: bool) -> int:
        """Return how many finalists the allowance takes through three rounds; at least one.

        Two rounds hardly tell anything apart (`benchmarks/noise.md`).
        """
        rounds = min(ENOUGH_ROUNDS, self._confirm.seeds)
        return max(1, min(self._confirm.finalists, trainings // rounds - has_first))


@dataclass(frozen=True, slots=True)
class _Runners:
    """Who takes part.

    Attributes:
        finalists: The search's trials of lowest error, best first, without the first point.
        first: The first point's trial, if it takes part.
        replicates: trial_id -> number -> the ended replicate.
        searching: Whether a trial of the search still trains, so that the finalists may change.
    """

    finalists: tuple[TrialRow, ...]
    first: TrialRow | None
    replicates: Mapping[str, Mapping[int, TrialRow]]
    searching: bool

    @property
    def all(self) -> tuple[TrialRow, ...]:
        return self.finalists if self.first is None else (self.first, *self.finalists)


class _Rounds:
    """Works out a race, round after round."""

    def __init__(self, runners: _Runners, seeds: int) -> None:
        self._runners, self._seeds = runners, seeds
        self._active = list(runners.all)
        self._dropped: dict[str, str] = {}
        self._decisions: list[DecisionRow] = []
        self._rounds = 0

    def standing(self) -> Standing:
        is_over = not self._runners.finalists
        while not is_over and not self._runners.searching and self._rounds < self._seeds and self._is_complete():
            self._rounds += 1
            self._drop()
            is_over = self._is_decided()
        return Standing(
            rounds=self._rounds,
            places=self._places(),
            active=tuple(row.trial_id for row in self._active),
            first=self._runners.first.trial_id if self._runners.first else None,
            is_over=is_over or self._rounds == self._seeds,
            decisions=tuple(self._decisions),
        )

    def _is_complete(self) -> bool:
        """Whether all that take part have ended the next round."""
        return all(self._replicate(row, self._rounds + 1) is not None for row in self._active)

    def _replicate(self, row: TrialRow, number: int) -> TrialRow | None:
        return self._runners.replicates.get(row.trial_id, {}).get(number)

    def _error(self, row: TrialRow, number: int) -> float | None:
        replicate = self._replicate(row, number)
        if replicate is None or replicate.status is not TrialStatus.COMPLETED:
            return None
        return replicate.val_error_last

    def _errors(self, row: TrialRow) -> tuple[float, ...]:
        """Return the errors of the replicates up to the first that has none."""
        errors: list[float] = []
        for number in range(1, self._seeds + 1):
            error = self._error(row, number)
            if error is None or number > self._rounds:
                break
            errors.append(error)
        return tuple(errors)

    def _drop(self) -> None:
        """Drop whoever broke down in this round, or is worse than the best by more than the noise."""
        seq = self._seq_of_round()
        for row in [row for row in self._active if self._error(row, self._rounds) is None]:
            replicate = self._replicate(row, self._rounds)
            assert replicate is not None
            self._remove(row, seq, 1.0, None, f"dropped: its replicate {self._rounds} {replicate.status}")
        if self._rounds < 2 or len(self._active) < 2:
            return
        table = np.array([self._errors(row) for row in self._active])
        means = table.mean(axis=1)
        margin = significant_difference(table, FALSE_DROPS / max(1, self._seeds - 1))
        cutoff = float(means.min()) + margin
        worse = [pair for pair in zip(self._active, means.tolist(), strict=True) if pair[1] > cutoff]
        for row, mean in worse:
            if row is not self._runners.first:
                words = f"dropped: its mean over {self._rounds} fresh seeds is above the best by more than {margin:.4f}"
                self._remove(row, seq, mean, min(1.0, cutoff), words)

    def _remove(self, row: TrialRow, seq: int, value: float, cutoff: float | None, reason: str) -> None:
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
                reason=reason,
            )
        )
        self._active.remove(row)
        self._dropped[row.trial_id] = reason

    def _seq_of_round(self) -> int:
        """Return the seq of the last epoch that the round's decisions rest on."""
        ended = [self._replicate(row, self._rounds) for row in self._active]
        return max(0, max(row.seq for row in ended if row is not None) - 1)

    def _is_decided(self) -> bool:
        """Whether one finalist is left and told apart from the first point, or only the first point."""
        first = self._runners.first
        left = [row for row in self._active if row is not first]
        if len(left) != 1 or first not in self._active:
            return len(left) + (first in self._active) <= 1
        difference = self._difference(left[0])
        return difference is not None and (difference.is_better or difference.low > 0)

    def _difference(self, row: TrialRow) -> Difference | None:
        """Return the difference from the first point. The intervals hold together for all finalists of the start."""
        first = self._runners.first
        if first is None or row is first or first not in self._active or row not in self._active or self._rounds < 2:
            return None
        table = np.array([self._errors(one) for one in self._active])
        variance, freedom = residual(table)
        half = _t(CONFIDENCE, len(self._runners.finalists), freedom) * sqrt(2 * variance / self._rounds)
        mean = fmean(self._errors(row)) - fmean(self._errors(first))
        return Difference(mean, max(-1.0, mean - half), min(1.0, mean + half))

    def _places(self) -> tuple[Confirmed, ...]:
        active = [row for row in self._active if self._errors(row)]
        active.sort(key=lambda row: (fmean(self._errors(row)), row.number))
        rows = {row.trial_id: row for row in self._runners.all}
        dropped = [rows[trial_id] for trial_id in reversed(self._dropped) if self._errors(rows[trial_id])]
        places = [
            Confirmed(row.trial_id, self._errors(row), self._dropped.get(row.trial_id)) for row in active + dropped
        ]
        return tuple(
            replace(place, difference=self._difference(rows[place.trial_id])) if place.dropped is None else place
            for place in places
        )


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


def significant_difference(errors: np.ndarray, level: float) -> float:
    """Return Tukey's honestly significant difference of the rows' means (Tukey 1949).

    The range of as many equal means exceeds it with probability `level`.

    Args:
        errors: One row a configuration, one column a seed; at least two of each.
        level: The probability.
    """
    variance, freedom = residual(errors)
    return _range(level, errors.shape[0], freedom) * sqrt(variance / errors.shape[1])


@cache
def _range(level: float, means: int, freedom: int) -> float:
    """Return the quantile of the studentized range that is exceeded with probability `level`."""
    from scipy.stats import studentized_range  # noqa: PLC0415 - half a second, for those whose search confirms

    return float(studentized_range.ppf(1 - level, means, freedom))


@cache
def _t(confidence: float, comparisons: int, freedom: int) -> float:
    """Return Student's two-sided quantile for intervals that hold together (Bonferroni)."""
    from scipy.special import stdtrit  # noqa: PLC0415 - a tenth of a second, for those whose search confirms

    return float(stdtrit(freedom, 1 - (1 - confidence) / (2 * comparisons)))
