"""How much each searched key matters: PED-ANOVA of trials at one epoch, with intervals and a test against chance.

The interval is the arcsine of the share's root, plus and minus 1.645 of its deviations over half samples, which are
drawn without replacement: they deviate from the whole as it does from all trials that could have been, and no trial is
there twice, which would sharpen the densities. `benchmarks/importance.md` compares it with bootstraps. It holds what
searches of as many trials find on average. A share of few trials is drawn towards equal ones: a key without influence
has one above 0, which `significant` sets right.

Whether a key is significant is the share of random sets, as large as that of the good trials, whose divergence is as
great. Sets are drawn until that share is four standard errors off 5 %.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from plgan_tune.analysis.curves import standings, trained
from plgan_tune.analysis.intervals import Interval
from plgan_tune.analysis.ped_anova import Floats, Grid, Places, divergence, good
from plgan_tune.analysis.study import Study
from plgan_tune.console.format import measured
from plgan_tune.records import Value

LEAST: Final = 20
"""Trials that an epoch must have: the best tenth of them, PED-ANOVA's good ones, are two."""

HALVES: Final = 100
"""Half samples of the trials, by which a share's interval goes."""

Z: Final = 1.6448536269514722
"""The normal quantile of a two-sided 90 % interval."""

LEVEL: Final = 0.05
"""Level of significance."""

FIRST_SETS: Final = 1_000
"""Random sets drawn for each key; the number doubles while they do not decide."""

MOST_SETS: Final = 16_000
"""Most random sets of a key. A p-value that is still undecided is then within 0.7 points of 5 %."""

SURE: Final = 4.0
"""Distance from 5 %, in standard errors, at which a p-value decides."""


@dataclass(frozen=True, slots=True)
class Importance:
    """Importance of one searched key.

    Attributes:
        path: the key.
        share: share of all keys' importance, in [0, 1].
        interval: 90 % interval; it holds the share and lies in [0, 1].
        significant: whether the key separates good trials from the others better than in 95 % of random sets.
    """

    path: str
    share: float
    interval: Interval
    significant: bool


@dataclass(frozen=True, slots=True)
class Importances:
    """Importance of all searched keys.

    Attributes:
        keys: the largest first.
        epoch: the epoch at which trials are compared: the last that at least `LEAST` of them reached.
        reached: number of trials that reached it.
        stopped: number of trials that early stopping ended before it; they rank behind those.
        diverged: number of trials that diverged before it; they rank behind all others.
        noun: what a sentence calls a value that they are compared by.
    """

    keys: tuple[Importance, ...]
    epoch: int
    reached: int
    stopped: int = 0
    diverged: int = 0
    noun: str = "error"

    @property
    def basis(self) -> str:
        """What was compared, in words: the same on a terminal and in a report."""
        by = f"by the {self.noun}s of {self.reached:,} trials at epoch {self.epoch}"
        before = [f"{self.stopped:,} stopped early"] * (self.stopped > 0) + [f"{self.diverged:,} diverged"] * (
            self.diverged > 0
        )
        return f"{by}, with {' and '.join(before)} before it behind them" if before else by


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No importances.

    Attributes:
        why: the reason, in a sentence.
    """

    why: str


def importances(study: Study, *, seed: int = 0) -> Importances | Unanswered:
    """Return PED-ANOVA's shares of the searched keys, from the trials in the current domains.

    Trials are compared as `standings` ranks them: by their values at one epoch, the last that `LEAST` reached.

    Args:
        study: the study.
        seed: seed of the draws.

    Returns:
        The importance of all keys, or why there is none.
    """
    if len(study.spec.domains) < 2:
        alone = "".join(f"{path} alone" for path in study.spec.domains) or "none"
        return Unanswered(f"Importance compares searched keys, but this study searches {alone}.")
    found = standings(study, LEAST)
    if found is None:
        return Unanswered(_too_few(study))
    if found.places.nunique() < 2:
        best = measured(study.metric, found.best)
        alike = f"all {found.reached:,} have the same at epoch {found.epoch}, {best}"
        return Unanswered(f"Importance compares trials by their {study.metric.noun}s, but {alike}.")
    ranks = np.asarray(found.places, np.float64)
    values = points(study, found.places.index)
    keys = {
        path: _Key(grid := Grid.of(domain), grid.places([value[path] for value in values]))
        for path, domain in study.spec.domains.items()
    }
    share, interval = _shares_and_intervals(list(keys.values()), ranks, np.random.default_rng(seed))
    answers = [
        Importance(path, float(share[number]), interval[number], key.is_significant(ranks, (seed, number)))
        for number, (path, key) in enumerate(keys.items())
    ]
    answers.sort(key=lambda answer: -answer.share)
    return Importances(tuple(answers), found.epoch, found.reached, found.stopped, found.diverged, study.metric.noun)


def _too_few(study: Study) -> str:
    inside, outside = trained(study)
    sentence = f"Importance takes {LEAST} trials that have trained an epoch, but there are {inside}"
    return f"{sentence} in the current domains and {outside} outside." if outside else f"{sentence}."


def points(study: Study, trial_ids: "pd.Index[str]") -> list[dict[str, Value]]:
    """Return each trial's values of the searched keys."""
    rows = study.trials.set_index("trial_id").loc[trial_ids].to_dict("records")
    return [study.params(row) for row in rows]


@dataclass(frozen=True, slots=True, eq=False)
class _Key:
    """A searched key's values in all compared trials."""

    grid: Grid
    places: Places

    def divergence(self, ranks: Floats, trials: Places) -> Floats:
        """Of each sample of `trials`, (..., trials), by their `ranks`, which are of all."""
        places = self.places[trials]
        density = self.grid.density(self.grid.counts(places, good(ranks[trials])))
        return divergence(density, self.grid.density(self.grid.counts(places)))

    def is_significant(self, ranks: Floats, seed: tuple[int, int]) -> bool:
        """Whether random sets of trials, as large as that of the good ones, seldom part from all as far."""
        draw, is_good = np.random.default_rng(seed), good(ranks)
        everything = self.grid.counts(self.places)
        of_all = self.grid.density(everything)
        own = float(divergence(self.grid.density(self.grid.counts(self.places, is_good)), of_all))
        drawn, as_far, sets = 0, 0, FIRST_SETS
        while drawn < MOST_SETS:
            for batch in _batches(sets):
                counts = draw.multivariate_hypergeometric(
                    everything, int(is_good.sum()), size=batch, method="marginals"
                )
                as_far += int((divergence(self.grid.density(counts), of_all) >= own * (1 - 1e-9)).sum())
            drawn, sets = drawn + sets, drawn + sets
            if abs(as_far - LEVEL * drawn) > SURE * math.sqrt(drawn * LEVEL * (1 - LEVEL)):
                break
        return as_far < LEVEL * drawn


def _batches(sets: int, most: int = 500) -> Iterator[int]:
    """Yield the numbers of sets to evaluate together; more would not stay in the processor's cache."""
    yield from (min(most, sets - done) for done in range(0, sets, most))


def _shares_and_intervals(
    keys: Sequence[_Key], ranks: Floats, draw: np.random.Generator
) -> tuple[Floats, list[Interval]]:
    """Of each key; the module's docstring says how."""
    trials = np.arange(len(ranks))
    halves = np.stack([draw.permutation(trials)[: len(trials) // 2] for _ in range(HALVES)])
    share = _shares(np.array([key.divergence(ranks, trials) for key in keys]))
    of_halves = _shares(np.array([key.divergence(ranks, halves) for key in keys]))
    angle, reach = _angle(share), Z * _angle(of_halves).std(axis=1, ddof=1)
    low, high = (np.sin(np.clip(end, 0, np.pi / 2)) ** 2 for end in (angle - reach, angle + reach))
    # The square of the root's sine may be the next number to the share.
    ends = zip(np.minimum(low, share).tolist(), np.maximum(high, share).tolist(), strict=True)
    return share, [Interval(*end) for end in ends]


def _angle(share: Floats) -> Floats:
    """On which a share's deviation does not depend on the share, to first order."""
    angle: Floats = np.arcsin(np.sqrt(share))
    return angle


def _shares(divergences: Floats) -> Floats:
    """Of keys along the first axis; equal ones where nothing parts good trials from the others."""
    whole = divergences.sum(axis=0)
    shares: Floats = np.where(whole > 0, divergences, 1) / np.where(whole > 0, whole, len(divergences))
    return shares
