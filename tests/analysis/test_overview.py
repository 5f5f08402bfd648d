"""A study at a glance, and its ranking."""

import numpy as np
import pytest

from plgan_tune.analysis.overview import best_so_far, found, overview, ranking, ties
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
    assert sums.epochs_per_hour == pytest.approx(3600 * sums.epochs / sums.took.total_seconds())


def test_without_early_stopping_nothing_is_saved(synthetic: Synthetic) -> None:
    sums = overview(synthetic(60, 20, early_stopping=False))
    assert (sums.epochs_saved, set(sums.counts)) == (0, {TrialStatus.COMPLETED, TrialStatus.DIVERGED})


def test_a_study_without_a_trial(synthetic: Synthetic) -> None:
    study = synthetic(0, 20)
    assert overview(study).trials == 0
    assert ranking(study) == []
    assert found(study) is None
    assert best_so_far(study).empty


def test_the_best_so_far_falls_to_the_best(synthetic: Synthetic) -> None:
    study = synthetic(200, 20, early_stopping=False)
    steps = best_so_far(study)
    assert (np.diff(steps["val_error"]) < 0).all()
    assert (np.diff(steps["epochs"]) >= 0).all()
    assert steps["val_error"].iloc[-1] == study.ranked["val_error_last"].iloc[0] == ranking(study)[0].last
    assert steps["trial_id"].iloc[0] == study.ranked.sort_values("ended_at")["trial_id"].iloc[0]


def test_ties_are_those_that_the_images_cannot_tell_apart(synthetic: Synthetic) -> None:
    study = synthetic(200, 20, early_stopping=False)
    ranked = ranking(study)
    assert ranked[0].tied
    marks = [row.tied for row in ranked]
    assert marks == sorted(marks, reverse=True)
    assert ties(study) == sum(marks)
    assert ranking(study, 3) == ranked[:3]
    assert not ranked[-1].tied
    assert all(row.interval.low <= row.last <= row.interval.high for row in ranked)
    assert all(row.best <= row.last for row in ranked)
