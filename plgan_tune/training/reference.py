"""The validation images as what generated images are compared with, once an epoch."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.training.generate import BATCH, uint8_batch
from plgan_tune.training.judge import MOST, Judge, measured
from plgan_tune.training.measures import (
    Moments,
    ball_radii,
    classifier_score,
    coverage,
    directions,
    frechet_distance,
    moments,
    projected,
    sorted_along,
    transport,
)
from plgan_tune.training.ranks import Ranks
from plgan_tune.training.state import TrainState


class Quality(NamedTuple):
    """Columns of `EpochMetrics`, which documents them. Without a judge there is the last alone."""

    val_distance: float | None
    val_distance_raw: float | None
    val_coverage: float | None
    val_score: float | None
    val_transport: float


@dataclass(frozen=True, eq=False)
class _Judged:
    """What the judge sees in the validation images.

    Attributes:
        judge: the judge, on the images' device.
        moments: those of the features of all images.
        features: those of `MOST` images, or of all.
        radii: their balls.
    """

    judge: Judge
    moments: Moments
    features: Tensor
    radii: Tensor


@dataclass(frozen=True, eq=False)
class Reference:
    """The validation images, measured once for all epochs of all trials on the same data.

    Attributes:
        images: how many generated images are compared (`measured`).
        along: the directions of `transport`.
        pixels: as many validation images along them, sorted.
        judged: None without a judge.
    """

    images: int
    along: Tensor
    pixels: Tensor
    judged: _Judged | None

    @classmethod
    def of(cls, data: Dataset, judge: Judge | None) -> Self:
        """Measure the validation images on their device. The judge moves there, too."""
        real = data.images[data.split.validation]
        count = measured(data)
        # Some sources hold their images class by class.
        order = torch.randperm(len(real), generator=rng_for(0, 3, Stream.JUDGE)).to(real.device)
        along = directions(real[0].numel()).to(real.device)
        pixels = sorted_along(projected(real[order[:count]], along))
        if judge is None:
            return cls(count, along, pixels, None)
        features = judge.to(real.device).features(real)
        some = features[order[:MOST]]
        judged = _Judged(judge, moments(features), some, ball_radii(some))
        return cls(count, along, pixels, judged)

    @torch.no_grad()
    def measure(self, state: TrainState, ranks: Ranks) -> Quality:
        """Measure images by the averaged and the raw generator, from the same z in every epoch; change nothing.

        Rank i generates batches i, i + ranks and so on. All of a batch is computed on one rank, and sums of the ranks
        add zeros to it, so every rank measures what one alone would.
        """
        own = range(ranks.index, -(-self.images // BATCH), ranks.count)
        gathered = self._gathered(own, [self._seen(state, batch) for batch in own], ranks)
        if self.judged is None:
            return Quality(None, None, None, None, self._transport(gathered))
        real = self.judged
        width = real.features.shape[1]
        features, raw, along = torch.split(gathered, [width, width, len(self.along)], dim=1)
        return Quality(
            val_distance=frechet_distance(real.moments, moments(features)),
            val_distance_raw=frechet_distance(real.moments, moments(raw)),
            val_coverage=coverage(real.features, real.radii, features),
            val_score=classifier_score(real.judge.probabilities(features.to(real.features.dtype))),
            val_transport=self._transport(along),
        )

    def _seen(self, state: TrainState, batch: int) -> Tensor:
        """Return what is known of each image of a batch, (BATCH, columns): features of both generators, pixels."""
        images = uint8_batch(state.averaged_g, state.trial, Stream.METRICS, batch)
        pixels = projected(images, self.along)
        if self.judged is None:
            return pixels
        judge = self.judged.judge
        raw = uint8_batch(state.G.network, state.trial, Stream.METRICS, batch)
        return torch.cat([judge.features(images), judge.features(raw), pixels], dim=1)

    def _gathered(self, own: range, seen: list[Tensor], ranks: Ranks) -> Tensor:
        """Return the rows of all ranks' batches, (images, columns) float64."""
        columns = len(self.along) + (0 if self.judged is None else 2 * self.judged.features.shape[1])
        whole = self.pixels.new_zeros(-(-self.images // BATCH), BATCH, columns, dtype=torch.float64)
        for batch, rows in zip(own, seen, strict=True):
            whole[batch] = rows
        return ranks.all_sum(whole).flatten(0, 1)[: self.images]

    def _transport(self, along: Tensor) -> float:
        return transport(sorted_along(along.to(self.pixels.dtype)), self.pixels)
