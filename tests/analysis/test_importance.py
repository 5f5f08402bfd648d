"""Importance finds what was planted, at equal epochs."""

from dataclasses import replace
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from plgan_tune.analysis.curves import errors_at_equal_epoch
from plgan_tune.analysis.importance import LEAST, Importance, Importances, importances
from plgan_tune.analysis.intervals import Interval
from plgan_tune.analysis.terminal import importance_table
from plgan_tune.config.domains import Choice, Uniform
from tests.analysis.conftest import Synthetic


@pytest.mark.parametrize("early_stopping", [True, False])
def test_the_planted_key_leads(synthetic: Synthetic, early_stopping: bool) -> None:
    found = importances(synthetic(400, 40, early_stopping=early_stopping))
    assert found is not None
    assert found.trials == 400
    assert found.keys[0].path == "loss.alpha"
    shares = {key.path: key for key in found.keys}
    assert sum(key.share for key in found.keys) == pytest.approx(1)
    assert shares["loss.alpha"].interval.low > shares["optim.lr_discriminator"].interval.high
    assert shares["loss.alpha"].significant
    assert not shares["optim.lr_discriminator"].significant
    assert all(0 <= key.interval.low <= key.interval.high <= 1 for key in found.keys)


def test_trials_are_compared_at_one_epoch(synthetic: Synthetic) -> None:
    """Most stop at the first rung, so all are compared there; the diverged count as the worst."""
    study = synthetic(100, 40)
    epoch, errors = errors_at_equal_epoch(study)
    assert epoch == 2
    assert len(errors) == 100
    there = study.epochs[study.epochs["epoch"] == epoch].set_index("trial_id")["val_error"]
    assert (errors.loc[there.index.astype(str)].to_numpy() == there.to_numpy()).all()
    whole = synthetic(100, 40, early_stopping=False)
    epoch, errors = errors_at_equal_epoch(whole)
    assert epoch == 40
    assert (errors == errors.max()).sum() == 2 + 1


def test_noise_is_not_told_from_chance(synthetic: Synthetic) -> None:
    """A key passes by luck in one of twenty; of 24 a binomial seldom has above 5."""
    study = synthetic(60, 10, early_stopping=False)
    told = 0
    for seed in range(6):
        noise = np.random.default_rng(seed).random(len(study.epochs))
        found = importances(replace(study, epochs=study.epochs.assign(val_error=noise)))
        assert found is not None
        assert found.keys[0].interval.low > 0  # which says nothing: a share is never below
        told += sum(key.significant for key in found.keys)
    assert told <= 5


def test_only_trials_in_the_domains_of_now_are_compared(synthetic: Synthetic) -> None:
    study = synthetic(100, 10, early_stopping=False)
    narrow = Uniform(0.5, 1.0)
    inside = int(study.trials["params_alpha"].between(0.5, 1.0).sum())
    spec = replace(study.spec, domains={**study.spec.domains, "loss.alpha": narrow})
    found = importances(replace(study, spec=spec))
    assert found is not None
    assert found.trials == inside < 100
    few = replace(study.spec, domains={**study.spec.domains, "loss.alpha": Uniform(0.95, 1.0)})
    assert study.trials["params_alpha"].between(0.95, 1.0).sum() < LEAST
    assert importances(replace(study, spec=few)) is None


@pytest.mark.parametrize("step", [None, 0.5])
def test_a_step_and_a_rule_have_an_inside_too(synthetic: Synthetic, step: float | None) -> None:
    """Of four trials, two are multiples of the step, and three keep the rule."""
    study = synthetic(4, 12)
    trials = study.trials.assign(params_alpha=[0.5, 0.25, 1.0, 0.0], params_beta=0.5)
    domains = {**study.spec.domains, "loss.alpha": Uniform(0.0, 1.0, step)}
    search = study.spec.search.model_copy(update={"rules": ("loss.alpha + loss.beta <= 1",)})
    found = replace(study, spec=replace(study.spec, domains=domains, search=search), trials=trials)
    assert found.inside.tolist() == [True, step is None, False, True]


def test_a_choice_has_an_inside_too(synthetic: Synthetic) -> None:
    study = synthetic(4, 4)
    domains = {**study.spec.domains, "loss.alpha": Choice(("auto", None, [1])), "loss.beta": Choice((1, 0.5))}
    alpha = pd.Series(["auto", None, "[1]", "2"], dtype=object)
    trials = study.trials.assign(params_alpha=alpha, params_beta=[1.0, 0.5, 2.0, 1.0])
    found = replace(study, spec=replace(study.spec, domains=domains), trials=trials)
    assert found.inside.tolist() == [True, True, False, False]


def test_too_few_trials_have_none(synthetic: Synthetic) -> None:
    assert importances(synthetic(LEAST - 1, 10)) is None
    assert importances(synthetic(0, 10)) is None


def test_the_same_study_has_the_same_intervals(synthetic: Synthetic) -> None:
    study = synthetic(60, 10)
    assert importances(study, seed=1) == importances(study, seed=1)


def test_a_choice_that_was_planted_leads(synthetic: Synthetic) -> None:
    study = synthetic(200, 10, early_stopping=False)
    options = np.where(study.trials.index % 2 == 0, 1.0, 0.5)
    worse = dict(zip(study.trials["trial_id"], options, strict=True))
    epochs = study.epochs.assign(
        val_error=[0.1 + 0.8 * (worse[trial_id] == 1.0) for trial_id in study.epochs["trial_id"].astype(str)]
    )
    spec = replace(study.spec, domains={**study.spec.domains, "loss.beta": Choice((1.0, 0.5))})
    found = importances(replace(study, spec=spec, trials=study.trials.assign(params_beta=options), epochs=epochs))
    assert found is not None
    assert (found.keys[0].path, found.keys[0].significant) == ("loss.beta", True)


def test_its_table_fits_eighty_columns() -> None:
    key = Importance("optim.lr_discriminator", 1.0, Interval(0.99, 1.0), significant=False)
    screen = Console(file=StringIO(), width=80)
    screen.print(importance_table(Importances((key,), epoch=3, trials=1000)))
    line = screen.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]
    assert line.rstrip() == "optim.lr_discriminator  ━━━━━━━━━━━━━━━  100%  99% - 100%  not significant"
