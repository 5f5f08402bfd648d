"""The writer of a study's log: callers hand over rows, one background thread stores them."""

import logging
import time
from collections.abc import Mapping
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from plgan_tune.records import EpochRow, TrialRow
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.read import EPOCHS, TRIALS, epoch_parts, part_name, read_table, read_trials, trial_rows
from plgan_tune.store.schemas import check_params, epochs_schema, epochs_table, trials_schema, trials_table

logger = logging.getLogger(__name__)

CLOSING_TRIES: Final = 3
"""How often `close` tries a store that fails, an interval apart, before it gives the rows up."""


class StudyLog:
    """A study's `trials/` and `epochs/`, kept up to date on any store.

    A study that is there already is gone on with: its trials and its newest part of epochs are read first, so
    that nothing is overwritten. The trials snapshot is put before the epochs and holds every trial that came
    before them: an epoch on the store has its trial there.

    A store that fails loses no row: `failure` says why, the rows wait and are tried again every interval.

        with StudyLog(Location.at("results/digits"), study.columns, types) as log:
            log.trial(trial_row)
            log.epoch(epoch_row)
    """

    def __init__(
        self,
        study: Location,
        columns: Mapping[str, str],
        types: Mapping[str, type],
        interval: float = 5.0,
        rows_per_part: int = 50_000,
    ) -> None:
        """Opens the log and starts its thread.

        Args:
            study: the study's folder.
            columns: searched dotted path -> column name.
            types: searched dotted path -> bool, int, float or str.
            interval: seconds between two writes.
            rows_per_part: rows of a part of epochs, after which a new one begins.

        Raises:
            ValueError: where `columns` and `types` do not make a schema.
            StoreError: where a study is there that cannot be read or searches other keys.
        """
        self._study, self._columns, self._types = study, dict(columns), dict(types)
        self._interval, self._rows_per_part = interval, rows_per_part
        self._trials = {row.trial_id: row for row in _existing_trials(study, columns, types)}
        self._epochs: list[EpochRow] = []
        self._number, self._part = _existing_part(study, rows_per_part)
        self._revision = self._written = 0
        self._asked = self._answered = 0
        self._closing = False
        self._failure: str | None = None
        self._changed = Condition()
        self._thread = Thread(target=self._write_until_closed, name="study-log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def failure(self) -> str | None:
        """Why the last write failed; None when all is well."""
        return self._failure

    @property
    def waiting(self) -> int:
        """Epoch rows in memory that are not yet on the store."""
        return len(self._epochs)

    def epoch(self, row: EpochRow) -> None:
        """Adds an epoch. Rows come in order of `seq`.

        Raises:
            ValueError: after `close`.
        """
        with self._changed:
            self._check_open()
            self._epochs.append(row)

    def trial(self, row: TrialRow) -> None:
        """Adds a trial, or replaces the row of the same `trial_id`.

        Raises:
            ValueError: after `close`, or where the row's params do not fit the columns.
        """
        check_params(row.params, self._types)
        with self._changed:
            self._check_open()
            self._trials[row.trial_id] = row
            self._revision += 1

    def open_tables(self) -> None:
        """Writes tables without rows where there are none, so that a reader finds them from the start.

        Raises:
            StoreError: where the store cannot be written.
        """
        if not self._study.join(*TRIALS).exists():
            self._put(trials_table([], self._columns, self._types), *TRIALS)
        if not epoch_parts(self._study):
            self._put(epochs_table([]), EPOCHS, part_name(0))

    def flush(self) -> None:
        """Blocks until everything handed over so far is on the store.

        Raises:
            StoreError: where this write failed; the rows wait and are tried again.
            ValueError: after `close`.
        """
        with self._changed:
            self._check_open()
            self._asked += 1
            ticket = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._answered >= ticket)
            if self._failure is not None:
                raise StoreError(self._failure)

    def close(self) -> None:
        """Writes what waits and ends the thread. A second call changes nothing.

        Raises:
            StoreError: where rows could not be written in the end.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._failure is not None:
            lost = f"the last rows, {self.waiting} epochs among them, could not be written"
            raise StoreError(f"{self._study.url}: {lost}: {self._failure}")

    def _check_open(self) -> None:
        if self._closing:
            raise ValueError(f"rows go to an open log, but the one of {self._study.url} is closed")

    def _write_until_closed(self) -> None:
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._asked > self._answered, timeout=self._interval)
                closing, ticket = self._closing, self._asked
            self._write()
            with self._changed:
                self._answered = ticket
                self._changed.notify_all()
        for _ in range(CLOSING_TRIES - 1):
            if self._failure is not None:
                time.sleep(self._interval)
                self._write()

    def _write(self) -> None:
        # Taken at one moment, or an epoch could reach the store before its trial.
        with self._changed:
            revision, trials, epochs = self._revision, list(self._trials.values()), len(self._epochs)
        try:
            if revision != self._written:
                self._put(trials_table(trials, self._columns, self._types), *TRIALS)
                self._written = revision
            self._write_epochs(epochs)
        except Exception as error:  # whatever went wrong, rows go on being collected
            self._note_failure(error)
        else:
            self._note_success()

    def _write_epochs(self, count: int) -> None:
        while count:
            rows = self._epochs[: min(count, self._rows_per_part - self._part.num_rows)]
            part = pa.concat_tables([self._part, epochs_table(rows)]).combine_chunks()
            self._put(part, EPOCHS, part_name(self._number))
            with self._changed:
                del self._epochs[: len(rows)]
            count -= len(rows)
            self._number, self._part = _next_part(self._number, part, self._rows_per_part)

    def _put(self, table: Any, *names: str) -> None:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._study.join(*names).write_bytes(sink.getvalue().to_pybytes())

    def _note_failure(self, error: Exception) -> None:
        if self._failure is None:
            logger.warning("results wait in memory and are tried again every %g s: %s", self._interval, error)
        self._failure = str(error)

    def _note_success(self) -> None:
        if self._failure is not None:
            logger.warning("results are written again: %s", self._study.url)
        self._failure = None


def _existing_trials(study: Location, columns: Mapping[str, str], types: Mapping[str, type]) -> list[TrialRow]:
    if not study.join(*TRIALS).exists():
        # Fails here, where the caller sees it, and not in the thread.
        trials_schema(columns, types)
        return []
    table, schema = read_trials(study), trials_schema(columns, types)
    if not table.schema.equals(schema):
        raise StoreError(
            f"{study.join(*TRIALS).url} must have the columns of this study, {_named(schema)}, "
            f"but got {_named(table.schema)}"
        )
    return trial_rows(table, columns)


def _existing_part(study: Location, rows_per_part: int) -> tuple[int, Any]:
    """Number and rows of the part that is being filled."""
    parts = epoch_parts(study)
    if not parts:
        return 0, epochs_table([])
    newest = read_table(parts[-1], epochs_schema().names)
    return _next_part(len(parts) - 1, newest, rows_per_part)


def _next_part(number: int, part: Any, rows_per_part: int) -> tuple[int, Any]:
    return (number, part) if part.num_rows < rows_per_part else (number + 1, epochs_table([]))


def _named(schema: Any) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in schema)
