"""The metrics that a search may go by, and the direction that each of them has."""

from typing import Any, get_args

import numpy as np
import pytest

from plgan_tune.config.errors import SpecError
from plgan_tune.config.metrics import METRICS, Metric, MetricName
from plgan_tune.config.study import SearchSpec
from plgan_tune.records import MEASURES, about
from tests.factories import small


def test_each_metric_is_a_measure_of_an_epoch_whose_worst_value_is_its_bound() -> None:
    assert tuple(METRICS) == get_args(MetricName)
    for name, metric in METRICS.items():
        assert name == metric.name
        assert name in MEASURES
        bound = about(name)["most" if metric.better == "lower" else "least"]
        assert metric.worst == bound
        assert metric.is_share == (about(name)["unit"] == "fraction")


def refuses_once(search: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as refused:
        small(**search)
    assert said in str(refused.value)
    assert str(refused.value).count("must be") == 1


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_lower_cost_is_the_better_value(metric: Metric) -> None:
    better, worse = (1.0, 2.0) if metric.better == "lower" else (2.0, 1.0)
    assert metric.cost(better) < metric.cost(worse)
    assert metric.cost(metric.cost(better)) == better
    assert metric.cost(np.array([better, worse])).tolist() == [metric.cost(better), metric.cost(worse)]


def test_generated_images_are_compared_with_a_thousand_at_most() -> None:
    assert [METRICS["val_coverage"].images(count) for count in (400, 5000)] == [400, 1000]
    assert METRICS["val_error"].images(5000) == 5000


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_the_mode_is_the_metric_s_own_whether_it_is_given_or_not(metric: Metric) -> None:
    """Files of earlier versions say `mode: min`; what a study writes is what it is resumed with."""
    left_out, given = SearchSpec(metric=metric.name), SearchSpec(metric=metric.name, mode=metric.mode)
    assert left_out == given
    assert SearchSpec.model_validate(left_out.model_dump(mode="json")).mode == metric.mode


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"mode": "max"}, "search.mode: must be min or null: the lowest val_error is the best, but got 'max'"),
        (
            {"metric": "val_coverage", "mode": "min"},
            "search.mode: must be max or null: the highest val_coverage is the best, but got 'min'",
        ),
        (
            {"metric": "accuracy", "mode": "max"},
            "search.metric: must be one of val_error, val_balanced_error, val_dist",
        ),
    ],
)
def test_another_direction_and_an_unknown_metric_are_refused(search: dict[str, Any], said: str) -> None:
    refuses_once(search, said)


def test_two_metrics_are_objectives_of_which_the_first_ranks() -> None:
    spec = small(metric=["val_error", "val_coverage"])
    assert (spec.metric, spec.second) == (METRICS["val_error"], METRICS["val_coverage"])
    assert spec.objectives == (METRICS["val_error"], METRICS["val_coverage"])
    written = spec.as_mapping()["search"]
    assert (written["metric"], written["mode"]) == (["val_error", "val_coverage"], ["min", "max"])
    assert small(**{key: written[key] for key in ("metric", "mode")}) == spec
    assert small(metric=["val_distance"]) == small(metric="val_distance")
    assert small(metric="val_distance").second is None


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"metric": []}, "search.metric: must be one metric, or a list of two different ones, but got []"),
        (
            {"metric": ["val_error", "val_error"]},
            "search.metric: must be one metric, or a list of two different ones, but got ['val_error', 'val_error']",
        ),
        (
            {"metric": ["val_error", "val_score", "val_distance"]},
            "search.metric: must be one metric, or a list of two different ones, but got",
        ),
        (
            {"metric": ["val_error", "loss"]},
            "val_score, val_transport or a list of 2 of these, but got ['val_error', 'loss",
        ),
        (
            {"metric": ["val_error", "val_coverage"], "mode": ["min", "min"]},
            "must be ['min', 'max'] or null: the lowest val_error and the highest val_coverage are the best, but got",
        ),
        ({"metric": ["val_error", "val_coverage"], "mode": "min"}, "must be ['min', 'max'] or null"),
        ({"mode": ["min", "max"]}, "must be min or null: the lowest val_error is the best, but got ['min', 'max']"),
        (
            {"metric": ["val_error", "val_coverage"], "sampler": "cmaes"},
            "search.sampler: must be tpe, gp, random or grid where search.metric names two metrics",
        ),
    ],
)
def test_what_is_no_pair_of_metrics_is_refused_in_one_message(search: dict[str, Any], said: str) -> None:
    refuses_once(search, said)
