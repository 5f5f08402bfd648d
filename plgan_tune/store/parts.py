"""A table that only grows, as numbered files: the newest is rewritten whole until it is full."""

from collections.abc import Callable, Sequence
from threading import Condition
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa

from plgan_tune.store.location import Location, Writer
from plgan_tune.store.read import part_name, parts
from plgan_tune.store.tables import read_table, write_table

Row = TypeVar("Row")

ROWS_PER_PART: Final = 50_000
"""After which a new part begins."""


class Parts(Generic[Row]):
    """Rows wait here until they are on the store.

    Args:
        study: the study's folder.
        table: the table's folder in it.
        as_table: rows as an Arrow table.
        rows_per_part: after which a new part begins.
        lock: held while rows come and go.
        study_id: which the parts carry.

    Raises:
        StoreError: where the newest part is there and cannot be read.
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
        """Rows that wait."""
        return len(self._waiting)

    def append(self, row: Row) -> None:
        self._waiting.append(row)

    def open(self, writer: Writer) -> None:
        """Writes a table without rows where there is none.

        Args:
            writer: writes the file.

        Raises:
            StoreError: where the store cannot be written.
        """
        if not parts(self._study, self._table):
            write_table(self._part, self._study.join(self._table, part_name(0)), writer, self._study_id)

    def write(self, count: int, writer: Writer) -> None:
        """Puts the first `count` waiting rows on the store.

        Args:
            writer: writes each file.

        Raises:
            StoreError: where it cannot be written; what is not on it goes on waiting.
        """
        while count:
            rows = self._waiting[: min(count, self._rows_per_part - self._part.num_rows)]
            tables = [self._part, self._as_table(rows)]
            part = pa.concat_tables(tables, promote_options="default").combine_chunks()  # a part may be of before
            write_table(part, self._study.join(self._table, part_name(self._number)), writer, self._study_id)
            with self._lock:
                del self._waiting[: len(rows)]
            count -= len(rows)
            self._follow(self._number, part)

    def _follow(self, number: int, part: Any) -> None:
        full = part.num_rows >= self._rows_per_part
        self._number, self._part = (number + 1, self._as_table([])) if full else (number, part)
