"""How much each searched key matters: PED-ANOVA at equal epochs, with a test against chance."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plgan_tune.analysis.curves import errors_at_equal_epoch
from plgan_tune.analysis.intervals import Interval
from plgan_tune.analysis.ped_anova import Floats, Grid, Places, divergence, good
from plgan_tune.analysis.study import Study
from plgan_tune.records import Value

LEAST: Final = 20
"""With fewer trials no importance is given: a tenth of them, PED-ANOVA's good ones, would be one."""

RESAMPLES: Final = 60

SHUFFLES: Final = 60
"""Shuffles of the errors among the trials, which show a key's importance by chance.

Shares are never below 0, so an interval cannot show it.
"""


@dataclass(frozen=True, slots=True)
class Importance:
    """Importance of one searched key.

    Attributes:
        path: the key.
        share: share of all keys' importance, in [0, 1].
        interval: interval of 90 % of the resamples of the trials (bootstrap, 5th to 95th percentile).
        significant: whether the key separates good trials from the others better than in 95 % of the shuffles.
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
        epoch: the epoch at which trials are compared: the last that at least half of them reached.
        trials: number of compared trials: all that reached the epoch and lie in the current domains.
    """

    keys: tuple[Importance, ...]
    epoch: int
    trials: int


def importances(study: Study, *, seed: int = 0) -> Importances | None:
    """Compare trials by their error at ONE epoch, the last that at least half of them reached.

    Early stopping ends most trials at low epochs. Mixing their last errors with those of whole trainings would rank
    keys by how long a trial trained; and among the trials that reached late epochs, the keys that made them survive
    hardly differ any more. A trial that diverged before that epoch counts as the worst there.

    Args:
        study: the study.
        seed: seed of resamples and shuffles.

    Returns:
        The importance of all keys; None if fewer than LEAST trials share an epoch, all their errors are equal, or fewer
        than two keys are searched.
    """
    epoch, by_trial = compared(study)
    if len(by_trial) < LEAST or len(study.spec.domains) < 2 or by_trial.nunique() < 2:
        return None
    found = points(study, by_trial.index)
    keys = {
        path: _Key(grid := Grid.of(domain), grid.places([point[path] for point in found]))
        for path, domain in study.spec.domains.items()
    }
    errors = np.asarray(by_trial, np.float64)
    draw = np.random.default_rng(seed)
    own = _divergences(keys, errors)
    resampled = [_shares(_resampled(keys, errors, draw)) for _ in range(RESAMPLES)]
    by_chance = [_divergences(keys, draw.permutation(errors)) for _ in range(SHUFFLES)]
    found_keys = [
        Importance(
            path,
            share,
            Interval(*np.percentile([one[path] for one in resampled], [5, 95])),
            significant=bool(own[path] > np.percentile([one[path] for one in by_chance], 95)),
        )
        for path, share in _shares(own).items()
    ]
    return Importances(tuple(sorted(found_keys, key=lambda key: -key.share)), epoch, len(errors))


def compared(study: Study) -> tuple[int, "pd.Series[float]"]:
    """Return `errors_at_equal_epoch` of the trials in the current domains."""
    epoch, errors = errors_at_equal_epoch(study)
    return epoch, errors[errors.index.isin(study.trials["trial_id"][study.inside])]


def points(study: Study, trial_ids: "pd.Index[str]") -> list[dict[str, Value]]:
    """Return each trial's values of the searched keys."""
    rows = study.trials.set_index("trial_id").loc[trial_ids].to_dict("records")
    return [study.params(row) for row in rows]


class _Key:
    """A searched key's values in all compared trials."""

    def __init__(self, grid: Grid, places: Places) -> None:
        self._grid = grid
        self._places = places
        self._density = grid.density(places)

    def divergence(self, is_good: NDArray[np.bool_]) -> float:
        return divergence(self._grid.density(self._places[is_good]), self._density)

    def of(self, trials: NDArray[np.int64]) -> "_Key":
        return _Key(self._grid, self._places[trials])


def _resampled(keys: Mapping[str, _Key], errors: Floats, draw: np.random.Generator) -> dict[str, float]:
    """Return the divergences of as many trials, drawn with replacement (bootstrap)."""
    trials = draw.integers(len(errors), size=len(errors))
    return _divergences({path: key.of(trials) for path, key in keys.items()}, errors[trials])


def _divergences(keys: Mapping[str, _Key], errors: Floats) -> dict[str, float]:
    is_good = good(errors)
    return {path: key.divergence(is_good) for path, key in keys.items()}


def _shares(divergences: Mapping[str, float]) -> dict[str, float]:
    whole = sum(divergences.values())
    return {path: one / whole if whole else 1 / len(divergences) for path, one in divergences.items()}
