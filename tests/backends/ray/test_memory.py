"""A trial that Ray ended for lack of memory: it goes on, is not blamed, and fewer train beside it."""

from pathlib import Path

import pytest

from plgan_tune.config.load import study_from_mapping
from plgan_tune.records import DecisionRow, EpochRow, TrialRow, TrialStatus
from tests.backends.ray.planted import Starving
from tests.factories import Search

pytestmark = pytest.mark.ray

SPEC = study_from_mapping(
    {
        "study": "starving",
        "search": {
            "trials": 4,
            "concurrent": 2,
            "sampler": "random",
            "early_stopping": "none",
            "confirm": None,
            "max_failures": 0,
        },
        "trial": {
            "data": {"source": "digits", "labels": 20, "validation": 100, "limit": 400},
            "model": {"width": 0.05},
            "loss": {"alpha": {"uniform": [0.1, 1.0]}},
            "training": {"epochs": 4, "checkpoint_every": 1},
        },
    }
)


class Telling:
    """Tells trial 0 that the driver knows of the starved one."""

    def __init__(self, study: Path) -> None:
        self._study = study

    def epoch(self, row: EpochRow) -> None:
        """Nothing."""

    def decision(self, row: DecisionRow) -> None:
        """Nothing."""

    def trial(self, row: TrialRow) -> None:
        if row.error is not None:
            (self._study / "known").touch()


def test_fewer_train_at_a_time_from_then_on_and_only_one_that_starved_alone_is_blamed(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With max_failures 0, a failure of its own ends a trial: its second, beside nobody."""
    monkeypatch.setattr("plgan_tune.backends.ray.tune_run.PlganTrainable", Starving)
    state = search(SPEC, listeners=[Telling(tmp_path / "study")]).state
    rows = {row.trial_id: row for row in state.rows()}
    assert [rows[trial_id].status for trial_id in ("t0000", "t0002", "t0003")] == [TrialStatus.COMPLETED] * 3
    assert (rows["t0001"].status, rows["t0001"].attempt) == (TrialStatus.FAILED, 2)
    assert "low on memory" in str(rows["t0001"].error)
    assert state.notes == ["t0001: ended for lack of memory; from now on, 1 trial at a time"]
    later = sorted((rows[trial_id] for trial_id in ("t0002", "t0003")), key=lambda row: row.started_at)
    assert all(row.ended_at is not None for row in rows.values())
    first, second = later
    assert first.ended_at is not None
    assert first.ended_at <= second.started_at
