"""Generated images against the test images: the measures of an epoch's row, of the test images instead of validation.

They are of the averaged generator, as in an epoch's row, and in the features of the study's one judge.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import torch
from torch import Tensor

from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.training.judge import MOST, Judge
from plgan_tune.training.measures import (
    Moments,
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

COMPARED: Final = 10_000
"""Images that are compared with as many test images, at most."""


class Quality(NamedTuple):
    """Measures of images. Without a judge there is the last alone.

    Attributes:
        distance: from the test images, in the judge's features; it depends on how many images are compared.
        coverage: share of `MOST` test images near an image.
        score: classifier score of all images.
        score_deviation: over ten parts of them.
        doubt: 1 - the mean over all images of the greatest probability of a class.
        transport: sliced W1 distance of pixels from the test images.
    """

    distance: float | None
    coverage: float | None
    score: float | None
    score_deviation: float | None
    doubt: float | None
    transport: float


class _Judged(NamedTuple):
    """What the judge sees in the test images: the moments of all, and some with the radii of their balls."""

    judge: Judge
    moments: Moments
    some: Tensor
    radii: Tensor


@dataclass(frozen=True, eq=False)
class Yardstick:
    """The test images, measured once for all trials of an evaluation.

    Attributes:
        along: the directions of `transport`.
        pixels: the compared test images along them, sorted.
        judged: None without a judge.
        device: where all are, and where images are measured.
    """

    along: Tensor
    pixels: Tensor
    judged: _Judged | None
    device: torch.device

    @classmethod
    def of(cls, test: Tensor, judge: Judge | None, device: torch.device) -> Self:
        """Measure the test images, (n, channels, size, size) uint8. The judge moves to the device."""
        # Some sources hold their images class by class.
        real = _shuffled(test)[:COMPARED].to(device)
        along = directions(real[0].numel()).to(device)
        pixels = sorted_along(projected(real, along))
        if judge is None:
            return cls(along, pixels, None, device)
        features = judge.to(device).features(real)
        some = features[:MOST]
        return cls(along, pixels, _Judged(judge, moments(features), some, ball_radii(some)), device)

    @property
    def compared(self) -> int:
        """How many images are compared with as many test images."""
        return self.pixels.shape[1]

    @torch.no_grad()
    def measure(self, images: Tensor) -> Quality:
        """Measure images (n, channels, size, size) uint8, of which as many are compared as there are test images."""
        images = images.to(self.device)
        along = projected(images[: self.compared], self.along)
        moved = transport(*_equally_many(sorted_along(along), self.pixels))
        if self.judged is None:
            return Quality(None, None, None, None, None, moved)
        judge, real, some, radii = self.judged
        features = judge.features(images)
        compared, probabilities = features[: self.compared], judge.probabilities(features)
        return Quality(
            frechet_distance(real, moments(compared)),
            coverage(some, radii, compared[: len(some)]),
            classifier_score(probabilities),
            score_deviation(probabilities),
            float(1 - probabilities.amax(dim=1).mean()),
            moved,
        )


def training_images(data: Dataset) -> Tensor:
    """Return the pool's images in an order of chance: how near the first of them come, a perfect generator could."""
    return _shuffled(data.images[data.split.pool])


def _equally_many(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Return sorted rows of unequal length at the quantiles of the shorter ones."""
    count = min(one.shape[1], other.shape[1])

    def quantiles(rows: Tensor) -> Tensor:
        places = ((torch.arange(count, device=rows.device) + 0.5) * rows.shape[1] / count).long()
        return rows[:, places]

    return quantiles(one), quantiles(other)


def _shuffled(images: Tensor) -> Tensor:
    return images[torch.randperm(len(images), generator=rng_for(0, 4, Stream.JUDGE))]
