"""The error of a discriminator as a classifier, without noise."""

from typing import NamedTuple

import torch
from torch import Tensor

from plgan_tune.gan.pairs.base import Discriminator
from plgan_tune.training.measures import balanced_error
from plgan_tune.training.precision import PrecisionPolicy
from plgan_tune.training.ranks import ALONE, Ranks


class Verdict(NamedTuple):
    """A discriminator's result on labelled images."""

    error: float
    """Fraction in [0, 1]."""
    balanced_error: float
    """Mean of the classes' own errors."""
    finite: bool
    """Whether every logit was a finite number."""


@torch.no_grad()
def classify(
    D: Discriminator, images: Tensor, labels: Tensor, precision: PrecisionPolicy, ranks: Ranks = ALONE
) -> Verdict:
    """Classify uint8 `images` (n, channels, size, size) with `labels` (n,); each rank handles its own rows."""
    own, pixels, chunk = ranks.rows(len(labels)), D.traits.pixels, D.chunk
    classes = int(labels.max()) + 1
    counts = torch.zeros(classes + 1, dtype=torch.int64, device=images.device)
    for part, truth in zip(torch.split(images[own], chunk), torch.split(labels[own], chunk), strict=True):
        with precision.autocast():
            logits = D(pixels.from_uint8(part, precision.dtype)).logits
        counts[:-1] += torch.bincount(truth[logits.argmax(dim=1) != truth], minlength=classes)
        counts[-1] += logits.isfinite().logical_not().sum()
    *wrong, broken = ranks.all_sum(counts).tolist()
    images_of = torch.bincount(labels, minlength=classes)
    return Verdict(sum(wrong) / len(labels), balanced_error(torch.tensor(wrong), images_of.cpu()), broken == 0)
