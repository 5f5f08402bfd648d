"""Opens a study's log for a driver: first writes what the last start died before writing."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from plgan_tune.store.checkpoints import TrialFiles, trials_with_files
from plgan_tune.store.location import ALONE, Location, Writer, remove_unfinished
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import DECISIONS, EPOCHS, TRIALS
from plgan_tune.study.checkpoint_retention import CheckpointKeeper
from plgan_tune.study.history import History, Left
from plgan_tune.study.state import StudyState

TABLES: Final = (TRIALS[0], EPOCHS, DECISIONS)

TRIAL_ID: Final = re.compile(r"t\d+|.+-s\d+(-refit)?")
"""Ids in a search and in an evaluation. A folder of another name, such as a copy of a trial's, belongs to the user."""


@contextmanager
def open_log(
    location: Location,
    columns: Mapping[str, str],
    types: Mapping[str, type],
    state: StudyState,
    keep: int,
    left: Left,
    writer: Writer = ALONE,
    study_id: str | None = None,
) -> Iterator[tuple[StudyLog, Callable[[], None]]]:
    """Yield the log, and a function to call when a trial has ended.

    Args:
        location: the study's folder.
        columns: searched dotted path -> column name.
        types: searched dotted path -> bool, int, float or str.
        state: which trials ended and how, and what the study searches by.
        keep: how many of the best completed trials keep their checkpoints.
        left: what earlier starts left.
        writer: writes each file of the log; raises FollowedError if another search writes now.
        study_id: id that each file of the log carries.

    Raises:
        StoreError: if the store cannot be read or written.
    """
    second = None if state.second is None else state.second.name
    log = StudyLog(location, columns, types, writer=writer, study_id=study_id, metric=state.metric.name, second=second)
    with log, CheckpointKeeper(location, state, log, keep) as keeper:
        log.open_tables()
        for folder in (location, *(location.join(table) for table in TABLES)):
            remove_unfinished(folder)
        _remove_unknown(location, left.history)
        _log_what_was_lost(log, left)
        keeper.trial_ended()  # the previous driver may have died before it removed files
        yield log, keeper.trial_ended


def _remove_unknown(location: Location, history: History) -> None:
    """Remove files of trials that started after the log was last written: their numbers are assigned again."""
    for trial_id in sorted(set(trials_with_files(location)) - {row.trial_id for row in history.trials}):
        if TRIAL_ID.fullmatch(trial_id):
            TrialFiles.of(location, trial_id).remove()


def _log_what_was_lost(log: StudyLog, left: Left) -> None:
    """Write the rows that the logged epochs imply and the driver died before writing."""
    for before, after in zip(left.known.trials, left.history.trials, strict=True):
        if before != after:
            log.trial(after)
    for row in left.decisions:
        log.decision(row)
