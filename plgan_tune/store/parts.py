"""A table that only grows, as numbered files. The newest file is rewritten as a whole until it is full."""

from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa

from plgan_tune.store.location import Location, Writer
from plgan_tune.store.read import part_name, parts
from plgan_tune.store.tables import read_table, write_table

Row = TypeVar("Row")

ROWS_PER_PART: Final = 50_000
"""Rows of a full part."""


class Parts(Generic[Row]):
    """The rows of a table that wait to be written, and its newest part.

    Args:
        study: The study's folder.
        table: The name of the table's folder.
        as_table: Makes an Arrow table of rows.
        rows_per_part: Rows of a full part.
        lock: Held while waiting rows change.
        study_id: The study id in each file.

    Raises:
        StoreError: If the newest part cannot be read.
    """

    def __init__(
        self,
        study: Location,
        table: str,
        as_table: Callable[[Sequence[Row]], Any],
        rows_per_part: int,
        lock: Condition,
        study_id: str | None = None,
    ) -> None:
        self._study, self._table, self._as_table = study, table, as_table
        self._rows_per_part, self._lock, self._study_id = rows_per_part, lock, study_id
        self._waiting: list[Row] = []
        self._number, self._part = 0, as_table([])
        if files := parts(study, table):
            self._follow(len(files) - 1, read_table(files[-1], self._part.schema, study_id))

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._waiting)

    def append(self, row: Row) -> None:
        """Add a row, which waits until `write`."""
        self._waiting.append(row)

    def open(self, writer: Writer) -> None:
        """Write a part without rows if there is no part.

        Args:
            writer: Writes the file.

        Raises:
            StoreError: If the store cannot be written.
        """
        if not parts(self._study, self._table):
            write_table(self._part, self._study.join(self._table, part_name(0)), writer, self._study_id)

    def write(self, count: int, writer: Writer) -> None:
        """Write the first waiting rows.

        Args:
            count: How many rows.
            writer: Writes each file.

        Raises:
            StoreError: If the store cannot be written. The rows that are not on it still wait.
        """
        while count:
            rows = self._waiting[: min(count, self._rows_per_part - self._part.num_rows)]
            tables = [self._part, self._as_table(rows)]
            # Promoted, because an earlier version's part may lack columns.
            part = pa.concat_tables(tables, promote_options="default").combine_chunks()
            write_table(part, self._study.join(self._table, part_name(self._number)), writer, self._study_id)
            with self._lock:
                del self._waiting[: len(rows)]
            count -= len(rows)
            self._follow(self._number, part)

    def _follow(self, number: int, part: Any) -> None:
        full = part.num_rows >= self._rows_per_part
        self._number, self._part = (number + 1, self._as_table([])) if full else (number, part)
