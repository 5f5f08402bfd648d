"""A study at a glance: what was trained, what it cost, what early stopping saved, when the best was found."""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plgan_tune.analysis.intervals import Interval, tied, wilson
from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus, Value, Verdict


@dataclass(frozen=True, slots=True)
class Overview:
    """Sums over a study.

    Attributes:
        counts: trials by status, without statuses that no trial has.
        epochs: epochs of all trials.
        epochs_saved: epochs that early stopping saved: those that stopped trials lack to their last.
        time_saved: time of those epochs at the stopped trials' pace.
        busy: time in which at least one trial trained, without the pauses of a resumed study.
        began: start of the first trial, UTC; None if there is none.
        until: the latest end of an epoch or a trial.
        images_per_second: speed of one trial, median over all epochs; None if there is no epoch.
    """

    counts: dict[TrialStatus, int]
    epochs: int
    epochs_saved: int
    time_saved: timedelta
    busy: timedelta
    began: datetime | None
    until: datetime | None
    images_per_second: float | None

    @property
    def trials(self) -> int:
        """Number of trials."""
        return sum(self.counts.values())

    @property
    def took(self) -> timedelta:
        """Time from the first trial's start to the latest event."""
        return self.until - self.began if self.began and self.until else timedelta()

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
        last: val_error at the last epoch, which decides the rank.
        best: lowest val_error of any epoch, which is biased by luck.
        interval: 95 % interval of `last`, from the number of validation images.
        tied: whether the validation images cannot tell the trial from the first.
    """

    trial_id: str
    params: dict[str, Value]
    last: float
    best: float
    interval: Interval
    tied: bool


@dataclass(frozen=True, slots=True)
class Found:
    """When the best trial ended.

    Attributes:
        after: time from the study's start.
        place: its place in the order in which trials ended, from 1.
    """

    after: timedelta
    place: int


def overview(study: Study) -> Overview:
    """Sum up a study."""
    trials = study.trials
    judged = study.decisions["trial_id"][study.decisions["verdict"] == Verdict.STOP]
    # A narrower domain also stops trials.
    stopped = trials[(trials["status"] == TrialStatus.STOPPED) & trials["trial_id"].isin(judged.astype(str))]
    missing = (study.last_epoch - stopped["epochs"]).clip(lower=0)
    pace = stopped["seconds"] / stopped["epochs"].clip(lower=1)
    last = [times.max() for times in (study.epochs["reported_at"], trials["ended_at"]) if times.notna().any()]
    speeds = study.epochs["images_per_second"]
    counts = trials["status"].value_counts()
    starts, ends = stretches(study.epochs)
    return Overview(
        counts={status: int(counts[status]) for status in TrialStatus if status in counts.index},
        epochs=int(trials["epochs"].sum()),
        epochs_saved=int(missing.sum()),
        time_saved=timedelta(seconds=float((missing * pace).sum())),
        busy=timedelta(seconds=float((ends - starts).sum())),
        began=trials["started_at"].min().to_pydatetime() if len(trials) else None,
        until=max(last).to_pydatetime() if last else None,
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
    """Return how many completed trials the validation images cannot tell from the best, which is included."""
    errors = study.ranked["val_error_last"].tolist()
    return bisect_left(errors, True, key=lambda error: not tied(error, errors[0], study.validation))


def found(study: Study) -> Found | None:
    """Return when the current best trial was found; None if none has completed."""
    if study.ranked.empty:
        return None
    best = study.ranked.iloc[0]
    ended = study.trials["ended_at"]
    after: pd.Timedelta = best["ended_at"] - study.trials["started_at"].min()
    return Found(after.to_pytimedelta(), int((ended <= best["ended_at"]).sum()))
