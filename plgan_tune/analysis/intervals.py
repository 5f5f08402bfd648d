"""How sure an error is that was counted on so many images."""

from math import sqrt
from typing import Final, NamedTuple

Z: Final = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


class Interval(NamedTuple):
    low: float
    high: float


def wilson(error: float, images: int) -> Interval:
    """The 95 % score interval of an error rate (Wilson 1927): it stays within [0, 1] and is right near its ends.

    Args:
        error: the fraction of `images` that were wrong.
        images: at least 1.
    """
    centre = error + Z**2 / (2 * images)
    half = Z * sqrt(error * (1 - error) / images + Z**2 / (4 * images**2))
    scale = 1 + Z**2 / images
    return Interval(max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale))


def difference(error: float, other: float, images: int) -> Interval:
    """The 95 % interval of `error` - `other`, each counted on `images` images (Newcombe 1998, method 10).

    It takes the two for independent. Errors on the SAME images differ by less by chance, so it is rather too wide.
    """
    (low, high), (other_low, other_high) = wilson(error, images), wilson(other, images)
    between = error - other
    return Interval(
        between - sqrt((error - low) ** 2 + (other_high - other) ** 2),
        between + sqrt((high - error) ** 2 + (other - other_low) ** 2),
    )


def tied(error: float, best: float, images: int) -> bool:
    """Whether so many images cannot tell the two errors apart."""
    low, high = difference(error, best, images)
    return low <= 0 <= high
