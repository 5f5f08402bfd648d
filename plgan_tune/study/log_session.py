"""A study's log and files as a driver takes them up: what its last start did not live to write is written first."""

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
"""Of a search and of an evaluation; a folder of another name, such as a copy of a trial's, is the user's."""


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
    """The log, and what is to be called when a trial has ended.

    Args:
        columns: searched dotted path -> column name.
        types: searched dotted path -> bool, int, float or str.
        keep: how many of the best completed trials keep their checkpoints.
        left: by an earlier start.
        writer: writes each file of the log; raises FollowedError where another search writes now.
        study_id: which each file of the log carries.

    Raises:
        StoreError: where the store cannot be read or written.
    """
    with (
        StudyLog(location, columns, types, writer=writer, study_id=study_id) as log,
        CheckpointKeeper(location, state, log, keep) as keeper,
    ):
        log.open_tables()
        for folder in (location, *(location.join(table) for table in TABLES)):
            remove_unfinished(folder)
        _remove_unknown(location, left.history)
        _log_what_was_lost(log, left)
        keeper.trial_ended()  # of the driver before, which may not have lived to remove files
        yield log, keeper.trial_ended


def _remove_unknown(location: Location, history: History) -> None:
    """Removes files of trials that began after the log was last written: their numbers are given anew."""
    for trial_id in sorted(set(trials_with_files(location)) - {row.trial_id for row in history.trials}):
        if TRIAL_ID.fullmatch(trial_id):
            TrialFiles.of(location, trial_id).remove()


def _log_what_was_lost(log: StudyLog, left: Left) -> None:
    """What the epochs in the log imply and its driver did not live to write."""
    for before, after in zip(left.known.trials, left.history.trials, strict=True):
        if before != after:
            log.trial(after)
    for row in left.decisions:
        log.decision(row)
