"""Battles of GANs, from realness that is known."""

from dataclasses import astuple
from itertools import permutations

import numpy as np
import pytest

from plgan_tune.analysis.seeds import estimate
from plgan_tune.evaluation.battle import Battle, Floats, Judged, calibrate, judged, ratio, wins


def drawn(seed: int, *shape: int, distance: float, spread: float = 1.0) -> tuple[Floats, Floats]:
    """Realness of real and of generated images, normal at this distance."""
    rng = np.random.default_rng(seed)
    return rng.normal(distance, spread, shape), rng.normal(0.0, 1.0, shape)


def side(seed: int, *shape: int, distance: float, other: float, spread: float = 1.0, shift: float = 0.0) -> Judged:
    """What a D judges whose own images lie at `distance` and the other's at `other` from the real ones."""
    real, own = drawn(seed, *shape, distance=distance, spread=spread)
    test, _ = drawn(seed + 1, *shape, distance=distance, spread=spread)
    _, sample = drawn(seed + 2, *shape, distance=distance, spread=spread)
    return judged(calibrate(real + shift, own + shift), test + shift, sample + (distance - other) + shift)


def test_a_threshold_errs_on_both_kinds_equally_often() -> None:
    real, own = drawn(0, 1000, distance=1.5, spread=0.3)
    threshold = calibrate(real, own).threshold
    assert (real <= threshold).sum() == (own > threshold).sum() > 0
    assert calibrate(real, own).error == (real <= threshold).mean()
    apart = calibrate(np.array([5.0, 7.0]), np.array([-1.0, 1.0]))
    assert float(apart.threshold) == 3.0
    assert float(apart.error) == 0.0
    with pytest.raises(ValueError, match="as many real as generated"):
        calibrate(real, own[1:])


@pytest.mark.parametrize(("distance", "spread"), [(1.0, 1.0), (0.9, 0.3)])
def test_two_equal_models_are_told_apart_in_one_battle_of_twenty(distance: float, spread: float) -> None:
    """20,000 draws of all their images, those of the calibration too, without which it would be one of nine.

    Of few images the smoothed ratio's interval is somewhat too wide.
    """
    one, other = (side(seed, 20_000, 80, distance=distance, other=distance, spread=spread) for seed in (0, 10))
    found = ratio(one.sample, other.sample)
    told_apart = ((found.low > 1) | (found.high < 1)).mean()
    assert 0.035 < told_apart < 0.05
    assert abs(np.log(found.value).mean()) < 0.01


def test_who_fools_the_other_wins() -> None:
    """One's images lie nearer to the real ones, for both D alike."""
    better = side(0, 1000, distance=2.0, other=2.6)
    worse = side(10, 1000, distance=2.0, other=1.4)
    assert Battle.of(better, worse).verdict == "one"
    assert Battle.of(worse, better).verdict == "other"


def test_a_battle_is_the_other_way_round_its_inverse_and_with_itself_1() -> None:
    one, other = side(0, 500, distance=1.0, other=1.2), side(10, 500, distance=1.3, other=1.0)
    there, back, own = Battle.of(one, other), Battle.of(other, one), Battle.of(one, one)
    assert (own.r_test, own.r_sample, own.accuracy_sample, own.verdict) == (1, 1, 1, "not told apart")
    for a, b in (
        (there.r_test, back.r_test),
        (there.r_sample, back.r_sample),
        (there.low, back.high),
        (there.high, back.low),
        (there.accuracy_sample, back.accuracy_sample),
    ):
        assert a == pytest.approx(1 / b, rel=1e-12)
    assert (there.accuracy_sample > 1) == (there.r_sample < 1)


def test_a_constant_added_to_a_critic_changes_nothing() -> None:
    found = [side(0, 500, distance=1.0, other=1.2, shift=shift) for shift in (0.0, 2.0**20, -(2.0**20))]
    assert found[0] == found[1] == found[2]


def test_the_ratio_is_that_of_the_smoothed_errors() -> None:
    """Two of four wrong against none of four."""
    real, own = np.array([1.0, 2.0, 3.0, 4.0]), np.array([-1.0, -2.0, -3.0, -4.0])
    one = judged(calibrate(real, own), real, np.array([5.0, 6.0, -5.0, -6.0]))
    other = judged(calibrate(real, own), real, own)
    battle = Battle.of(one, other)
    assert battle.r_sample == pytest.approx((2.5 / 5) / (0.5 / 5))
    assert battle.accuracy_sample == pytest.approx((2.5 / 5) / (4.5 / 5))
    # The calibration errs on none: what is left is Katz's variance, of 1/2 and 1/10 of 4 images.
    deviation = np.sqrt(0.25 / 4 / 0.25 + 0.09 / 4 / 0.01)
    assert battle.high == pytest.approx(battle.r_sample * np.exp(1.959964 * deviation))


@pytest.mark.parametrize(
    ("r_test", "low", "high", "verdict"),
    [
        (1.0, 0.5, 0.9, "one"),
        (1.0, 1.1, 2.0, "other"),
        (1.0, 0.9, 1.1, "not told apart"),
        (0.84, 0.9, 1.1, "not told apart"),
        (0.84, 0.5, 0.9, "invalid"),
        (1.11, 1.1, 2.0, "invalid"),
        (0.85, 0.5, 0.9, "one"),
        (1.1, 0.5, 0.9, "one"),
    ],
)
def test_a_battle_between_unequal_discriminators_has_no_winner(
    r_test: float, low: float, high: float, verdict: str
) -> None:
    assert Battle(r_test, (low * high) ** 0.5, low, high, 1.0).verdict == verdict


def test_over_seeds_logarithms_average() -> None:
    battles = [Battle(1.0, ratio, 0.0, 9.0, 1 / ratio) for ratio in (0.5, 0.6, 0.55)]
    found = Battle.over_seeds(battles)
    expected = estimate(np.log([0.5, 0.6, 0.55]).tolist())
    assert np.log([found.r_sample, found.low, found.high]) == pytest.approx(
        [expected.mean, expected.low, expected.high]
    )
    assert found.accuracy_sample == pytest.approx(1 / found.r_sample)
    assert (found.seeds, found.r_test, found.verdict) == (3, 1.0, "one")
    assert Battle.over_seeds(battles[:1]) == battles[0]


def test_a_turned_battle_is_that_of_the_second_with_the_first() -> None:
    rng = np.random.default_rng(0)
    one, other = (judged(calibrate(*rng.normal([[1], [0]], 1, (2, 100))), *rng.normal(0.5, 1, (2, 100))) for _ in "ab")
    turned, found = Battle.of(other, one), Battle.of(one, other).turned()
    assert astuple(found) == pytest.approx(astuple(turned))


def test_the_order_comes_from_wins_alone() -> None:
    """c has by far the greatest ratio in the one battle that it wins, and b is told apart from neither."""
    battles = {
        ("c", "b"): Battle(1.0, 0.01, 0.005, 0.02, 1.0),
        ("b", "a"): Battle(1.0, 1.0, 0.9, 1.1, 1.0),
        ("d", "a"): Battle(1.0, 1.1, 1.05, 1.2, 1.0),
        ("a", "c"): Battle(1.0, 0.9, 0.8, 0.95, 1.0),
        ("d", "b"): Battle(1.3, 0.1, 0.05, 0.2, 1.0),  # invalid
    }
    expected = {"a": (2, 0), "c": (1, 1), "b": (0, 1), "d": (0, 1)}
    for order in permutations(battles):
        assert wins({pair: battles[pair] for pair in order}) == expected
    assert list(wins(battles))[:2] == ["a", "c"]
