"""Randomness as an argument: every draw belongs to a (seed, step, stream) and to the whole, global batch.

torch's CPU generator is not counter-based, so a rank cannot jump to its own rows: it draws for the global batch and
keeps its rows. The draws therefore do not depend on the number of ranks.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from functools import cache

import numpy as np
import torch
from numpy.random import SFC64
from torch import Tensor

_MASK = 2**64 - 1


class Stream(IntEnum):
    """The purpose of a draw. A trial's numbers depend on these values: append, never renumber."""

    WEIGHTS_D = 0
    WEIGHTS_G = 1
    CALIBRATE_D = 2
    CALIBRATE_G = 3
    LABELLED = 4
    UNLABELLED_D = 5
    UNLABELLED_G = 6
    LATENT_D = 7
    NOISE_D = 8
    LATENT_G = 9
    NOISE_REAL = 10
    NOISE_FAKE = 11
    SAMPLES = 12
    DIAGNOSTICS = 13
    REFERENCE_D = 14
    REFERENCE_G = 15
    SETTLE = 16
    METRICS = 17
    JUDGE = 18
    OWN_D = 20
    OWN_G = 21
    INTERPOLATE = 22
    NOISE_PENALTY = 23


def seed_for(seed: int, step: int, stream: Stream) -> int:
    """Return a 64-bit seed, well mixed (splitmix64, Steele et al. 2014) so that neighbours are unrelated."""
    state = seed & _MASK
    for word in (step, int(stream)):
        state = (state ^ _mix((word + 0x9E3779B97F4A7C15) & _MASK)) & _MASK
        state = _mix((state + 0x9E3779B97F4A7C15) & _MASK)
    return state


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def rng_for(seed: int, step: int, stream: Stream, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on `device`, seeded for one use."""
    rng = torch.Generator(device)
    rng.manual_seed(seed_for(seed, step, stream))
    return rng


class Draws:
    """Random tensors for one pass over a batch.

    Args:
        rng: generator seeded for this pass; draws follow the order of the network's layers.
        batch: number of images of the global batch in this pass.
        rows: indices of this rank's images in the global batch; None keeps them all.
        dtype: type of the drawn tensors.
    """

    def __init__(
        self, rng: torch.Generator, batch: int, rows: Tensor | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        self._rng = rng
        self._batch = batch
        self._rows = rows
        self._dtype = dtype

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw from N(0, 1), shape (own rows, *shape); see `normals`."""
        return self.normals([math.prod(shape)])[0].view(-1, *shape)

    def normals(self, widths: Sequence[int]) -> list[Tensor]:
        """Draw from N(0, 1), one tensor (own rows, width) for each of `widths`, all in one draw.

        On a CPU each number is one of 65,536 equally likely values.
        """
        counts = [self._batch * width for width in widths]
        draw = _from_quantiles if self._rng.device.type == "cpu" else _from_torch
        parts = draw(sum(counts), self._dtype, self._rng).split_with_sizes(counts)
        return [self._own(part.view(self._batch, -1)) for part in parts]

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Draw from U(0, 1), shape (own rows, *shape)."""
        return self._own(self._empty(shape).uniform_(generator=self._rng))

    def keep(self, shape: Sequence[int], probability: float) -> Tensor:
        """Draw 1 with `probability`, else 0, shape (own rows, *shape)."""
        return self._own(self._empty(shape).bernoulli_(probability, generator=self._rng))

    def _empty(self, shape: Sequence[int]) -> Tensor:
        return torch.empty((self._batch, *shape), dtype=self._dtype, device=self._rng.device)

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn if self._rows is None else drawn[self._rows]


def _from_torch(count: int, dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    return torch.empty(count, dtype=dtype, device=rng.device).normal_(generator=rng)


def _from_quantiles(count: int, dtype: torch.dtype, rng: torch.Generator) -> Tensor:
    """Look up each number by 16 random bits: three times as fast as torch's normal_, whose bits alone take longer.

    NumPy's SFC64 makes the bits twice as fast as torch, from a seed that the generator draws.
    """
    seed = torch.empty((), dtype=torch.int64).random_(generator=rng)
    words = SFC64(int(seed)).random_raw(-(-count // 4))
    places = torch.from_numpy(words.view(np.uint16)[:count].astype(np.int32))
    return _quantiles(dtype).index_select(0, places)


@cache
def _quantiles(dtype: torch.dtype) -> Tensor:
    """Return the midpoints of 65,536 equally likely parts of N(0, 1), up to +-4.3, stretched by 1e-4 to variance 1."""
    values: Tensor = torch.special.ndtri((torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16)
    return (values / values.square().mean().sqrt()).to(dtype)
