"""A study as frames."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plgan_tune.analysis.study import read_study
from plgan_tune.store.location import StoreError
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


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds study\.yaml, but .* does not"):
        read_study(tmp_path)
