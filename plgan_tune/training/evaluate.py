"""The error of a discriminator as a classifier, without noise."""

from typing import NamedTuple

import torch
from torch import Tensor

from plgan_tune.config.trial import Kind
from plgan_tune.gan.networks import Discriminator, to_unit_range
from plgan_tune.training.precision import PrecisionPolicy
from plgan_tune.training.ranks import ALONE, Ranks

_CHUNK = {"mlp": 5000, "conv": 250}
"""Images at a time: the convolutional pair's activations are large."""


class Verdict(NamedTuple):
    """A discriminator's result on labelled images."""

    error: float
    """Fraction in [0, 1]."""
    finite: bool
    """Whether every logit was a finite number."""


@torch.no_grad()
def classify(
    D: Discriminator, images: Tensor, labels: Tensor, kind: Kind, precision: PrecisionPolicy, ranks: Ranks = ALONE
) -> Verdict:
    """Classify uint8 `images` (n, channels, size, size) with `labels` (n,); each rank handles its own rows."""
    own = ranks.rows(len(labels))
    counts = torch.zeros(2, dtype=torch.int64, device=images.device)
    for part, truth in zip(torch.split(images[own], _CHUNK[kind]), torch.split(labels[own], _CHUNK[kind]), strict=True):
        with precision.autocast():
            logits = D(to_unit_range(part, kind, precision.dtype)).logits
        counts += torch.stack([(logits.argmax(dim=1) != truth).sum(), logits.isfinite().logical_not().sum()])
    wrong, broken = ranks.all_sum(counts).tolist()
    return Verdict(wrong / len(labels), broken == 0)
