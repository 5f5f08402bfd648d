"""What is planted in a study is said of it, and nothing else."""

import math
from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import write_synthetic

from plgan_tune.analysis.findings import findings, unit
from plgan_tune.analysis.seeds import SEEDS, seed_noise
from plgan_tune.analysis.study import Study
from plgan_tune.config.domains import Int, LogUniform, Uniform
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import set_paths
from plgan_tune.config.yaml import read_yaml
from plgan_tune.store.read import EPOCHS, EVALUATIONS, part_name
from plgan_tune.store.schemas import epochs_schema, evaluations_table
from plgan_tune.store.tables import read_table, write_table
from tests.analysis.conftest import Synthetic
from tests.analysis.test_seeds import evaluated


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


def searching(study: Study, path: str, domain: Any) -> Study:
    """The same study, alpha's column now being another key's."""
    mapping = study.spec.as_mapping()
    fixed = set_paths(mapping["trial"], {"loss.alpha": 0.5, path: domain})
    trials = study.trials.rename(columns={"params_alpha": f"params_{path.rpartition('.')[2]}"})
    return replace(study, spec=study_from_mapping({**mapping, "trial": fixed}), trials=trials)


@pytest.mark.parametrize(
    ("path", "domain", "value", "wider"),
    [
        ("optim.beta2", {"uniform": [0.999, 0.9999]}, 0.999, "{uniform: [0.99855, 0.9999]}"),
        ("optim.beta2", {"uniform": [0.99, 0.999]}, 0.999, "{uniform: [0.99, 0.9999]}"),
        ("optim.beta2", {"log_uniform": [0.99, 0.999]}, 0.99, "{log_uniform: [0.9855, 0.999]}"),
        ("optim.eps", {"log_uniform": [1e-8, 1e-1]}, 1e-8, "{log_uniform: [3.2e-12, 0.1]}"),
        ("training.discriminator_steps", {"log_int": [1, 20]}, 1, None),
        ("training.discriminator_steps", {"log_int": [2, 20]}, 2, "{log_int: [1, 20]}"),
        ("training.discriminator_steps", {"int": [1, 3]}, 3, "{int: [1, 4]}"),
        ("training.batch_size", {"int": [20, 100], "step": 20}, 100, "{int: [20, 140], step: 20}"),
        ("training.batch_size", {"int": [20, 100], "step": 20}, 20, None),
        ("optim.beta1", {"uniform": [0.1, 0.7], "step": 0.2}, 0.7, "{uniform: [0.1, 0.9], step: 0.2}"),
        ("optim.beta2", {"uniform": [0.9, 0.999]}, 0.99999, "outside"),
        ("optim.eps", {"log_uniform": [1e-8, 1e-1]}, 0.0, "outside"),
    ],
)
def test_a_wider_domain_holds_the_old_one(
    synthetic: Synthetic, path: str, domain: Any, value: float, wider: str | None
) -> None:
    study = searching(synthetic(60, 20), path, domain)
    sentences = said(with_best(study, **{study.spec.columns[path]: value}), f"the best trial's {path}")
    if wider == "outside":  # of a domain that a resume has made narrower
        assert sentences == []
        return
    (sentence,) = sentences
    assert sentence.partition("; a wider domain: ")[2] == (f"--set 'trial.{path}={wider}'" if wider else "")


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


def test_few_classes_are_no_collapse(synthetic: Synthetic) -> None:
    """Two classes have at most log 2; what all classes give is known of known images, and else from the epochs."""
    study = synthetic(60, 20)
    template = set_paths(study.spec.template, {"data.source": "folder", "data.path": "/images"})
    of_two = replace(study, spec=replace(study.spec, template=template))
    epochs = study.epochs.assign(entropy_generated=0.6)
    assert said(replace(of_two, epochs=epochs), "few classes") == []
    assert said(replace(of_two, epochs=epochs.assign(entropy_generated=float("nan"))), "few classes") == []
    early = epochs.assign(entropy_generated=epochs["entropy_generated"].where(epochs["epoch"] == 1, 0.2))
    assert said(replace(of_two, epochs=early), "few classes") != []
    assert said(replace(study, epochs=epochs), "few classes")[0].startswith("60 of 60")


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


def test_ratio_and_sum_of_a_best_without_a_trained_generator(synthetic: Synthetic) -> None:
    (sentence,) = said(with_best(synthetic(60, 20), params_alpha=0.0, params_beta=0.0), "ratio")
    assert "The best trial has both at 0; rank correlation" in sentence


def test_few_trials_correlate_with_nothing(synthetic: Synthetic) -> None:
    (sentence,) = said(synthetic(2, 20, early_stopping=False), "ratio")
    assert "correlation" not in sentence
    assert "nan" not in sentence


def test_a_sum_is_judged_by_the_best_trial_s_own_eps(synthetic: Synthetic) -> None:
    mapping = synthetic(60, 20).spec.as_mapping()
    trial = set_paths(mapping["trial"], {"optim.eps": {"choice": [1e-8, 1e-4]}})
    study = synthetic(60, 20)
    spec = study_from_mapping({**mapping, "trial": trial})
    searched = replace(study, spec=spec, trials=study.trials.assign(params_eps=1e-8))
    assert "with eps 1e-08" in said(searched, "ratio")[0]
    assert "with eps 0.0001" in said(with_best(searched, params_eps=1e-4), "ratio")[0]


def test_only_a_loss_that_switches_is_warned_of(synthetic: Synthetic) -> None:
    """The first option of a searched ramp is not every trial's."""
    study = synthetic(60, 20)
    mapping = study.spec.as_mapping()
    trial = set_paths(mapping["trial"], {"loss.ramp": {"choice": ["clamp", "one"]}})
    searched = replace(study, spec=study_from_mapping({**mapping, "trial": trial}))
    early = study.trials["epochs"] <= study.trials["params_switch_epoch"]
    ramps = early.map({True: "one", False: "clamp"})
    none = replace(searched, trials=study.trials.assign(params_ramp=ramps))
    assert said(none, "ended before their switch") == []
    some = replace(searched, trials=study.trials.assign(params_ramp="clamp"))
    assert said(some, "ended before their switch") == said(study, "ended before their switch") != []


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


def test_divergence_is_placed_at_an_option_too(synthetic: Synthetic) -> None:
    study = searching(synthetic(100, 20), "optim.beta1", {"choice": [0.5, 0.99]})
    half = study.trials.index % 2 == 0
    trials = study.trials.assign(params_beta1=[0.99 if high else 0.5 for high in half])
    trials["status"] = trials["status"].mask(trials["status"] == "diverged", "stopped").mask(half, "diverged")
    (sentence,) = said(replace(study, trials=trials), "diverged")
    assert sentence == "50 of 100 trials diverged; 50 of the 50 trials with optim.beta1 0.99 did"


def test_collapse_from_the_first_epoch_on_is_seen_where_the_images_are_known_by_their_folder(
    synthetic: Synthetic,
) -> None:
    study = synthetic(60, 20)
    collapsed = replace(study, epochs=study.epochs.assign(entropy_generated=0.1))
    mapping = study.spec.as_mapping()
    of_a_folder = set_paths(mapping["trial"], {"data.source": "parquet", "data.path": "data/mnist"})
    spec = study_from_mapping({**mapping, "trial": of_a_folder})
    assert said(replace(collapsed, spec=spec), "few classes")
    unknown = set_paths(mapping["trial"], {"data.source": "parquet", "data.path": "data/mine"})
    assert said(replace(collapsed, spec=study_from_mapping({**mapping, "trial": unknown})), "few classes") == []


def test_no_switch_epoch_is_proposed_after_which_nothing_is_trained(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    mapping = study.spec.as_mapping()
    for high, proposed in ((20, False), (10, True)):
        trial = set_paths(mapping["trial"], {"loss.switch_epoch": {"int": [2, high]}})
        spec = study_from_mapping({**mapping, "trial": trial})
        (sentence,) = said(with_best(replace(study, spec=spec), params_switch_epoch=high), "loss.switch_epoch")
        assert ("a wider domain" in sentence) == proposed


def test_nothing_is_said_of_noise_that_was_not_measured(synthetic: Synthetic) -> None:
    """However close the misses are."""
    study = synthetic(60, 20)
    assert (study.decisions["verdict"] == "stop").any()
    assert said(study, "early stopping ended") == []


@pytest.mark.parametrize("noise", [0.0, 0.001, 0.1])
def test_trials_that_noise_may_have_ended_are_counted(synthetic: Synthetic, noise: float) -> None:
    """An evaluation of one configuration whose two seeds deviate by so much."""
    study = synthetic(60, 20)
    stops = study.decisions["verdict"] == "stop"
    study = replace(
        study, decisions=study.decisions.assign(value=0.3, cutoff=study.decisions["cutoff"].mask(stops, 0.25))
    )
    seeds = study.location.join(SEEDS)
    write_synthetic(seeds, 2, 20, early_stopping=False)
    file = seeds.join(EPOCHS, part_name(0))
    epochs = read_table(file, epochs_schema())
    second = pc.equal(epochs.column("trial_id"), "t0001")
    errors = pc.if_else(second, 0.3 + noise * math.sqrt(2), 0.3)
    write_table(epochs.set_column(epochs.schema.get_field_index("val_error"), "val_error", errors), file)
    rows = [replace(evaluated("best", seed, 0.1), trial_id=f"t000{seed}") for seed in range(2)]
    write_table(evaluations_table(rows), study.location.join(*EVALUATIONS))
    assert seed_noise(study).to_numpy() == pytest.approx(np.full(20, noise))
    sentences = said(study, "early stopping ended")
    assert len(sentences) == (noise == 0.1)
    for sentence in sentences:
        expected = stops.sum() * NormalDist().cdf(-0.05 / (0.1 * math.sqrt(2)))
        assert sentence.startswith(
            f"about {expected:.0f} of {stops.sum()} trials that early stopping ended were no worse"
        )
        assert "deviates by 10.00 % where they ended" in sentence
