"""Battles of two trained GANs: the generative adversarial metric, GAM (Im et al. 2016, arXiv:1602.05110, section 4).

D of each judges the test images and what the OTHER generator makes. With err(D, x) the share that D takes for the
wrong kind,

    r_test = err(D1, test) / err(D2, test),   r_sample = err(D1, G2(z)) / err(D2, G1(z)).

Model 1 wins if r_sample is below 1: D2 is fooled by G1 more often than D1 by G2. That says something only if both D
are about equally good, which r_test shows. All of it is a pure function of the realness r of images; arrays may have
leading axes, of independent battles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from plgan_tune.analysis.seeds import CONFIDENCE, estimate

Floats = NDArray[np.float64]

FAIR: Final = (0.85, 1.1)
"""Bounds of r_test within which a battle has a winner: about those of the published tables."""

WINDOW: Final = 0.05
"""Share of the calibration images on either side of the threshold from which a density there is estimated."""

Verdict = Literal["one", "other", "not told apart", "invalid"]


class Calibration(NamedTuple):
    """D's threshold, and how exactly it is known.

    Attributes:
        threshold: an image with more realness is taken for real.
        low: the values from here to `high` are `WINDOW` of the images on either side of the threshold.
        high: their upper end.
        error: share of the images of either kind that are on the wrong side.
        images: images of each kind.
    """

    threshold: Floats
    low: Floats
    high: Floats
    error: Floats
    images: int


def calibrate(real: Floats, generated: Floats) -> Calibration:
    """Return the threshold that errs on real and on D's own generated images equally often: the median of both.

    A critic has no 0, and with smoothed labels the logit of an even chance is none either. With as many images of each
    kind, below the median there are as many real images as there are generated ones above. For densities that mirror
    each other it is the threshold of the best balanced accuracy. The best one of the images at hand is not used: a few
    images of a flat maximum decide its place, so that two equal models are told apart far too often
    (docs/evaluation.md).

    Args:
        real: realness of training images, (..., n).
        generated: that of images by D's own generator, (..., n).

    Raises:
        ValueError: if they are not as many.
    """
    if real.shape != generated.shape:
        raise ValueError(f"as many real as generated images calibrate D, but got {real.shape}, {generated.shape}")
    n = real.shape[-1]
    both = np.sort(np.concatenate([real, generated], axis=-1), axis=-1)
    threshold = (both[..., n - 1] + both[..., n]) / 2
    beside = max(1, round(WINDOW * 2 * n))
    error = (real <= threshold[..., None]).mean(axis=-1)
    return Calibration(threshold, both[..., n - beside], both[..., n + beside - 1], error, n)


class Rate(NamedTuple):
    """A share of images on which D errs.

    Attributes:
        value: (x + 1/2) / (n + 1) of x wrong ones of n, never 0 or 1.
        spread: variance of its logarithm: of the images, and of the threshold.
    """

    value: Floats
    spread: Floats


def _rate(calibration: Calibration, realness: Floats, wrong: NDArray[np.bool_]) -> Rate:
    """Return the rate of wrong answers on images with this realness, (..., n).

    The threshold moves with the calibration images, by a variance of error (1 - error) / (2 images density^2), where
    density is that of both kinds together; the rate moves with it by the density of these images there.
    """
    n = realness.shape[-1]
    value = (wrong.sum(axis=-1) + 0.5) / (n + 1)
    low, high = calibration.low[..., None], calibration.high[..., None]
    density = ((low <= realness) & (realness <= high)).mean(axis=-1) / (2 * WINDOW)  # over that of both kinds
    moved = density**2 * calibration.error * (1 - calibration.error) / (2 * calibration.images)
    return Rate(value, (value * (1 - value) / n + moved) / value**2)


class Judged(NamedTuple):
    """How often one D errs in a battle: on the test images, and on images of the other's generator."""

    test: Rate
    sample: Rate


def judged(calibration: Calibration, test: Floats, sample: Floats) -> Judged:
    """Return how often D errs.

    Args:
        calibration: of this D.
        test: realness of the test images, (..., n).
        sample: realness of images by the other's generator, (..., m).
    """
    threshold = calibration.threshold[..., None]
    return Judged(_rate(calibration, test, test <= threshold), _rate(calibration, sample, sample > threshold))


class Ratio(NamedTuple):
    """A ratio of two rates with its 95 % interval, by the delta method on its logarithm (Katz et al. 1978)."""

    value: Floats
    low: Floats
    high: Floats


def ratio(one: Rate, other: Rate) -> Ratio:
    """Return the ratio of two independent rates."""
    value = one.value / other.value
    reach = np.exp(float(ndtri((1 + CONFIDENCE) / 2)) * np.sqrt(one.spread + other.spread))
    return Ratio(value, value / reach, value * reach)


@dataclass(frozen=True, slots=True)
class Battle:
    """What a battle of two models has come to, on one seed or over several.

    Attributes:
        r_test: ratio of their errors on the test images.
        r_sample: ratio of their errors on each other's images; below 1, the first one wins.
        low: lower end of its 95 % interval.
        high: its upper end.
        accuracy_sample: ratio of their accuracies on each other's images, as GRAN's published code prints it: there, a
            winner's is above 1.
        seeds: over how many seeds.
    """

    r_test: float
    r_sample: float
    low: float
    high: float
    accuracy_sample: float
    seeds: int = 1

    @classmethod
    def of(cls, one: Judged, other: Judged) -> Self:
        """Return the battle of two models on one seed, from what each one's D has judged."""
        test, sample = ratio(one.test, other.test), ratio(one.sample, other.sample)
        accuracy = (1 - one.sample.value) / (1 - other.sample.value)
        return cls(float(test.value), float(sample.value), float(sample.low), float(sample.high), float(accuracy))

    @classmethod
    def over_seeds(cls, battles: Sequence[Self]) -> Self:
        """Return the battles of two models on several seeds together: geometric means, with Student's interval.

        The interval contains the spread of training; that of a single seed has only that of the images. The ratios of
        two configurations that are equally good lie around 1 in both directions, so their logarithms average.
        """
        if len(battles) == 1:
            return battles[0]
        found = estimate([log(battle.r_sample) for battle in battles])
        others = (
            exp(float(np.mean([log(value) for value in values])))
            for values in ([battle.r_test for battle in battles], [battle.accuracy_sample for battle in battles])
        )
        r_test, accuracy = others
        return cls(r_test, exp(found.mean), exp(found.low), exp(found.high), accuracy, len(battles))

    def turned(self) -> Self:
        """Return the battle with the second one as the first."""
        return type(self)(
            r_test=1 / self.r_test,
            r_sample=1 / self.r_sample,
            low=1 / self.high,
            high=1 / self.low,
            accuracy_sample=1 / self.accuracy_sample,
            seeds=self.seeds,
        )

    @property
    def verdict(self) -> Verdict:
        """Which of the two wins.

        They are not told apart if the interval of r_sample contains 1. If it does not, but r_test is outside of `FAIR`,
        the battle is invalid: a D that is simply worse is fooled more often.
        """
        if self.low <= 1 <= self.high:
            return "not told apart"
        if not FAIR[0] <= self.r_test <= FAIR[1]:
            return "invalid"
        return "one" if self.r_sample < 1 else "other"


def wins(battles: Mapping[tuple[str, str], Battle]) -> dict[str, tuple[int, int]]:
    """Return each model's battles won and lost, the most won first, of equally many the fewest lost.

    Ratios are not multiplied along chains of battles, for they are not transitive: of published ones, CelebA's are 3.4
    and 3.2 from T = 1 to 3 and 5, but 14 from 3 to 5.

    Args:
        battles: the battle of each pair of names, in any order.
    """
    won = dict.fromkeys((name for pair in battles for name in pair), 0)
    lost = dict.fromkeys(won, 0)
    for (one, other), battle in battles.items():
        if battle.verdict in ("one", "other"):
            winner, loser = (one, other) if battle.verdict == "one" else (other, one)
            won[winner] += 1
            lost[loser] += 1
    return {name: (won[name], lost[name]) for name in sorted(won, key=lambda name: (-won[name], lost[name]))}
