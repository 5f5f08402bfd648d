"""Importance finds what was planted, at equal epochs."""

import pytest

from plgan_tune.analysis.curves import errors_at_equal_epoch
from plgan_tune.analysis.importance import LEAST, importances
from tests.analysis.conftest import Synthetic


@pytest.mark.parametrize("early_stopping", [True, False])
def test_the_planted_key_leads(synthetic: Synthetic, early_stopping: bool) -> None:
    found = importances(synthetic(400, 40, early_stopping=early_stopping))
    assert found is not None
    assert found.keys[0].path == "loss.alpha"
    shares = {key.path: key for key in found.keys}
    assert sum(key.share for key in found.keys) == pytest.approx(1)
    assert shares["loss.alpha"].interval.low > shares["optim.lr_discriminator"].interval.high
    assert all(0 <= key.interval.low <= key.interval.high <= 1 for key in found.keys)


def test_trials_are_compared_at_one_epoch(synthetic: Synthetic) -> None:
    """Most stop at the first rung, so all are compared there; the diverged count as the worst."""
    study = synthetic(100, 40)
    epoch, errors = errors_at_equal_epoch(study)
    assert epoch == 2
    assert len(errors) == 100
    there = study.epochs[study.epochs["epoch"] == epoch].set_index("trial_id")["val_error"]
    assert (errors.loc[there.index.astype(str)].to_numpy() == there.to_numpy()).all()
    whole = synthetic(100, 40, early_stopping=False)
    epoch, errors = errors_at_equal_epoch(whole)
    assert epoch == 40
    assert (errors == errors.max()).sum() == 2 + 1


def test_too_few_trials_have_none(synthetic: Synthetic) -> None:
    assert importances(synthetic(LEAST - 1, 10)) is None
    assert importances(synthetic(0, 10)) is None


def test_the_same_study_has_the_same_intervals(synthetic: Synthetic) -> None:
    study = synthetic(60, 10)
    assert importances(study, seed=1) == importances(study, seed=1)


def test_fanova_stands_beside(synthetic: Synthetic) -> None:
    found = importances(synthetic(120, 10, early_stopping=False), fanova=True)
    assert found is not None
    by_fanova = {key.path: key.fanova or 0.0 for key in found.keys}
    assert max(by_fanova, key=lambda path: by_fanova[path]) == "loss.alpha"
