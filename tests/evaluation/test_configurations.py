"""What is trained: which configurations, with which settings, on which seeds."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.domains import Uniform
from plgan_tune.config.load import default_space, load_study, study_from_mapping
from plgan_tune.config.study import StudySpec, flatten
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.check import DataSummary
from plgan_tune.evaluation.configurations import (
    COMPARED,
    TABLE_2,
    best_configurations,
    fresh_seeds,
    is_generative,
    method_configurations,
    patent_configuration,
    with_seed,
)
from plgan_tune.evaluation.plan import plan_evaluation
from plgan_tune.gan.explain import explain
from plgan_tune.records import TrialRow
from plgan_tune.store.location import Location
from plgan_tune.study.errors import StudyError

GREY = DataSummary(tuple("0123456789"), (30, 25, *[40] * 8), 0, 1, 8)


def leaves(trial: TrialSpec) -> dict[str, Any]:
    return flatten(trial.model_dump(mode="json"))


def differing(one: TrialSpec, other: TrialSpec) -> dict[str, Any]:
    """`other`'s values where the two differ."""
    old, new = leaves(one), leaves(other)
    return {key: new[key] for key in old if old[key] != new[key]}


def test_the_best_are_the_completed_of_lowest_last_error(tiny: StudySpec, searched: list[TrialRow]) -> None:
    """t0003 has the lowest of all, but was stopped."""
    best = best_configurations(tiny, searched, 2)
    assert [one.name for one in best] == ["t0001", "t0002"]
    assert best[0].trial == tiny.trial(searched[1].params)


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion_mnist", "cifar10"])
def test_the_patent_s_settings_are_the_first_point_of_the_space_files(name: str) -> None:
    """They were written there by hand, with T and the decay scaled to the epochs."""
    study = load_study(default_space().with_name(f"{name}.yaml")).study
    trial = patent_configuration(study).trial
    first = study.search.first[0]
    assert first.keys() == study.domains.keys()
    assert {key: leaves(trial)[key] for key in first} == dict(first)


def test_what_a_study_fixes_stays_but_for_what_the_patent_prints() -> None:
    trial = {
        "data": {"source": "digits", "labels": 20, "validation": 100},
        "model": {"width": 0.1, "latent": {"choice": ["normal"]}},
        "loss": {"alpha": 0.9, "ramp": "one"},
        "optim": {"lr_generator": {"log_uniform": [1e-4, 1e-2]}, "eps": 1e-6},
        "training": {"epochs": 150},
    }
    found = leaves(patent_configuration(study_from_mapping({"study": "s", "trial": trial})).trial)
    assert (found["model.width"], found["optim.eps"], found["training.epochs"]) == (0.1, 1e-6, 150)
    assert (found["loss.alpha"], found["loss.ramp"], found["model.latent"]) == (0.5, "clamp", "uniform")
    assert (found["loss.switch_epoch"], found["optim.decay_epoch"], found["optim.lr_generator"]) == (30, 125, 0.003)


@pytest.mark.parametrize(
    "method", ["regular_gan", "feature_wise_gan", "saturating_gan", "sgan", "self_training", "supervised"]
)
def test_a_variant_of_pl_gan_is_compared_with_pl_gan(method: str) -> None:
    trial = {"data": {"source": "digits", "labels": 20, "validation": 400}, "model": {"width": 0.1}}
    theirs, ours = (
        patent_configuration(study_from_mapping({"study": "s", "trial": {"method": name, **trial}})).trial
        for name in (method, "pl_gan")
    )
    assert theirs == ours


METHOD_MD: Mapping[str, Mapping[str, Any]] = {
    "regular_gan": {"loss.alpha": 1.0, "loss.beta": 0.0, "loss.ramp": "zero"},
    "feature_wise_gan": {"loss.alpha": 0.0, "loss.beta": 1.0},
    "supervised": {"loss.alpha": 0.0, "loss.beta": 0.0, "loss.unsupervised_scale": 0.0},
}


def test_the_comparisons_differ_from_the_patent_in_their_losses_alone(tiny: StudySpec) -> None:
    patent = patent_configuration(tiny)
    found = {one.name: differing(patent.trial, one.trial) for one in method_configurations(patent)}
    assert found == METHOD_MD
    assert tuple(found) == COMPARED
    assert all(key in TABLE_2 or key == "loss.unsupervised_scale" for changes in found.values() for key in changes)
    assert [one.name for one in method_configurations(patent) if not is_generative(one.trial)] == ["supervised"]


def test_supervised_only_learns_from_labels_alone() -> None:
    """Whatever the study fixes: self-training would teach it its own answers."""
    trial = {
        "data": {"source": "digits", "labels": 20, "validation": 100},
        "loss": {"self_scale": 0.5, "self_images": "unlabelled", "self_epoch": 0},
    }
    patent = patent_configuration(study_from_mapping({"study": "s", "trial": trial}))
    assert patent.trial.loss.self_scale == 0.5
    *_, supervised = method_configurations(patent)
    assert [line.name for line in explain(supervised.trial).discriminator] == ["L_D", "C_sup", "Adam", "steps"]


def test_a_seed_draws_weights_and_split_alike(tiny: StudySpec) -> None:
    trial = tiny.any_trial()
    assert differing(trial, with_seed(trial, 5)) == {"seed": 5, "data.split_seed": 5}
    assert differing(trial, with_seed(trial, 5, refit=True)) == {"seed": 5, "data.split_seed": 5, "data.refit": True}


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 10))
def test_no_seed_is_the_search_s_own(seed: int, split_seed: int, number: int) -> None:
    trial = {"data": {"source": "digits", "labels": 20, "validation": 100, "split_seed": split_seed}, "seed": seed}
    seeds = fresh_seeds(study_from_mapping({"study": "s", "trial": trial}), [], number)
    assert len(set(seeds)) == number
    assert not {seed, split_seed} & set(seeds)
    more = fresh_seeds(study_from_mapping({"study": "s", "trial": trial}), [], number + 1)
    assert more[:number] == seeds


def test_no_seed_is_one_that_the_search_has_chosen_by(tiny: StudySpec, searched: list[TrialRow]) -> None:
    """trial.seed may be searched; TrialRow.seed is each trial's own."""
    trials = [replace(row, seed=number) for number, row in enumerate(searched, start=1)]
    assert fresh_seeds(tiny, trials, 2) == [5, 6]


def test_seeds_are_paired_and_more_of_them_add_to_the_list(tiny: StudySpec, searched: list[TrialRow]) -> None:
    def plan(seeds: int) -> list[str]:
        made = plan_evaluation(Location.at("somewhere"), tiny, searched, top=1, seeds=seeds, methods=False, refit=False)
        return [trial.trial_id for trial in made.study.trials]

    assert plan(2) == ["t0001-s1", "patent-s1", "t0001-s2", "patent-s2"]
    assert plan(3)[: len(plan(2))] == plan(2)


def test_a_best_trial_with_the_patent_s_settings_is_trained_once(tiny: StudySpec, searched: list[TrialRow]) -> None:
    twin = replace(searched[1], params={"loss.alpha": 0.5, "loss.beta": 0.5})
    made = plan_evaluation(Location.at("x"), tiny, [twin, searched[2]], top=3, seeds=1, methods=False, refit=True)
    assert [one.name for one in made.configurations] == ["t0002", "patent"]
    assert made.notes == (
        "t0001 has the patent's settings: see the row patent",
        "only 2 of the 3 requested configurations have completed",
    )


def test_a_search_without_a_completed_trial_is_refused(tiny: StudySpec, searched: list[TrialRow]) -> None:
    with pytest.raises(StudyError, match="must have a completed trial to evaluate, but has none of 1"):
        plan_evaluation(Location.at("x"), tiny, searched[3:], top=1, seeds=1, methods=False, refit=False)


def test_completed_trials_outside_the_domains_of_now_are_said(tiny: StudySpec, searched: list[TrialRow]) -> None:
    """alpha of t0001 is 0.2 and of t0002 0.3; a resume may have made the domain narrower since."""

    def planned(low: float) -> tuple[str, ...]:
        narrower = replace(tiny, domains={**tiny.domains, "loss.alpha": Uniform(low, 1.0)})
        made = plan_evaluation(Location.at("x"), narrower, searched, top=1, seeds=1, methods=False, refit=False)
        return made.notes

    assert planned(0.1) == ()
    assert planned(0.25) == ("2 completed trials lie outside the current domains and are left out",)
    with pytest.raises(StudyError, match="none of 4 within the current domains: 3 completed outside of them"):
        planned(0.9)
