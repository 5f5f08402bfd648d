import io
import random
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plgan_tune.records import DecisionRow, EvaluationRow, TrialStatus, Verdict
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import (
    EVALUATIONS,
    TRIALS,
    epoch_rows,
    evaluation_rows,
    latest_rows,
    part_name,
    read_decisions,
    read_epochs,
    read_evaluations,
    read_tables,
    read_trials,
    reports,
    trial_rows,
)
from plgan_tune.store.schemas import epochs_table, evaluations_table, trials_table
from plgan_tune.store.tables import write_table


def put(table: Any, file: Location, version: str | None) -> None:
    metadata = {} if version is None else {"plgan_tune.schema_version": version}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    file.write_bytes(sink.getvalue().to_pybytes())


@pytest.fixture
def filled(study: Location, rows: Any) -> Location:
    with StudyLog(study, rows.columns, rows.types, rows_per_part=2) as log:
        log.trial(rows.trial(0))
        for seq in range(5):
            log.epoch(rows.epoch(seq))
    return study


def test_a_newer_version_is_refused_with_both_versions(filled: Location, rows: Any) -> None:
    put(epochs_table([rows.epoch(0)]), filled.join("epochs", "part-00001.parquet"), "2")
    put(trials_table([], rows.columns, rows.types), filled.join("trials", "trials.parquet"), "17")
    with pytest.raises(StoreError, match=r"part-00001.parquet .*schema_version 2, .* reads up to 1"):
        read_epochs(filled)
    with pytest.raises(StoreError, match=r"trials.parquet .*schema_version 17, .* reads up to 1"):
        read_trials(filled)
    with pytest.raises(StoreError, match="schema_version 17"):
        StudyLog(filled, rows.columns, rows.types)


def test_a_file_of_another_program_is_refused(filled: Location, rows: Any) -> None:
    put(epochs_table([rows.epoch(0)]), filled.join("epochs", "part-00001.parquet"), None)
    with pytest.raises(StoreError, match=r"part-00001.parquet must carry a plgan_tune.schema_version"):
        read_epochs(filled)


def test_a_file_without_a_column_is_refused(filled: Location, rows: Any) -> None:
    table = epochs_table([rows.epoch(0)]).drop_columns(["lr_generator", "seconds", "ramp"])
    put(table, filled.join("epochs", "part-00001.parquet"), "1")
    with pytest.raises(StoreError, match=r"part-00001.parquet must have every column, but lr_generator, seconds is"):
        read_epochs(filled)


def test_a_measure_that_a_part_does_not_know_reads_as_null_and_another_changes_nothing(
    filled: Location, rows: Any
) -> None:
    """Parts of one study may be of different versions."""
    before = read_epochs(filled)
    table = epochs_table([rows.epoch(before.num_rows)])
    put(table.drop_columns(["ramp"]), filled.join("epochs", "part-00003.parquet"), "1")
    younger = epochs_table([rows.epoch(before.num_rows + 1)]).append_column("gam", pa.array([0.5]))
    put(younger, filled.join("epochs", "part-00004.parquet"), "1")
    found = read_epochs(filled)
    assert found.select(before.column_names).slice(0, before.num_rows).equals(before)
    row, last = epoch_rows(found)[-2:]
    assert last == rows.epoch(before.num_rows + 1)
    assert row == replace(rows.epoch(before.num_rows), metrics=replace(row.metrics, ramp=None))
    assert row.metrics.ramp is None


@pytest.mark.parametrize("numbers", [[], [0, 1]])
def test_trials_of_before_rows_carried_a_seq_are_read(filled: Location, rows: Any, numbers: list[int]) -> None:
    table = trials_table([rows.trial(number) for number in numbers], rows.columns, rows.types)
    put(table.drop_columns(["seq"]), filled.join(*TRIALS), "1")
    found = read_trials(filled)
    assert found.column_names == table.column_names
    assert trial_rows(found, rows.columns) == [replace(rows.trial(number), seq=0) for number in numbers]


@pytest.mark.parametrize("keep", [0, 10, -20])
def test_a_corrupt_part_is_named(filled: Location, keep: int) -> None:
    part = filled.join("epochs", "part-00001.parquet")
    part.write_bytes(part.read_bytes()[:keep])
    with pytest.raises(StoreError, match=r"part-00001.parquet: it is corrupt"):
        read_epochs(filled)


def test_a_part_damaged_in_the_middle_is_named(filled: Location) -> None:
    part = filled.join("epochs", "part-00001.parquet")
    content = part.read_bytes()
    part.write_bytes(content[:4] + b"\xff" * 200 + content[204:])
    with pytest.raises(StoreError, match=r"part-00001.parquet: it is corrupt"):
        read_epochs(filled)


def test_a_missing_part_is_named(filled: Location) -> None:
    filled.join("epochs", "part-00001.parquet").remove()
    with pytest.raises(StoreError, match=r"part-00001.parquet is not there"):
        read_epochs(filled)


def test_a_foreign_parquet_file_is_named(filled: Location) -> None:
    filled.join("epochs", "mine.parquet").write_text("")
    with pytest.raises(StoreError, match=r"mine\.parquet"):
        read_epochs(filled)


def test_unfinished_temporaries_are_ignored(filled: Location, rows: Any) -> None:
    filled.join("epochs", "_part-00003.parquet.tmp").write_text("half")
    filled.join("epochs", "_part-00004.parquet").write_text("half")
    filled.join("trials", "_trials.parquet.tmp").write_text("half")
    assert epoch_rows(read_epochs(filled)) == [rows.epoch(seq) for seq in range(5)]
    assert read_trials(filled).num_rows == 1


def test_reports_and_latest_rows_are_the_rows_own(study: Location, rows: Any) -> None:
    written = [replace(rows.epoch(seq), trial_id=f"t{seq % 3}") for seq in range(8)]
    table = epochs_table(written)
    assert reports(table) == [row.report() for row in written]
    assert latest_rows(table) == {row.trial_id: row for row in written}
    assert latest_rows(epochs_table([])) == {}
    assert reports(epochs_table([])) == []


def test_rows_come_in_order_of_seq(study: Location, rows: Any) -> None:
    with StudyLog(study, rows.columns, rows.types, rows_per_part=2) as log:
        for seq in (3, 0, 2, 1):
            log.epoch(rows.epoch(seq))
    assert read_epochs(study).column("seq").to_pylist() == [0, 1, 2, 3]


def test_a_study_that_has_only_begun_is_empty(study: Location, rows: Any) -> None:
    study.join("study.yaml").write_text("")
    assert read_trials(study).num_rows == 0
    assert "val_error_last" in read_trials(study).column_names
    assert epoch_rows(read_epochs(study)) == []


def test_a_study_that_is_not_there_is_named(study: Location) -> None:
    for read in (read_trials, read_epochs):
        with pytest.raises(StoreError, match=r"a study must be there to be read, but got .*a study"):
            read(study)


def test_a_study_that_died_before_its_first_snapshot_has_no_trials(study: Location, rows: Any) -> None:
    """Whatever keys it searches: the table without a file has no column of theirs."""
    study.join("study.yaml").write_text("")
    assert trial_rows(read_trials(study), rows.columns) == []


EVALUATION = EvaluationRow(
    configuration="patent",
    seed=1,
    refit=False,
    trial_id="patent-s1",
    status=TrialStatus.COMPLETED,
    epochs=60,
    test_error=0.1,
    test_error_raw=0.125,
    test_images=360,
    value_last=0.11,
    classifier_score=8.5,
    classifier_score_real=9.5,
    inception_score=None,
    fid=None,
    split_hash="abc",
    seconds=1.5,
    evaluated_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def test_evaluations_come_back_as_they_were_put(study: Location) -> None:
    diverged = replace(EVALUATION, seed=2, status=TrialStatus.DIVERGED, test_error=None, test_error_raw=None)
    assert evaluation_rows(read_evaluations(study)) == []
    write_table(evaluations_table([EVALUATION, diverged]), study.join(*EVALUATIONS))
    assert evaluation_rows(read_evaluations(study)) == [EVALUATION, diverged]


@pytest.mark.parametrize("table", ["trials", "epochs", "decisions"])
def test_a_flipped_bit_is_named_or_changes_nothing(tmp_path: Path, rows: Any, table: str) -> None:
    study = Location.at(tmp_path)
    with StudyLog(study, rows.columns, rows.types) as log:
        for number in range(40):
            log.trial(rows.trial(number, TrialStatus.COMPLETED, epochs=3))
            log.epoch(rows.epoch(number, trial_id=f"t{number}"))
            log.decision(
                DecisionRow(number, f"t{number}", 1, number + 1, 1, number / 64, 0.5, number + 1, Verdict.CONTINUE, "?")
            )
    (file,) = [study.join(table, name) for name in study.join(table).list()]
    whole, draw = file.read_bytes(), random.Random(1)
    read: Callable[[Location], Any] = {
        "trials": lambda place: trial_rows(read_trials(place), rows.columns),
        "epochs": lambda place: read_epochs(place).to_pylist(),
        "decisions": lambda place: read_decisions(place).to_pylist(),
    }[table]
    expected, named = read(study), 0
    for _ in range(400):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        file.write_bytes(bytes(flipped))
        try:
            found = read(study)
        except StoreError:
            named += 1
        else:
            assert found == expected
    assert named > 100


@pytest.mark.parametrize("copied", ["again", "hole"])
def test_rows_that_are_there_twice_or_not_at_all_are_refused(study: Location, rows: Any, copied: str) -> None:
    with StudyLog(study, rows.columns, rows.types, rows_per_part=2) as log:
        for seq in range(6):
            log.epoch(rows.epoch(seq))
    assert read_epochs(study).num_rows == 6
    first, second, last = (study.join("epochs", part_name(number)) for number in range(3))
    if copied == "again":
        study.join("epochs", part_name(3)).write_bytes(first.read_bytes())
    else:
        second.write_bytes(last.read_bytes())
        last.remove()
    with pytest.raises(StoreError, match="must hold every epoch's row once"):
        read_epochs(study)


IDS = ("trials", "epochs", "decisions")


@pytest.mark.parametrize("table", IDS)
@pytest.mark.parametrize(("own", "other"), [("one", "another"), ("one", None), (None, "another")])
def test_a_file_of_another_study_is_refused(
    tmp_path: Path, rows: Any, table: str, own: str | None, other: str | None
) -> None:
    """Its rows may fit: two studies of the same keys number their trials and epochs alike."""
    ours, theirs = Location.at(tmp_path / "ours"), Location.at(tmp_path / "theirs")
    for study, study_id in ((ours, own), (theirs, other)):
        with StudyLog(study, rows.columns, rows.types, study_id=study_id) as log:
            log.trial(rows.trial(0))
            log.epoch(rows.epoch(0))
            log.decision(rows.decision(0))
    assert read_tables(ours, own).epochs.num_rows == 1
    (name,) = ours.join(table).list()
    ours.join(table, name).write_bytes(theirs.join(table, name).read_bytes())
    with pytest.raises(StoreError, match=rf"{name} must be of this folder's study, but it is of (study|a study)"):
        read_tables(ours, own)
    with pytest.raises(StoreError, match="must be of this folder's study"):
        StudyLog(ours, rows.columns, rows.types, study_id=own)


def test_a_part_that_is_gone_on_with_carries_the_study_on(study: Location, rows: Any) -> None:
    for seq in range(3):
        with StudyLog(study, rows.columns, rows.types, study_id="one") as log:
            log.trial(rows.trial(0, epochs=seq))
            log.epoch(rows.epoch(seq))
    assert read_tables(study, "one").epochs.num_rows == 3


Edit = Callable[[Any], Any]


def with_cell(name: str, row: int, value: Any) -> Edit:
    """The table with another value in one cell, as a user with pandas writes it."""

    def edited(table: Any) -> Any:
        cells = table.column(name).to_pylist()
        cells[row] = value
        place = table.column_names.index(name)
        return table.set_column(place, table.schema.field(name).with_nullable(True), [cells])

    return edited


@pytest.mark.parametrize(
    ("table", "name", "value", "rule"),
    [
        ("epochs", "val_error", 1.5, "must be at least 0 and at most 1, but is 1.5"),
        ("epochs", "val_error", -0.25, "must be at least 0 and at most 1, but is -0.25"),
        ("epochs", "val_error", float("nan"), "must be at least 0 and at most 1, but is nan"),
        ("epochs", "val_score", 0.5, "must be at least 1, but is 0.5"),
        ("epochs", "seconds", None, "must hold something, but is nothing"),
        ("epochs", "epoch", 0, "must be at least 1, but is 0"),
        ("epochs", "attempt", -1, "must be at least 1, but is -1"),
        ("epochs", "seconds", -3.0, "must be at least 0, but is -3.0"),
        ("epochs", "trial_id", None, "must hold something, but is nothing"),
        ("trials", "status", "finished", "must be one of running, completed, stopped, diverged, failed, but is 'fini"),
        ("trials", "val_error_last", 12.5, "must be at least 0 and at most 1, but is 12.5"),
        ("trials", "epochs", -1, "must be at least 0, but is -1"),
        ("decisions", "verdict", "maybe", "must be one of continue, stop, control, drop, but is 'maybe'"),
        ("decisions", "competitors", 0, "must be at least 1, but is 0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_file_and_row(
    tmp_path: Path, rows: Any, table: str, name: str, value: Any, rule: str
) -> None:
    study = Location.at(tmp_path)
    with StudyLog(study, rows.columns, rows.types) as log:
        for number in range(4):
            log.trial(rows.trial(number, epochs=1))
            log.epoch(rows.epoch(number, f"t{number}"))
            log.decision(rows.decision(number, f"t{number}"))
    assert read_tables(study).trials.num_rows == 4
    (file,) = (study.join(table, held) for held in study.join(table).list())
    write_table(with_cell(name, 2, value)(pq.read_table(io.BytesIO(file.read_bytes()))), file)
    with pytest.raises(StoreError, match=re.escape(f"{file.url}: {name} of row 3 {rule}")):
        read_tables(study)


@pytest.mark.parametrize("name", ["trial_id", "number"])
def test_a_trial_that_stands_there_twice_is_refused(study: Location, rows: Any, name: str) -> None:
    twice = [rows.trial(0), replace(rows.trial(1), **{name: getattr(rows.trial(0), name)})]
    write_table(trials_table(twice, rows.columns, rows.types), study.join(*TRIALS))
    with pytest.raises(StoreError, match=rf"must have a row a trial, but {name} t?0 stands twice"):
        read_trials(study)
