"""A study by a metric whose highest value is the best is that of its complement, turned round."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from plgan_tune.analysis.controls import CLOSE_PART, audit, audit_in_words
from plgan_tune.analysis.curves import standings, values_at_equal_epoch
from plgan_tune.analysis.importance import Importances, importances
from plgan_tune.analysis.overview import ranking, ties
from plgan_tune.analysis.report.thin import one_a_place
from plgan_tune.analysis.report.timeline import best_over_epochs
from plgan_tune.analysis.rungs import rung_table
from plgan_tune.analysis.study import Study
from plgan_tune.config.metrics import METRICS, MetricName
from plgan_tune.records import TrialStatus, Verdict
from tests.analysis.conftest import Synthetic


def searched_by(study: Study, name: MetricName, values: pd.DataFrame) -> Study:
    """The same study, as if it had gone by another metric, whose columns `values` has."""
    spec = replace(study.spec, search=study.spec.search.model_copy(update={"metric": name}))
    return replace(study, spec=spec, metric=METRICS[name], trials=values)


def of_coverage(study: Study) -> Study:
    """By `val_coverage`, which is here the share of images that is not wrong."""
    trials = study.trials.assign(
        val_coverage_last=1 - study.trials["val_error_last"], val_coverage_best=1 - study.trials["val_error_best"]
    )
    turned = searched_by(study, "val_coverage", trials.drop(columns=["val_error_last", "val_error_best"]))
    epochs = study.epochs.assign(val_coverage=1 - study.epochs["val_error"]).drop(columns="val_error")
    decisions = study.decisions.assign(value=1 - study.decisions["value"], cutoff=1 - study.decisions["cutoff"])
    return replace(turned, epochs=epochs, decisions=decisions)


def test_shares_of_right_images_say_what_shares_of_wrong_ones_say(synthetic: Synthetic) -> None:
    study = synthetic(120, 20)
    turned = of_coverage(study)
    ours, theirs = ranking(turned), ranking(study)
    assert [(row.trial_id, row.tied) for row in ours] == [(row.trial_id, row.tied) for row in theirs]
    for our, their in zip(ours, theirs, strict=True):
        assert our.interval is not None
        assert their.interval is not None
        assert our.interval == pytest.approx((1 - their.interval.high, 1 - their.interval.low))
    assert ties(turned) == ties(study) > 1
    assert (turned.ranked["val_coverage_best"] >= turned.ranked["val_coverage_last"]).all()

    ranks, of_errors = standings(turned, 20), standings(study, 20)
    assert ranks is not None
    assert of_errors is not None
    pd.testing.assert_series_equal(ranks.places, of_errors.places)
    assert ranks.best == pytest.approx(1 - of_errors.best)
    matters = importances(study)
    assert isinstance(matters, Importances)
    assert importances(turned) == replace(matters, noun="coverage")
    (epoch, coverages), (same, errors) = values_at_equal_epoch(turned), values_at_equal_epoch(study)
    assert epoch == same
    pd.testing.assert_series_equal(1 - coverages, errors)

    rungs, of_rungs = rung_table(turned.decisions, turned.metric), rung_table(study.decisions)
    pd.testing.assert_frame_equal(rungs.assign(cutoff=1 - rungs["cutoff"]), of_rungs)
    best, lowest = (best_over_epochs(one).data[-1].y for one in (turned, study))
    np.testing.assert_allclose(1 - best, lowest, rtol=1e-5)


def test_of_many_dots_at_a_place_the_best_is_drawn() -> None:
    values = np.random.default_rng(0).permutation(np.linspace(0.0, 1.0, 20_000))
    rows = pd.DataFrame({"x": np.arange(20_000.0), "y": values, "status": "completed"})
    for highest, best in ((False, rows["y"].idxmin()), (True, rows["y"].idxmax())):
        drawn = one_a_place(rows, "x", "y", highest=highest)
        assert len(drawn) < len(rows)
        assert best in drawn.index


@pytest.mark.parametrize(("off", "close"), [(0.9, 1), (1.1, 0)])
def test_a_control_of_a_distance_is_close_by_a_part_of_the_best(synthetic: Synthetic, off: float, close: int) -> None:
    study = synthetic(60, 20)
    first = study.trials["trial_id"].iloc[0]
    control = study.decisions.head(1).assign(trial_id=first, verdict=Verdict.CONTROL)
    trials = study.trials.assign(
        status=TrialStatus.COMPLETED, val_distance_last=8.0, val_distance_best=8.0, epochs=study.last_epoch
    )
    trials.loc[trials["trial_id"] == first, "val_distance_last"] = 8.0 * (1 + off * CLOSE_PART)
    found = audit(replace(searched_by(study, "val_distance", trials), decisions=control))
    assert found is not None
    assert (found.ended, found.close, found.best) == (1, close, 8.0)
    assert "came within 5 % of the best other trial (8)" in audit_in_words(found)
