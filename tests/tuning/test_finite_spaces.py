"""Spaces of finitely many points: steps, ordered choices, grids, and points that would be trained again."""

from dataclasses import replace
from functools import partial
from itertools import count, product
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.domains import Int
from plgan_tune.config.errors import SpecError
from plgan_tune.config.load import load_study, study_from_mapping
from plgan_tune.config.study import SamplerSpec, StudySpec, set_paths
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.records import TrialStatus
from plgan_tune.search import app
from plgan_tune.study.history import History
from plgan_tune.study.state import Ending
from plgan_tune.tuning.driver import run_study
from plgan_tune.tuning.points import grid, nth_point
from plgan_tune.tuning.sampler import OptunaSampler
from tests.factories import SMALL, Search, make_trial, small

BARE = {"study": "finite", "trial": {"data": {"source": "digits", "labels": 20, "validation": 100}}}
SAMPLERS = {name: SamplerSpec.model_validate(name) for name in ("random", "tpe")}
HIDDEN = {"choice": [[4], [8, 4], [8, 8, 4]], "ordered": True}


def finite(loss: Any, training: Any, model: Any = SMALL["trial"]["model"], **search: Any) -> StudySpec:
    """`small` with one learning rate."""
    mapping = small(loss, training, model=model, first=[]).as_mapping()
    mapping["search"] |= search
    return study_from_mapping(set_paths(mapping, {"trial.optim.lr_discriminator": 0.003}))


def stepped(**search: Any) -> StudySpec:
    """Ten multiples of a tenth, three lists in order."""
    return finite(
        {"alpha": {"uniform": [0.1, 1.0], "step": 0.1}},
        {"epochs": 1},
        model={"kind": "mlp", "hidden": HIDDEN},
        **{"first": [{"loss.alpha": 0.7, "model.hidden": [8, 4]}], **search},
    )


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "trials").sort_values("number", ignore_index=True)


# Steps and ordered choices


def test_rows_hold_what_the_space_file_says(search: Search, tmp_path: Path) -> None:
    """And a resume knows them: TPE suggests from them, within steps of another size."""
    search(stepped(trials=4, sampler={"tpe": {"startup_trials": 1}}))
    search(stepped(trials=6, sampler={"tpe": {"startup_trials": 1}}), resume=True)
    trials = table(tmp_path / "study")
    assert trials["params_alpha"].isin([tenth / 10 for tenth in range(1, 11)]).all()
    assert trials["params_hidden"].isin(["[4]", "[8, 4]", "[8, 8, 4]"]).all()
    assert (trials.loc[0, "params_alpha"], trials.loc[0, "params_hidden"]) == (0.7, "[8, 4]")
    assert (str(trials["params_alpha"].dtype), len(trials)) == ("float64", 6)


# Points that would be trained again


def four_points(**search: Any) -> StudySpec:
    return finite(
        {"ramp": {"choice": ["clamp", "one"]}, "feature_norm": {"choice": ["mean", "l1"]}},
        {"epochs": 2},
        **{"first": [], "early_stopping": "none", "sampler": {"tpe": {"startup_trials": 2}}, **search},
    )


POINTS = ["params_ramp", "params_feature_norm"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes", "gp"])
def test_no_point_is_trained_twice_and_a_space_that_is_tried_ends_the_search(
    search: Search, tmp_path: Path, sampler: str
) -> None:
    result = search(four_points(trials=9, sampler=sampler))
    trials = table(tmp_path / "study")
    assert result.ending is Ending.DONE
    assert list(trials["number"]) == [0, 1, 2, 3]
    assert not trials.duplicated(POINTS).any()
    assert result.state.notes[-1] == "no further point is left to try: 4 trials instead of 9"


def test_a_resume_of_a_space_that_is_tried_trains_nothing(search: Search, tmp_path: Path) -> None:
    search(four_points(trials=3))
    assert search(four_points(trials=9), resume=True).ending is Ending.DONE
    trials = table(tmp_path / "study")
    assert list(trials["number"]) == [0, 1, 2, 3]
    assert not trials.duplicated(POINTS).any()
    assert search(four_points(trials=9), resume=True).ending is Ending.DONE
    pd.testing.assert_frame_equal(table(tmp_path / "study"), trials)


def test_a_search_that_is_stopped_after_every_epoch_tries_each_point_once(tmp_path: Path) -> None:
    """In another order, for suggestions are not repeated; but the numbers have no holes, and no point comes twice."""
    endings: list[Ending] = []
    while Ending.DONE not in endings:
        answers = count()
        backend = InProcess(stop_requested=lambda answers=answers: next(answers) > 0)  # type: ignore[misc]
        result = run_study(four_points(trials=9), backend=backend, results=tmp_path, name="study", resume=True)
        endings.append(result.ending)
    trials = table(tmp_path / "study")
    assert list(trials["number"]) == [0, 1, 2, 3]
    assert not trials.duplicated(POINTS).any()
    assert set(trials["status"]) == {TrialStatus.COMPLETED}
    assert len(endings) == 9  # a start an epoch, and one that finds nothing to do


def test_what_is_skipped_is_said_and_first_points_are_no_exception(search: Search, tmp_path: Path) -> None:
    point, other = ({"loss.ramp": ramp, "loss.feature_norm": "l1"} for ramp in ("one", "clamp"))
    spec = four_points(trials=2, first=[point, point, other])
    result = search(spec)
    assert result.state.notes == ["t0001: 1 suggestion skipped, already tried by t0000"]
    assert list(table(tmp_path / "study")["params_ramp"]) == ["one", "clamp"]


@pytest.mark.parametrize(("trials", "said"), [(3, "trials 3,"), (9, "trials 4,")])
def test_a_dry_run_counts_the_points(tmp_path: Path, trials: int, said: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(dump_yaml(four_points(trials=trials).as_mapping()))
    plan = " ".join(CliRunner().invoke(app, ["--space", str(file), "--dry-run"]).output.split())
    assert said in plan
    assert ("the domains have 4 points in all: the search ends once all are tried" in plan) == (trials == 9)


ENDINGS = [TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED, TrialStatus.FAILED, TrialStatus.RUNNING]


@settings(max_examples=40)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    trials=st.integers(1, 20),
    begun=st.integers(0, 12),
    at_a_time=st.integers(1, 3),
    sampler=st.sampled_from(["random", "tpe"]),
    draw=st.randoms(use_true_random=False),
)
def test_every_point_is_tried_once_whatever_comes_of_it(
    counts: list[int], trials: int, begun: int, at_a_time: int, sampler: str, draw: Random
) -> None:
    """Some in an earlier start, whose trials ended anyhow or not at all, and then several at a time."""
    keys = ("loss.alpha", "loss.beta", "optim.beta1")
    domains = {
        key: {"choice": [(1 + n) / 10 for n in range(options)]} for key, options in zip(keys, counts, strict=False)
    }
    spec = study_from_mapping(set_paths(BARE, {f"trial.{key}": domain for key, domain in domains.items()}))
    spec = replace(spec, search=spec.search.model_copy(update={"trials": trials, "sampler": SAMPLERS[sampler]}))
    places = draw.sample(range(prod(counts)), min(begun, trials, prod(counts)))
    rows = [
        make_trial(number, draw.choice(ENDINGS), nth_point(spec.domains, place), 0.5, trial_id=f"t{number:04d}")
        for number, place in enumerate(places)
    ]
    suggested = OptunaSampler(spec, History(tuple(rows)))
    running: list[str] = []
    numbers = [row.number for row in rows if row.status is not TrialStatus.RUNNING]
    points = [row.params for row in rows if row.status is not TrialStatus.RUNNING]
    while (assignment := suggested.ask()) is not None:
        numbers.append(assignment.number)
        points.append(assignment.point)
        suggested.report(assignment.trial_id, 1, draw.random())
        running.append(assignment.trial_id)
        if len(running) == at_a_time:
            suggested.tell(running.pop(draw.randrange(at_a_time)), draw.choice(ENDINGS[:-1]))
    assert sorted(numbers) == list(range(min(trials, prod(counts))))
    assert len({tuple(point.items()) for point in points}) == len(points)


# Grids


def test_a_grid_is_the_same_however_often_it_is_stopped(search: Search, tmp_path: Path) -> None:
    """All points once, a first one before them, and `trials` may end it before."""
    spec = partial(four_points, sampler="grid", first=[{"loss.ramp": "one", "loss.feature_norm": "l1"}])
    assert search(spec(trials=9), "whole").ending is Ending.DONE
    whole = table(tmp_path / "whole")
    assert tuple(whole.loc[0, POINTS]) == ("one", "l1")
    assert len(whole) == len(whole.drop_duplicates(POINTS)) == 4
    for trials in (1, 3, 9):
        search(spec(trials=trials), "cut", resume=True)
        cut = table(tmp_path / "cut")
        pd.testing.assert_frame_equal(cut[POINTS], whole[POINTS].head(trials))
    other = search(spec(trials=9, seed=1), "other")
    assert {tuple(row.params.items()) for row in other.state.rows()} == {
        tuple(row.params.items()) for row in search(spec(trials=9), "cut", resume=True).state.rows()
    }


@settings(max_examples=40)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_a_grid_holds_every_point_once(counts: list[int], seed: int) -> None:
    domains = {f"key{number}": Int(0, count - 1) for number, count in enumerate(counts)}
    points = [tuple(point.values()) for point in grid(domains, prod(counts), seed)]
    assert sorted(points, key=str) == sorted(product(*map(range, counts)), key=str)


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (
            "{uniform: [0.1, 1.0]}",
            "grid needs domains of finitely many values: int, log_int, choice, or uniform with a step, "
            "but got {loss.alpha: {uniform: [0.1, 1.0]}}",
        ),
        ("{int: [1, 1000001]}", "grid takes domains of at most 1,000,000 points in all, but got 1,000,001 points"),
    ],
)
def test_a_grid_of_endless_or_too_many_points_is_refused(tmp_path: Path, domain: str, said: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "study: s\nsearch:\n  sampler: grid\ntrial:\n  data: {source: digits, labels: 20, validation: 400}\n"
        f"  loss: {{alpha: {domain}}}\n"
    )
    with pytest.raises(SpecError) as caught:
        load_study(file)
    assert str(caught.value) == f"{file}:3: search.sampler: {said}"
