"""PED-ANOVA (Watanabe et al. 2023, arXiv:2304.10255): how far the good trials' values of a key lie from all trials'.

It gives the same results as Optuna's evaluator, which the tests compare, but works on counts of values instead of on
trials, and without scikit-learn, which Optuna imports: an interval takes hundreds of evaluations.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Scalar, Uniform
from plgan_tune.config.study import encode

Places = NDArray[np.int64]
"""The cell of each trial's value."""

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

    def density(self, places: Places) -> Floats:
        """Return a Parzen estimate on the cells, with a prior that weighs as one trial. It sums to 1."""
        counts = np.bincount(places, minlength=self.size)
        if isinstance(self.domain, Choice) and not self.domain.ordered:
            estimate = _of_options(counts)
        else:
            estimate = _kernels(self.size, _bandwidth(counts)) @ counts
        density: Floats = (estimate + self.prior) / (len(places) + 1)
        return density


def divergence(density: Floats, of_all: Floats) -> float:
    """Return Pearson's divergence of the good trials' density from that of all; 0 if they are equal."""
    good, everything = density + 1e-12, of_all + 1e-12
    return float(everything @ (good / everything - 1) ** 2)


def good(errors: Floats) -> NDArray[np.bool_]:
    """Return which trials are among the best tenth, rounded up, or tie with its last."""
    last = math.ceil(0.1 * len(errors)) - 1
    cutoff: float = np.partition(errors, last)[last]
    return errors <= cutoff


def _of_options(counts: NDArray[np.int64]) -> Floats:
    """Return each option's mass: the trials' options, each spread a little over all others, less if more were seen."""
    little = 1 / (np.count_nonzero(counts) + 1)
    masses: Floats = (counts + counts.sum() * little) / (1 + len(counts) * little)
    return masses


def _kernels(size: int, deviation: float) -> Floats:
    """Return a normal distribution around each cell, truncated to the cells, (size, size); one per column."""
    by_distance = _masses(np.arange(-size + 0.5, size), deviation)
    cells = np.arange(size)
    kernels: Floats = by_distance[cells[:, None] - cells + size - 1]
    kernels /= kernels.sum(axis=0)
    return kernels


def _wide(size: int) -> Floats:
    """Return a normal distribution around the middle, as wide as all cells and truncated to them."""
    masses = _masses(np.arange(size + 1.0) - size / 2, size)
    masses /= masses.sum()
    return masses


def _masses(edges: Floats, deviation: float) -> Floats:
    """Return twice the mass of a normal distribution around 0 between neighbouring edges."""
    below = np.array([math.erf(edge) for edge in edges / (deviation * math.sqrt(2))])
    masses: Floats = below[1:] - below[:-1]
    return masses


def _bandwidth(counts: NDArray[np.int64]) -> float:
    """Return the bandwidth by Scott's rule (1992), in cells."""
    places, total = np.flatnonzero(counts), int(counts.sum())
    weights = counts[places]
    deviation = math.sqrt(((places - places @ weights / total) ** 2 @ weights) / max(1, total - 1))
    so_far = np.cumsum(weights)
    first = int(places[np.searchsorted(so_far, total // 4, side="left")])
    third = int(places[min(len(places) - 1, int(np.searchsorted(so_far, total * 3 // 4, side="right")))])
    scott: float = 1.059 * min((third - first) / 1.34, deviation) * total**-0.2
    return max(scott, NARROWEST)
