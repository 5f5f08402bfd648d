"""A study as frames."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plgan_tune.analysis.curves import errors_at_equal_epoch
from plgan_tune.analysis.importance import importances
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import read_study
from plgan_tune.store import read as read_module
from plgan_tune.store.location import Location, StoreError
from tests.analysis.conftest import Synthetic


def test_frames_hold_what_the_log_holds(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    assert study.trials["number"].tolist() == list(range(60))
    assert len(study.epochs) == study.trials["epochs"].sum()
    last = study.epochs.groupby("trial_id", observed=True).last()
    assert last["val_error"].tolist() == study.trials["val_error_last"].tolist()
    assert set(study.decisions["epoch"]) == {1, 3, 9}
    assert study.ranked["val_error_last"].is_monotonic_increasing


def test_of_an_epoch_trained_twice_the_latest_attempts_counts(synthetic: Synthetic) -> None:
    study = synthetic(4, 6)
    part = Path(study.location.path) / "epochs" / "part-00000.parquet"
    frame = pd.read_parquet(part)
    again = frame[frame.trial_id == "t0000"].tail(1).assign(seq=len(frame), attempt=2, val_error=0.123)
    pq.write_table(
        pa.Table.from_pandas(pd.concat([frame, again]), schema=pq.read_schema(part), preserve_index=False), part
    )
    found = read_study(study.location.path)
    assert len(found.epochs) == len(frame)
    assert found.epochs[found.epochs.trial_id == "t0000"]["val_error"].iloc[-1] == 0.123


def test_a_study_that_grows_while_it_is_read_is_whole(synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two reads a search may write: no epoch is then without its trial, no decision without its epoch."""
    early, late = (Path(synthetic(trials, 6).location.path) for trials in (30, 40))

    def then_growing(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(place: Location, study_id: str | None) -> Any:
            found = read(place, study_id)
            shutil.copytree(late, early, dirs_exist_ok=True)
            return found

        return reading

    for name in ("read_trials", "read_epochs", "read_decisions"):
        monkeypatch.setattr(read_module, name, then_growing(getattr(read_module, name)))
    found = read_study(early)
    assert len(found.trials) == 40
    assert set(found.epochs["trial_id"]) == set(found.trials["trial_id"])
    assert 0 < len(found.decisions) < len(read_study(late).decisions)


def test_rows_without_a_trial_are_refused(synthetic: Synthetic) -> None:
    study = synthetic(30, 6)
    file = Path(study.location.path) / "trials" / "trials.parquet"
    pq.write_table(pq.read_table(file).slice(0, 20), file)
    with pytest.raises(StoreError, match=r"trials.parquet must have a row of every trial .* has none of t0020, t0021"):
        read_study(study.location.path)


def test_a_trial_that_diverged_at_a_later_attempt_counts_once(synthetic: Synthetic) -> None:
    """The first came beyond the epoch at which trials are compared; the second started at an earlier checkpoint."""
    study = synthetic(30, 6, early_stopping=False)
    first = study.trials.index == 0
    trials = study.trials.assign(
        status=study.trials["status"].mask(first, "diverged"), epochs=study.trials["epochs"].mask(first, 3)
    )
    again = replace(study, trials=trials)
    epoch, errors = errors_at_equal_epoch(again)
    assert epoch == 6
    assert errors.index.is_unique
    assert errors["t0000"] == errors.drop("t0000").max()
    report_html(again, importances(again))


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds study\.yaml, but .* does not"):
        read_study(tmp_path)
