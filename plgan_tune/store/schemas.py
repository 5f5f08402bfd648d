"""Arrow schemas of a study's tables, derived from the rows in `records`, and tables of such rows."""

import json
import types as pytypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, get_args

import pyarrow as pa

from plgan_tune.records import (
    MEASURES,
    NAMED_BY_METRIC,
    NAMED_BY_SECOND,
    OWN,
    BattleRow,
    DecisionRow,
    EpochMetrics,
    EpochRow,
    EvaluationRow,
    TrialRow,
    Value,
    about,
)

SCHEMA_VERSION: Final = 1
VERSION_KEY: Final = b"plgan_tune.schema_version"
STUDY_KEY: Final = b"plgan_tune.study_id"
"""The study id of a file. Files of studies from versions without ids have none."""
WRITER_KEY: Final = b"plgan_tune.written_by"
"""The token of the lock under which a file was written. Two starts of a driver never write the same bytes."""

_ARROW: Final[Mapping[type, Any]] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    datetime: pa.timestamp("us", tz="UTC"),
}


def epochs_schema(own: Iterable[str] = ()) -> Any:
    """Return the schema of epochs: the fields of `EpochRow`, with those of `EpochMetrics` instead of `metrics`.

    Args:
        own: Names of the terms of the user's own file, which have a column each at the end.
    """
    columns: list[Any] = []
    for f in fields(EpochRow):
        measures = [one for one in fields(EpochMetrics) if one.name in MEASURES]
        columns += map(_column, measures) if f.name == "metrics" else [_column(f)]
    for name in own:
        about = {"meaning": f"{name} of the study's own file, mean over the epoch's steps", "unit": ""}
        columns.append(_described(OWN + name, pa.float64(), about, nullable=True))
    return _versioned(columns)


def decisions_schema() -> Any:
    """Return the schema of decisions: the fields of `DecisionRow`."""
    return _versioned([_column(f) for f in fields(DecisionRow)])


def evaluations_schema(metric: str = "val_error") -> Any:
    """Return the schema of evaluations: the fields of `EvaluationRow`.

    Args:
        metric: What the study searched by.
    """
    return _versioned([_column(f, metric) for f in fields(EvaluationRow)])


def battles_schema() -> Any:
    """Return the schema of battles: the fields of `BattleRow`."""
    return _versioned([_column(f) for f in fields(BattleRow)])


def trials_schema(
    columns: Mapping[str, str], types: Mapping[str, type], metric: str = "val_error", second: str | None = None
) -> Any:
    """Return the schema of trials: the fields of `TrialRow`, with a column for each searched key instead of `params`.

    Args:
        columns: Searched dotted path -> column name.
        types: Searched dotted path -> bool, int, float or str. A column of str holds other values as JSON.
        metric: What the study searches by, which names two columns.
        second: Its second metric, if it has two, which names two more.

    Raises:
        ValueError: If the two have different paths, a column name appears twice, or a type is none of these.
    """
    if columns.keys() != types.keys():
        raise ValueError(f"every searched key needs a type, but got columns {list(columns)}, types {list(types)}")
    if unknown := {path: kind for path, kind in types.items() if kind not in (bool, int, float, str)}:
        raise ValueError(f"a searched key's type is bool, int, float or str, but got {unknown}")
    result: list[Any] = []
    for f in trial_fields(second):
        result += _param_columns(columns, types) if f.name == "params" else [_column(f, metric, second)]
    names = [column.name for column in result]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"column names must differ, but {', '.join(twice)} stands twice")
    return _versioned(result)


def epochs_table(rows: Sequence[EpochRow]) -> Any:
    """Return `rows` as an Arrow table of `epochs_schema`."""
    fixed = epochs_schema().names
    own = dict.fromkeys(name for row in rows for name in row.metrics.own)
    cells = {name: [getattr(row.metrics if name in MEASURES else row, name) for row in rows] for name in fixed}
    cells |= {OWN + name: [row.metrics.own.get(name) for row in rows] for name in own}
    return pa.table(cells, schema=epochs_schema(own))


def decisions_table(rows: Sequence[DecisionRow]) -> Any:
    """Return `rows` as an Arrow table of `decisions_schema`."""
    schema = decisions_schema()
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def evaluations_table(rows: Sequence[EvaluationRow], metric: str = "val_error") -> Any:
    """Return `rows` as an Arrow table of `evaluations_schema(metric)`."""
    cells = {column_of(f.name, metric): [getattr(row, f.name) for row in rows] for f in fields(EvaluationRow)}
    return pa.table(cells, schema=evaluations_schema(metric))


def battles_table(rows: Sequence[BattleRow]) -> Any:
    """Return `rows` as an Arrow table of `battles_schema`."""
    schema = battles_schema()
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def trials_table(
    rows: Sequence[TrialRow],
    columns: Mapping[str, str],
    types: Mapping[str, type],
    metric: str = "val_error",
    second: str | None = None,
) -> Any:
    """Return `rows` as an Arrow table of `trials_schema(columns, types, metric, second)`."""
    schema = trials_schema(columns, types, metric, second)
    params = {column: [cell(row.params[path], types[path]) for row in rows] for path, column in columns.items()}
    names = [f.name for f in trial_fields(second) if f.name != "params"]
    fixed = {column_of(name, metric, second): [getattr(row, name) for row in rows] for name in names}
    return pa.table(params | fixed, schema=schema)


def trial_fields(second: str | None) -> "list[Field[Any]]":
    """Return the fields of `TrialRow` that the trials of a study have a value of."""
    return [f for f in fields(TrialRow) if second is not None or f.name not in NAMED_BY_SECOND]


def column_of(name: str, metric: str, second: str | None = None) -> str:
    """Return the column of a row's field in a study that searches by these: `val_error_last` of `value_last`."""
    if name in NAMED_BY_METRIC:
        return metric + name.removeprefix("value")
    return second + name.removeprefix("second") if second is not None and name in NAMED_BY_SECOND else name


def check_params(params: Mapping[str, Value], types: Mapping[str, type]) -> None:
    """Check that the values of a trial fit the columns of its study.

    Args:
        params: Searched dotted path -> value.
        types: Searched dotted path -> type.

    Raises:
        ValueError: If they do not. The message names the key, the value and the type.
    """
    if params.keys() != types.keys():
        raise ValueError(f"a trial has every searched key, {sorted(types)}, but got {sorted(params)}")
    for path, value in params.items():
        if not _fits(value, types[path]):
            raise ValueError(f"{path} is searched as {types[path].__name__}, but got {value!r}")


def _fits(value: Value, kind: type) -> bool:
    if value is None or kind is str:
        return True
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, int) or (kind is float and isinstance(value, float))


def cell(value: Value, kind: type) -> Value:
    """Return a searched value as its column holds it: in a column of text, other values are JSON."""
    return json.dumps(value) if kind is str and not isinstance(value, str | None) else value


def value_of(held: Value, options: Sequence[Value]) -> Value:
    """Return the inverse of `cell`, for a key with `options`. A resume may have dropped the option of the cell."""
    present = [option for option in options if cell(option, type(held)) == held]
    return present[0] if present else _number_of(held) if options else held


def _number_of(held: Value) -> Value:
    """Return the number or bool that a text column holds as JSON, else the text."""
    try:
        value = json.loads(held) if isinstance(held, str) else held
    except ValueError:
        return held
    return value if isinstance(value, bool | int | float) else held


def _versioned(columns: Sequence[Any]) -> Any:
    return pa.schema(columns, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def _column(f: "Field[Any]", metric: str = "val_error", second: str | None = None) -> Any:
    if f.name in (*NAMED_BY_METRIC, *NAMED_BY_SECOND):
        measure = second if second is not None and f.name in NAMED_BY_SECOND else metric
        description = {**about(measure), "meaning": f.metadata["meaning"].format(metric=measure)}
        return _described(column_of(f.name, metric, second), pa.float64(), description, nullable=True)
    kinds = get_args(f.type) if isinstance(f.type, pytypes.UnionType) else (f.type,)
    (kind,) = (kind for kind in kinds if kind is not type(None))
    one_of = list(kind) if issubclass(kind, StrEnum) else []
    description = dict(f.metadata) | {"one_of": ", ".join(one_of) or None}
    return _described(f.name, pa.string() if one_of else _ARROW[kind], description, nullable=type(None) in kinds)


def _param_columns(columns: Mapping[str, str], types: Mapping[str, type]) -> list[Any]:
    return [
        _described(column, _ARROW[types[path]], {"meaning": f"the searched key {path}", "unit": ""}, nullable=True)
        for path, column in columns.items()
    ]


def _described(name: str, arrow: Any, description: Mapping[str, Any], *, nullable: bool) -> Any:
    metadata = {key: str(value) for key, value in description.items() if value is not None}
    return pa.field(name, arrow, nullable=nullable, metadata=metadata)
