"""Every sampler keeps the rules, at a resume those of now."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plgan_tune.config.domains import Domain, Int, Uniform
from plgan_tune.config.study import ResourcesSpec, SearchSpec, StudySpec
from plgan_tune.records import TrialStatus
from plgan_tune.study.history import OUTSIDE
from plgan_tune.tuning.sampler import OptunaSampler
from tests.factories import Search, small

TEMPLATE: dict[str, Any] = {
    "data": {"source": "digits", "labels": 20, "validation": 100},
    "model": {"kind": "mlp"},
    "training": {"epochs": 9},
}
FINITE: dict[str, Domain] = {"loss.switch_epoch": Int(1, 6), "optim.decay_epoch": Int(1, 6)}
ENDLESS: dict[str, Domain] = {"loss.alpha": Uniform(0, 1), "loss.beta": Uniform(0, 1)}
BELOW = "loss.switch_epoch < optim.decay_epoch"
RARE = ("loss.alpha <= 0.02 * loss.beta + 0.01", "loss.alpha >= 0.01")
"""Which a point in a hundred keeps."""


def points(domains: dict[str, Domain], *rules: str, **search: Any) -> list[dict[str, Any]]:
    spec = SearchSpec.model_validate({"rules": rules, **search})
    suggested = OptunaSampler(StudySpec("test", spec, ResourcesSpec(), TEMPLATE, domains))
    found = []
    while (assignment := suggested.ask()) is not None:
        found.append(dict(assignment.point))
        suggested.report(assignment.trial_id, 9, sum(assignment.point.values()) / 20)  # type: ignore[arg-type]
        suggested.tell(assignment.trial_id, TrialStatus.COMPLETED)
    return found


SAMPLERS: list[Any] = [
    "random",
    {"tpe": {"startup_trials": 5}},
    {"tpe": {"startup_trials": 10, "startup": "sobol"}},
    {"cmaes": {"startup_trials": 5}},
    {"gp": {"startup_trials": 8}},
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_every_sampler_keeps_rules_that_few_points_keep(sampler: Any) -> None:
    found = points(ENDLESS, *RARE, sampler=sampler, trials=10)
    assert len(found) == 10
    assert all(0.01 <= point["loss.alpha"] <= 0.02 * point["loss.beta"] + 0.01 for point in found)


@settings(max_examples=10)
@given(st.sampled_from([*SAMPLERS[:3], "grid"]), st.integers(0, 99))
def test_a_space_ends_where_its_rules_end_it(sampler: Any, seed: int) -> None:
    """Fifteen of its 36 points are below."""
    found = points(FINITE, BELOW, sampler=sampler, trials=40, seed=seed)
    assert sorted(tuple(point.values()) for point in found) == [
        (one, other) for one in range(1, 7) for other in range(one + 1, 7)
    ]


def test_a_first_point_leaves_keys_to_the_sampler_as_far_as_rules_let_it() -> None:
    found = points(FINITE, BELOW, first=[{"loss.switch_epoch": 5}], trials=1)
    assert found == [{"loss.switch_epoch": 5, "optim.decay_epoch": 6}]


def test_a_resume_may_change_the_rules(search: Search, tmp_path: Path) -> None:
    """A trial that breaks the new one stays in the log; one that was under way is stopped."""
    first = [{"loss.alpha": alpha, "loss.ramp": "one", "optim.lr_discriminator": 0.003} for alpha in (0.2, 0.9)]
    spec = partial(small, trials=4, early_stopping="none")
    search(spec(first=first, epochs=6))
    result = search(spec(first=first[:1], rules=["loss.alpha + 0.1 < 0.9"]), resume=True)
    trials = pd.read_parquet(tmp_path / "study" / "trials").sort_values("number")
    assert list(trials["status"]) == ["completed", "stopped", "completed", "completed"]
    assert trials["error"].iloc[1] == OUTSIDE
    assert (trials["params_alpha"].iloc[2:] < 0.8).all()
    assert [row.number for row in result.state.rows()] == [0, 1, 2, 3]
