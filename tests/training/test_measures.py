"""Measures on known cases, and against NumPy and SciPy in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import entropy, wasserstein_distance
from torch import Tensor

from plgan_tune.training.measures import (
    balanced_error,
    ball_radii,
    classifier_score,
    coverage,
    directions,
    frechet_distance,
    moments,
    projected,
    score_deviation,
    sorted_along,
    transport,
)

Floats = NDArray[np.float64]
seeds = st.integers(0, 999)


def rows(seed: int, count: int, width: int, shift: float = 0.0) -> Floats:
    """Correlated rows."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + shift


def pictures(seed: int, count: int, channels: int = 1, size: int = 4) -> Tensor:
    drawn = np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return torch.from_numpy(drawn)


@settings(max_examples=25)
@given(seeds, st.integers(1, 6), st.floats(-2, 2))
def test_the_frechet_distance_is_the_formula_s(seed: int, width: int, shift: float) -> None:
    one, other = rows(seed, 40, width), rows(seed + 1, 30, width, shift)
    c, d = (np.cov(x, rowvar=False).reshape(width, width) for x in (one, other))
    wanted = np.sum((one.mean(0) - other.mean(0)) ** 2) + np.trace(c + d - 2 * sqrtm(c @ d).real)
    found = frechet_distance(moments(torch.from_numpy(one)), moments(torch.from_numpy(other)))
    assert found == pytest.approx(wanted, rel=1e-7, abs=1e-7)


def test_the_frechet_distance_of_a_shift_is_its_square_and_of_itself_0() -> None:
    x = torch.from_numpy(rows(3, 50, 4))
    far = frechet_distance(moments(x), moments(x + torch.tensor([3.0, 0, 4.0, 0])))
    assert far == pytest.approx(25, rel=1e-9)
    assert frechet_distance(moments(x), moments(x)) == pytest.approx(0, abs=1e-9)
    flat = torch.cat([x, torch.zeros(50, 3), x[:, :2]], dim=1)  # units that are dead or twice the same
    assert frechet_distance(moments(flat), moments(flat)) == pytest.approx(0, abs=1e-5)


@settings(max_examples=25)
@given(seeds, st.integers(2, 30), st.integers(1, 30), st.floats(0, 3))
def test_coverage_counts_balls_that_hold_a_generated_image(seed: int, n: int, m: int, shift: float) -> None:
    real, generated = rows(seed, n, 3), rows(seed, m, 3, shift) * 1.5
    others = np.linalg.norm(real[:, None] - real[None], axis=2)
    radii = [np.sort(np.delete(others[row], row))[min(5, n - 1) - 1] for row in range(n)]
    held = np.linalg.norm(real[:, None] - generated[None], axis=2).min(axis=1)
    wanted = np.mean([distance <= radius for distance, radius in zip(held, radii, strict=True)])
    x, y = torch.from_numpy(real), torch.from_numpy(generated)
    assert coverage(x, ball_radii(x), y) == pytest.approx(wanted, abs=1e-12)


def test_images_cover_themselves_and_nothing_far_away() -> None:
    x = torch.from_numpy(rows(1, 40, 5))
    assert coverage(x, ball_radii(x), x) == 1
    assert coverage(x, ball_radii(x), x + 1000) == 0


@settings(max_examples=10)
@given(seeds, st.integers(1, 20), st.sampled_from([1, 3]))
def test_transport_is_the_mean_of_w1_along_directions(seed: int, count: int, channels: int) -> None:
    one, other = pictures(seed, count, channels), pictures(seed + 1, count, channels) // 2
    along = directions(one[0].numel())
    assert torch.linalg.vector_norm(along, dim=1).numpy() == pytest.approx(np.ones(256), rel=1e-6)
    x, y = (images.flatten(1).numpy() / 255 @ along.double().numpy().T for images in (one, other))
    wanted = np.mean([wasserstein_distance(x[:, place], y[:, place]) for place in range(256)])
    found = transport(sorted_along(projected(one, along)), sorted_along(projected(other, along)))
    assert found == pytest.approx(wanted, rel=1e-5)
    shuffled = sorted_along(projected(one.flip(0), along))
    assert transport(shuffled, sorted_along(projected(one, along))) == pytest.approx(0, abs=1e-6)


def test_directions_are_always_the_same() -> None:
    torch.manual_seed(1)
    first = directions(16)
    torch.manual_seed(2)
    assert torch.equal(directions(16), first)


def test_the_balanced_error_is_the_mean_of_the_classes_own() -> None:
    wrong, images = torch.tensor([1, 0, 3, 0]), torch.tensor([10, 30, 4, 0])
    assert balanced_error(wrong, images) == pytest.approx((0.1 + 0 + 0.75) / 3)
    same = torch.tensor([7, 7, 7])
    assert balanced_error(wrong[:3], same) == pytest.approx(4 / 21)


@pytest.mark.parametrize("classes", [2, 10])
def test_sure_and_even_is_the_number_of_classes(classes: int) -> None:
    assert classifier_score(torch.eye(classes).repeat(7, 1)) == pytest.approx(classes)


def test_collapsed_or_undecided_images_score_1() -> None:
    collapsed = torch.tensor([[1.0, 0.0, 0.0]]).repeat(50, 1)
    assert classifier_score(collapsed) == pytest.approx(1)
    assert classifier_score(torch.full((50, 3), 1 / 3)) == pytest.approx(1)


def test_the_deviation_of_a_score_is_over_ten_parts() -> None:
    """Five parts that score 1 and five that score 2 deviate by 0.5; equal parts do not, though they score above 1."""
    sure = torch.eye(2, dtype=torch.float64)
    collapsed, even = sure[:1].repeat(4, 1), sure.repeat(2, 1)
    assert score_deviation(torch.cat([*[collapsed] * 5, *[even] * 5])) == pytest.approx(0.5)
    assert score_deviation(torch.cat([even] * 10)) == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 999), st.integers(2, 6), st.integers(1, 40))
def test_it_is_exp_of_the_mutual_information(seed: int, classes: int, images: int) -> None:
    """H(mean p) - mean H(p), by scipy; so it lies between 1 and the number of classes."""
    p = np.random.default_rng(seed).dirichlet([0.5] * classes, images)
    wanted = math.exp(entropy(p.mean(axis=0)) - entropy(p, axis=1).mean())
    found = classifier_score(torch.from_numpy(p))
    assert found == pytest.approx(wanted, rel=1e-9)
    assert 1 - 1e-9 <= found <= classes + 1e-9
