"""How a network sees a batch: with which noise, as one batch or several, and together with which other ranks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from plgan_tune.gan.draws import Draws

AllSum = Callable[[Tensor], Tensor]
"""Sums a tensor over a trial's ranks, differentiably."""

Gather = Callable[[Tensor], Tensor]
"""Puts the rows of all ranks together, differentiably: (parts, own rows, ...) to (parts, rows of the batch, ...)."""


def gather(own: Tensor, rows: slice, batch: int, all_sum: AllSum) -> Tensor:
    """Return the rows of all ranks, (parts, batch, ...), of which `own` are this rank's `rows`, (parts, b, ...).

    Each rank adds its rows to zeros, which is exact, so that the sum is the only collective.
    """
    padded = own.new_zeros(own.shape[0], batch, *own.shape[2:])
    padded[:, rows] = own
    return all_sum(padded)


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a network over images or latent vectors.

    Attributes:
        draws: noise and dropout of training; None is evaluation, where an image's result depends on no other image.
        parts: global batches that lie end to end in the pass. What a layer learns of a batch, it learns of each part
            alone: labelled, unlabelled and generated images never see each other.
        all_sum: sums over ranks; None if this rank holds whole batches.
        gather: puts the rows of all ranks together; None if this rank holds whole batches.
        reference: rows at the beginning of G's pass that are its reference batch for virtual batch norm. They are the
            same on every rank, and become no images.
    """

    draws: Draws | None = None
    parts: int = 1
    all_sum: AllSum | None = None
    gather: Gather | None = None
    reference: int = 0


EVALUATION: Final = Pass()
