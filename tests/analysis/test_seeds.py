"""Statistics over seeds, against tables, against scipy's own, and on planted cases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plgan_tune.analysis.seeds import (
    JUDGE,
    PATENT,
    Estimate,
    beside_published,
    estimate,
    expected_no_worse,
    noise_by_epoch,
    paired_difference,
    summarise,
)
from plgan_tune.config.study import set_paths
from plgan_tune.records import EvaluationRow, TrialStatus
from plgan_tune.store.read import EVALUATIONS
from plgan_tune.store.schemas import evaluations_table
from plgan_tune.store.tables import write_table
from tests.analysis.conftest import Synthetic

errors = st.lists(st.floats(0, 1), min_size=2, max_size=20)


def test_student_s_table() -> None:
    """t(0.975) of 4 degrees of freedom is 2.776 (Student's table); deviation of 1..5 is sqrt(2.5)."""
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.776 * math.sqrt(2.5 / 5)
    assert (found.count, found.mean) == (5, 3.0)
    assert found.deviation == pytest.approx(math.sqrt(2.5))
    assert [found.low, found.high] == pytest.approx([3 - half, 3 + half], abs=1e-3)


def test_one_value_bounds_nothing_and_none_says_nothing() -> None:
    one, none = estimate([0.25]), estimate([])
    assert (one.count, one.mean) == (1, 0.25)
    assert all(map(math.isnan, (one.deviation, one.low, one.high, none.mean, none.low)))


@given(errors)
def test_the_interval_is_scipy_s(values: list[float]) -> None:
    found = estimate(values)
    if found.deviation > 0:
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        assert [found.low, found.high] == pytest.approx([low, high], abs=1e-12)
    assert found.low <= found.mean <= found.high


@given(errors)
def test_an_interval_excludes_0_just_where_the_paired_t_test_rejects(values: list[float]) -> None:
    series = pd.Series(values)
    found = paired_difference(series, pd.Series(0.5, index=series.index))
    if found.deviation > 1e-9:
        p = float(stats.ttest_rel(values, [0.5] * len(values)).pvalue)
        assert (found.low > 0 or found.high < 0) == (p < 0.05)


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    """2,000 samples of 5 from a known distribution; 95 % within four standard errors of a binomial count."""
    samples = np.random.default_rng(0).normal(0.1, 0.02, (2000, 5))
    held = sum(found.low <= 0.1 <= found.high for found in map(estimate, samples.tolist()))
    assert abs(held / 2000 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def table(by_configuration: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    rows = [
        {"configuration": name, "seed": seed, "test_error": error, "test_error_raw": error, "value_last": error}
        for name, of_seeds in by_configuration.items()
        for seed, error in enumerate(of_seeds, start=1)
    ]
    return pd.DataFrame(rows)


def row(summary: pd.DataFrame, name: str) -> "pd.Series[float]":
    (found,) = (line for _, line in summary.iterrows() if line.configuration == name)
    return found


def test_a_planted_lucky_seed_does_not_win() -> None:
    """The lowest single error is the lucky one's; its mean is not, and it is not told from the reference."""
    lucky, steady = [0.02, 0.17, 0.16, 0.15, 0.16], [0.10, 0.11, 0.10, 0.11, 0.10]
    summary = summarise(table({"lucky": lucky, "steady": steady, "patent": [0.12, 0.13, 0.12, 0.13, 0.12]}), "patent")
    assert list(summary.configuration) == ["steady", "patent", "lucky"]
    assert row(summary, "lucky").difference_low < 0 < row(summary, "lucky").difference_high
    assert row(summary, "steady").difference == pytest.approx(-0.02)
    assert row(summary, "steady").difference_high < 0


def test_pairs_see_what_the_seeds_hide() -> None:
    """Every seed is 1 % better, beside seeds that differ by 20 %: unpaired intervals overlap, the pairs' does not."""
    patent = [0.10, 0.20, 0.30, 0.15, 0.25]
    better = [error - 0.01 - 0.001 * (place % 2) for place, error in enumerate(patent)]
    summary = summarise(table({"better": better, "patent": patent}), "patent")
    ours, theirs = row(summary, "better"), row(summary, "patent")
    assert ours.high > theirs.low
    assert ours.difference_high < 0
    assert ours.pairs == 5
    assert theirs.pairs == 0
    assert math.isnan(theirs.difference)


def test_tied_configurations_are_not_told_apart() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, (2, 8))
    summary = summarise(table({"a": 0.2 + noise[0], "patent": 0.2 + noise[1]}), "patent")
    assert row(summary, "a").difference_low < 0 < row(summary, "a").difference_high


def test_a_seed_that_diverged_is_counted_and_not_paired() -> None:
    summary = summarise(table({"a": [0.1, math.nan, 0.3], "patent": [0.2, 0.2, 0.2]}), "patent")
    found = row(summary, "a")
    assert (found.seeds, found["count"], found.pairs) == (3, 2, 2)
    assert found["mean"] == pytest.approx(0.2)


def test_without_the_reference_there_is_no_difference() -> None:
    found = row(summarise(table({"a": [0.1, 0.2]}), "patent"), "a")
    assert found.pairs == 0
    assert math.isnan(found.difference)


def test_pairs_are_of_the_same_seed_whatever_the_order() -> None:
    values = pd.Series([0.3, 0.1, 0.2], index=[3, 1, 2])
    assert paired_difference(values, pd.Series([0.1, 0.2, 0.5], index=[1, 2, 9])) == Estimate(2, 0.0, 0.0, 0.0, 0.0)


def test_what_was_evaluated_stands_beside_what_was_published(synthetic: Synthetic) -> None:
    study = synthetic(10, 5)
    assert beside_published(study) is None
    by_name = {"t0001": [0.008, 0.010], PATENT: [0.010, 0.012], JUDGE: [0.001, 0.001]}
    rows = [evaluated(name, seed, error) for name, errors in by_name.items() for seed, error in enumerate(errors)]
    write_table(evaluations_table(rows), study.location.join(*EVALUATIONS))
    found = beside_published(study)
    assert found is not None
    assert found["name"].tolist() == ["t0001", PATENT]  # the judge is none of them, and nothing is published of digits
    assert found["error"].tolist() == pytest.approx([0.009, 0.011])
    assert (found["low"] < found["error"]).all()
    template = set_paths(study.spec.template, {"data.source": "mnist", "data.labels": 100})
    of_mnist = beside_published(replace(study, spec=replace(study.spec, template=template)))
    assert of_mnist is not None
    assert len(of_mnist) == 2 + 8
    assert of_mnist["error"].is_monotonic_increasing
    assert of_mnist.set_index("name")["seeds"]["PL-GAN (published)"] != of_mnist["seeds"].iloc[0]


def test_a_refit_is_averaged_with_nothing(synthetic: Synthetic) -> None:
    """It has more labels than the others, and the same seeds."""
    study = synthetic(10, 5)
    rows = [evaluated(name, seed, 0.01 * seed) for name, seeds in (("t1", 3), (PATENT, 2)) for seed in range(seeds)]
    refits = [replace(evaluated("t1", seed, 0.9), refit=True) for seed in range(2)]
    write_table(evaluations_table([*rows, *refits]), study.location.join(*EVALUATIONS))
    found = beside_published(study)
    assert found is not None
    assert found.set_index("name")["error"].to_dict() == {"t1": pytest.approx(0.01), PATENT: pytest.approx(0.005)}
    write_table(evaluations_table(refits), study.location.join(*EVALUATIONS))
    assert beside_published(study) is None


def test_a_seed_twice_is_refused() -> None:
    twice = pd.concat([table({"a": [0.1, 0.2]}), table({"a": [0.3]})])
    with pytest.raises(ValueError, match="there are more of a 1"):
        summarise(twice, "patent")


def test_pairs_are_judged_and_broken_seeds_named(synthetic: Synthetic) -> None:
    """Every seed is better by 1 %, beside seeds that differ by far more, so that whiskers overlap."""
    study = synthetic(10, 5)
    patent = [0.10, 0.20, 0.30]
    rows = [evaluated(PATENT, seed, error) for seed, error in enumerate(patent)]
    rows += [evaluated("t1", seed, error - 0.01) for seed, error in enumerate(patent)]
    broken = replace(evaluated("t1", 3, 0.0), status=TrialStatus.DIVERGED, test_error=None)
    write_table(evaluations_table([*rows, broken]), study.location.join(*EVALUATIONS))
    found = beside_published(study)
    assert found is not None
    ours, theirs = found.to_dict("records")
    assert ours["high"] > theirs["low"]
    assert (ours["verdict"], theirs["verdict"]) == ("better", "")
    assert (ours["difference_low"] <= ours["difference"] < 0, ours["difference_high"] < 0) == (True, True)
    assert (ours["count"], ours["seeds"], ours["broken"]) == (3, 4, "t1-3 (diverged)")


@given(
    seeds=st.integers(2, 6),
    configurations=st.integers(1, 4),
    shifts=st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1)),
    seed=st.integers(0, 99),
)
def test_noise_is_what_neither_a_seed_nor_a_configuration_does_to_all(
    seeds: int, configurations: int, shifts: tuple[float, float], seed: int
) -> None:
    """One configuration has nothing to tell the two apart by: its noise is its deviation."""
    draw = np.random.default_rng(seed)
    rows = pd.MultiIndex.from_product(
        [range(configurations), range(seeds), (1, 2)], names=["configuration", "seed", "epoch"]
    ).to_frame(index=False)
    rows["val_error"] = draw.normal(0.3, 0.01, len(rows))
    noise = noise_by_epoch(rows)
    shift = shifts[0] * rows["configuration"] + shifts[1] * rows["seed"] * (configurations > 1)
    moved = noise_by_epoch(rows.assign(val_error=rows["val_error"] + shift))
    assert moved.to_numpy() == pytest.approx(noise.to_numpy())
    if configurations == 1:
        assert noise.to_list() == pytest.approx(rows.groupby("epoch")["val_error"].std().to_list())
    assert noise_by_epoch(rows[rows["seed"] == 0]).empty


def test_noise_is_that_which_was_planted() -> None:
    draw = np.random.default_rng(0)
    rows = pd.MultiIndex.from_product([range(4), range(500), [1]], names=["configuration", "seed", "epoch"])
    frame = rows.to_frame(index=False)
    easy = draw.normal(0, 0.05, 500)[frame["seed"]]  # what the draw of labels does to all
    frame["val_error"] = 0.2 + 0.02 * frame["configuration"] + easy + draw.normal(0, 0.01, len(frame))
    assert noise_by_epoch(frame)[1] == pytest.approx(0.01, rel=0.05)


def test_of_trials_that_missed_by_nothing_half_are_no_worse() -> None:
    ones = pd.Series(np.ones(8))
    assert expected_no_worse(1e-12 * ones, 0.01 * ones) == pytest.approx(4)
    assert expected_no_worse(0.01 * math.sqrt(2) * ones, 0.01 * ones) == pytest.approx(8 * stats.norm.cdf(-1))
    assert expected_no_worse(ones, pd.Series([0.0, math.nan] * 4)) == 0


@given(errors)
def test_the_interval_of_a_mean_error_is_one_of_errors(values: list[float]) -> None:
    (line,) = summarise(table({"a": values}), "patent").to_dict("records")
    assert 0 <= line["low"] <= line["mean"] + 1e-12
    assert line["mean"] - 1e-12 <= line["high"] <= 1


def evaluated(configuration: str, seed: int, error: float) -> EvaluationRow:
    return EvaluationRow(
        configuration=configuration,
        seed=seed,
        refit=False,
        trial_id=f"{configuration}-{seed}",
        status=TrialStatus.COMPLETED,
        epochs=5,
        test_error=error,
        test_error_raw=error,
        test_images=1000,
        value_last=error,
        classifier_score=None,
        classifier_score_real=None,
        inception_score=None,
        fid=None,
        split_hash=None,
        seconds=1.0,
        evaluated_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
