"""Parquet files in the Hugging Face image layout, from a folder or any fsspec URL."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import BATCH, NO_LABEL, Encoded, Half, HalfName, Rows, Stamp
from plgan_tune.data.names import PARQUET, missing_shards, part_of_parquet, why_no_part

_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "created")
"""Keys in which fsspec's file systems give a file's version."""


@dataclass(frozen=True, eq=False)
class _File:
    """One Parquet file, with the content of its schema and label column."""

    system: Any
    path: str
    image: str
    """Path of the column of encoded images."""
    labels: Rows
    names: tuple[str, ...]
    """Class names in its metadata, if any."""


def stamp_parquet(spec: DataSpec, name: HalfName, cache: Path) -> list[Stamp]:  # noqa: ARG001
    """Return the stamp of every file of the half."""
    system, found, _ = _find(spec, name)
    return [(system.unstrip_protocol(info["name"]), int(info["size"]), _version(info)) for info in found]


def open_parquet(spec: DataSpec, name: HalfName, cache: Path) -> Half:  # noqa: ARG001
    """Read schemas and label columns of a half's Parquet files (`part_of_parquet`), in the order of their names.

    The image column is the one whose type is binary or a struct with binary `bytes`. The label column is the one named
    `label`, else the only one of an integer type. Images with a null label are unlabelled, and all are if there is no
    such column and `labels` is 0.

    Raises:
        DataError: If there is no such file, it is not Parquet, a column is missing or not unique, or a label is
            negative.
    """
    system, found, passed = _find(spec, name)
    files = [_inspect(system, info["name"], needs_label=spec.labels > 0) for info in found]
    labels = np.concatenate([file.labels for file in files])
    if not labels.size:
        raise DataError(f"{spec.path}: {name}*.parquet must hold images, but got 0 rows")
    starts = np.array([0, *accumulate(file.labels.size for file in files)])

    notes = tuple(f"{spec.path}: {missing} is missing" for missing in missing_shards([_base(info) for info in found]))

    def where(row: int) -> str:
        place = int(np.searchsorted(starts, row, side="right")) - 1
        return f"{files[place].path}, row {row - starts[place]}"

    def encoded(rows: Rows) -> Iterator[Sequence[Encoded]]:
        for file, start, stop in zip(files, starts, starts[1:], strict=False):
            yield from _images(file, rows[(rows >= start) & (rows < stop)] - start)

    return Half(
        labels, _class_names(labels, files) if name == "train" else (), where, encoded, len(files), passed, notes
    )


def _find(spec: DataSpec, name: HalfName) -> tuple[Any, list[dict[str, Any]], dict[str, list[str]]]:
    """Return the file system, the half's files, and what lies beside those of all parts, by reason."""
    if spec.path is None:
        raise DataError(
            f"`trial.data.path` must be a folder or URL that holds {name}*.parquet for `source: parquet`, but got null"
        )
    try:
        system, folder = fsspec.core.url_to_fs(spec.path)
        if isinstance(system, LocalFileSystem):
            folder = str(Path(folder).resolve())  # one cache entry for all spellings of the folder's path
        infos = system.ls(folder, detail=True)
    except Exception as error:  # stores raise their own types; S3's without credentials is not an OSError
        raise DataError(
            f"{spec.path}: trial.data.path must be a folder or URL that holds train*.parquet and test*.parquet (as "
            f"`Dataset.to_parquet` of Hugging Face's datasets writes them), but got: {error!r}"
        ) from error
    files = [info for info in infos if part_of_parquet(_base(info)) == name]
    if not files:
        near = [_base(info) for info in infos if _base(info).endswith(PARQUET)][:5]
        raise DataError(
            f"{spec.path}: trial.data.path must hold {name}.parquet or {name}*.parquet with one of '-._ ' or a digit "
            f"after {name!r}, but got {len(infos)} other files{f', such as {near}' if near else ''}"
        )
    passed = defaultdict(list)
    for info in infos:
        if (reason := why_no_part(_base(info))) is not None:
            passed[reason].append(str(info["name"]))
    return system, sorted(files, key=lambda info: str(info["name"])), dict(passed)


def _base(info: dict[str, Any]) -> str:
    """Return the file's name without its folders."""
    return str(info["name"]).rpartition("/")[2]


def _version(info: dict[str, Any]) -> str:
    return next((str(info[key]) for key in _VERSIONS if info.get(key) is not None), "")


def _inspect(system: Any, path: str, *, needs_label: bool) -> _File:
    try:
        with _bytes_of_file(system, path) as handle, pq.ParquetFile(handle) as file:
            schema = file.schema_arrow
            label = _label_column(schema, path) if needs_label or _has_integers(schema) else None
            column = None if label is None else file.read(columns=[label]).column(label)
            rows = file.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: the file cannot be read as Parquet: {error}") from error
    image = _image_column(schema, path)
    if label is None:
        return _File(system, path, image, np.full(rows, NO_LABEL), ())
    return _File(system, path, image, _labels(column, path, label), _names(schema, label))


def _bytes_of_file(system: Any, path: str) -> Any:
    """Open a file for pyarrow, a local one by its own means.

    Its threads may still hold bytes of Python's files when a process ends that looked at the first image alone; they
    then ask for a lock that is gone, and the process ends with SIGABRT.
    """
    return pa.OSFile(path) if isinstance(system, LocalFileSystem) else system.open(path, "rb")


def _image_column(schema: Any, path: str) -> str:
    found = [(field.name, inner) for field in schema if (inner := _bytes_of(field)) is not None]
    if len(found) > 1:
        found = [(name, inner) for name, inner in found if name == "image"] or found
    if len(found) != 1:
        raise DataError(
            f"{path}: exactly one column must hold images (a struct with binary `bytes`, or binary; of "
            f"several the one named `image`), but got {[name for name, _ in found]} of {_described(schema)}"
        )
    return found[0][1]


def _bytes_of(field: Any) -> str | None:
    """Return the path of the binary column that a field is or contains."""
    if _is_binary(field.type):
        return str(field.name)
    inside = field.type.get_field_index("bytes") if pa.types.is_struct(field.type) else -1
    return f"{field.name}.bytes" if inside >= 0 and _is_binary(field.type.field(inside).type) else None


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _has_integers(schema: Any) -> bool:
    return "label" in schema.names or bool(_integers(schema))


def _integers(schema: Any) -> list[str]:
    """Return the columns that may hold labels, by their type."""
    return [str(field.name) for field in schema if pa.types.is_integer(field.type) or pa.types.is_null(field.type)]


def _label_column(schema: Any, path: str) -> str:
    integers = _integers(schema)
    if "label" in schema.names:
        integers = [name for name in integers if name == "label"]
    if len(integers) != 1:
        raise DataError(
            f"{path}: there must be a column `label` of integers, or only one column of integers, "
            f"but got {_described(schema)}"
        )
    return str(integers[0])


def _described(schema: Any) -> str:
    return "(" + ", ".join(f"{field.name}: {field.type}" for field in schema) + ")"


def _labels(column: Any, path: str, name: str) -> Rows:
    try:
        known: Rows = pc.fill_null(column.cast(pa.int64()), NO_LABEL).to_numpy()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: labels in column {name!r} must be in 0..N-1 or null, but {error}") from error
    wrong = np.flatnonzero((known < 0) & column.is_valid().to_numpy())
    if wrong.size:
        raise DataError(
            f"{path}, row {wrong[0]}: a label in column {name!r} must be in 0..N-1 or null (no label), "
            f"but got {known[wrong[0]]}"
        )
    return known


def _names(schema: Any, label: str) -> tuple[str, ...]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[label]["names"]))
    except (KeyError, TypeError, ValueError):  # other writers write different metadata or none
        return ()


def _class_names(labels: Rows, files: Sequence[_File]) -> tuple[str, ...]:
    n_classes = int(labels.max()) + 1
    labelled = int((labels != NO_LABEL).sum())
    if n_classes > labelled:
        raise DataError(
            f"{files[0].path}: labels must be in 0..N-1 with images of each of N classes, but got "
            f"(highest label={n_classes - 1}, images with a label={labelled})"
        )
    names = files[0].names
    return names[:n_classes] if len(names) >= n_classes else tuple(map(str, range(n_classes)))


def _images(file: _File, rows: Rows) -> Iterator[list[Encoded]]:
    """Yield the encoded images of these rows. Row groups without any of them are not read."""
    if not rows.size:
        return
    try:
        with _bytes_of_file(file.system, file.path) as handle, pq.ParquetFile(handle) as opened:
            start = 0
            for group in range(opened.num_row_groups):
                stop = start + opened.metadata.row_group(group).num_rows
                inside = rows[(rows >= start) & (rows < stop)] - start
                if inside.size:
                    yield from _of_group(opened, group, file.image, inside)
                start = stop
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{file.path}: the file cannot be read as Parquet: {error}") from error


def _of_group(opened: Any, group: int, image: str, rows: Rows) -> Iterator[list[Encoded]]:
    start, last = 0, int(rows[-1])
    for batch in opened.iter_batches(batch_size=BATCH, row_groups=[group], columns=[image]):
        inside = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        if inside.size:
            column = batch.column(0)
            held = column.field("bytes") if pa.types.is_struct(column.type) else column
            yield held.take(pa.array(inside)).to_pylist()
        start += batch.num_rows
        if start > last:
            return
