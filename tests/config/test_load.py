from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.domains import Choice, Int, LogUniform, Uniform
from plgan_tune.config.load import load_study, load_trial, study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import LEAVES, TrialSpec, trial_as_mapping
from plgan_tune.config.yaml import dump_yaml, read_yaml

Write = Callable[[str], Path]

CONTRACT = """\
study: cifar10
search: {trials: 200, hours: null, metric: val_error, mode: min, seed: 0, concurrent: auto,
  sampler: {tpe: {startup_trials: 20}},            # or random
  early_stopping: {asha: {grace_period: 20, reduction_factor: 3}},   # or none
  first: [{loss.alpha: 0.5, loss.beta: 0.5, loss.switch_epoch: 100, optim.lr_discriminator: 3.0e-4, \
optim.lr_generator: 3.0e-4, optim.decay_epoch: 450}]}
resources: {ranks: 1, cpus_per_rank: 1, gpus_per_rank: auto}
trial:
  method: pl_gan
  seed: 0
  data: {source: cifar10, path: null, size: null, labels: 4000, validation: 5000, limit: null, split_seed: 0}
  model: {kind: conv, width: 1.0}    # METHOD.md lists every key; the method gives the defaults
  loss: {alpha: {uniform: [0.05, 1.0]}, beta: {uniform: [0.05, 1.0]}, switch_epoch: {int: [20, 300]}, \
ramp: clamp}
  optim: {lr_discriminator: {log_uniform: [1e-4, 1e-2]}, lr_generator: {log_uniform: [1e-4, 1e-2]}, \
decay_epoch: {int: [300, 900]}, min_factor: 0.0}
  training: {epochs: 600, batch_size: 100, discriminator_steps: 1, precision: auto}
"""

SMALL = """\
study: small
search:
  trials: 4
  first:
  - {loss.alpha: 0.5, optim.lr_generator: 1e-3}
  - {loss.alpha: 0.2}
trial:
  data: {source: digits, labels: 20, validation: 400}
  loss: {alpha: {uniform: [0, 1]}}
  optim: {lr_generator: {log_uniform: [1e-4, 1e-2]}}
"""

DATA = {"source": "digits", "labels": 20, "validation": 400}


def test_the_contract_file_is_accepted_verbatim(write: Write) -> None:
    loaded = load_study(write(CONTRACT))
    study = loaded.study
    assert loaded.notes == ()
    assert (study.study, study.search.trials, study.resources.gpus_per_rank) == ("cifar10", 200, "auto")
    assert study.search.early_stopping.asha is not None
    assert study.search.early_stopping.asha.grace_period == 20
    assert study.domains == {
        "loss.alpha": Uniform(0.05, 1.0),
        "loss.beta": Uniform(0.05, 1.0),
        "loss.switch_epoch": Int(20, 300),
        "optim.lr_discriminator": LogUniform(1e-4, 1e-2),
        "optim.lr_generator": LogUniform(1e-4, 1e-2),
        "optim.decay_epoch": Int(300, 900),
    }
    trial = study.trial(study.search.first[0])
    assert (trial.model.kind, trial.loss.switch_epoch, trial.optim.lr_generator) == ("conv", 100, 3e-4)
    assert trial.model.dropout == (0.2, 0.5, 0.5)
    assert load_study(write(dump_yaml(study.as_mapping()))).study == study


def test_a_dumped_study_says_what_a_user_would_write(write: Write) -> None:
    short = SMALL.replace("  trials: 4\n", "  sampler: random\n  early_stopping: none\n")
    search = load_study(write(short)).study.as_mapping()["search"]
    assert search["sampler"] == "random"
    assert search["early_stopping"] == "none"
    contract = load_study(write(CONTRACT)).study.as_mapping()
    assert contract["search"]["sampler"] == {"tpe": {"startup_trials": 20, "startup": "random"}}
    assert list(contract["trial"]) == ["method", "seed", "data", "model", "loss", "optim", "training", "own"]
    assert list(contract["trial"]["data"])[:2] == ["source", "path"]


def test_searched_keys_keep_the_methods_order_whatever_the_files_is() -> None:
    optim = {"lr_generator": {"uniform": [0.1, 0.2]}, "lr_discriminator": {"uniform": [0.1, 0.2]}}
    study = study_from_mapping({"study": "s", "trial": {"optim": optim, "seed": {"int": [0, 9]}, "data": DATA}})
    assert list(study.domains) == ["seed", "optim.lr_discriminator", "optim.lr_generator"]


def test_lists_of_a_choice_are_text_in_points_and_lists_in_files() -> None:
    mapping = {
        "study": "nets",
        "search": {"first": [{"model.hidden": [50, 20]}]},
        "trial": {"data": DATA, "model": {"hidden": {"choice": [[100], [50, 20]]}}},
    }
    study = study_from_mapping(mapping)
    assert study.search.first == ({"model.hidden": "[50, 20]"},)
    assert study.trial(study.search.first[0]).model.hidden == (50, 20)
    assert study.as_mapping()["search"]["first"] == [{"model.hidden": [50, 20]}]


def test_a_searched_kind_leaves_its_defaults_to_each_trial() -> None:
    model = {"kind": {"choice": ["mlp", "conv"]}}
    trial = {"data": DATA, "model": model, "training": {"epochs": 30}}
    study = study_from_mapping({"study": "kinds", "trial": trial})
    mlp, conv = (study.trial({"model.kind": kind}) for kind in ("mlp", "conv"))
    assert (mlp.model.dropout, conv.model.hidden) == (None, None)
    assert (mlp.loss.switch_epoch, conv.loss.switch_epoch) == (60, 100)
    assert "hidden" not in study.template["model"]
    assert "alpha" in study.template["loss"]


# --set


def test_set_fixes_a_key_and_takes_it_out_of_first_with_a_note(write: Write) -> None:
    loaded = load_study(write(SMALL), ["trial.loss.alpha=0.25"])
    assert list(loaded.study.domains) == ["optim.lr_generator"]
    assert loaded.study.template["loss"]["alpha"] == 0.25
    assert loaded.study.search.first == ({"optim.lr_generator": 1e-3},)
    assert loaded.notes == (
        "search.first[0] loses loss.alpha, which --set has fixed",
        "search.first[1] loses loss.alpha, which --set has fixed",
    )


def test_set_of_a_whole_section_fixes_what_it_leaves_out(write: Write) -> None:
    loaded = load_study(write(SMALL), ["trial.loss={beta: {uniform: [0, 1]}}"])
    assert list(loaded.study.domains) == ["loss.beta", "optim.lr_generator"]
    assert loaded.study.template["loss"]["alpha"] == 0.5
    assert len(loaded.notes) == 2


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("trial.loss.alpha={uniform: [0.1, 0.9]}", "loss.alpha", Uniform(0.1, 0.9)),
        ("trial.optim.decay_epoch={int: [150, 300]}", "optim.decay_epoch", Int(150, 300)),
        ("trial.model.latent={choice: [normal, uniform]}", "model.latent", Choice(("normal", "uniform"))),
    ],
)
def test_set_of_a_domain(write: Write, text: str, path: str, value: object) -> None:
    assert load_study(write(SMALL), [text]).study.domains[path] == value


def test_set_reads_yaml_1_2_and_the_last_holds(write: Write) -> None:
    overrides = [
        "search.trials=9",
        "search.trials=7",
        "trial.optim.eps=1e-6",
        "trial.data.path=../a=b",
        "search.first=[{loss.alpha: 0.75}]",
        "search.early_stopping.asha.grace_period=5",
    ]
    study = load_study(write(SMALL), overrides).study
    assert (study.search.trials, study.template["optim"]["eps"]) == (7, 1e-6)
    assert study.template["data"]["path"] == "../a=b"
    assert study.search.first == ({"loss.alpha": 0.75},)
    assert study.search.early_stopping.asha is not None


# train --config


def test_a_trial_ignores_what_concerns_a_search(write: Write) -> None:
    strange = "study: [1]\nsearch: {no: {such: key}, first: 3}\nresources: off\n"
    trial = "trial:\n  data: {source: digits, labels: 20, validation: 400}\n"
    assert load_trial(write(strange + trial)) == load_trial(write(trial))


def test_a_space_file_becomes_a_trial_once_its_domains_are_fixed(write: Write) -> None:
    trial = load_trial(write(SMALL), ["trial.loss.alpha=1", "trial.optim.lr_generator=1e-3"])
    assert (trial.loss.alpha, trial.optim.lr_generator, trial.training.epochs) == (1.0, 1e-3, 300)


# properties


def _ranges(numbers: st.SearchStrategy[Any], *names: str) -> st.SearchStrategy[Any]:
    ends = st.lists(numbers, min_size=2, max_size=2).map(sorted)
    return st.tuples(st.sampled_from(names), ends).map(lambda pair: {pair[0]: pair[1]})


def _leaf(numbers: st.SearchStrategy[Any], *names: str) -> st.SearchStrategy[Any]:
    return numbers | _ranges(numbers, *names) | st.lists(numbers, min_size=1, unique=True).map(lambda o: {"choice": o})


RATES = st.floats(1e-8, 1)
FRACTIONS = st.floats(0, 0.99)
COUNTS = st.integers(1, 10_000)
HIDDEN = st.lists(COUNTS, min_size=1, max_size=4)
RAMPS = st.sampled_from(["clamp", "literal", "zero", "one"])
TRIALS = st.fixed_dictionaries(
    {"data": st.just(DATA)},
    optional={
        "method": st.sampled_from(["patent", "pl_gan"]) | st.just({"choice": ["pl_gan", "patent"]}),
        "seed": _leaf(st.integers(0, 2**63 - 1), "int"),
        "model": st.fixed_dictionaries(
            {},
            optional={
                "hidden": HIDDEN | st.lists(HIDDEN, min_size=1, unique_by=repr).map(lambda o: {"choice": o}),
                "noise_input": _leaf(st.floats(0, 9), "uniform"),
                "zca": st.just(False),
            },
        ),
        "loss": st.fixed_dictionaries(
            {},
            optional={
                "alpha": _leaf(RATES, "uniform", "log_uniform"),
                "switch_epoch": _leaf(COUNTS, "int", "log_int"),
                "ramp": RAMPS | st.lists(RAMPS, min_size=1, unique=True).map(lambda o: {"choice": o}),
            },
        ),
        "optim": st.fixed_dictionaries(
            {},
            optional={"beta1": _leaf(FRACTIONS, "uniform"), "decay_epoch": _leaf(COUNTS, "int", "log_int")},
        ),
    },
)


def _point(study: StudySpec, data: st.DataObject) -> dict[str, Any]:
    return {path: data.draw(st.sampled_from(domain.corners())) for path, domain in study.domains.items()}


def _again(study: StudySpec) -> StudySpec:
    return study_from_mapping(read_yaml(dump_yaml(study.as_mapping())).value)


@given(TRIALS, st.data())
def test_a_dumped_study_loads_as_itself(trial: dict[str, Any], data: st.DataObject) -> None:
    bare = study_from_mapping({"study": "any", "trial": trial})
    first = [_point(bare, data)]
    study = study_from_mapping({"study": "any", "search": {"first": first}, "trial": trial})
    again = _again(study)
    assert again == study
    assert list(again.domains) == list(study.domains)
    assert again.search.first == study.search.first


@given(TRIALS, st.data())
def test_a_dumped_trial_loads_as_itself(trial: dict[str, Any], data: st.DataObject) -> None:
    study = study_from_mapping({"study": "any", "trial": trial})
    point = _point(study, data)
    encoded = study_from_mapping({"study": "any", "search": {"first": [point]}, "trial": trial}).search.first
    configuration = study.trial(encoded[0] if encoded else {})
    mapping = read_yaml(dump_yaml(trial_as_mapping(configuration))).value
    assert TrialSpec.model_validate(mapping["trial"]) == configuration
    fixed = study_from_mapping({"study": "any", **mapping})
    assert fixed.domains == {}
    assert fixed.trial({}) == configuration


def test_a_dumped_trial_gives_every_key(write: Write) -> None:
    study = load_study(write(CONTRACT)).study
    trial = study.trial(study.search.first[0])
    path = write(dump_yaml(trial_as_mapping(trial)))
    assert load_trial(path) == trial
    sections = trial_as_mapping(trial)["trial"]
    given_keys = [
        path
        for name, value in sections.items()
        for path in ([f"{name}.{leaf}" for leaf in value] if isinstance(value, dict) else [name])
    ]
    assert given_keys == list(LEAVES)
