"""What is planted in a study is said of it, and nothing else."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.analysis.findings import findings, unit
from plgan_tune.analysis.study import Study
from plgan_tune.spec.domains import Int, LogUniform, Uniform
from plgan_tune.spec.load import study_from_mapping
from plgan_tune.spec.study import set_paths
from plgan_tune.spec.yaml import read_yaml
from tests.analysis.conftest import Synthetic


def said(study: Study, about: str) -> list[str]:
    return [sentence for sentence in findings(study) if about in sentence]


def with_best(study: Study, **values: Any) -> Study:
    """The same study, its best trial changed."""
    trials = study.trials.copy()
    for column, value in values.items():
        trials.loc[study.ranked.index[0], column] = value
    return replace(study, trials=trials)


@pytest.mark.parametrize(("value", "end"), [(0.01, "lower"), (0.99, "upper"), (0.5, None)])
def test_a_best_value_at_an_end_is_named_with_a_wider_domain(
    synthetic: Synthetic, value: float, end: str | None
) -> None:
    study = with_best(synthetic(60, 20), params_alpha=value, params_beta=0.5)
    sentences = said(study, "the best trial's loss.alpha")
    assert bool(sentences) == (end is not None)
    if end == "upper":
        assert sentences[0].endswith("--set 'trial.loss.alpha={uniform: [0, 1.5]}'")
    if end == "lower":  # a weight is never below 0
        assert "lower end of {uniform: [0, 1]}" in sentences[0]
        assert "--set" not in sentences[0]


def test_a_wider_domain_is_one_that_a_search_takes(synthetic: Synthetic) -> None:
    study = with_best(synthetic(60, 20), params_lr_discriminator=1.01e-4)
    (sentence,) = said(study, "optim.lr_discriminator")
    _, _, domain = sentence.partition("optim.lr_discriminator={")
    wider = read_yaml("{" + domain.removesuffix("'")).value
    mapping = study.spec.as_mapping()
    trial = set_paths(mapping["trial"], {"optim.lr_discriminator": wider})
    found = study_from_mapping({**mapping, "trial": trial}).domains["optim.lr_discriminator"]
    assert isinstance(found, LogUniform)
    assert (found.low < 1e-5, found.high) == (True, 0.1)


def test_divergence_is_placed(synthetic: Synthetic) -> None:
    study = synthetic(100, 20)
    trials = study.trials.copy()
    high = trials["params_lr_discriminator"].nlargest(20).index
    trials["status"] = trials["status"].mask(trials["status"] == "diverged", "stopped")
    trials.loc[high, "status"] = "diverged"
    (sentence,) = said(replace(study, trials=trials), "diverged")
    assert sentence.startswith("20 of 100 trials diverged; 16 of the 16 trials with optim.lr_discriminator ≥ ")
    assert said(study, "diverged") == []  # 2 of 100


def test_trials_that_ended_before_their_switch(synthetic: Synthetic) -> None:
    early = synthetic(60, 20)
    count = int((early.trials["epochs"] <= early.trials["params_switch_epoch"]).sum())
    assert said(early, "switch epoch")[0].startswith(f"{count} of 60 trials ended before")
    assert "its loss never took its final form" in said(with_best(early, params_switch_epoch=20), "later than")[0]
    assert said(synthetic(60, 20, early_stopping=False), "ended before their switch") == []


def test_collapsed_generators(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    assert said(study, "few classes") == []
    best = study.ranked["trial_id"].iloc[0]
    epochs = study.epochs.assign(
        entropy_generated=study.epochs["entropy_generated"].where(
            ~study.epochs["trial_id"].isin(["t0000", "t0001", "t0002", "t0003", "t0004", "t0005", best]), 0.1
        )
    )
    (sentence,) = said(replace(study, epochs=epochs), "few classes")
    assert sentence.startswith(("6 of 60", "7 of 60"))
    assert sentence.endswith("the best trial's among them")


def test_averages_that_lag(synthetic: Synthetic) -> None:
    study = synthetic(200, 20)
    assert said(study, "averaged weights") == []
    worse = replace(study, epochs=study.epochs.assign(error_gap=-0.02))
    assert "by 2.00 % at the median" in said(worse, "averaged weights")[0]


@pytest.mark.parametrize(
    ("eps", "role"), [(1e-8, "hardly matters"), (1e-4, "also acts as the generator's learning rate")]
)
def test_ratio_and_sum(synthetic: Synthetic, eps: float, role: str) -> None:
    study = synthetic(60, 20)
    template = set_paths(study.spec.template, {"optim.eps": eps})
    best = study.ranked.iloc[0]
    (sentence,) = said(replace(study, spec=replace(study.spec, template=template)), "ratio")
    assert role in sentence
    assert f"{best.params_alpha / (best.params_alpha + best.params_beta):.3g}" in sentence


def test_an_empty_study_has_nothing_to_say(synthetic: Synthetic) -> None:
    assert findings(synthetic(0, 10)) == []


@given(st.floats(0, 1))
def test_unit_is_the_domains_own_scale(place: float) -> None:
    assert unit(Uniform(2, 4), 2 + 2 * place) == pytest.approx(place)
    assert unit(LogUniform(1e-4, 1e-2), 1e-4 * 100**place) == pytest.approx(place, abs=1e-9)
    assert unit(Int(0, 10), round(10 * place)) == round(10 * place) / 10


def test_frames_are_left_as_they_were(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    before = study.trials.copy()
    findings(study)
    pd.testing.assert_frame_equal(study.trials, before)
