"""PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255): how far the good trials' values of a key lie from all trials'.

It gives the same results as Optuna's evaluator, which the tests compare, but works on counts of values instead of on
trials, and without scikit-learn, which Optuna imports: an answer takes thousands of evaluations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Scalar, Uniform
from plgan_tune.config.study import encode

Places = NDArray[np.int64]
"""The cell of each trial's value."""

Counts = NDArray[np.int64]
"""How many trials lie in each cell."""

Floats = NDArray[np.float64]

CELLS: Final = 50
"""Highest number of cells of a domain of numbers."""

NARROWEST: Final = 0.5 / 1.64
"""Lowest standard deviation of a kernel, in cells: nine tenths of the kernel are then in its own cell."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A domain in cells: one per option of a choice, else of equal width, in the logarithm for a logarithmic domain."""

    domain: Domain
    prior: Floats

    @classmethod
    def of(cls, domain: Domain) -> "Grid":
        """Return the cells of a domain."""
        match domain:
            case Choice(options, ordered=True):
                return cls(domain, _wide(len(options)))
            case Choice(options):
                return cls(domain, np.full(len(options), 1 / len(options)))
            case Int(low, high, step):
                return cls(domain, _wide(min((high - low) // step + 1, CELLS)))
            case Uniform(low, high, float() | int() as step):
                return cls(domain, _wide(min(round((high - low) / step) + 1, CELLS)))
            case LogInt(low, high):
                return cls(domain, _wide(min(math.ceil(math.log(high - low + 1) / math.log(2)) + 1, CELLS)))
            case Uniform(low, high) | LogUniform(low, high):
                return cls(domain, _wide(CELLS if low < high else 1))

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.prior)

    def places(self, values: Sequence[Scalar]) -> Places:
        """Return the cell of each value."""
        if isinstance(self.domain, Choice):
            options = [encode(self.domain, option) for option in self.domain.options]
            cell_of = {(type(option), option): cell for cell, option in enumerate(options)}  # True equals 1
            return np.array([cell_of[type(value), value] for value in values], np.int64)
        scale = np.log if isinstance(self.domain, LogUniform | LogInt) else np.asarray
        low, high = scale(float(self.domain.low)), scale(float(self.domain.high))
        width = (high - low) / (self.size - 1) if self.size > 1 else 1.0
        cells = np.ceil((scale(np.array(values, float)) - low) / width - 0.5)
        return np.clip(cells, 0, self.size - 1).astype(np.int64)

    def counts(self, places: Places, among: NDArray[np.bool_] | None = None) -> Counts:
        """Return how many trials lie in each cell, (..., size).

        Args:
            places: the cell of each trial of one or more samples, (..., trials).
            among: which trials count; default all.
        """
        samples = places.reshape(-1, places.shape[-1])
        cells = samples + self.size * np.arange(len(samples))[:, None]
        chosen = cells.ravel() if among is None else cells[among.reshape(cells.shape)]
        return np.bincount(chosen, minlength=len(samples) * self.size).reshape(*places.shape[:-1], self.size)

    def density(self, counts: Counts) -> Floats:
        """Return a Parzen estimate on the cells, with a prior that weighs as one trial. It sums to 1.

        Args:
            counts: trials in each cell, (..., size): thousands of samples take one call.
        """
        has_no_order = isinstance(self.domain, Choice) and not self.domain.ordered
        estimate = _of_options(counts) if has_no_order else _smoothed(counts)
        density: Floats = (estimate + self.prior) / (counts.sum(axis=-1, keepdims=True) + 1)
        return density


def divergence(density: Floats, of_all: Floats) -> Floats:
    """Return Pearson's divergence of the good trials' density from that of all, over the last axis; 0 if equal."""
    good, everything = density + 1e-12, of_all + 1e-12
    by_sample: Floats = (everything * (good / everything - 1) ** 2).sum(axis=-1)
    return by_sample


def good(errors: Floats) -> NDArray[np.bool_]:
    """Return which trials, along the last axis, are among the best tenth, rounded up, or tie with its last."""
    last = math.ceil(0.1 * errors.shape[-1]) - 1
    cutoff = np.partition(errors, last, axis=-1)[..., last, None]
    is_good: NDArray[np.bool_] = errors <= cutoff
    return is_good


def _of_options(counts: Counts) -> Floats:
    """Return each option's mass: the trials' options, each spread a little over all others, less if more were seen."""
    little = 1 / (np.count_nonzero(counts, axis=-1, keepdims=True) + 1)
    masses: Floats = (counts + counts.sum(axis=-1, keepdims=True) * little) / (1 + counts.shape[-1] * little)
    return masses


def _smoothed(counts: Counts) -> Floats:
    """Return the sum of a normal distribution around each trial's cell, truncated to the cells."""
    size, deviation = counts.shape[-1], _bandwidth(counts)
    below = erf(np.arange(-size + 0.5, size) / (deviation * math.sqrt(2)))  # of a kernel around 0, at the cells' edges
    cells = np.arange(size)
    whole = below[..., 2 * size - 1 - cells] - below[..., size - 1 - cells]  # what a kernel has within the cells
    kernels = (below[..., 1:] - below[..., :-1])[..., cells[:, None] - cells + size - 1]
    smoothed: Floats = (kernels @ (counts / whole)[..., None])[..., 0]
    return smoothed


def _wide(size: int) -> Floats:
    """Return a normal distribution around the middle, as wide as all cells and truncated to them."""
    masses = _masses(np.arange(size + 1.0) - size / 2, size)
    masses /= masses.sum()
    return masses


def _masses(edges: Floats, deviation: float) -> Floats:
    """Return twice the mass of a normal distribution around 0 between neighbouring edges."""
    below = erf(edges / (deviation * math.sqrt(2)))
    masses: Floats = below[1:] - below[:-1]
    return masses


def _bandwidth(counts: Counts) -> Floats:
    """Return the bandwidth by Scott's rule (1992), in cells, (..., 1)."""
    cells, total = np.arange(counts.shape[-1]), counts.sum(axis=-1, keepdims=True)
    mean = (counts * cells).sum(axis=-1, keepdims=True) / total
    squares = (counts * (cells - mean) ** 2).sum(axis=-1, keepdims=True)
    so_far = counts.cumsum(axis=-1)
    first = (so_far >= np.maximum(total // 4, 1)).argmax(axis=-1)[..., None]
    third = (so_far > total * 3 // 4).argmax(axis=-1)[..., None]
    spread = np.minimum((third - first) / 1.34, np.sqrt(squares / np.maximum(total - 1, 1)))
    scott: Floats = np.maximum(1.059 * spread * total**-0.2, NARROWEST)
    return scott
