"""fANOVA (Hutter et al. 2014) through Optuna, beside PED-ANOVA: another method, for the reader to compare."""

from dataclasses import replace
from typing import Final

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, create_trial

from plgan_tune.analysis.importance import Importances, compared, points
from plgan_tune.analysis.study import Study
from plgan_tune.tuning.distributions import distributions, quiet

MOST: Final = 300
"""Trials that are looked at, drawn at random of more, of which fANOVA takes tens of seconds."""


def with_fanova(study: Study, found: Importances, *, seed: int = 0) -> Importances:
    """What `importances` found, with fANOVA's shares at the same epoch, where errors differ. It takes seconds.

    Args:
        seed: of the draw of trials and of the forest.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances  # noqa: PLC0415 - scikit-learn

    _, errors = compared(study)
    errors = errors.sample(min(MOST, len(errors)), random_state=seed)
    if errors.nunique() < 2:
        return found
    with quiet():
        trials = optuna.create_study()
        trials.add_trials(_as_optuna(study, errors))
        shares = get_param_importances(trials, evaluator=FanovaImportanceEvaluator(seed=seed))
    return replace(found, keys=tuple(replace(key, fanova=shares.get(key.path)) for key in found.keys))


def _as_optuna(study: Study, errors: "pd.Series[float]") -> list[FrozenTrial]:
    space = distributions(study.spec.domains)
    return [
        create_trial(params=point, distributions=space, value=error)
        for point, error in zip(points(study, errors.index), errors, strict=True)
    ]
