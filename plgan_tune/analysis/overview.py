"""A study at a glance: what was trained, what that cost, what early stopping spared, when the best was found."""

from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plgan_tune.analysis.intervals import Interval, tied, wilson
from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus, Value, Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """The time in which at least one trial trained, as all times of a study are shown: without pauses.

    A pause is any time in which none did: between two starts of a search, but also while a search that trains one
    trial at a time starts the next.

    Attributes:
        first: when the first epoch was reported, UTC; NaT where none was.
        starts, ends: of the stretches without a pause, in seconds after it.
    """

    first: datetime
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]

    @classmethod
    def of(cls, epochs: pd.DataFrame) -> "Clock":
        return cls(epochs["reported_at"].min(), *stretches(epochs))

    @property
    def whole(self) -> float:
        """Seconds, of all epochs."""
        return float((self.ends - self.starts).sum())

    def at(self, seconds: "pd.Series[float]") -> NDArray[np.float64]:
        """Seconds of training by moments that are given in seconds after `first`; NaN where they are."""
        if not len(self.starts):
            return np.full(len(seconds), np.nan)
        until = np.cumsum(self.ends - self.starts)
        moments = np.ravel([self.starts, self.ends], "F")
        trained: NDArray[np.float64] = np.interp(
            seconds, moments, np.ravel([until - (self.ends - self.starts), until], "F")
        )
        return trained

    def by(self, times: "pd.Series[pd.Timestamp]") -> NDArray[np.float64]:
        """Seconds of training by moments, UTC; NaN where a moment is NaT."""
        return self.at((times - self.first).dt.total_seconds())


@dataclass(frozen=True, slots=True)
class Overview:
    """Sums over a study.

    Attributes:
        counts: trials by status, those of none left out.
        epochs: epochs trained, of trials that ended or run.
        epochs_saved: that early stopping spared: what the trials that it stopped lacked to their last epoch.
        time_saved: those epochs at the stopped trials' own pace.
        clock: the study's time.
        images_per_second: median over all epochs, of one trial; None where there is no epoch.
    """

    counts: dict[TrialStatus, int]
    epochs: int
    epochs_saved: int
    time_saved: timedelta
    clock: "Clock" = field(compare=False)
    images_per_second: float | None

    @property
    def trials(self) -> int:
        return sum(self.counts.values())

    @property
    def busy(self) -> timedelta:
        """How long the study took: the time in which at least one trial trained."""
        return timedelta(seconds=float(self.clock.whole))

    @property
    def epochs_per_hour(self) -> float:
        """Of the whole study, while it trained: its throughput."""
        hours = self.busy.total_seconds() / 3600
        return self.epochs / hours if hours else 0.0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A completed trial's place.

    Attributes:
        params: searched path -> value.
        last: val_error at the last epoch, which ranks.
        best: lowest val_error of any epoch, for which luck has been selected.
        interval: 95 %, of `last`, from the number of validation images.
        tied: whether the validation images cannot tell it from the first.
    """

    trial_id: str
    params: dict[str, Value]
    last: float
    best: float
    interval: Interval
    tied: bool


@dataclass(frozen=True, slots=True)
class Found:
    """When the best trial ended: after how much time of training, and as which of the study's trials to end."""

    after: timedelta
    place: int


def overview(study: Study) -> Overview:
    trials = study.trials
    judged = study.decisions["trial_id"][study.decisions["verdict"] == Verdict.STOP]
    # A narrower domain stops trials, too.
    stopped = trials[(trials["status"] == TrialStatus.STOPPED) & trials["trial_id"].isin(judged.astype(str))]
    missing = (study.last_epoch - stopped["epochs"]).clip(lower=0)
    pace = stopped["seconds"] / stopped["epochs"].clip(lower=1)
    speeds = study.epochs["images_per_second"]
    counts = trials["status"].value_counts()
    return Overview(
        counts={status: int(counts[status]) for status in TrialStatus if status in counts.index},
        epochs=int(trials["epochs"].sum()),
        epochs_saved=int(missing.sum()),
        time_saved=timedelta(seconds=float((missing * pace).sum())),
        clock=Clock.of(study.epochs),
        images_per_second=float(speeds.median()) if len(speeds) else None,
    )


def spans(epochs: pd.DataFrame) -> "tuple[pd.Series[float], pd.Series[float]]":
    """When each epoch's training began and ended, in seconds after the first epoch's report.

    An epoch that was saved but not reported when its search died is reported by the next attempt, sooner after the
    trial's epoch before than it took: when it was trained is not known, so it counts as a moment.
    """
    end = (epochs["reported_at"] - epochs["reported_at"].min()).dt.total_seconds()
    since = end - end.groupby(epochs["trial_id"], observed=True).shift()
    return end - epochs["seconds"].where(~(since < epochs["seconds"] / 2), 0.0), end


def stretches(epochs: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The times in which at least one trial trained: starts and ends of the stretches between which none did.

    In seconds after the first epoch's report; the first start lies before it.
    """
    start, end = (times.to_numpy() for times in spans(epochs))
    order = np.argsort(start)
    start, until = start[order], np.maximum.accumulate(end[order])
    breaks = start[1:] > until[:-1]
    return start[np.concatenate([[True], breaks])[: len(start)]], until[np.concatenate([breaks, [True]])[: len(start)]]


def ranking(study: Study, top: int | None = None) -> list[Ranked]:
    """Completed trials, the best first, and how they compare with it; the best `top` of them, default all."""
    rows = study.ranked.head(top) if top is not None else study.ranked
    if rows.empty:
        return []
    images, first = study.validation, float(rows["val_error_last"].iloc[0])
    return [
        Ranked(
            trial_id=row["trial_id"],
            params=study.params(row),
            last=row["val_error_last"],
            best=row["val_error_best"],
            interval=wilson(row["val_error_last"], images),
            tied=tied(row["val_error_last"], first, images),
        )
        for row in rows.to_dict("records")
    ]


def ties(study: Study) -> int:
    """How many completed trials the validation images cannot tell from the best, itself included."""
    errors = study.ranked["val_error_last"].tolist()
    return bisect_left(errors, True, key=lambda error: not tied(error, errors[0], study.validation))


def found(study: Study, clock: Clock) -> Found | None:
    """When the best trial of now was found; None where none has completed.

    Args:
        clock: the study's.
    """
    best = study.ranked.head(1)
    if best.empty:
        return None
    after = float(clock.by(best["ended_at"])[0])
    return Found(timedelta(seconds=after), int((study.trials["ended_at"] <= best["ended_at"].iloc[0]).sum()))
