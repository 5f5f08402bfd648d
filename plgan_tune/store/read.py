"""Reads the tables of a study, also while a search writes them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from math import nan
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from plgan_tune.records import (
    MEASURES,
    OWN,
    BattleRow,
    DecisionRow,
    EpochMetrics,
    EpochRow,
    EvaluationRow,
    Report,
    TrialRow,
    TrialStatus,
    Value,
    Verdict,
)
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.schemas import (
    battles_table,
    column_of,
    decisions_table,
    epochs_table,
    evaluations_table,
    trial_fields,
    trials_schema,
    value_of,
)
from plgan_tune.store.tables import ANY_STUDY, read_table

TRIALS: Final = ("trials", "trials.parquet")
EPOCHS: Final = "epochs"
DECISIONS: Final = "decisions"
EVALUATIONS: Final = ("evaluations", "evaluations.parquet")
BATTLES: Final = ("battles", "battles.parquet")
NO_OPTIONS: Final[Mapping[str, Sequence[Value]]] = MappingProxyType({})
UNIX_ZERO: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Tables:
    """A study's rows as Arrow tables, read one after another: see `read_tables`."""

    trials: Any
    epochs: Any
    decisions: Any


def read_tables(
    study: Location, study_id: str | None = ANY_STUDY, metric: str = "val_error", second: str | None = None
) -> Tables:
    """Read all rows of a study, and check that they match.

    A search may be writing them. It writes trials, epochs and decisions in this order, so they are read in the reverse
    order.

    Args:
        study: The study's folder.
        study_id: The study id that each file must carry. None is a study of a version without ids.
        metric: What the study searches by.
        second: Its second metric, if it has two.

    Raises:
        StoreError: If there is no study, if a file cannot be read, is of another study or has an impossible value, or
            if the trial of an epoch or the epoch of a decision is missing.
    """
    decisions = read_decisions(study, study_id)
    epochs = read_epochs(study, study_id)
    trials = read_trials(study, study_id, metric, second)
    if trials.num_rows and not parts(study, EPOCHS):  # a search writes an empty one before its first trial
        raise StoreError(f"{study.join(EPOCHS).url} must hold every part, but {part_name(0)} is not there")
    if decisions.num_rows and (judged := decisions.column("seq")[-1].as_py()) >= epochs.num_rows:
        raise StoreError(
            f"{study.join(EPOCHS).url} must hold every epoch that was judged, but ends at seq {epochs.num_rows - 1}, "
            f"before the decision of seq {judged}: its last part is not there"
        )
    known = trials.column("trial_id")
    for table in (epochs, decisions):
        ids = pc.unique(table.column("trial_id"))
        unknown = ids.filter(pc.invert(pc.is_in(ids, known.combine_chunks()))).to_pylist()
        if unknown:
            raise StoreError(
                f"{study.join(*TRIALS).url} must have a row of every trial that the epochs and decisions are of, but "
                f"has none of {', '.join(sorted(unknown)[:5])}; it was removed or is not of this study"
            )
    return Tables(trials, epochs, decisions)


def read_trials(
    study: Location, study_id: str | None = ANY_STUDY, metric: str = "val_error", second: str | None = None
) -> Any:
    """Read the trials: an Arrow table of `trials_schema`, in the order in which they began.

    Args:
        study: The study's folder. If it has no trial yet, the table is empty and has no searched keys.
        study_id: See `read_tables`.
        metric: What the study searches by.
        second: Its second metric, if it has two.

    Raises:
        StoreError: If there is no study or a trial is in the file twice, and as in `read_table`.
    """
    snapshot = study.join(*TRIALS)
    if not snapshot.exists():
        _check_there(study)
        return trials_schema({}, {}, metric, second).empty_table()
    schema = trials_schema({}, {}, metric, second)
    table = read_table(snapshot, schema.remove(schema.get_field_index("seq")), study_id)
    for name in ("trial_id", "number"):
        counts = pc.value_counts(table.column(name))
        if twice := [str(pair["values"]) for pair in counts.to_pylist() if pair["counts"] > 1]:
            raise StoreError(f"{snapshot.url} must have a row a trial, but {name} {', '.join(twice[:5])} stands twice")
    table = _with_new_names(table)
    if "seq" in table.column_names:
        return table
    return table.add_column(
        0, schema.field("seq"), pa.array([0] * table.num_rows, pa.int64())
    )  # studies of earlier versions


def _with_new_names(table: Any) -> Any:
    """Return the trials of a study that searched `profile`, today's `method`, in the names of today."""
    if "params_profile" not in table.column_names:
        return table
    place = table.column_names.index("params_profile")
    methods = pc.replace_substring_regex(table.column(place), "^recipe$", "pl_gan")
    return table.set_column(place, "params_method", methods)


def read_epochs(study: Location, study_id: str | None = ANY_STUDY) -> Any:
    """Read the epochs of all attempts: an Arrow table of `epochs_schema`, in the order of `seq`.

    Args:
        study: The study's folder.
        study_id: See `read_tables`.

    Raises:
        StoreError: If there is no study, if a part or a row is missing or there twice, and as in `read_table`.
    """
    table = _read_parts(study, EPOCHS, epochs_table([]), study_id)
    seq = table.column("seq").to_numpy()
    if (wrong := np.flatnonzero(seq != np.arange(len(seq)))).size:
        place = int(wrong[0])
        raise StoreError(
            f"{study.join(EPOCHS).url} must hold every epoch's row once, with seq from 0 to {len(seq) - 1}, but where "
            f"seq {place} should be is {seq[place]}: a part is not of this study, or rows of it are lost"
        )
    return table


def read_decisions(study: Location, study_id: str | None = ANY_STUDY) -> Any:
    """Read the decisions of early stopping: an Arrow table of `decisions_schema`, in the order of `seq`.

    Args:
        study: The study's folder.
        study_id: See `read_tables`.

    Raises:
        StoreError: As in `read_epochs`.
    """
    return _read_parts(study, DECISIONS, decisions_table([]), study_id)


def read_evaluations(study: Location, study_id: str | None = ANY_STUDY, metric: str = "val_error") -> Any:
    """Read the evaluations: an Arrow table of `evaluations_schema`. It is empty if there are none.

    Args:
        study: The study's folder.
        study_id: See `read_tables`.
        metric: What the study searches by.

    Raises:
        StoreError: As in `read_table`.
    """
    file, empty = study.join(*EVALUATIONS), evaluations_table([], metric)
    return read_table(file, empty.schema, study_id) if file.exists() else empty


def read_battles(study: Location, study_id: str | None = ANY_STUDY) -> Any:
    """Read the battles of the evaluation: an Arrow table of `battles_schema`. It is empty if there are none.

    Args:
        study: The study's folder.
        study_id: See `read_tables`.

    Raises:
        StoreError: As in `read_table`.
    """
    file, empty = study.join(*BATTLES), battles_table([])
    return read_table(file, empty.schema, study_id) if file.exists() else empty


def _read_parts(study: Location, table: str, empty: Any, study_id: str | None) -> Any:
    files = parts(study, table)
    if not files:
        _check_there(study)
        return empty
    found = pa.concat_tables([read_table(file, empty.schema, study_id) for file in files], promote_options="default")
    seq = found.column("seq").to_numpy()
    return found if (seq[1:] > seq[:-1]).all() else found.sort_by("seq")  # a driver writes them in order


def epoch_rows(table: Any) -> list[EpochRow]:
    """Return the rows of `epochs_table`."""
    own = [name for name in table.column_names if name.startswith(OWN)]
    terms = _zipped(table, own) if own else [()] * table.num_rows
    metrics = (
        EpochMetrics(*cells, own=_own_terms(own, values))
        for cells, values in zip(_zipped(table, MEASURES), terms, strict=True)
    )
    others = _zipped(table, ("seq", "trial_id", "attempt", "reported_at"))
    return [
        EpochRow(seq, trial_id, attempt, measured, reported_at)
        for (seq, trial_id, attempt, reported_at), measured in zip(others, metrics, strict=True)
    ]


def _own_terms(columns: Sequence[str], values: Sequence[float | None]) -> dict[str, float]:
    """Return the terms that a row has; other trials of its study may have others."""
    named = zip(columns, values, strict=True)
    return {name.removeprefix(OWN): value for name, value in named if value is not None}


def reports(table: Any, metric: str = "val_error", second: str | None = None) -> list[Report]:
    """Return what early stopping that goes by `metric`, or by two, sees of `epochs_table`."""
    ids = table.column("trial_id").combine_chunks().dictionary_encode()
    names = ids.dictionary.to_pylist()  # the reports of a trial share one string
    cells = _zipped(table, ("seq", "attempt", "epoch", metric))
    others = [None] * table.num_rows if second is None else table.column(second).to_pylist()
    return [
        Report(seq, names[place], attempt, epoch, nan if value is None else value, other)
        for place, (seq, attempt, epoch, value), other in zip(ids.indices.to_pylist(), cells, others, strict=True)
    ]


def latest_rows(table: Any) -> dict[str, EpochRow]:
    """Return each trial's row with the greatest `seq` of `epochs_table`."""
    last = table.select(["trial_id", "seq"]).group_by("trial_id").aggregate([("seq", "max")]).column("seq_max")
    rows = epoch_rows(table.filter(pc.is_in(table.column("seq"), value_set=last.combine_chunks())))
    return {row.trial_id: row for row in rows}


def decision_rows(table: Any) -> list[DecisionRow]:
    """Return the rows of `decisions_table`."""
    names = [f.name for f in fields(DecisionRow)]
    rows = (dict(zip(names, cells, strict=True)) for cells in _zipped(table, names))
    return [DecisionRow(**row | {"verdict": Verdict(row["verdict"])}) for row in rows]


def evaluation_rows(table: Any, metric: str = "val_error") -> list[EvaluationRow]:
    """Return the rows of `evaluations_table(..., metric)`."""
    names = [f.name for f in fields(EvaluationRow)]
    columns = [column_of(name, metric) for name in names]
    rows = (dict(zip(names, cells, strict=True)) for cells in _zipped(table, columns))
    return [EvaluationRow(**row | {"status": TrialStatus(row["status"])}) for row in rows]


def battle_rows(table: Any) -> list[BattleRow]:
    """Return the rows of `battles_table`."""
    return [BattleRow(*cells) for cells in _zipped(table, [f.name for f in fields(BattleRow)])]


def trial_rows(
    table: Any,
    columns: Mapping[str, str],
    options: Mapping[str, Sequence[Value]] = NO_OPTIONS,
    metric: str = "val_error",
    second: str | None = None,
) -> list[TrialRow]:
    """Return the rows of `trials_table`.

    Args:
        table: The Arrow table.
        columns: Searched dotted path -> column name.
        options: Dotted path -> the values of a key that is a choice. Without them, JSON text stays text.
        metric: What the study searches by.
        second: Its second metric, if it has two.

    Raises:
        StoreError: If the table lacks the column of a searched key.
    """
    fixed = [f.name for f in trial_fields(second) if f.name != "params"]
    # A study without a trial may have no file yet, and then has no column of its keys.
    searched = tuple(columns.values()) if table.num_rows else ()
    if missing := [name for name in searched if name not in table.column_names]:
        raise StoreError(
            f"{'/'.join(TRIALS)} must have a column of every searched key, but has no {', '.join(missing)}"
        )
    params = _zipped(table, searched) if searched else [()] * table.num_rows
    rows = []
    of_metric = [column_of(name, metric, second) for name in fixed]
    for cells, values in zip(_zipped(table, of_metric), params, strict=True):
        known = dict(zip(fixed, cells, strict=True))
        known["status"] = TrialStatus(known["status"])
        point = {path: value_of(value, options.get(path, ())) for path, value in zip(columns, values, strict=True)}
        rows.append(TrialRow(params=point, **known))
    return rows


def parts(study: Location, table: str) -> list[Location]:
    """Return the parts of `epochs` or `decisions`, the oldest first, without unfinished files.

    Args:
        study: The study's folder.
        table: The name of the table's folder.

    Raises:
        StoreError: If a part is missing, or a Parquet file is none of the parts.
    """
    folder = study.join(table)
    names = [name for name in folder.list() if name.endswith(".parquet") and not name.startswith(("_", "."))]
    if foreign := [name for name in names if not re.fullmatch(r"part-\d{5,}\.parquet", name)]:
        raise StoreError(f"{folder.url} holds part-<number>.parquet only, but got {', '.join(foreign)}")
    expected = [part_name(number) for number in range(len(names))]
    if missing := sorted(set(expected) - set(names)):
        raise StoreError(f"{folder.url} must hold every part, but {', '.join(missing)} is not there")
    return [folder.join(name) for name in expected]


def part_name(number: int) -> str:
    """Return the file name of a part."""
    return f"part-{number:05}.parquet"


def _zipped(table: Any, names: Sequence[str]) -> Any:
    return zip(*(_cells(table.column(name)) for name in names), strict=True)


def _cells(column: Any) -> list[Any]:
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    # Arrow's own conversion takes ten times as long: seconds for a million rows.
    instants = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    return [None if us is None else UNIX_ZERO + timedelta(microseconds=us) for us in instants]


def _check_there(study: Location) -> None:
    if not study.exists():
        raise StoreError(f"a study must be there to be read, but got {study.url}")
