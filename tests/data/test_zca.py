"""Whitening against NumPy in float64."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.data.zca import fit_zca


def correlated(n: int, d: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixed = rng.uniform(-1, 1, (n, d)) @ rng.normal(size=(d, d)) / d
    return torch.from_numpy(np.clip(mixed + 0.2, -1, 1).astype(np.float32))


@given(st.integers(30, 300), st.integers(2, 24), st.integers(0, 99))
def test_agrees_with_the_formula(n: int, d: int, seed: int) -> None:
    images = correlated(n, d, seed)
    x = images.numpy().astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    reference = vectors @ np.diag((np.maximum(values, 0) + 1e-5) ** -0.5) @ vectors.T
    mean, matrix = fit_zca(images)
    assert mean.dtype == matrix.dtype == torch.float32
    np.testing.assert_allclose(mean.numpy(), x.mean(0), atol=1e-6)
    np.testing.assert_allclose(matrix.numpy(), reference, rtol=1e-4, atol=1e-4 * np.abs(reference).max())


def test_whitened_covariance_is_near_the_identity_over_several_chunks() -> None:
    images = correlated(9000, 48, 0)
    mean, matrix = fit_zca(images)
    white = (images.double() - mean) @ matrix.double()
    covariance = np.cov(white.numpy().T, bias=True)
    values = np.linalg.eigvalsh(np.cov(images.numpy().astype(np.float64).T, bias=True))
    assert np.abs(covariance - np.eye(48)).max() < 1.1e-5 / values.min() + 1e-4
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)


def test_fewer_images_than_pixels_stay_finite() -> None:
    _, matrix = fit_zca(correlated(10, 64, 1))
    assert matrix.isfinite().all()
    assert torch.linalg.eigvalsh(matrix).max() < 1e-5**-0.5 * 1.01
