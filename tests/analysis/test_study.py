"""A study as frames."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plgan_tune.analysis.curves import values_at_equal_epoch
from plgan_tune.analysis.importance import importances
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import MetricError, Study, read_study
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import set_paths
from plgan_tune.store import read as read_module
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.history import read_history
from plgan_tune.study.study_file import StudyFile
from tests.analysis.conftest import Synthetic


def test_frames_hold_what_the_log_holds(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    assert study.trials["number"].tolist() == list(range(60))
    assert len(study.epochs) == study.trials["epochs"].sum()
    last = study.epochs.groupby("trial_id", observed=True).last()
    assert last["val_error"].tolist() == study.trials["val_error_last"].tolist()
    assert set(study.decisions["epoch"]) == {1, 3, 9}
    assert study.ranked["val_error_last"].is_monotonic_increasing


@pytest.mark.parametrize("name", ["earlier", "first_release", "profile_searched", "start_searched"])
def test_what_earlier_versions_left_is_read_by_its_error(earlier: Path, name: str) -> None:
    """Its rows have none of the other metrics, which its ranking by one of them says."""
    study = read_study(earlier / name)
    assert study.metric.name == "val_error"
    assert study.ranked["val_error_last"].notna().all()
    assert study.epochs["val_error"].notna().all()
    assert study.epochs["val_distance"].isna().all()
    assert len(read_history(study.location, study.spec).reports) == len(study.everything.epochs)
    with pytest.raises(MetricError, match=r"--metric val_distance: must be one that .* have: (val_error|none yet)$"):
        read_study(earlier / name, "val_distance")


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
        def reading(place: Location, *of_study: str | None) -> Any:
            found = read(place, *of_study)
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
    epoch, errors = values_at_equal_epoch(again)
    assert epoch == 6
    assert errors.index.is_unique
    assert errors["t0000"] == errors.drop("t0000").max()
    report_html(again, importances(again))


def test_a_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds study\.yaml, but .* does not"):
        read_study(tmp_path)


def first(value: Any) -> Callable[[Any], Any]:
    """Of a column, its first cell another."""
    return lambda column: pa.array([value, *column.to_pylist()[1:]], type=column.type)


def another(name: str, cells: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Of a table, one column another."""

    def changed(table: Any) -> Any:
        return table.set_column(table.schema.get_field_index(name), name, cells(table.column(name)))

    return changed


TRIALS, EPOCHS = "trials/trials.parquet", "epochs/part-00000.parquet"


@pytest.mark.parametrize(
    ("file", "edit", "reason"),
    [
        (TRIALS, lambda t: t.drop_columns(["params_beta"]), "must have a column params_beta, because study.yaml"),
        (
            TRIALS,
            another("params_alpha", lambda c: c.cast(pa.string())),
            "params_alpha must hold double, as study.yaml",
        ),
        (TRIALS, another("params_alpha", lambda c: pa.nulls(len(c))), "params_alpha must hold double, as study.yaml"),
        (TRIALS, another("params_alpha", first(None)), "t0000 must have a params_alpha"),
        (TRIALS, another("params_switch_epoch", first(None)), "t0000 must have a params_switch_epoch"),
        (TRIALS, another("params_alpha", first(-7.0)), "t0000 must be a valid trial, but loss.alpha is -7.0"),
        (TRIALS, another("params_alpha", first(float("inf"))), "a valid trial, but loss.alpha is .inf"),
        (TRIALS, another("params_switch_epoch", first(10**12)), "valid trial, but loss.switch_epoch is 1000000000000"),
        (TRIALS, another("ended_at", first(None)), "t0000 has ended, so ended_at must have a value"),
        (TRIALS, another("val_error_last", first(None)), "t0000 has completed, so val_error_last must have a value"),
        (TRIALS, another("trial_id", first("t0001")), "must have a row a trial, but trial_id t0001 stands twice"),
        (
            TRIALS,
            lambda t: t.append_column("epochs", t.column("epochs")),
            "every column once, but epochs is there twice",
        ),
        (EPOCHS, another("epoch", first(2)), "once, but epoch 2 of t0000's attempt 1 occurs twice"),
    ],
)
def test_what_was_edited_by_hand_is_named_with_its_reason(
    synthetic: Synthetic, file: str, edit: Callable[[Any], Any], reason: str
) -> None:
    study = synthetic(30, 6)
    path = Path(study.location.path) / file
    table = pq.read_table(path)
    pq.write_table(edit(table).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(StoreError) as caught:
        read_study(study.location.path)
    assert str(path.parent) in str(caught.value)
    assert reason in str(caught.value)


def write_file(study: Study, values: Mapping[str, Any]) -> None:
    """The study's file with other values at these paths of its trial."""
    mapping = study.spec.as_mapping()
    asked = study_from_mapping({**mapping, "trial": set_paths(mapping["trial"], values)})
    StudyFile(asked).write(study.location)


def add_column(study: Study, column: str, cells: Any) -> Path:
    file = Path(study.location.path) / TRIALS
    table = pq.read_table(file)
    pq.write_table(table.append_column(column, cells).replace_schema_metadata(table.schema.metadata), file)
    return file


def test_a_key_that_was_not_searched_is_named(synthetic: Synthetic) -> None:
    """Tables of before, a file that asks for more."""
    study = synthetic(30, 6)
    write_file(study, {"loss.unsupervised_scale": {"uniform": [0.1, 1.0]}})
    with pytest.raises(StoreError, match=r"trials\.parquet must have a column params_unsupervised_scale, because"):
        read_study(study.location.path)


@pytest.mark.parametrize(
    ("path", "options", "cells", "reason"),
    [
        (
            "loss.ramp",
            ["clamp", "one"],
            ["one", "never"],
            "t0001 must be a valid trial, but loss.ramp is 'never'",
        ),
        ("model.hidden", [[10], [20]], ["[10]", "[20"], "t0001 must be a valid trial"),
        ("method", ["pl_gan", "patent"], ["patent", "mine"], "t0001 must be a valid trial"),
    ],
)
def test_an_option_that_there_is_not_is_named(
    synthetic: Synthetic, path: str, options: list[Any], cells: list[str], reason: str
) -> None:
    study = synthetic(2, 2, early_stopping=False)
    write_file(study, {path: {"choice": options}})
    file = add_column(study, f"params_{path.rpartition('.')[2]}", pa.array(cells))
    with pytest.raises(StoreError) as caught:
        read_study(study.location.path)
    assert str(file) in str(caught.value)
    assert reason in str(caught.value)


def test_values_outside_the_domains_of_now_and_options_of_none_are_read(synthetic: Synthetic) -> None:
    study = synthetic(4, 3, early_stopping=False)
    write_file(study, {"loss.alpha": {"uniform": [0.5, 0.5]}, "training.checkpoint_every": {"choice": [None, 2]}})
    add_column(study, "params_checkpoint_every", pa.array([None, 2, None, 2], pa.int64()))
    found = read_study(study.location.path)
    assert not found.inside.any()
    assert [found.trial(f"t000{number}").training.checkpoint_every for number in range(4)] == [None, 2, None, 2]
