"""w(t) (patent paragraph 0060) and the learning-rate factor (patent table 2) at their corners."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.trial import Ramp
from plgan_tune.gan.schedules import learning_rate_factor, ramp

EPOCHS = st.integers(0, 5000)
POSITIVE = st.integers(1, 1000)


@pytest.mark.parametrize("switch", [2, 60, 100])
@pytest.mark.parametrize(
    ("shape", "exponents"),
    [
        ("clamp", [-10, -2.5, 0, 0, 0]),
        ("literal", [-10, -2.5, 0, None, -10]),
        ("zero", [-math.inf] * 5),
        ("one", [0] * 5),
    ],
)
def test_ramp_at_its_corners(switch: int, shape: Ramp, exponents: list[float | None]) -> None:
    """w = exp(exponent) at 0, T/2, T, T+1 and 2T; one epoch late, the literal bump stands at t = 1 + 1/T."""
    corners = [0, switch // 2, switch, switch + 1, 2 * switch]
    expected = [math.exp(-10 / switch**2 if exponent is None else exponent) for exponent in exponents]
    assert [ramp(epoch, switch, shape) for epoch in corners] == pytest.approx(expected, rel=1e-12, abs=0)


def test_ramp_of_mnist_has_the_values_of_the_formula() -> None:
    values = [ramp(epoch, 60, "clamp") for epoch in (6, 30, 54, 299)]
    np.testing.assert_allclose(values, [3.0353914e-4, 8.2084999e-2, 9.0483742e-1, 1.0], rtol=1e-7)


@given(EPOCHS, POSITIVE)
def test_clamped_ramp_rises_to_1_and_stays(epoch: int, switch: int) -> None:
    here, next_ = ramp(epoch, switch, "clamp"), ramp(epoch + 1, switch, "clamp")
    assert math.exp(-10) <= here <= next_ <= 1.0
    assert (here == 1.0) == (epoch >= switch)


@given(st.integers(0, 1000), POSITIVE)
def test_literal_ramp_is_a_bump_about_the_switch(before: int, switch: int) -> None:
    before = min(before, switch)
    left, right = ramp(switch - before, switch, "literal"), ramp(switch + before, switch, "literal")
    assert left == pytest.approx(right, rel=1e-11)
    assert left == pytest.approx(ramp(switch - before, switch, "clamp"), rel=1e-12)


@pytest.mark.parametrize("shape", ["clamp", "literal"])
def test_switching_in_the_first_epoch_but_one(shape: Ramp) -> None:
    assert ramp(0, 1, shape) == pytest.approx(math.exp(-10))
    assert ramp(1, 1, shape) == 1.0


@pytest.mark.parametrize("decay", [2, 250, 450])
@pytest.mark.parametrize("min_factor", [0.0, 0.1, 0.75])
def test_learning_rate_factor_at_its_corners(decay: int, min_factor: float) -> None:
    corners = [0, decay // 2, decay, 3 * decay // 2, 2 * decay, 2 * decay + 1, 10 * decay]
    expected = [1.0, 1.0, 1.0, max(0.5, min_factor), min_factor, min_factor, min_factor]
    assert [learning_rate_factor(epoch, decay, min_factor) for epoch in corners] == pytest.approx(expected, abs=1e-15)


def test_the_printed_decays_at_their_last_epochs() -> None:
    assert learning_rate_factor(299, 250, 0.0) == pytest.approx(0.804)
    assert learning_rate_factor(599, 450, 0.0) == pytest.approx(2 - 599 / 450)


@given(EPOCHS, POSITIVE, st.floats(0, 1))
def test_learning_rate_factor_never_rises_nor_leaves_its_bounds(epoch: int, decay: int, min_factor: float) -> None:
    here = learning_rate_factor(epoch, decay, min_factor)
    assert min_factor <= learning_rate_factor(epoch + 1, decay, min_factor) <= here <= 1.0
    assert here == float(np.clip(2 - epoch / decay, min_factor, 1))
