"""The writer of a study's log: callers hand over rows, one background thread stores them."""

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
"""How often `close` tries a store that fails, an interval apart, before it gives the rows up."""


class StudyLog:
    """A study's `trials/`, `epochs/` and `decisions/`, kept up to date on any store.

    A study that is there already is gone on with: its trials and its newest parts are read first, so that nothing
    is overwritten. The trials snapshot is put before the epochs and holds every trial that came before them, and
    epochs before decisions: an epoch on the store has its trial there, and a decision its epoch.

    A store that fails loses no row: `failure` says why, the rows wait and are tried again every interval. Once another
    search has `followed`, none is written any more.

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
    ) -> None:
        """Opens the log and starts its thread.

        Args:
            study: the study's folder.
            columns: searched dotted path -> column name.
            types: searched dotted path -> bool, int, float or str.
            interval: seconds between two writes.
            rows_per_part: rows of a part of epochs, after which a new one begins.
            writer: writes each file; raises FollowedError where another search writes now.
            study_id: which every file carries; None where the study was begun before there were ids.

        Raises:
            ValueError: where `columns` and `types` do not make a schema.
            StoreError: where a study is there that cannot be read or searches other keys.
        """
        self._study, self._columns, self._types = study, dict(columns), dict(types)
        self._interval, self._writer, self._study_id = interval, writer, study_id
        self._trials = {row.trial_id: row for row in _existing_trials(study, columns, types, study_id)}
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
        """Why the last write failed; None when all is well."""
        return self._failure

    @property
    def followed(self) -> bool:
        """Whether another search writes the study now."""
        return self._followed

    @property
    def waiting(self) -> int:
        """Rows of epochs and of decisions in memory that are not yet on the store."""
        return len(self._epochs) + len(self._decisions)

    def epoch(self, row: EpochRow) -> None:
        """Adds an epoch. Rows come in order of `seq`.

        Raises:
            ValueError: after `close`.
        """
        with self._changed:
            self._check_open()
            self._epochs.append(row)

    def decision(self, row: DecisionRow) -> None:
        """Adds a decision, after the epoch that was judged.

        Raises:
            ValueError: after `close`.
        """
        with self._changed:
            self._check_open()
            self._decisions.append(row)

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
            self._write_trials([])
        self._epochs.open(self._writer)
        self._decisions.open(self._writer)

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
        # Taken at one moment, or an epoch could reach the store before its trial.
        with self._changed:
            revision, trials = self._revision, list(self._trials.values())
            epochs, decisions = len(self._epochs), len(self._decisions)
        try:
            if revision != self._written:
                self._write_trials(trials)
                self._written = revision
            self._epochs.write(epochs, self._writer)
            self._decisions.write(decisions, self._writer)
        except Exception as error:  # whatever went wrong, rows go on being collected
            self._note_failure(error)
        else:
            self._note_success()

    def _write_trials(self, trials: Sequence[TrialRow]) -> None:
        table = trials_table(trials, self._columns, self._types)
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
    study: Location, columns: Mapping[str, str], types: Mapping[str, type], study_id: str | None
) -> list[TrialRow]:
    if not study.join(*TRIALS).exists():
        # Fails here, where the caller sees it, and not in the thread.
        trials_schema(columns, types)
        return []
    table, schema = read_trials(study, study_id), trials_schema(columns, types)
    if not table.schema.equals(schema):
        raise StoreError(
            f"{study.join(*TRIALS).url} must have the columns of this study, {_named(schema)}, "
            f"but got {_named(table.schema)}"
        )
    return trial_rows(table, columns)


def _named(schema: Any) -> str:
    return ", ".join(f"{column.name} ({column.type})" for column in schema)
