"""Which checkpoints are kept: a thousand trials must not fill a disk."""

import logging
from threading import Event, Thread
from types import TracebackType
from typing import Protocol, Self

from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.checkpoints import TrialFiles, trials_with_files
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.ranking import rank, trained_whole
from plgan_tune.study.state import StudyState

logger = logging.getLogger(__name__)


class Flushed(Protocol):
    """A log that can be flushed."""

    def flush(self) -> None:
        """Write all rows that wait."""


class CheckpointKeeper:
    """Removes the files of ended trials that are not among the best, once their end is in the log.

    A context manager with its own thread: stores may be slow, and Tune has only one thread.

    Args:
        study: the study's folder.
        state: which trials ended, and with which error.
        log: flushed before anything is removed.
        keep: how many of the best completed trials keep their files.
    """

    def __init__(self, study: Location, state: StudyState, log: Flushed, keep: int) -> None:
        self._study, self._state, self._log, self._keep = study, state, log, keep
        self._rows: tuple[TrialRow, ...] = ()
        self._news = Event()
        self._closing = False
        self._thread = Thread(target=self._sweep_until_closed, name="checkpoint-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._news.set()
        self._thread.join()

    def trial_ended(self) -> None:
        """Note that a trial has ended. The recording thread calls it once the log has the trial's end."""
        # Read the rows here: the state may know of a later end before the log does.
        self._rows = self._state.all_rows()
        self._news.set()

    def _sweep_until_closed(self) -> None:
        closing = False
        while not closing:
            self._news.wait()
            self._news.clear()
            closing = self._closing
            try:
                self._sweep()
            except StoreError as error:
                logger.warning("checkpoints that are no longer needed could not be removed yet: %s", error)

    def _to_keep(self) -> set[str]:
        """Return the trials whose files stay: a whole training of each of the best, and of all that may still win.

        Where trials do not compete, all that completed: they may have no value that would rank them.
        """
        if not self._state.competing:
            return {row.trial_id for row in self._rows if row.status is TrialStatus.COMPLETED}
        race = self._state.race
        kept = rank(self._rows, race, self._state.metric)[: self._keep]
        goes_on = self._state.ended() < self._state.trials or (race is not None and race.goes_on(self._rows))
        if self._keep and race is not None and goes_on:
            may_win = race.may_win(self._rows)
            kept += [row for row in self._rows if row.trial_id in may_win]
        return {whole.trial_id for row in kept if (whole := trained_whole(row, self._rows)) is not None}

    def _sweep(self) -> None:
        rows = {row.trial_id: row for row in self._rows}
        best = self._to_keep()
        ended = [trial_id for trial_id, row in rows.items() if row.status is not TrialStatus.RUNNING]
        removable = set(ended) - best
        present = removable.intersection(trials_with_files(self._study))
        to_go = [files for trial_id in sorted(present) if (files := TrialFiles.of(self._study, trial_id)).ours()]
        if to_go:
            self._log.flush()
        for files in to_go:
            files.remove()
