"""A study's bookkeeping: events in, rows out. It uses no Ray, clock or files, so that a replay can use it too."""

from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import isfinite, nan

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus, Value, Verdict
from plgan_tune.study.front import OnFront, front_of
from plgan_tune.study.history import History, is_too_long
from plgan_tune.study.patience import Patience
from plgan_tune.study.race import Race, Standing
from plgan_tune.study.ranking import rank


class Ending(StrEnum):
    """Why a search ended."""

    DONE = "done"
    OUT_OF_TIME = "out of time"
    OUT_OF_EPOCHS = "out of epochs"
    STOPPED_IMPROVING = "stopped improving"
    INTERRUPTED = "interrupted"


class StudyState:
    """The current row of every trial of a study.

    Each event returns the row that a log should now hold. Readers may be on another thread than the one that reports
    events: they see whole rows, from before or after an event.

    Args:
        study: the study's name.
        trials: how many trials the search makes.
        epochs: epochs of a whole training.
        started_at: UTC.
        deadline: end of this start's time, UTC, not counting the seconds until Tune has started; None means never.
        budget: how many epochs the log may hold, those of earlier starts included; None means no limit.
        trial_hours: hours of training after which a trial is stopped; None means no limit.
        patience: ends the search when it has stopped improving; must not have seen any trial.
        split_hash: hash of the data split, if all trials share it.
        competing: whether trials compete, so that one is the best.
        race: confirms the best trials, if any does.
        metric: what trials are ranked by, and what their rows keep the last and the best value of.
        second: what else the search goes by, and what their rows keep, too; None if it goes by one metric.
        history: rows of earlier starts. An unfinished trial waits until it starts again.

    Attributes:
        silent: trial_id -> the message on a trial that reports nothing.
        race: confirms the best trials; None if nothing does.
        metric: what trials are ranked by.
        second: what else the search goes by; None if it goes by one metric.
        notes: messages on trials' files and points since this start.
    """

    def __init__(
        self,
        study: str,
        *,
        trials: int,
        epochs: int,
        started_at: datetime,
        deadline: datetime | None = None,
        budget: int | None = None,
        trial_hours: float | None = None,
        patience: Patience | None = None,
        history: History = History(),  # noqa: B008 - frozen
        split_hash: str | None = None,
        competing: bool = True,
        race: Race | None = None,
        metric: Metric = VAL_ERROR,
        second: Metric | None = None,
    ) -> None:
        self.study = study
        self.race = race
        self.metric = metric
        self.second = second
        self.competing = competing
        self.split_hash = split_hash
        self.trials = trials
        self.epochs = epochs
        self.started_at = started_at
        self.deadline = deadline
        self.budget = budget
        self._trial_hours = trial_hours
        self._patience = patience
        if patience is not None:
            patience.replay(row for row in history.ended if row.replicate_of is None)
        self.silent: dict[str, str] = {}
        self.notes: list[str] = []
        self._rows: dict[str, TrialRow] = {row.trial_id: row for row in history.ended}
        self._waiting: dict[str, TrialRow] = {row.trial_id: row for row in history.unfinished}
        self._lost: set[str] = set()
        self._curves = {row.trial_id: _course(row, history) for row in history.unfinished}
        self._latest: dict[str, EpochMetrics] = {trial_id: row.metrics for trial_id, row in history.latest.items()}
        self._seq = history.next_seq
        self._already_trained = self.epochs_trained()
        self._training_since: datetime | None = None
        self._has_replicates = any(row.replicate_of is not None for row in history.trials)
        replicates = {row.trial_id for row in history.trials if row.replicate_of is not None}
        self._replicated = sum(report.trial_id in replicates for report in history.reports)
        logged = [row for row in history.decisions if row.verdict is Verdict.DROP]
        self._dropped = {(row.seq, row.trial_id) for row in (*logged, *self._drops())}

    def start(
        self,
        trial_id: str,
        number: int,
        params: Mapping[str, Value],
        seed: int,
        now: datetime,
        *,
        replicate_of: str | None = None,
        replicate: int | None = None,
    ) -> TrialRow:
        """Record that an attempt starts: the trial's first, or another one of a known trial.

        Args:
            trial_id: the study's id, not Ray's.
            number: order of suggestion, from 0.
            params: dotted path of each searched key -> its value.
            seed: `trial.seed`.
            now: UTC.
            replicate_of: the search's trial that this one repeats with a fresh seed, if it does.
            replicate: which fresh seed, from 1.
        """
        self._training_since = self._training_since or now
        self._has_replicates |= replicate_of is not None
        self._lost.discard(trial_id)
        known = self._waiting.pop(trial_id, None) or self._rows.get(trial_id)
        row = (
            replace(known, attempt=known.attempt + 1)
            if known
            else TrialRow(
                seq=self._seq,
                trial_id=trial_id,
                number=number,
                status=TrialStatus.RUNNING,
                attempt=1,
                epochs=0,
                value_last=None,
                value_best=None,
                best_epoch=None,
                params=dict(params),
                seed=seed,
                split_hash=self.split_hash,
                seconds=0.0,
                node=None,
                started_at=now,
                ended_at=None,
                error=None,
                replicate_of=replicate_of,
                replicate=replicate,
            )
        )
        return self._keep(row)

    def epoch(
        self,
        trial_id: str,
        attempt: int,
        metrics: EpochMetrics,
        *,
        reported_at: datetime,
        node: str | None,
        split_hash: str | None,
    ) -> EpochRow:
        """Record that an epoch ended; afterwards `trial(trial_id)` is the trial's new row.

        Raises:
            KeyError: if the trial never started.
        """
        row = self._rows[trial_id]
        seq, self._seq = self._seq, self._seq + 1
        self._replicated += row.replicate_of is not None
        value = metrics.value(self.metric.name)
        better = _is_better(self.metric, value, row.value_best)
        other = None if self.second is None else metrics.value(self.second.name)
        other_better = self.second is not None and _is_better(self.second, other, row.second_best)
        curve = self._curves.get(trial_id, [])[: metrics.epoch - 1]
        self._curves[trial_id] = [*curve, nan if value is None else value]
        self._latest[trial_id] = metrics
        self._keep(
            replace(
                row,
                attempt=attempt,
                epochs=metrics.epoch,
                value_last=value,
                value_best=value if better else row.value_best,
                best_epoch=metrics.epoch if better else row.best_epoch,
                second_last=other,
                second_best=other if other_better else row.second_best,
                split_hash=split_hash,
                seconds=row.seconds + metrics.seconds,
                node=node,
            )
        )
        return EpochRow(seq, trial_id, attempt, metrics, reported_at)

    def lost(self, trial_id: str, error: str) -> TrialRow:
        """Record that an attempt failed and another will follow."""
        self._lost.add(trial_id)
        return self._keep(replace(self._rows[trial_id], error=error))

    def end(self, trial_id: str, status: TrialStatus, now: datetime, error: str | None = None) -> TrialRow:
        """Record that the trial ended; `error` says why if it diverged or failed.

        Raises:
            KeyError: if the trial never started.
        """
        self._curves.pop(trial_id, None)
        self._lost.discard(trial_id)
        row = self._keep(replace(self._rows[trial_id], status=status, ended_at=now, error=error))
        if self._patience is not None and row.replicate_of is None:
            self._patience.take(row)
        return row

    def _keep(self, row: TrialRow) -> TrialRow:
        self.silent.pop(row.trial_id, None)  # any event is a sign of life
        row = self._rows[row.trial_id] = replace(row, seq=self._seq)
        return row

    @property
    def objectives(self) -> tuple[Metric, ...]:
        """What the search goes by: one metric or two."""
        return (self.metric,) if self.second is None else (self.metric, self.second)

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._rows

    def trial(self, trial_id: str) -> TrialRow:
        """Return the trial's current row."""
        return self._rows[trial_id]

    def no_more_come(self, handed_out: Set[str]) -> None:
        """No trial comes but those that have begun or were handed out, though fewer than `trials`."""
        self.trials = min(self.trials, len(self._rows.keys() | self._waiting.keys() | handed_out))

    def one_more_comes(self) -> None:
        """A trial comes that `trials` does not count yet: a replicate."""
        self.trials += 1

    def rows(self) -> tuple[TrialRow, ...]:
        """Return the rows of all trials that started, in the order of their starts."""
        return tuple(self._rows.values())

    def all_rows(self) -> tuple[TrialRow, ...]:
        """Return the rows of all trials, also of those that wait to start again."""
        return (*self._rows.values(), *self._waiting.values())

    def running(self) -> tuple[TrialRow, ...]:
        """Return the rows of running trials."""
        return tuple(row for row in self.rows() if row.status is TrialStatus.RUNNING)

    def idle(self, at_a_time: int) -> int:
        """Return how many of `at_a_time` trials should run but do not: not yet started, or lost and to be restarted."""
        under_way = sum(row.trial_id not in self._lost for row in self.running())
        return max(0, min(at_a_time, self.trials - self.ended()) - under_way)

    def curve(self, trial_id: str) -> tuple[float, ...]:
        """Return the metric's value of each epoch of a running trial so far that has one; empty for one that ended."""
        return tuple(value for value in self._curves.get(trial_id, ()) if isfinite(value))

    def latest(self, trial_id: str) -> EpochMetrics | None:
        """Return the measures of the trial's last epoch; None if it has none."""
        return self._latest.get(trial_id)

    def new_drops(self) -> list[DecisionRow]:
        """Return the race's decisions that no earlier call returned and the log does not hold."""
        new = [row for row in self._drops() if (row.seq, row.trial_id) not in self._dropped]
        self._dropped.update((row.seq, row.trial_id) for row in new)
        return new

    def _drops(self) -> tuple[DecisionRow, ...]:
        if self.race is None or not self._has_replicates:
            return ()
        return self.race.standing(self.all_rows()).decisions

    def counts(self) -> Counter[TrialStatus]:
        """Count trials by status; those that wait to start again count as running, a missing status as 0."""
        return Counter(row.status for row in self.all_rows())

    def best(self) -> TrialRow | None:
        """Return the trial of the best configuration; see `rank`."""
        return next(iter(self.ranked()), None) if self.competing else None

    def ranked(self) -> list[TrialRow]:
        """Return the search's trials, the best configuration first; see `rank`."""
        return rank(self.all_rows(), self.race, self.metric)

    def front(self) -> tuple[OnFront, ...]:
        """Return the front of a search by two metrics, the best of the first one first; empty with one metric."""
        return () if self.second is None or not self.competing else front_of(self.all_rows(), self.metric, self.second)

    def standing(self) -> Standing:
        """Return how the race of the finalists stands, see `Race.latest`; no rounds before the first replicate."""
        if self.race is None or not self._has_replicates:
            return Standing()  # a display asks several times a second, whatever the number of trials
        return self.race.latest(self.all_rows())

    def race_waits(self) -> bool:
        """Return whether the race has a training that has not begun."""
        return self.race is not None and bool(self.race.next_replicates(self.all_rows(), ()))

    def ended(self) -> int:
        """Return how many trials have ended."""
        return sum(row.status is not TrialStatus.RUNNING for row in self.rows())

    def has_trained_for_too_long(self, trial_id: str) -> bool:
        """Whether `search.trial_hours` stops the trial: by the seconds of its epochs in the log, not by a clock."""
        return is_too_long(self._rows[trial_id].seconds, self._trial_hours)

    def over(self) -> Ending | None:
        """Which limit ends the search before all trials have ended; None while none does.

        A function of the log alone: a resume under the same limits ends where its last start did. If a race follows, a
        search that has stopped improving is not over: see `searched_enough`.
        """
        if self.budget is not None and self._seq >= self.budget:
            return Ending.OUT_OF_EPOCHS
        return self.stopped_improving() if self.race is None else None

    def searched_enough(self) -> Ending | None:
        """Which limit lets the search start no more trials of its own, so that the race may begin."""
        most = None if self.race is None else self.race.searched_epochs()
        if most is not None and self._searched() > max(0, most - self.epochs):
            return Ending.OUT_OF_EPOCHS
        return self.stopped_improving()

    def has_room_for_a_trial(self, to_begin: int) -> bool:
        """Return whether the search's share of its epochs holds one more trial if all that train now train to the end.

        If early stopping ends some of them, there may be room later.

        Args:
            to_begin: how many of the search's trials were handed out and have not begun.
        """
        most = None if self.race is None else self.race.searched_epochs()
        if most is None:
            return True
        rest = sum(self.epochs - row.epochs for row in self.all_rows() if _trains_for_the_search(row))
        return self._searched() + rest + to_begin * self.epochs <= max(0, most - self.epochs)

    def _searched(self) -> int:
        """Return the epochs in the log that are not of replicates."""
        return self._seq - self._replicated

    def stopped_improving(self) -> Ending | None:
        """Return `STOPPED_IMPROVING` if `search.patience` says so."""
        is_over = self._patience is not None and self._patience.is_over()
        return Ending.STOPPED_IMPROVING if is_over else None

    def epochs_trained(self) -> int:
        """Return the sum of the trials' epochs."""
        return sum(row.epochs for row in self.all_rows())

    def epochs_saved(self) -> int:
        """Return the epochs that early stopping saved. The row of a trial that was stopped otherwise has an error."""
        stopped = (row for row in self.rows() if row.status is TrialStatus.STOPPED and row.error is None)
        return sum(self.epochs - row.epochs for row in stopped)

    def time_left(self, now: datetime) -> timedelta | None:
        """Estimate the time left: trials to come train for the average epochs of ended ones, at the speed of this run.

        Without an ended trial or an epoch of this run, return the time to the deadline; None without a deadline.
        """
        ended = [row.epochs for row in self.rows() if row.status is not TrialStatus.RUNNING]
        trained = self.epochs_trained() - self._already_trained
        if not ended or trained <= 0 or self._training_since is None:
            return None if self.deadline is None else max(timedelta(), self.deadline - now)
        usual = sum(ended) / len(ended)
        under_way = [row.epochs for row in self.running()]
        to_come = max(0, self.trials - len(ended) - len(under_way))
        epochs_left = usual * to_come + sum(max(0.0, usual - epochs) for epochs in under_way)
        if self.budget is not None:
            epochs_left = min(epochs_left, max(0, self.budget - self._seq))
        left = (now - self._training_since) * (epochs_left / trained)
        return left if self.deadline is None else max(timedelta(), min(left, self.deadline - now))


def _is_better(metric: Metric, value: float | None, best: float | None) -> bool:
    return value is not None and (best is None or metric.cost(value) < metric.cost(best))


def _trains_for_the_search(row: TrialRow) -> bool:
    return row.status is TrialStatus.RUNNING and row.replicate_of is None


def _course(row: TrialRow, history: History) -> list[float]:
    """Return the value of each epoch up to the trial's current one, without later ones of an earlier attempt."""
    curve = history.curves.get(row.trial_id, {})
    return [curve[epoch] for epoch in sorted(curve) if epoch <= row.epochs]
