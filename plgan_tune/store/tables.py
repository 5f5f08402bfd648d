"""Reads and writes one Parquet file of a study."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from plgan_tune.records import OWN
from plgan_tune.store.location import ALONE, Location, StoreError, Writer
from plgan_tune.store.schemas import SCHEMA_VERSION, STUDY_KEY, VERSION_KEY, WRITER_KEY

ANY_STUDY: Final = "*"
"""Instead of a study id: files of any study are read."""


def read_table(file: Location, required: Any, study_id: str | None = ANY_STUDY) -> Any:
    """Read a Parquet file of a study, and check it.

    Args:
        file: The file.
        required: The Arrow schema of the columns. A nullable column may be absent and then reads as null. The file may
            have more columns. It may not have both, because then a flipped bit may have renamed a column.
        study_id: The study id that the file must carry. None is a study of a version without ids.

    Raises:
        StoreError: If the file is corrupt, of a newer version or of another study, if a required column is missing or
            has another type, or if a cell has an impossible value. The message names the file, and the cell's row,
            counted from 1.
    """
    content = file.read_bytes()
    try:
        parquet = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        metadata = parquet.schema_arrow.metadata or {}
        _check_version(file, metadata)
        _check_study(file, metadata, study_id)
        table = parquet.read()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StoreError(
            f"cannot read {file.url}: it is corrupt or no Parquet file ({error}); put a whole copy of it in its place"
        ) from error
    absent = [field for field in required if field.name not in table.column_names]
    foreign = set(table.column_names) - set(required.names) - {"seq"}
    # A flipped bit may have renamed a column.
    is_damaged = any(not name.startswith(("params_", OWN)) for name in foreign)
    if missing := [field.name for field in absent if is_damaged or not field.nullable]:
        raise StoreError(f"{file.url} must have every column, but {', '.join(missing)} is not there")
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise StoreError(f"{file.url} must have every column once, but {', '.join(twice)} is there twice")
    for field in absent:
        table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    for field in required:
        if (found := table.schema.field(field.name).type) != field.type:
            raise StoreError(f"{file.url}: column {field.name} must hold {field.type}, but holds {found}")
        _check_cells(file, field, table.column(field.name))
    return table


def write_table(table: Any, file: Location, writer: Writer = ALONE, study_id: str | None = None) -> None:
    """Replace the file by `table`. Its pages carry checksums, by which `read_table` detects flipped bits.

    Args:
        table: The Arrow table.
        file: The file.
        writer: Writes the file.
        study_id: The study id for the file.

    Raises:
        StoreError: If the file cannot be written.
    """
    writer.write(file, parquet_bytes(table, {STUDY_KEY: study_id, WRITER_KEY: writer.token}))


def parquet_bytes(table: Any, marks: Mapping[bytes, str | None]) -> bytes:
    """Return `table` as a Parquet file with page checksums.

    Args:
        table: The Arrow table.
        marks: The file's metadata. None removes a key.
    """
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key not in marks}
    metadata |= {key: value.encode() for key, value in marks.items() if value is not None}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def _check_version(file: Location, metadata: dict[bytes, bytes]) -> None:
    key, version = VERSION_KEY.decode(), metadata.get(VERSION_KEY, b"none").decode()
    if not version.isdecimal():
        raise StoreError(f"{file.url} must carry a {key}, but got {version}")
    if int(version) > SCHEMA_VERSION:
        raise StoreError(
            f"{file.url} was written with {key} {version}, but this installation reads up to "
            f"{SCHEMA_VERSION}: use the newer plgan-tune that wrote it"
        )


def _check_study(file: Location, metadata: dict[bytes, bytes], study_id: str | None) -> None:
    if study_id == ANY_STUDY:
        return
    found = metadata[STUDY_KEY].decode() if STUDY_KEY in metadata else None
    if found != study_id:
        ours, theirs = (f"study {one}" if one else "a study without an id" for one in (study_id, found))
        raise StoreError(
            f"{file.url} must be of this folder's study, but it is of {theirs}, and study.yaml is of {ours}: put this "
            "study's own file in its place"
        )


def _check_cells(file: Location, field: Any, cells: Any) -> None:
    """Raise StoreError for the first cell that has an impossible value."""
    if not field.nullable and cells.null_count:
        raise _impossible(file, field, "hold something", pc.index(pc.is_null(cells), True).as_py(), cells)
    described = {key: value.decode() for key, value in (field.metadata or {}).items()}
    for fits, rule in _rules(described, cells):
        if pc.all(fits).as_py() is False:
            raise _impossible(file, field, rule, pc.index(fits, False).as_py(), cells)


def _rules(described: dict[bytes, str], cells: Any) -> Iterator[tuple[Any, str]]:
    """Yield which cells keep a bound, and the bound in words. NaN keeps none."""
    least, most = described.get(b"least"), described.get(b"most")
    if least is not None:
        yield pc.greater_equal(cells, float(least)), f"be at least {least}" + (f" and at most {most}" if most else "")
    if most is not None:
        yield pc.less_equal(cells, float(most)), f"be at least {least} and at most {most}"
    if b"one_of" in described:
        yield pc.is_in(cells, pa.array(described[b"one_of"].split(", "))), f"be one of {described[b'one_of']}"


def _impossible(file: Location, field: Any, rule: str, place: int, cells: Any) -> StoreError:
    value = cells[place].as_py()
    return StoreError(
        f"{file.url}: {field.name} of row {place + 1} must {rule}, but is {'nothing' if value is None else repr(value)}"
    )
