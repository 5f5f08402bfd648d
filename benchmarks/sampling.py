"""TPE and random points, judged by the true means of what searches choose, where a true mean depends on the point.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py [--searches 100]

The super-population of simulate.py has true means that do not depend on the point, so no sampler can learn in it. Here
they are a smooth surface over the space, a Gaussian process that is fitted to the random trainings of split_curves.py
(ten splits of the digits, 36 points each), plus a rest that no sampler can know. How much of each there is says
cross-validation: each split is predicted from the nine others.

Prints tables and writes them to sampling.md.
"""

import argparse
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Final

import numpy as np
from machine import machine
from make_table import study as table_study
from simulate import (
    BUDGETS,
    EPOCHS,
    MOST_SEEDS,
    NOISE,
    STEP,
    TABLE,
    TRIALS,
    Errors,
    Population,
    Search,
    World,
    counted,
    population_of,
    read_table,
    study,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from split_curves import random_trainings
from stopping import NEVER, SHIPPED, Key, Outcome, Stopping, asha, outcomes_of, tables, write

from plgan_tune.analysis.findings import unit
from plgan_tune.records import TrialStatus, Value
from plgan_tune.study.assignment import Assignment, NoneYet
from plgan_tune.study.protocols import Suggestions
from plgan_tune.tuning.points import drawn
from plgan_tune.tuning.sampler import OptunaSampler

# The surface


def place_of(point: Mapping[str, Value]) -> Errors:
    """Return the point with each key between the ends of its domain, in [0, 1]."""
    return np.array([unit(domain, point[path]) for path, domain in table_study().domains.items()], float)


@dataclass(frozen=True, slots=True)
class Surface:
    """Mean errors at points, as far as the points explain them.

    Attributes:
        process: A Gaussian process, fitted to all splits.
        explained: Share of the last errors' variance within a split that the nine others explain.
        share: Of the variance between configurations, when the residual of a training is what NOISE has.
        middle: Mean over random points.
        deviation: Over random points.
    """

    process: GaussianProcessRegressor
    explained: float
    share: float
    middle: float
    deviation: float

    def at(self, place: Errors) -> float:
        """Return how far the point's mean is from that of random points, in deviations between random points."""
        return (float(self.process.predict(place[None])[0]) - self.middle) / self.deviation


def fit_surface() -> Surface:
    splits = [(np.array([place_of(point) for point in points]), curves) for points, curves in random_trainings()]
    places = [place for place, _ in splits]
    lasts = [curves[:, -1] - curves[:, -1].mean() for _, curves in splits]
    process = fitted(np.concatenate(places), np.concatenate(lasts))
    missed = []
    for out in range(len(splits)):
        others = [which for which in range(len(splits)) if which != out]
        part = fitted(np.concatenate([places[one] for one in others]), np.concatenate([lasts[one] for one in others]))
        missed.append(float(((part.predict(places[out]) - lasts[out]) ** 2).mean()))
    variance = float(np.concatenate(lasts).var())
    explained = 1 - fmean(missed) / variance
    draw = np.random.default_rng(20261130)
    usual = process.predict(np.array([place_of(drawn(table_study().domains, draw)) for _ in range(2000)]))
    share = explained * variance / (variance - NOISE.residual**2)
    return Surface(process, explained, share, float(usual.mean()), float(usual.std()))


def fitted(places: Errors, lasts: Errors) -> GaussianProcessRegressor:
    kernel = ConstantKernel(1.0) * RBF(np.ones(places.shape[1]), (0.1, 10.0)) + WhiteKernel(0.5)
    with warnings.catch_warnings(category=ConvergenceWarning, action="ignore"):  # a key may not matter
        return GaussianProcessRegressor(kernel, normalize_y=True).fit(places, lasts)


# The super-population


@dataclass(frozen=True, slots=True)
class Landscape(Population):
    """Draws worlds whose true means depend on the point.

    Attributes:
        surface: What points explain.
    """

    surface: Surface

    def land(self, search: int) -> "Land":
        return Land(self, np.random.default_rng([search, 20261130]))

    def curve_to(self, draw: np.random.Generator, last: float) -> Errors:
        """Return a curve of a training that ends near, shifted to end there, an error each STEP epochs."""
        curve = self._ending_near(draw, np.array([last]))[0]
        found: Errors = (curve + last - curve[-1])[STEP - 1 :: STEP]
        return found


def landscape() -> Landscape:
    known = population_of(read_table(TABLE / "curves.parquet"), "noise")
    return Landscape(known.components, known.curves, fitted=False, surface=fit_surface())


class Land(World):
    """A world whose configurations get their true means when their points are known.

    Args:
        population: What it is drawn from.
        draw: Its random numbers.
    """

    def __init__(self, population: Landscape, draw: np.random.Generator) -> None:
        steps = EPOCHS // STEP
        super().__init__(np.full(TRIALS, np.nan), np.ones((TRIALS, steps)), np.ones((TRIALS, MOST_SEEDS)))
        known = population.components
        self._population, self._draw = population, draw
        self._rests = draw.normal(0, known.between * math.sqrt(1 - population.surface.share), TRIALS)
        self._residuals = draw.normal(0, known.residual, (TRIALS, 1 + MOST_SEEDS))
        self._seeds = draw.normal(0, known.seed, 1 + MOST_SEEDS)
        self._first = draw.normal(known.first, known.first_known)

    def settle(self, number: int, point: Mapping[str, Value]) -> None:
        """Make the configuration of a number be at a point."""
        known, surface, place = self._population.components, self._population.surface, place_of(point)
        slope = known.between * math.sqrt(surface.share) * surface.at(place)
        self.truths[number] = known.mean + slope + self._rests[number] if number else self._first
        lasts = self.truths[number] + self._seeds + self._residuals[number]
        self._curves[number] = counted(self._population.curve_to(self._draw, lasts[0]))
        self._replicates[number] = counted(lasts[1:])


class Settling:
    """Suggests what a sampler suggests, and settles its points.

    Args:
        sampler: Suggests.
        land: Where they are settled.
    """

    def __init__(self, sampler: Suggestions, land: Land) -> None:
        self._sampler, self._land = sampler, land

    def ask(self) -> Assignment | NoneYet | None:
        assignment = self._sampler.ask()
        if isinstance(assignment, Assignment):
            self._land.settle(assignment.number, assignment.point)
        return assignment

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:
        self._sampler.report(trial_id, epoch, value, *others)

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        self._sampler.tell(trial_id, status)


# The contenders

RANDOM: Final = ("search.sampler=random",)
TPE: Final = ("search.sampler={tpe: {startup_trials: 12}}",)
"""As search_spaces/digits.yaml has it."""

CONTENDERS: Final[Mapping[str, tuple[str, ...]]] = {
    SHIPPED: (*RANDOM, *asha(1, 3)),
    "random, whole trainings": (*RANDOM, *NEVER),
    "TPE, ASHA (the default search)": (*TPE, *asha(1, 3)),
    "TPE, ASHA: 10, 20 and 40, factor 2": (*TPE, *asha(1, 2)),
    "TPE, whole trainings": (*TPE, *NEVER),
}
"""SHIPPED is what rows are compared with: random points with the shipped ASHA."""


def begin(settings: tuple[str, ...], land: Land, search: int) -> Stopping:
    """Begin a search of the longest budget, with random numbers of its own."""
    spec = study(max(BUDGETS), None, settings)
    spec = replace(spec, search=spec.search.model_copy(update={"seed": search}))
    return Stopping(Search(spec, land, suggest=lambda spec: Settling(OptunaSampler(spec), land)))


def outcomes(population: Landscape, search: int) -> dict[str, dict[Key, Outcome]]:
    """All contenders in one world."""
    found = {}
    for name, settings in CONTENDERS.items():
        land = population.land(search)
        found[name] = outcomes_of(begin(settings, land, search), land)
    return found


# The page

ABOUT: Final = """# TPE and random points, judged by the true means of what searches choose

{machine}.
`OMP_NUM_THREADS=1 python benchmarks/sampling.py --searches {searches}`

No training: each search meets a super-population of its own, as in [stopping.md](stopping.md), whose columns, plans of
confirming and deviations are these, too. But a true mean depends on the point: it is a smooth surface over the space
plus a rest that no sampler can know. All searches try the patent's point first, two trials at a time. A simulated epoch
stands for {step}.

The surface is a Gaussian process, fitted to {trainings} random trainings of the digits (`search_curves/`: ten splits,
each with a seed of its own). Predicted from the nine others, the points explain {explained:.0%} of the variance of a
split's last errors. That is {share:.0%} of the variance between configurations if the residual of a training is
{residual:.2f} points (NOISE.md). So the surface has a deviation of {slope:.2f} points over random points, the rest
{rest:.2f}, in all {between:.2f}.

TPE is the program's `OptunaSampler` with the digits' settings, told every error, stop and end by the driver's parts.
The row in bold has random points and the shipped ASHA; ASHA is that of 10 and 30 epochs, factor 3.
"""


def about(surface: Surface, searches: int) -> str:
    return ABOUT.format(
        machine=machine(),
        searches=searches,
        step=STEP,
        trainings=sum(len(points) for points, _ in random_trainings()),
        explained=surface.explained,
        share=surface.share,
        residual=100 * NOISE.residual,
        slope=100 * NOISE.between * math.sqrt(surface.share),
        rest=100 * NOISE.between * math.sqrt(1 - surface.share),
        between=100 * NOISE.between,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=100)
    searches = parser.parse_args().searches
    population = landscape()
    found = [outcomes(population, search) for search in range(searches)]
    text = f"{about(population.surface, searches)}\n## {searches} searches\n{tables(found)}"
    print(text)
    write(Path(__file__).with_suffix(".md"), text)


if __name__ == "__main__":
    main()
