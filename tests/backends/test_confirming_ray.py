"""A race on Ray, two trainings at a time: its rows are those that its log implies, whichever ended first."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.config.yaml import read_yaml
from plgan_tune.records import DecisionRow, TrialRow, TrialStatus, Verdict
from plgan_tune.store.location import Location
from plgan_tune.study.early_stopping import build_rule, left_behind
from plgan_tune.study.history import read_history
from plgan_tune.study.race import race_of
from plgan_tune.study.ranking import rank
from plgan_tune.study.state import Ending
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.factories import make_metrics, small

pytestmark = pytest.mark.ray

EPOCHS = 2
CONFIRM = {"seeds": 3, "finalists": 2, "share": 0.8}


def planned(folder: Path, waits: Mapping[int, int]) -> type:
    """Trains, but an error follows from the point and the seed alone.

    Trials of some numbers wait in `folder` for the start of others: however fast they are, two train at a time.
    """
    from plgan_tune.backends.ray.trainable import PlganTrainable  # noqa: PLC0415 - seconds

    class Planned(PlganTrainable):
        def _take_up(self, config: dict[str, Any]) -> None:
            self._given = config["assignment"]
            super()._take_up(config)

        def step(self) -> dict[str, Any]:
            report = super().step()["report"]
            (folder / f"begun{self._given.number}").touch()
            end = time.monotonic() + 60
            while self._given.number in waits and time.monotonic() < end:
                if (folder / f"begun{waits[self._given.number]}").exists():
                    break
                time.sleep(0.02)
            alpha, seed = self._given.trial.loss.alpha, self._given.trial.seed
            error = alpha + Random(f"{seed} {alpha}").uniform(-0.02, 0.02)
            return {"report": replace(report, metrics=make_metrics(report.metrics.epoch, error))}

    return Planned


@pytest.fixture(autouse=True)
def waits(embedded_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """The number of a trial -> that of another, for whose start it waits; none, unless a test says so."""
    found: dict[int, int] = {}
    monkeypatch.setattr("plgan_tune.backends.ray.tune_run.PlganTrainable", planned(tmp_path, found))
    return found


def spec_of(*alphas: float, **changes: Any) -> StudySpec:
    first = [{"loss.alpha": alpha, "optim.lr_discriminator": 0.003} for alpha in alphas]
    known: dict[str, Any] = {
        "trials": len(alphas),
        "first": first,
        "concurrent": 2,
        "early_stopping": "none",
        "confirm": CONFIRM,
    }
    return small({"alpha": {"uniform": [0.0, 1.0]}}, {"epochs": EPOCHS}, **known | changes)


def search(folder: Path, spec: StudySpec) -> StudyResult:
    from plgan_tune.backends.ray.backend import RayBackend  # noqa: PLC0415 - seconds

    return run_study(spec, backend=RayBackend(), results=folder, name="study", resume=True)


def split(rows: tuple[TrialRow, ...]) -> tuple[list[TrialRow], list[TrialRow]]:
    """The search's own, and the replicates."""
    return [row for row in rows if row.replicate_of is None], [row for row in rows if row.replicate_of is not None]


def check_replay(folder: Path, spec: StudySpec, result: StudyResult) -> list[DecisionRow]:
    """The log implies what the search came to; its decisions."""
    location, race = Location.at(folder / "study"), race_of(spec)
    assert race is not None
    history = read_history(location, spec)
    left = left_behind(history, spec, build_rule(spec))
    assert left.decisions == ()
    assert left.disagreement is None
    assert left.history.trials == history.trials
    assert sorted(result.state.rows(), key=lambda row: row.number) == list(history.trials)
    assert [report.seq for report in history.reports] == list(range(len(history.reports)))
    drops = [row for row in history.decisions if row.verdict is Verdict.DROP]
    assert sorted(drops, key=str) == sorted(race.standing(history.trials).decisions, key=str)
    assert race.standing(history.trials) == result.state.standing()
    best = rank(history.trials, race)[0]
    said = read_yaml((folder / "study" / "best.yaml").read_text()).value
    assert isinstance(said, dict)
    assert said["trial"]["loss"]["alpha"] == best.params["loss.alpha"]
    return drops


def test_a_race_of_two_at_a_time_ends_as_its_log_implies(tmp_path: Path, waits: dict[int, int]) -> None:
    """It begins while the search's last trial still trains."""
    waits |= {0: 1, 4: 5, 6: 7}
    spec = spec_of(0.5, 0.3, 0.31, 0.6, 0.7)
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    own, again = split(result.state.rows())
    assert [row.params["loss.alpha"] for row in sorted(own, key=lambda row: row.number)] == [0.5, 0.3, 0.31, 0.6, 0.7]
    assert {row.status for row in result.state.rows()} == {TrialStatus.COMPLETED}
    pairs = [(row.replicate_of, row.replicate) for row in again]
    assert len(set(pairs)) == len(pairs) >= 6
    assert {row.replicate_of for row in again} >= {"t0000", "t0001", "t0002"}
    for which in {row.replicate for row in again}:
        assert len({row.seed for row in again if row.replicate == which}) == 1
    trials: Any = pd.read_parquet(tmp_path / "study" / "trials").set_index("number")
    for one, other in waits.items():
        assert trials.loc[other, "started_at"] < trials.loc[one, "ended_at"]
    assert trials.loc[5, "replicate"] == 1
    check_replay(tmp_path, spec, result)
    before = len(result.state.rows())
    assert search(tmp_path, spec).ending is Ending.DONE  # nothing is left to train
    assert len(pd.read_parquet(tmp_path / "study" / "trials")) == before


@pytest.mark.slow
def test_a_race_of_the_clearly_different_logs_whom_it_drops(tmp_path: Path) -> None:
    spec = spec_of(0.5, 0.1, 0.9, 0.2, confirm={**CONFIRM, "seeds": 5, "finalists": 3, "share": 0.9})
    result = search(tmp_path, spec)
    assert {row.trial_id for row in check_replay(tmp_path, spec, result)} == {"t0002"}
    assert result.best is not None
    assert result.best.loss.alpha == 0.1
    assert result.state.standing().is_over


@pytest.mark.slow
@pytest.mark.parametrize("alphas", [(0.3,), (0.3, 0.2)])
def test_a_search_of_fewer_trials_than_slots_waits_for_its_race(tmp_path: Path, alphas: tuple[float, ...]) -> None:
    """A slot is free from the start, and there is nothing to train in it before the trials have ended."""
    spec = spec_of(*alphas, trials=len(alphas), confirm={"seeds": 2, "finalists": 1, "share": 0.8})
    if len(alphas) == 1:
        spec = replace(spec, search=spec.search.model_copy(update={"first": ()}))
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    own, again = split(result.state.rows())
    assert len(own) == len(alphas)
    assert len(again) >= len(alphas)
    assert result.state.standing().is_over
    check_replay(tmp_path, spec, result)


@pytest.mark.slow
def test_a_search_whose_sampler_is_out_of_points_races_in_the_slots_that_are_left(tmp_path: Path) -> None:
    mapping = spec_of(0.3).as_mapping()
    mapping["search"] |= {"first": [], "sampler": "grid", "trials": 9}
    mapping["trial"]["loss"]["alpha"] = {"choice": [0.2, 0.3, 0.4]}
    mapping["trial"]["optim"]["lr_discriminator"] = 0.003
    spec = study_from_mapping(mapping)
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    own, again = split(result.state.rows())
    assert len(own) == 3
    assert len(again) >= 2
    check_replay(tmp_path, spec, result)


@pytest.mark.slow
def test_a_finalist_that_ends_last_is_confirmed_whatever_was_trained_before(
    tmp_path: Path, waits: dict[int, int]
) -> None:
    """The first point has all two seeds in the other slot before the third trial ends."""
    waits |= {0: 1, 2: 4}
    spec = spec_of(0.5, 0.3, 0.1, confirm={"seeds": 2, "finalists": 1, "share": 0.9})
    result = search(tmp_path, spec)
    _, again = split(result.state.rows())
    pairs = sorted((row.replicate_of or "", row.replicate or 0) for row in again)
    assert pairs == [(f"t{of:04d}", which) for of in (0, 2) for which in (1, 2)]
    assert result.ending is Ending.DONE
    assert result.best is not None
    assert result.best.loss.alpha == 0.1
    check_replay(tmp_path, spec, result)
