"""Confidence intervals of errors that are counted on a number of images."""

from math import sqrt
from typing import Final, NamedTuple

Z: Final = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


class Interval(NamedTuple):
    """The two ends of an interval."""

    low: float
    high: float


def wilson(error: float, images: int) -> Interval:
    """Return the 95 % score interval of an error rate (Wilson 1927), which is within [0, 1] and valid near its ends.

    Args:
        error: the fraction of `images` that were wrong.
        images: at least 1.
    """
    centre = error + Z**2 / (2 * images)
    half = Z * sqrt(error * (1 - error) / images + Z**2 / (4 * images**2))
    scale = 1 + Z**2 / images
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def difference(error: float, other: float, images: int) -> Interval:
    """Return the 95 % interval of `error` - `other`, each counted on `images` images (Newcombe 1998, method 10).

    It assumes independent errors. Errors on the SAME images differ less by chance, so the interval is rather too wide.
    """
    (low, high), (other_low, other_high) = wilson(error, images), wilson(other, images)
    between = error - other
    return Interval(
        between - sqrt((error - low) ** 2 + (other_high - other) ** 2),
        between + sqrt((high - error) ** 2 + (other - other_low) ** 2),
    )


def tied(error: float, best: float, images: int) -> bool:
    """Return whether `images` images cannot tell the two errors apart."""
    low, high = difference(error, best, images)
    return low <= 0 <= high
