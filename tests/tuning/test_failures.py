"""Trials that break, die and lose ranks: an attempt is lost, and what was trained is not."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import ray

from plgan_tune.backends.ray import tune_run
from plgan_tune.backends.ray.gang import Gang, RankActor
from plgan_tune.backends.ray.trainable import PlganTrainable
from plgan_tune.records import TrialStatus
from plgan_tune.study.errors import StudyError
from tests.factories import UNTIMED, Search, small

pytestmark = [pytest.mark.ray, pytest.mark.slow]


class Breaking(PlganTrainable):
    """A Trainable whose second trial breaks before its third epoch is reported, in as many attempts as `BREAKS`."""

    BREAKS = 1
    DIES = False

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config
        super().setup(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        result = super().step()
        assignment, metrics = self._config["assignment"], result["report"].metrics
        if assignment.number == 1 and metrics.epoch == 3 and assignment.attempt <= self.BREAKS:
            if self.DIES:
                os._exit(1)
            raise RuntimeError("planted")
        return result


class Dying(Breaking):
    DIES = True


class AlwaysBreaking(Breaking):
    BREAKS = 99


@pytest.mark.parametrize("trainable", [Breaking, Dying])
def test_a_broken_attempt_goes_on_from_its_checkpoint(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainable: type[Breaking]
) -> None:
    spec = small(early_stopping="none", trials=2, training={"epochs": 4, "checkpoint_every": 2})
    search(spec, "whole")
    monkeypatch.setattr(tune_run, "PlganTrainable", trainable)
    search(spec, "broken")
    trials = pd.read_parquet(tmp_path / "broken" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED] * 2
    assert list(trials["attempt"]) == [1, 2]
    whole, broken = (
        pd.read_parquet(tmp_path / name / "epochs").query("trial_id == 't0001'") for name in ("whole", "broken")
    )
    assert list(broken["attempt"]) == [1, 1, 2, 2]
    pd.testing.assert_frame_equal(whole[UNTIMED].reset_index(drop=True), broken[UNTIMED].reset_index(drop=True))


def test_a_trial_that_always_breaks_fails_and_the_search_goes_on(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_run, "PlganTrainable", AlwaysBreaking)
    search(small(early_stopping="none", trials=3, max_failures=1))
    trials = pd.read_parquet(tmp_path / "study" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.COMPLETED]
    assert "planted" in str(trials.loc[1, "error"])
    assert trials.loc[1, "attempt"] == 2


class DyingAtFirst(PlganTrainable):
    """A Trainable whose second trial takes its process along when it is taken up for the first time."""

    def _take_up(self, config: dict[str, Any]) -> None:
        assignment = config["assignment"]
        if assignment.number == 1 and assignment.attempt == 1:
            os._exit(1)
        super()._take_up(config)


def test_a_trial_that_cannot_begin_where_another_was_has_another_attempt(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_run, "PlganTrainable", DyingAtFirst)
    search(small(early_stopping="none", trials=2, max_failures=1))
    trials = pd.read_parquet(tmp_path / "study" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED] * 2
    assert list(trials["attempt"]) == [1, 2]


class LosingARank(PlganTrainable):
    """A Trainable whose rank 1 fails in its third epoch, in as many attempts as `BREAKS`, while rank 0 waits for it."""

    BREAKS = 1

    def _take_up(self, config: dict[str, Any]) -> None:
        super()._take_up(config)
        self._epoch, self._attempt = config["assignment"].logged, config["assignment"].attempt

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        if isinstance(self._worker, Gang) and self._epoch == 3 and self._attempt <= self.BREAKS:
            ray.get(self._worker._actors[1].__ray_call__.remote(self.plant))
        return super().step()

    @staticmethod
    def plant(actor: RankActor) -> None:
        def die() -> None:
            os._exit(1)

        assert actor._worker is not None
        actor._worker.step = die  # type: ignore[method-assign,assignment]


class RaisingInARank(LosingARank):
    BREAKS = 99

    @staticmethod
    def plant(actor: RankActor) -> None:
        def step() -> None:
            raise RuntimeError("planted in rank 1")

        assert actor._worker is not None
        actor._worker.step = step  # type: ignore[method-assign,assignment]


TWO_RANKS: Mapping[str, Any] = {"ranks": 2, "early_stopping": "none", "trials": 1}


def test_a_rank_that_dies_costs_an_attempt_and_the_new_gang_goes_on(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(training={"epochs": 4, "checkpoint_every": 1}, **TWO_RANKS)
    search(spec, "whole")
    monkeypatch.setattr(tune_run, "PlganTrainable", LosingARank)
    search(spec, "broken")
    whole, broken = (pd.read_parquet(tmp_path / name / "epochs") for name in ("whole", "broken"))
    assert list(broken["attempt"]) == [1, 1, 2, 2]
    pd.testing.assert_frame_equal(whole[UNTIMED], broken[UNTIMED])
    assert set(pd.read_parquet(tmp_path / "broken" / "trials")["status"]) == {TrialStatus.COMPLETED}


def test_the_first_failure_of_a_gang_is_what_the_trial_says(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_run, "PlganTrainable", RaisingInARank)
    began = time.monotonic()
    search(small(max_failures=0, **TWO_RANKS))
    assert time.monotonic() - began < 120  # no rank waits out a collective's ten minutes
    (row,) = pd.read_parquet(tmp_path / "study" / "trials").itertuples()
    assert row.status == TrialStatus.FAILED
    assert "planted in rank 1" in str(row.error)


def absent(name: str) -> type[PlganTrainable]:
    """A Trainable of a module that no other process can import."""
    trainable = type("Absent", (PlganTrainable,), {"__module__": name})
    sys.modules[name] = ModuleType(name)
    setattr(sys.modules[name], "Absent", trainable)  # noqa: B010 - a module has no such attribute, says mypy
    return trainable


def test_a_search_none_of_whose_trials_can_begin_ends_with_the_third(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_run, "PlganTrainable", absent("nowhere"))
    with pytest.raises(StudyError, match=r"3 failed 2 times each .* No module named 'nowhere'"):
        search(small(early_stopping="none", trials=6, max_failures=1))
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    assert list(trials["status"]) == [TrialStatus.FAILED] * 3
    assert list(trials["attempt"]) == [2] * 3
    assert trials["error"].str.contains("No module named 'nowhere'").all()
