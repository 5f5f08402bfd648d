"""A study at a glance: what was trained, what it cost, what early stopping saved, when the best was found."""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plgan_tune.analysis.intervals import Interval, Noise, noise_of
from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus, Value


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """The time in which at least one trial trained. All times of a study are shown so, without pauses.

    A pause is any time in which no trial trained: between two starts of a search, but also while a search that trains
    one trial at a time starts the next.

    Attributes:
        first: when the first epoch was reported, UTC; NaT if there is none.
        starts, ends: starts and ends of the stretches without a pause, in seconds after `first`.
    """

    first: datetime
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]

    @classmethod
    def of(cls, epochs: pd.DataFrame) -> "Clock":
        """Return the clock of a study's epochs."""
        return cls(epochs["reported_at"].min(), *stretches(epochs))

    @property
    def whole(self) -> float:
        """Seconds of training of the whole study."""
        return float((self.ends - self.starts).sum())

    def at(self, seconds: "pd.Series[float]") -> NDArray[np.float64]:
        """Return the seconds of training until moments in seconds after `first`; NaN where they are NaN."""
        if not len(self.starts):
            return np.full(len(seconds), np.nan)
        until = np.cumsum(self.ends - self.starts)
        moments = np.ravel([self.starts, self.ends], "F")
        trained: NDArray[np.float64] = np.interp(
            seconds, moments, np.ravel([until - (self.ends - self.starts), until], "F")
        )
        return trained

    def by(self, times: "pd.Series[pd.Timestamp]") -> NDArray[np.float64]:
        """Return the seconds of training until moments, UTC; NaN where a moment is NaT."""
        return self.at((times - self.first).dt.total_seconds())


@dataclass(frozen=True, slots=True)
class Overview:
    """Sums over a study.

    Attributes:
        counts: the search's own trials by status, without statuses that no trial has.
        replicates: trainings that confirmed the best of them.
        epochs: epochs of all trials, replicates too.
        epochs_saved: epochs that early stopping saved: those that stopped trials lack to their last.
        time_saved: time of those epochs at the stopped trials' pace.
        clock: the study's time of training.
        images_per_second: speed of one trial, median over all epochs; None if there is no epoch.
    """

    counts: dict[TrialStatus, int]
    replicates: int
    epochs: int
    epochs_saved: int
    time_saved: timedelta
    clock: "Clock" = field(compare=False)
    images_per_second: float | None

    @property
    def trials(self) -> int:
        """Number of the search's own trials."""
        return sum(self.counts.values())

    @property
    def busy(self) -> timedelta:
        """Time in which at least one trial trained, without the pauses of a resumed study."""
        return timedelta(seconds=float(self.clock.whole))

    @property
    def epochs_per_hour(self) -> float:
        """The study's throughput while it trained."""
        hours = self.busy.total_seconds() / 3600
        return self.epochs / hours if hours else 0.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A completed trial's place.

    Attributes:
        params: searched path -> value.
        last: the metric at the last epoch, which decides the rank.
        best: its best value of any epoch, which is biased by luck.
        interval: 95 % interval of `last`; None if its noise is unknown.
        tied: whether the noise leaves open if the trial is worse than the best one.
    """

    trial_id: str
    params: dict[str, Value]
    last: float
    best: float
    interval: Interval | None
    tied: bool


@dataclass(frozen=True, slots=True)
class Found:
    """When the best trial ended.

    Attributes:
        after: time of training from the study's start.
        place: its place in the order in which trials ended, from 1.
    """

    after: timedelta
    place: int


def overview(study: Study) -> Overview:
    """Sum up a study."""
    trials = study.trials
    stopped = trials[study.stopped_early]
    missing = (study.last_epoch - stopped["epochs"]).clip(lower=0)
    pace = stopped["seconds"] / stopped["epochs"].clip(lower=1)
    whole = study.everything
    speeds = whole.epochs["images_per_second"]
    counts = trials["status"].value_counts()
    return Overview(
        counts={status: int(counts[status]) for status in TrialStatus if status in counts.index},
        epochs=int(whole.trials["epochs"].sum()),
        replicates=len(whole.trials) - len(trials),
        epochs_saved=int(missing.sum()),
        time_saved=timedelta(seconds=float((missing * pace).sum())),
        clock=Clock.of(whole.epochs),
        images_per_second=float(speeds.median()) if len(speeds) else None,
    )


def spans(epochs: pd.DataFrame) -> "tuple[pd.Series[float], pd.Series[float]]":
    """Return when each epoch's training began and ended, in seconds after the first epoch's report.

    An epoch that was saved but not reported when its search died is reported by the next attempt, sooner after the
    trial's previous epoch than it took. The time of its training is unknown, so it gets no duration.
    """
    end = (epochs["reported_at"] - epochs["reported_at"].min()).dt.total_seconds()
    since = end - end.groupby(epochs["trial_id"], observed=True).shift()
    return end - epochs["seconds"].where(~(since < epochs["seconds"] / 2), 0.0), end


def stretches(epochs: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return starts and ends of the stretches of time in which at least one trial trained.

    In seconds after the first epoch's report; the first start lies before it.
    """
    start, end = (times.to_numpy() for times in spans(epochs))
    order = np.argsort(start)
    start, until = start[order], np.maximum.accumulate(end[order])
    breaks = start[1:] > until[:-1]
    return start[np.concatenate([[True], breaks])[: len(start)]], until[np.concatenate([breaks, [True]])[: len(start)]]


def ranking(study: Study, top: int | None = None) -> list[Ranked]:
    """Return the best `top` completed trials, default all, the best first, and how they compare with it."""
    rows = study.ranked.head(top) if top is not None else study.ranked
    if rows.empty:
        return []
    noise, first = noise_in(study), study.metric.cost(float(study.metric.cost(study.ranked[study.last]).min()))
    return [
        Ranked(
            trial_id=row["trial_id"],
            params=study.params(row),
            last=row[study.last],
            best=row[study.best],
            interval=noise.interval(row[study.last]),
            tied=noise.tied(row[study.last], first),
        )
        for row in rows.to_dict("records")
    ]


def noise_in(study: Study) -> Noise:
    """Return the noise of a single value of the study's metric."""
    return noise_of(study.metric, study.metric.images(study.validation), study.reach)


def ties(study: Study) -> int:
    """Return how many completed trials the noise of a value leaves open to be the best, which is included."""
    noise, metric = noise_in(study), study.metric
    costs = study.costs[study.trials["status"] == TrialStatus.COMPLETED].dropna().sort_values().tolist()
    return bisect_left(costs, True, key=lambda cost: not noise.tied(metric.cost(cost), metric.cost(costs[0])))


def found(study: Study, clock: Clock) -> Found | None:
    """Return when the current best trial was found; None if none has completed.

    Args:
        study: the study.
        clock: the study's time of training.
    """
    best = study.ranked.head(1)
    if best.empty:
        return None
    after = float(clock.by(best["ended_at"])[0])
    return Found(timedelta(seconds=after), int((study.trials["ended_at"] <= best["ended_at"].iloc[0]).sum()))
