"""Arrow schemas of a study's tables, derived from the rows in `records`, and rows as tables of them."""

import json
import types as pytypes
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, get_args

import pyarrow as pa

from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, EvaluationRow, TrialRow, Value

SCHEMA_VERSION: Final = 1
VERSION_KEY: Final = b"plgan_tune.schema_version"
STUDY_KEY: Final = b"plgan_tune.study_id"
"""Which study a file is of. Files of studies that were begun before there were ids have none."""
WRITER_KEY: Final = b"plgan_tune.written_by"
"""Which start of a driver wrote a file: the token of its lock. Two starts never write the same bytes."""

_ARROW: Final[Mapping[type, Any]] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    datetime: pa.timestamp("us", tz="UTC"),
}
METRICS: Final = tuple(f.name for f in fields(EpochMetrics))


def epochs_schema() -> Any:
    """One row an epoch: the fields of `EpochRow`, with those of `EpochMetrics` in place of `metrics`."""
    columns: list[Any] = []
    for f in fields(EpochRow):
        columns += map(_column, fields(EpochMetrics)) if f.name == "metrics" else [_column(f)]
    return _versioned(columns)


def decisions_schema() -> Any:
    """One row a decision of early stopping: the fields of `DecisionRow`."""
    return _versioned([_column(f) for f in fields(DecisionRow)])


def evaluations_schema() -> Any:
    """One row a configuration and seed: the fields of `EvaluationRow`."""
    return _versioned([_column(f) for f in fields(EvaluationRow)])


def trials_schema(columns: Mapping[str, str], types: Mapping[str, type]) -> Any:
    """One row a trial: the fields of `TrialRow`, with one column a searched key in place of `params`.

    Args:
        columns: searched dotted path -> column name.
        types: searched dotted path -> bool, int, float or str (where a value that is no text becomes JSON).

    Raises:
        ValueError: where the two have different paths, a column name stands twice, or a type is another.
    """
    if columns.keys() != types.keys():
        raise ValueError(f"every searched key needs a type, but got columns {list(columns)}, types {list(types)}")
    if unknown := {path: kind for path, kind in types.items() if kind not in (bool, int, float, str)}:
        raise ValueError(f"a searched key's type is bool, int, float or str, but got {unknown}")
    result: list[Any] = []
    for f in fields(TrialRow):
        result += _param_columns(columns, types) if f.name == "params" else [_column(f)]
    names = [column.name for column in result]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"column names must differ, but {', '.join(twice)} stands twice")
    return _versioned(result)


def epochs_table(rows: Sequence[EpochRow]) -> Any:
    """`rows` as an Arrow table of `epochs_schema`."""
    schema = epochs_schema()
    cells = {name: [getattr(row.metrics if name in METRICS else row, name) for row in rows] for name in schema.names}
    return pa.table(cells, schema=schema)


def decisions_table(rows: Sequence[DecisionRow]) -> Any:
    """`rows` as an Arrow table of `decisions_schema`."""
    schema = decisions_schema()
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def evaluations_table(rows: Sequence[EvaluationRow]) -> Any:
    """`rows` as an Arrow table of `evaluations_schema`."""
    schema = evaluations_schema()
    return pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)


def trials_table(rows: Sequence[TrialRow], columns: Mapping[str, str], types: Mapping[str, type]) -> Any:
    """`rows` as an Arrow table of `trials_schema(columns, types)`."""
    schema = trials_schema(columns, types)
    params = {column: [cell(row.params[path], types[path]) for row in rows] for path, column in columns.items()}
    fixed = {f.name: [getattr(row, f.name) for row in rows] for f in fields(TrialRow) if f.name != "params"}
    return pa.table(params | fixed, schema=schema)


def check_params(params: Mapping[str, Value], types: Mapping[str, type]) -> None:
    """Sees to it that `params` fits the columns fixed for the study.

    Raises:
        ValueError: naming the key, the value and the type.
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
    """A searched value as its column holds it: in a column of text, what is no text stands as JSON."""
    return json.dumps(value) if kind is str and not isinstance(value, str | None) else value


def value_of(held: Value, options: Sequence[Value]) -> Value:
    """The inverse of `cell`, of a key that may have `options`, from which a resume may have dropped some."""
    of_now = [option for option in options if cell(option, type(held)) == held]
    return of_now[0] if of_now else _number_of(held) if options else held


def _number_of(held: Value) -> Value:
    """The number or truth value that a text column holds as JSON, else what is held."""
    try:
        value = json.loads(held) if isinstance(held, str) else held
    except ValueError:
        return held
    return value if isinstance(value, bool | int | float) else held


def _versioned(columns: Sequence[Any]) -> Any:
    return pa.schema(columns, metadata={VERSION_KEY: str(SCHEMA_VERSION).encode()})


def _column(f: "Field[Any]") -> Any:
    kinds = get_args(f.type) if isinstance(f.type, pytypes.UnionType) else (f.type,)
    (kind,) = (kind for kind in kinds if kind is not type(None))
    one_of = list(kind) if issubclass(kind, StrEnum) else []
    told = dict(f.metadata) | {"one_of": ", ".join(one_of) or None}
    return _described(f.name, pa.string() if one_of else _ARROW[kind], told, nullable=type(None) in kinds)


def _param_columns(columns: Mapping[str, str], types: Mapping[str, type]) -> list[Any]:
    return [
        _described(column, _ARROW[types[path]], {"meaning": f"the searched key {path}", "unit": ""}, nullable=True)
        for path, column in columns.items()
    ]


def _described(name: str, arrow: Any, told: Mapping[str, Any], *, nullable: bool) -> Any:
    metadata = {key: str(value) for key, value in told.items() if value is not None}
    return pa.field(name, arrow, nullable=nullable, metadata=metadata)
