"""A study at a glance, and its ranking."""

import re
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from plgan_tune.analysis.overview import found, overview, ranking, ties
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.terminal import comparison, view
from plgan_tune.console.format import duration
from plgan_tune.records import TrialStatus
from tests.analysis.conftest import Synthetic


def test_sums(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    sums = overview(study)
    assert sums.trials == 60
    assert sums.epochs == len(study.epochs)
    stopped = study.trials[study.trials["status"] == TrialStatus.STOPPED]
    assert sums.epochs_saved == 20 * len(stopped) - stopped["epochs"].sum()
    assert sums.time_saved.total_seconds() == sums.epochs_saved  # a second each
    assert sums.epochs_per_hour == pytest.approx(3600 * sums.epochs / sums.busy.total_seconds())


def test_without_early_stopping_nothing_is_saved(synthetic: Synthetic) -> None:
    sums = overview(synthetic(60, 20, early_stopping=False))
    assert (sums.epochs_saved, set(sums.counts)) == (0, {TrialStatus.COMPLETED, TrialStatus.DIVERGED})


def test_only_early_stopping_saves(synthetic: Synthetic) -> None:
    """A time limit, or a domain that a resume has made narrower, stops trials as well."""
    study = synthetic(60, 20, early_stopping=False)
    late = study.trials.index >= 50
    trials = study.trials.assign(
        status=study.trials["status"].mask(late, "stopped"), epochs=study.trials["epochs"].mask(late, 3)
    )
    sums = overview(replace(study, trials=trials))
    assert (sums.epochs_saved, sums.time_saved) == (0, timedelta())
    early = synthetic(60, 20)
    before = overview(early)
    completed = early.trials["status"] == TrialStatus.COMPLETED
    ended = early.trials.assign(status=early.trials["status"].mask(completed, "stopped"), epochs=3)
    spared = ended[~completed & (ended["status"] == TrialStatus.STOPPED)]
    assert overview(replace(early, trials=ended)).epochs_saved == 17 * len(spared) > 0
    assert before.epochs_saved > 0


def test_a_pause_is_no_time_of_the_study(synthetic: Synthetic) -> None:
    """The same study, resumed a week later after its first ten seconds, in which the best trial had not ended."""
    study = synthetic(60, 20, early_stopping=False)
    week = pd.Timedelta(days=7)
    middle = study.trials["started_at"].min() + pd.Timedelta(seconds=10)
    resumed = replace(
        study,
        epochs=study.epochs.assign(reported_at=_later(study.epochs["reported_at"], middle, week)),
        trials=study.trials.assign(ended_at=_later(study.trials["ended_at"], middle, week)),
    )
    before, after = overview(study), overview(resumed)
    assert after.busy == before.busy
    assert after.epochs_per_hour == before.epochs_per_hour
    assert study.ranked["ended_at"].iloc[0] > middle
    assert found(resumed, after.clock) == found(study, before.clock)
    for shown in (view(resumed, 5), comparison([resumed, resumed])):
        screen = Console(file=StringIO(), width=200)
        screen.print(shown)
        said = screen.file.getvalue()  # type: ignore[attr-defined]
        assert duration(before.busy) in said
        assert not re.search(r"\d d\b", said)
    assert f"<dd>{duration(before.busy)}</dd>" in report_html(resumed)


def _later(times: "pd.Series[Any]", since: Any, by: pd.Timedelta) -> "pd.Series[Any]":
    return times.mask(times > since, times + by)


def test_a_study_without_a_trial(synthetic: Synthetic) -> None:
    study = synthetic(0, 20)
    assert overview(study).trials == 0
    assert ranking(study) == []
    assert found(study, overview(study).clock) is None


def test_ties_are_those_that_the_images_cannot_tell_apart(synthetic: Synthetic) -> None:
    study = synthetic(200, 20, early_stopping=False)
    ranked = ranking(study)
    assert ranked[0].tied
    marks = [row.tied for row in ranked]
    assert marks == sorted(marks, reverse=True)
    assert ties(study) == sum(marks)
    assert ranking(study, 3) == ranked[:3]
    assert not ranked[-1].tied
    assert all(row.interval and row.interval.low <= row.last <= row.interval.high for row in ranked)
    assert all(row.best <= row.last for row in ranked)


def test_when_the_best_was_found(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    best = study.ranked.iloc[0]
    when = found(study, overview(study).clock)
    assert when is not None
    assert when.after == best["ended_at"] - study.trials["started_at"].min() > timedelta()  # of a study without a pause
    assert when.place == (study.trials["ended_at"] <= best["ended_at"]).sum() > 1
