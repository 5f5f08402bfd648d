"""What controls say of early stopping: without bias, and a bound that holds as often as it says."""

import random
from dataclasses import replace

import numpy as np
import pytest

from plgan_tune.analysis.controls import audit, audit_in_words, upper_bound
from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus, Verdict
from plgan_tune.study.controls import draw_controls
from tests.analysis.conftest import Synthetic


def with_controls(study: Study, errors: dict[str, float | None]) -> Study:
    """The study with these stopped trials as controls: trial id -> its last error; None diverged."""
    trials, decisions = study.trials.copy(), study.decisions.copy()
    trials["status"] = trials["status"].astype(object)
    decisions["verdict"] = decisions["verdict"].astype(object)
    for trial_id, error in errors.items():
        at = trials["trial_id"] == trial_id
        assert set(trials.loc[at, "status"]) == {"stopped"}
        trials.loc[at, "status"] = TrialStatus.DIVERGED if error is None else TrialStatus.COMPLETED
        trials.loc[at, ["val_error_last", "epochs"]] = [error, study.last_epoch]
        stop = (decisions["trial_id"] == trial_id) & (decisions["verdict"] == Verdict.STOP)
        decisions.loc[stop, "verdict"] = Verdict.CONTROL
    return replace(study, trials=trials, decisions=decisions)


def test_a_study_without_controls_has_no_audit(synthetic: Synthetic) -> None:
    assert audit(synthetic(60, 20)) is None
    assert audit(synthetic(4, 4, early_stopping=False)) is None


def test_controls_are_counted_and_said(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    stopped = study.trials.loc[study.trials["status"] == "stopped"]
    best = float(study.ranked["val_error_last"].iloc[0])
    chosen = stopped["trial_id"].tolist()[:4]
    after = 4 * 20 - int(stopped["epochs"].head(4).sum())
    found = audit(with_controls(study, dict(zip(chosen, [best + 0.009, best + 0.011, 0.5, None], strict=True))))
    assert found is not None
    assert (found.ended, found.close, found.best, found.epochs) == (4, 1, best, after)
    assert audit_in_words(found) == (
        f"1 of 4 came within 1 % of the best other trial ({100 * best:.2f} %): at most 76 % of the stops are false "
        f"(95 %); they took {after} epochs"
    )


def test_a_control_that_is_best_of_all_is_no_best_to_compare_with(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    chosen = study.trials.loc[study.trials["status"] == "stopped", "trial_id"].iloc[0]
    best = float(study.ranked["val_error_last"].iloc[0])
    found = audit(with_controls(study, {chosen: best / 2}))
    assert found is not None
    assert (found.close, found.best, found.at_most) == (1, best, 1.0)


@pytest.mark.parametrize(("found", "among", "bound"), [(0, 9, 0.2831), (0, 29, 0.0981), (1, 4, 0.7514), (3, 3, 1.0)])
def test_the_bound_is_that_of_the_binomial(found: int, among: int, bound: float) -> None:
    assert upper_bound(found, among) == pytest.approx(bound, abs=1e-4)


def test_controls_estimate_without_bias_and_the_bound_holds() -> None:
    """Of 100 stops 20 are false, at whichever places; 4,000 seeds draw a tenth as controls."""
    false = set(random.Random(0).sample(range(100), 20))
    shares, held = [], []
    for seed in range(4000):
        is_control = draw_controls(0.1, seed)
        drawn = [number for number in range(100) if is_control(f"t{number:04d}")]
        if drawn:
            close = len(false.intersection(drawn))
            shares.append(close / len(drawn))
            held.append(upper_bound(close, len(drawn)) >= 0.2)
    assert np.mean(shares) == pytest.approx(0.2, abs=4 * np.std(shares) / len(shares) ** 0.5)
    assert np.mean(held) >= 0.95
