"""A race on Ray, two trainings at a time: its rows are those that its log implies, whichever ended first."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialStatus
from plgan_tune.study.state import Ending
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.backends.racing import check_replay, spec_of, split
from tests.factories import make_metrics

pytestmark = pytest.mark.ray


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


def search(folder: Path, spec: StudySpec) -> StudyResult:
    from plgan_tune.backends.ray.backend import RayBackend  # noqa: PLC0415 - seconds

    return run_study(spec, backend=RayBackend(), results=folder, name="study", resume=True)


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
def test_a_search_of_fewer_trials_than_slots_waits_for_its_race(tmp_path: Path) -> None:
    """Tune asks for more from the start, and there is nothing to train in the free slot before the trial has ended."""
    spec = spec_of(0.3, confirm={"seeds": 2, "finalists": 1, "share": 0.8})
    spec = replace(spec, search=spec.search.model_copy(update={"first": ()}))
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    own, again = split(result.state.rows())
    assert len(own) == 1
    assert again
    assert result.state.standing().is_over
    check_replay(tmp_path, spec, result)
