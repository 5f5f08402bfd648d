"""How much each searched key matters: PED-ANOVA (Watanabe et al. 2023) through Optuna, at equal epochs."""

from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import optuna
import pandas as pd
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState

from plgan_tune.analysis.curves import errors_at_equal_epoch
from plgan_tune.analysis.intervals import Interval
from plgan_tune.analysis.study import Study
from plgan_tune.distributions import distributions

LEAST: Final = 20
"""Trials below which no importance is given: a tenth of them, PED-ANOVA's good ones, would be one."""

MOST: Final = 400
"""Trials that are looked at, drawn at random of more: a resample takes Optuna some 60 ms then."""

RESAMPLES: Final = 20

FANOVA_MOST: Final = 300
"""Of more trials fANOVA takes tens of seconds."""


@dataclass(frozen=True, slots=True)
class Importance:
    """Of one searched key.

    Attributes:
        path: the key.
        share: of all keys' importance, in [0, 1].
        interval: of 90 % of the resamples of the trials (bootstrap, 5th to 95th percentile).
        fanova: the same share by fANOVA; None where it was not asked for.
    """

    path: str
    share: float
    interval: Interval
    fanova: float | None = None


@dataclass(frozen=True, slots=True)
class Importances:
    """Of all searched keys, the largest first.

    Attributes:
        epoch: at which the trials are compared: the last that at least half of them reached.
        trials: how many are compared.
    """

    keys: tuple[Importance, ...]
    epoch: int
    trials: int


def importances(study: Study, *, seed: int = 0, fanova: bool = False) -> Importances | None:
    """Compares trials by their error at ONE epoch, the last that at least half of them reached.

    Early stopping leaves most trials at low epochs. Their last errors mixed with those of whole trainings would rank
    keys by how long a trial was let live; and among the survivors of late epochs the keys that made them survive
    hardly differ any more. A trial that diverged before that epoch counts as the worst there.

    Args:
        seed: of the draws.
        fanova: whether to add fANOVA's shares, which takes seconds.

    Returns:
        None where fewer than LEAST trials share an epoch, or fewer than two keys are searched.
    """
    epoch, errors = errors_at_equal_epoch(study)
    if len(errors) < LEAST or len(study.spec.domains) < 2 or errors.nunique() < 2:
        return None
    draw = np.random.default_rng(seed)
    looked_at = errors if len(errors) <= MOST else errors.sample(MOST, random_state=draw)
    trials = _as_optuna(study, looked_at)
    shares = _shares(trials, PedAnovaImportanceEvaluator())
    resampled = [
        _shares(
            [trials[place] for place in draw.integers(len(trials), size=len(trials))], PedAnovaImportanceEvaluator()
        )
        for _ in range(RESAMPLES)
    ]
    also = _shares(trials[:FANOVA_MOST], FanovaImportanceEvaluator(seed=seed)) if fanova else {}
    keys = [
        Importance(path, share, Interval(*np.percentile([one[path] for one in resampled], [5, 95])), also.get(path))
        for path, share in shares.items()
    ]
    return Importances(tuple(sorted(keys, key=lambda key: -key.share)), epoch, len(errors))


class _Shared(FrozenTrial):
    """A study takes a deep copy of each trial that it is given: nine tenths of a resample's time, and for nothing."""

    def __deepcopy__(self, memo: dict[int, object]) -> "_Shared":
        return copy(self)


def _as_optuna(study: Study, errors: "pd.Series[float]") -> list[FrozenTrial]:
    space = distributions(study.spec.domains)
    rows = study.trials.set_index("trial_id").loc[errors.index].to_dict("records")
    now = datetime.now(UTC)  # Optuna asks for times and does not use them here
    points = [(study.params(row), error) for row, error in zip(rows, errors, strict=True)]
    return [
        _Shared(
            number=0,
            trial_id=0,
            state=TrialState.COMPLETE,
            value=error,
            datetime_start=now,
            datetime_complete=now,
            params=point,
            distributions=space,
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        for point, error in points
        if study.spec.holds(point)  # a resume may have made a domain narrower
    ]


def _shares(
    trials: list[FrozenTrial], evaluator: PedAnovaImportanceEvaluator | FanovaImportanceEvaluator
) -> dict[str, float]:
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(trials)
        return optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
