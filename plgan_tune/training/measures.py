"""Measures of a classifier and of generated images: pure functions of errors, features, probabilities and pixels.

Sums and matrix products are in float64. Features are a classifier's last hidden layer, one row an image.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from plgan_tune.gan.draws import Draws, Stream, rng_for

NEIGHBOURS: Final = 5
"""k of the balls of `coverage` (Naeem et al. 2020, section 4.1)."""

PARTS: Final = 10
"""Parts of the images of `score_deviation`."""

DIRECTIONS: Final = 256
"""Directions of `transport`, the same ones for all images of a size."""


class Moments(NamedTuple):
    """Mean (F,) and unbiased covariance (F, F) of features, float64."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """Return the moments of features (n, F), n at least 2."""
    rows = features.double()
    return Moments(rows.mean(dim=0), torch.cov(rows.T).reshape(rows.shape[1], rows.shape[1]))


def frechet_distance(one: Moments, other: Moments) -> float:
    """Return |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)), the Frechet distance of two normal distributions, squared.

    Dowson and Landau 1982; Heusel et al. 2017 take it of Inception features, as FID. The root's trace is that of
    (C^(1/2) C' C^(1/2))^(1/2), which is symmetric: its eigenvalues are real, and those that rounding leaves below 0
    count as 0.
    """
    values, vectors = torch.linalg.eigh(one.covariance)
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    product = root @ other.covariance @ root
    root_trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0.0).sqrt().sum()
    traces = one.covariance.trace() + other.covariance.trace()
    return max(0.0, float((one.mean - other.mean).square().sum() + traces - 2 * root_trace))


def ball_radii(real: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the squared distance of each row of features (n, F) to its k-th nearest other row, shape (n,).

    With fewer than k other rows it is the distance to the farthest. There must be at least 2 rows.
    """
    distances = _squared_distances(real, real)
    distances.fill_diagonal_(math.inf)
    return distances.kthvalue(min(k, len(real) - 1), dim=1).values


def coverage(real: Tensor, radii: Tensor, generated: Tensor) -> float:
    """Return the share of real images whose ball holds a generated image (Naeem et al. 2020, eq. 6).

    Args:
        real: features (n, F).
        radii: `ball_radii(real)`.
        generated: features (m, F).
    """
    return float((_squared_distances(real, generated).amin(dim=1) <= radii).double().mean())


def _squared_distances(one: Tensor, other: Tensor) -> Tensor:
    """Return |a - b|^2 for all pairs of rows, (n, m), at least 0."""
    a, b = one.double(), other.double()
    squares = torch.addmm(b.square().sum(dim=1), a, b.T, alpha=-2)
    return squares.add_(a.square().sum(dim=1, keepdim=True)).clamp_(min=0.0)


def classifier_score(probabilities: Tensor) -> float:
    """Return exp(mean over images of KL(p(y|x) || p(y))), with p(y) the mean of p(y|x): the Inception score's formula.

    Salimans et al. 2016, eq. in section 4, with a classifier of the data themselves instead of Inception. The score is
    1 if the classifier gives all images the same probabilities, and the number of classes if it is certain of each
    image and all classes are equally frequent.

    Args:
        probabilities: (n, classes), rows of sum 1.
    """
    p = probabilities.double()
    marginal = p.mean(dim=0, keepdim=True)
    divergence = (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(dim=1)
    return float(divergence.mean().clamp_min(0.0).exp())  # below 0 by rounding alone


def score_deviation(probabilities: Tensor) -> float:
    """Return the deviation of the classifier score over `PARTS` parts of the images, as Inception scores are printed.

    It is sqrt(mean of squared differences from the mean), as in Salimans et al.'s code. A part has fewer images than
    all, so its own score lies below theirs.
    """
    scores = torch.tensor([classifier_score(part) for part in probabilities.chunk(PARTS)], dtype=torch.float64)
    return float(scores.std(correction=0))


def directions(pixels: int) -> Tensor:
    """Return unit vectors of the space of images with so many pixels, (DIRECTIONS, pixels) float32, always the same."""
    drawn = Draws(rng_for(0, 0, Stream.METRICS), DIRECTIONS).normal((pixels,))
    lengths: Tensor = torch.linalg.vector_norm(drawn, dim=1, keepdim=True)
    return drawn / lengths


def projected(images: Tensor, along: Tensor) -> Tensor:
    """Return uint8 images, as pixels in [0, 1], along each direction: (n, directions) float32.

    Args:
        images: (n, channels, size, size).
        along: of `directions`, on the device of the images.
    """
    pixels = images.flatten(1).to(along.dtype) / 255
    return pixels @ along.T


def transport(one: Tensor, other: Tensor) -> float:
    """Return the sliced W1 distance of two sets of equally many images: W1 along a direction, mean over directions.

    In one dimension, W1 is the mean distance of the sorted values (Rabin et al. 2011; Bonneel et al. 2015).

    Args:
        one: of `sorted_along`.
        other: likewise.
    """
    return float((one - other).abs().mean(dtype=torch.float64))


def sorted_along(projections: Tensor) -> Tensor:
    """Return `projected` images sorted along each direction: (n, directions) to (directions, n)."""
    rows = projections.T.contiguous()
    # On a CPU, NumPy sorts ten times as fast as torch.
    return rows.sort(dim=1).values if rows.is_cuda else torch.from_numpy(np.sort(rows.numpy(), axis=1))


def balanced_error(wrong: Tensor, images: Tensor) -> float:
    """Return the mean of the classes' own errors; a class without images does not count.

    Args:
        wrong: images of each class that are classified as another, (classes,).
        images: images of each class, (classes,), at least one in all.
    """
    present = images > 0
    return float((wrong[present] / images[present].double()).mean())
