"""A study's log: callers add rows, a background thread writes them."""

import logging
import time
from collections.abc import Mapping, Sequence
from threading import Condition, Thread
from types import TracebackType
from typing import Any, Final, Self

from plgan_tune.records import DecisionRow, EpochRow, TrialRow
from plgan_tune.store.location import ALONE, Location, StoreError, Writer
from plgan_tune.store.lock import FollowedError
from plgan_tune.store.parts import ROWS_PER_PART, Parts
from plgan_tune.store.read import DECISIONS, EPOCHS, TRIALS, read_trials, trial_rows
from plgan_tune.store.schemas import check_params, decisions_table, epochs_table, trials_schema, trials_table
from plgan_tune.store.tables import write_table

logger = logging.getLogger(__name__)

CLOSING_TRIES: Final = 15
"""How often `close` tries to write, an interval apart, before it gives up."""


class StudyLog:
    """Writes a study's `trials/`, `epochs/` and `decisions/` on any store.

    An existing study is continued: its trials and its newest parts are read first, so nothing is overwritten. Each
    write stores the trials before the epochs, and the epochs before the decisions. An epoch on the store therefore has
    its trial there, and a decision its epoch.

    If the store fails, no row is lost: the rows wait and are written again every interval, and `failure` gives the
    cause. Once `followed` is set, another search has taken the study over, and nothing more is written.

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
        rows_per_part: int = ROWS_PER_PART,
        writer: Writer = ALONE,
        study_id: str | None = None,
        metric: str = "val_error",
        second: str | None = None,
    ) -> None:
        """Open the log and start its thread.

        Args:
            study: The study's folder.
            columns: Searched dotted path -> column name.
            types: Searched dotted path -> bool, int, float or str.
            interval: Seconds between two writes.
            rows_per_part: Rows of a full part.
            writer: Writes each file. It raises FollowedError if another search has taken the study over.
            study_id: The study id in each file. None is a study of a version without ids.
            metric: What the study searches by.
            second: Its second metric, if it has two.

        Raises:
            ValueError: If `columns` and `types` do not make a schema.
            StoreError: If an existing study cannot be read or searches other keys.
        """
        self._study, self._columns, self._types = study, dict(columns), dict(types)
        self._interval, self._writer, self._study_id = interval, writer, study_id
        self._metrics = metric, second
        self._trials = {row.trial_id: row for row in _existing_trials(study, columns, types, study_id, *self._metrics)}
        self._changed = Condition()
        self._epochs = Parts(study, EPOCHS, epochs_table, rows_per_part, self._changed, study_id)
        self._decisions = Parts(study, DECISIONS, decisions_table, rows_per_part, self._changed, study_id)
        self._revision = self._written = 0
        self._asked = self._answered = 0
        self._closing = False
        self._failure: str | None = None
        self._followed = False
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
        """Why the last write failed; None if it did not."""
        return self._failure

    @property
    def followed(self) -> bool:
        """Whether another search has taken the study over."""
        return self._followed

    @property
    def waiting(self) -> int:
        """Epochs and decisions that are not yet on the store."""
        return len(self._epochs) + len(self._decisions)

    def epoch(self, row: EpochRow) -> None:
        """Add an epoch. Rows come in the order of `seq`.

        Args:
            row: The epoch.

        Raises:
            ValueError: If the log is closed.
        """
        with self._changed:
            self._check_open()
            self._epochs.append(row)

    def decision(self, row: DecisionRow) -> None:
        """Add a decision, after the epoch that it judges.

        Args:
            row: The decision.

        Raises:
            ValueError: If the log is closed.
        """
        with self._changed:
            self._check_open()
            self._decisions.append(row)

    def trial(self, row: TrialRow) -> None:
        """Add a trial, or replace the row with the same `trial_id`.

        Args:
            row: The trial.

        Raises:
            ValueError: If the log is closed, or the row's params do not fit the columns.
        """
        check_params(row.params, self._types)
        with self._changed:
            self._check_open()
            self._trials[row.trial_id] = row
            self._revision += 1

    def open_tables(self) -> None:
        """Write tables without rows if there are none, so readers find them from the start.

        Raises:
            StoreError: If the store cannot be written.
        """
        if not self._study.join(*TRIALS).exists():
            self._write_trials([])
        self._epochs.open(self._writer)
        self._decisions.open(self._writer)

    def flush(self) -> None:
        """Wait until all rows so far are on the store.

        Raises:
            StoreError: If this write failed. The rows wait for the next write.
            ValueError: If the log is closed.
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
        """Write the waiting rows and end the thread. A second call does nothing.

        Raises:
            StoreError: If rows could not be written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._failure is not None:
            lost = f"the last rows, {len(self._epochs)} epochs among them, could not be written"
            raise StoreError(f"{self._study.url}: {lost}: {self._failure}")

    def _check_open(self) -> None:
        if self._closing:
            raise ValueError(f"rows go to an open log, but the one of {self._study.url} is closed")

    def _write_until_closed(self) -> None:
        closing, took = False, 0.0
        while not closing:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closing or self._asked > self._answered, timeout=max(0.0, self._interval - took)
                )
                closing, ticket = self._closing, self._asked
            began = time.monotonic()
            self._write()
            took = time.monotonic() - began
            with self._changed:
                self._answered = ticket
                self._changed.notify_all()
        for _ in range(CLOSING_TRIES - 1):
            if self._failure is not None and not self._followed:
                time.sleep(self._interval)
                self._write()

    def _write(self) -> None:
        # All at one moment: otherwise an epoch could be written before its trial.
        with self._changed:
            revision, trials = self._revision, list(self._trials.values())
            epochs, decisions = len(self._epochs), len(self._decisions)
        try:
            if revision != self._written:
                self._write_trials(trials)
                self._written = revision
            self._epochs.write(epochs, self._writer)
            self._decisions.write(decisions, self._writer)
        except Exception as error:  # whatever the cause, the log still takes rows
            self._note_failure(error)
        else:
            self._note_success()

    def _write_trials(self, trials: Sequence[TrialRow]) -> None:
        table = trials_table(trials, self._columns, self._types, *self._metrics)
        write_table(table, self._study.join(*TRIALS), self._writer, self._study_id)

    def _note_failure(self, error: Exception) -> None:
        self._followed = isinstance(error, FollowedError)
        if self._failure is None:
            logger.warning("results wait in memory and are tried again every %g s: %s", self._interval, error)
        self._failure = str(error)

    def _note_success(self) -> None:
        if self._failure is not None:
            logger.warning("results are written again: %s", self._study.url)
        self._failure = None


def _existing_trials(
    study: Location,
    columns: Mapping[str, str],
    types: Mapping[str, type],
    study_id: str | None,
    metric: str,
    second: str | None,
) -> list[TrialRow]:
    schema = trials_schema(columns, types, metric, second)  # fails in the caller's thread, not in the log's
    if not study.join(*TRIALS).exists():
        return []
    table = read_trials(study, study_id, metric, second)
    if not table.schema.equals(schema):
        raise StoreError(
            f"{study.join(*TRIALS).url} must have the columns of this study, {_named(schema)}, "
            f"but got {_named(table.schema)}"
        )
    return trial_rows(table, columns, metric=metric, second=second)


def _named(schema: Any) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in schema)
