"""Confidence intervals of values: of shares that are counted on a number of images, of others by their seeds."""

from collections.abc import Callable
from math import sqrt
from typing import Final, NamedTuple

from plgan_tune.config.metrics import Metric
from plgan_tune.records import about

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


class Noise(NamedTuple):
    """How sure a single value of a metric is.

    Attributes:
        interval: A value -> its 95 % interval; None where nothing is known of its noise.
        tied: Two values -> whether the noise leaves open which is the better one.
        source: What cannot tell tied ones apart, in words; nothing where nothing is known.
    """

    interval: Callable[[float], Interval | None]
    tied: Callable[[float, float], bool]
    source: str


def noise_of(metric: Metric, images: int, reach: float | None) -> Noise:
    """Return the noise of a metric's values.

    A share of images is binomial, whatever was trained. No such theory holds for any other metric: it deviates as its
    values have done over fresh seeds, which includes the noise of training, and is unknown before there are two.

    Args:
        metric: the metric.
        images: number of validation images.
        reach: half of a single value's 95 % interval by its seeds (`Study.reach`); None if it is unknown.
    """
    if metric.is_share:
        return Noise(
            lambda value: wilson(value, images),
            lambda value, best: tied(value, best, images),
            f"{images:,} validation images",
        )
    if reach is None:
        return Noise(lambda _: None, lambda value, best: value == best, "")
    least = about(metric.name)["least"]
    return Noise(
        lambda value: Interval(value - reach if least is None else max(float(least), value - reach), value + reach),
        lambda value, best: abs(value - best) <= sqrt(2) * reach,
        "the deviation over fresh seeds",
    )
