"""Reads what a study left, while it is being written and after."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from plgan_tune.records import EpochMetrics, EpochRow, TrialRow, TrialStatus
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.schemas import (
    METRICS,
    SCHEMA_VERSION,
    VERSION_KEY,
    epochs_schema,
    epochs_table,
    trials_schema,
)

TRIALS: Final = ("trials", "trials.parquet")
EPOCHS: Final = "epochs"
UNIX_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)


def read_trials(study: Location) -> Any:
    """The newest snapshot: one row a trial, an Arrow table of `trials_schema`, in order of arrival.

    A study without a trial yet gives an empty table without searched keys.

    Raises:
        StoreError: where the study is not there, or the file is corrupt or of a newer version.
    """
    snapshot = study.join(*TRIALS)
    if not snapshot.exists():
        _check_there(study)
        return trials_schema({}, {}).empty_table()
    return read_table(snapshot, trials_schema({}, {}).names)


def read_epochs(study: Location) -> Any:
    """Every epoch of every attempt, an Arrow table of `epochs_schema`, in order of `seq`.

    Raises:
        StoreError: where the study is not there, or a part is missing, corrupt or of a newer version.
    """
    parts = epoch_parts(study)
    if not parts:
        _check_there(study)
        return epochs_table([])
    tables = [read_table(part, epochs_schema().names) for part in parts]
    return pa.concat_tables(tables).sort_by("seq")


def epoch_rows(table: Any) -> list[EpochRow]:
    """The inverse of `epochs_table`."""
    metrics = (EpochMetrics(*cells) for cells in _zipped(table, METRICS))
    others = _zipped(table, ("seq", "trial_id", "attempt", "reported_at"))
    return [
        EpochRow(seq, trial_id, attempt, measured, reported_at)
        for (seq, trial_id, attempt, reported_at), measured in zip(others, metrics, strict=True)
    ]


def trial_rows(table: Any, columns: Mapping[str, str]) -> list[TrialRow]:
    """The inverse of `trials_table`; JSON text stays text."""
    fixed = [f.name for f in fields(TrialRow) if f.name != "params"]
    params = _zipped(table, tuple(columns.values())) if columns else [()] * table.num_rows
    rows = []
    for cells, values in zip(_zipped(table, fixed), params, strict=True):
        known = dict(zip(fixed, cells, strict=True))
        known["status"] = TrialStatus(known["status"])
        rows.append(TrialRow(params=dict(zip(columns, values, strict=True)), **known))
    return rows


def epoch_parts(study: Location) -> list[Location]:
    """The parts of the epochs table, oldest first, without a writer's unfinished temporaries.

    Raises:
        StoreError: where a part is missing or a file is there that is none.
    """
    folder = study.join(EPOCHS)
    names = [name for name in folder.list() if name.endswith(".parquet") and not name.startswith(("_", "."))]
    if foreign := [name for name in names if not re.fullmatch(r"part-\d{5,}\.parquet", name)]:
        raise StoreError(f"{folder.url} holds part-<number>.parquet only, but got {', '.join(foreign)}")
    expected = [part_name(number) for number in range(len(names))]
    if missing := sorted(set(expected) - set(names)):
        raise StoreError(f"{folder.url} must hold every part, but {', '.join(missing)} is not there")
    return [folder.join(name) for name in expected]


def part_name(number: int) -> str:
    return f"part-{number:05}.parquet"


def read_table(file: Location, required: Sequence[str]) -> Any:
    """One Parquet file of a study.

    Raises:
        StoreError: naming the file, where it is corrupt, of a newer version or lacks a required column.
    """
    content = file.read_bytes()
    try:
        parquet = pq.ParquetFile(pa.BufferReader(content))
        _check_version(file, parquet.schema_arrow.metadata or {})
        table = parquet.read()
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"cannot read {file.url}: it is corrupt or no Parquet file ({error})") from error
    if missing := [name for name in required if name not in table.column_names]:
        raise StoreError(f"{file.url} must have every column, but {', '.join(missing)} is not there")
    return table


def _check_version(file: Location, metadata: dict[bytes, bytes]) -> None:
    key, version = VERSION_KEY.decode(), metadata.get(VERSION_KEY, b"none").decode()
    if not version.isdecimal():
        raise StoreError(f"{file.url} must carry a {key}, but got {version}")
    if int(version) > SCHEMA_VERSION:
        raise StoreError(
            f"{file.url} was written with {key} {version}, but this installation reads up to "
            f"{SCHEMA_VERSION}: use the newer plgan-tune that wrote it"
        )


def _zipped(table: Any, names: Sequence[str]) -> Any:
    return zip(*(_cells(table.column(name)) for name in names), strict=True)


def _cells(column: Any) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    # Arrow's own way to datetimes takes ten times as long, which a resume of a million rows feels.
    instants = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    return [None if us is None else UNIX_ZERO + timedelta(microseconds=us) for us in instants]


def _check_there(study: Location) -> None:
    if not study.exists():
        raise StoreError(f"a study must be there to be read, but got {study.url}")
