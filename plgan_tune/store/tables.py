"""One Parquet file of a study: read with its version checked, written as a whole."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.schemas import SCHEMA_VERSION, VERSION_KEY


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
        raise StoreError(
            f"cannot read {file.url}: it is corrupt or no Parquet file ({error}); put a whole copy of it in its place"
        ) from error
    if missing := [name for name in required if name not in table.column_names]:
        raise StoreError(f"{file.url} must have every column, but {', '.join(missing)} is not there")
    return table


def write_table(table: Any, file: Location) -> None:
    """Replaces the file by `table`. Raises StoreError where it cannot be written."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    file.write_bytes(sink.getvalue().to_pybytes())


def _check_version(file: Location, metadata: dict[bytes, bytes]) -> None:
    key, version = VERSION_KEY.decode(), metadata.get(VERSION_KEY, b"none").decode()
    if not version.isdecimal():
        raise StoreError(f"{file.url} must carry a {key}, but got {version}")
    if int(version) > SCHEMA_VERSION:
        raise StoreError(
            f"{file.url} was written with {key} {version}, but this installation reads up to "
            f"{SCHEMA_VERSION}: use the newer plgan-tune that wrote it"
        )
