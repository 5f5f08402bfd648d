"""Intervals against known cases."""

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.analysis.intervals import Interval, Z, difference, noise_of, tied, wilson
from plgan_tune.config.metrics import METRICS

counts = st.integers(1, 10_000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images)))


@pytest.mark.parametrize(
    ("wrong", "images", "low", "high"),
    [  # Newcombe 1998 (one proportion), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_published_wilson_intervals(wrong: int, images: int, low: float, high: float) -> None:
    assert wilson(wrong / images, images) == pytest.approx((low, high), abs=5e-5)


@given(counts)
def test_its_ends_are_where_the_score_test_rejects(count: tuple[int, int]) -> None:
    """The interval is the set of p with |error - p| <= Z sqrt(p (1 - p) / n)."""
    wrong, images = count
    error = wrong / images
    for end in wilson(error, images):
        assert 0 <= end <= 1
        if 1e-9 < end < 1 - 1e-9:
            assert abs(error - end) == pytest.approx(Z * (end * (1 - end) / images) ** 0.5, rel=1e-6)


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.1), (0.1, 0.3), (0.05, 0.5), (0.5, 0.5)])
def test_of_95_intervals_in_100_the_difference_is_in(p: float, q: float) -> None:
    """Summed over all that 30 images of each can show."""
    images = 30
    covered = sum(
        chance(wrong, images, p) * chance(other, images, q)
        for wrong in range(images + 1)
        for other in range(images + 1)
        if inside(p - q, difference(wrong / images, other / images, images))
    )
    assert 0.93 < covered < 0.99


@given(counts, st.data())
def test_a_difference_turned_round_is_its_negative(count: tuple[int, int], data: st.DataObject) -> None:
    wrong, images = count
    error, other = wrong / images, data.draw(st.integers(0, images)) / images
    low, high = difference(error, other, images)
    assert low <= error - other <= high
    assert difference(other, error, images) == pytest.approx((-high, -low))


def chance(wrong: int, images: int, p: float) -> float:
    return comb(images, wrong) * p**wrong * (1 - p) ** (images - wrong)


def inside(value: float, interval: Interval) -> bool:
    return interval.low <= value <= interval.high


def test_ties() -> None:
    """Of 400 images 40 wrong against 48 is chance, against 80 is not; of 40,000 neither is."""
    assert tied(48 / 400, 40 / 400, 400)
    assert not tied(80 / 400, 40 / 400, 400)
    assert not tied(4800 / 40_000, 4000 / 40_000, 40_000)
    assert tied(0.1, 0.1, 1)


def test_the_noise_of_a_share_is_binomial_and_that_of_any_other_metric_its_seeds() -> None:
    share = noise_of(METRICS["val_coverage"], 400, 5.0)
    assert share.interval(0.9) == wilson(0.9, 400)
    assert share.tied(0.9, 0.91)
    unknown = noise_of(METRICS["val_distance"], 400, None)
    assert unknown.interval(3.0) is None
    assert (unknown.tied(3.0, 3.0), unknown.tied(3.0, 3.1), unknown.source) == (True, False, "")
    known = noise_of(METRICS["val_distance"], 400, 1.0)
    assert known.interval(3.0) == (2.0, 4.0)
    assert known.interval(0.5) == (0.0, 1.5)  # no distance is below 0
    assert (known.tied(3.0, 4.4), known.tied(3.0, 4.5)) == (True, False)
