from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.advice import advice, rungs
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import AshaSpec

SEARCHED = {"beta1": {"uniform": [0.1, 0.9]}}


def _advice(search: dict[str, Any] | None = None, **sections: dict[str, Any]) -> list[str]:
    data = {"source": "digits", "labels": 20, "validation": 400}
    trial: dict[str, Any] = {"data": data, "optim": SEARCHED, "training": {"epochs": 60}}
    trial["loss"] = {"switch_epoch": 20}
    for name, section in sections.items():
        trial[name] = {**trial.get(name, {}), **section}
    return advice(study_from_mapping({"study": "s", "search": search, "trial": trial}))


@pytest.mark.parametrize(
    ("epochs", "said"), [(59, ["search.epochs is 59: no trial of 60 epochs can complete"]), (60, [])]
)
def test_a_budget_below_one_trial_is_named(epochs: int, said: list[str]) -> None:
    assert _advice({"epochs": epochs}) == said


@given(st.integers(1, 100), st.integers(2, 6), st.integers(1, 2000))
def test_rungs_are_the_geometric_sequence_below_the_end(grace: int, factor: int, epochs: int) -> None:
    found = rungs(AshaSpec(grace_period=grace, reduction_factor=factor), epochs)
    assert found == tuple(grace * factor**k for k in range(len(found)))
    assert all(rung < epochs for rung in found)
    assert grace * factor ** len(found) >= epochs


@pytest.mark.parametrize("decay", [29, {"int": [29, 60]}, {"choice": [40, 29]}])
def test_a_decay_that_freezes_training_is_named(decay: object) -> None:
    (sentence,) = _advice(optim={"decay_epoch": decay})
    assert "trial.optim.decay_epoch may be 29" in sentence
    assert "30 or more" in sentence


@pytest.mark.parametrize("optim", [{"decay_epoch": 30}, {"decay_epoch": 10, "min_factor": 0.1}])
def test_a_decay_that_does_not_freeze_is_not(optim: dict[str, Any]) -> None:
    assert _advice(optim=optim) == []


@pytest.mark.parametrize("switch", [60, {"int": [1, 60]}])
def test_a_switch_after_the_last_epoch_is_named(switch: object) -> None:
    (sentence,) = _advice(loss={"switch_epoch": switch})
    assert "trial.loss.switch_epoch may be 60" in sentence


@pytest.mark.parametrize(("start", "said"), [(59, False), (60, True), ({"int": [0, 60]}, True)])
def test_self_training_that_never_begins_is_named(start: object, said: bool) -> None:
    assert _advice(loss={"self_epoch": start}) == []
    sentences = _advice(loss={"self_scale": 0.5, "self_epoch": start})
    assert ["self-training may begin in epoch 60" in sentence for sentence in sentences] == [True] * said


@pytest.mark.parametrize("loss", [{"switch_epoch": 59}, {"switch_epoch": 60, "ramp": "one"}])
def test_a_switch_that_is_reached_or_unused_is_not(loss: dict[str, Any]) -> None:
    assert _advice(loss=loss) == []


def test_a_search_for_the_start_of_a_scale_that_is_not_there_is_named() -> None:
    starts = {"generator_weight_norm_init": {"choice": ["data", "one"]}}
    (sentence,) = _advice(model={**starts, "generator_weight_norm": False})
    assert "it changes nothing" in sentence
    assert _advice(model=starts) == []
    assert _advice(model={**starts, "generator_weight_norm": {"choice": [True, False]}}) == []


def test_a_grace_period_as_long_as_the_trial_is_named() -> None:
    (sentence,) = _advice({"early_stopping": {"asha": {"grace_period": 60}}})
    assert "no trial is stopped early" in sentence
    assert _advice({"early_stopping": {"asha": {"grace_period": 59}}}) == []


def test_a_study_that_searches_nothing_is_named() -> None:
    (sentence,) = _advice(optim={"beta1": 0.5})
    assert "no key of trial holds a domain" in sentence


def test_more_first_points_than_trials_are_named() -> None:
    first = [{"optim.beta1": 0.5}, {"optim.beta1": 0.6}]
    (sentence,) = _advice({"trials": 1, "first": first})
    assert "2 points" in sentence


def test_every_kind_that_is_searched_is_looked_at() -> None:
    kinds = {"kind": {"choice": ["mlp", "conv"]}}  # whose defaults switch at 60 and 100
    (sentence,) = _advice(model=kinds, loss={"switch_epoch": {"int": [100, 100]}}, training={"epochs": 90})
    assert "may be 100" in sentence
