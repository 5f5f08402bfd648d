"""One Parquet file of a study: read with its version checked, written as a whole."""

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from plgan_tune.store.location import Guard, Location, StoreError, unguarded
from plgan_tune.store.schemas import SCHEMA_VERSION, VERSION_KEY


def read_table(file: Location, required: Any) -> Any:
    """One Parquet file of a study.

    Args:
        required: the Arrow schema of the columns that must be there; there may be more.

    Raises:
        StoreError: naming the file, where it is corrupt, of a newer version, or a required column is missing or of
            another type.
    """
    content = file.read_bytes()
    try:
        parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        _check_version(file, parquet.schema_arrow.metadata or {})
        table = parquet.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"cannot read {file.url}: it is corrupt or no Parquet file ({error}); put a whole copy of it in its place"
        ) from error
    if missing := [name for name in required.names if name not in table.column_names]:
        raise StoreError(f"{file.url} must have every column, but {', '.join(missing)} is not there")
    for field in required:
        if (found := table.schema.field(field.name).type) != field.type:
            raise StoreError(f"{file.url}: column {field.name} must hold {field.type}, but holds {found}")
    return table


def write_table(table: Any, file: Location, guard: Guard = unguarded) -> None:
    """Replaces the file by `table`. Pages carry checksums: `read_table` finds a flipped bit.

    Args:
        guard: called when the file is ready to be written.

    Raises:
        StoreError: where it cannot be written.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    content = sink.getvalue().to_pybytes()
    file.write_bytes(content, guard())


def _check_version(file: Location, metadata: dict[bytes, bytes]) -> None:
    key, version = VERSION_KEY.decode(), metadata.get(VERSION_KEY, b"none").decode()
    if not version.isdecimal():
        raise StoreError(f"{file.url} must carry a {key}, but got {version}")
    if int(version) > SCHEMA_VERSION:
        raise StoreError(
            f"{file.url} was written with {key} {version}, but this installation reads up to "
            f"{SCHEMA_VERSION}: use the newer plgan-tune that wrote it"
        )
