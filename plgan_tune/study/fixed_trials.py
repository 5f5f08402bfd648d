"""Trials that are given, not suggested: a study whose list is known. Knows no Ray."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from rich.console import Console

from plgan_tune.config.trial import TrialSpec
from plgan_tune.console.display import build_display
from plgan_tune.records import TrialRow, TrialStatus, Value
from plgan_tune.store.location import Guard, Location
from plgan_tune.store.log import StudyLog
from plgan_tune.study.history import History, Left, as_epochs_say, read_rows
from plgan_tune.study.log_session import opened
from plgan_tune.study.recorder import Bookkeeper, Config
from plgan_tune.study.state import StudyState

Books = TypeVar("Books", bound=Bookkeeper)


@dataclass(frozen=True, slots=True)
class GivenTrial:
    """One trial of the list.

    Attributes:
        trial_id: the study's own; another start of the study knows the trial by it.
        point: what tells trials apart, a column each.
    """

    trial_id: str
    point: Mapping[str, Value]
    trial: TrialSpec


@dataclass(frozen=True, slots=True)
class GivenStudy:
    """Trials of equal length, in the order in which they are to be trained. None is stopped early; all are kept.

    Attributes:
        name: for the user.
        location: the study's folder; trials of an earlier start that are not among `trials` stay there as they are.
        types: key of a trial's point -> bool, int, float or str.
        study_id: which its files carry.
    """

    name: str
    location: Location
    trials: tuple[GivenTrial, ...]
    types: Mapping[str, type]
    study_id: str | None

    @property
    def columns(self) -> Mapping[str, str]:
        return {key: key for key in self.types}

    @property
    def epochs(self) -> int:
        return self.trials[0].trial.training.epochs


@contextmanager
def taken_up(
    study: GivenStudy,
    books: Callable[..., Books],
    console: Console,
    now: Callable[[], datetime],
    guard: Guard,
) -> Iterator[tuple[Sequence[Config], Books, StudyLog]]:
    """What is still to be trained, who keeps the books meanwhile, and the log that they are.

    Args:
        books: `Bookkeeper`, or a class of it.
        guard: called before each file of the log; raises FollowedError where another search writes now.

    Raises:
        StoreError: where the study cannot be read or written.
        RecordingError: at the block's end, where an event could not be recorded.
    """
    left = _left_behind(study)
    configs = _to_do(study.trials, left.history)
    state = StudyState(
        study.name,
        trials=len(left.history.ended) + len(configs),
        epochs=study.epochs,
        started_at=now(),
        history=left.history,
        competing=False,
    )
    with opened(study.location, study.columns, study.types, state, state.trials, left, guard, study.study_id) as (
        log,
        trial_ended,
    ):
        display = build_display(console, state, now)
        keeper = books(state, log, display, now, trial_ended)
        with display:
            yield configs, keeper, log
    keeper.check_whole(study.location.url)


def left_to_do(study: GivenStudy) -> bool:
    """Whether a trial has not ended."""
    return bool(_to_do(study.trials, _left_behind(study).history))


def _left_behind(study: GivenStudy) -> Left:
    """What earlier starts have left; a trial that failed is tried again, for its user asks again."""
    known = read_rows(study.location, study.columns, study.study_id) if study.location.exists() else History()
    history = as_epochs_say(known, study.epochs)
    return Left(known, replace(history, trials=tuple(map(_tried_again, history.trials))))


def _tried_again(row: TrialRow) -> TrialRow:
    if row.status is not TrialStatus.FAILED:
        return row
    return replace(row, status=TrialStatus.RUNNING, ended_at=None)


def _to_do(trials: Sequence[GivenTrial], history: History) -> list[Config]:
    """A config for each trial that has not ended: a new one's first attempt, or the next of one that had begun.

    Those that have failed come last: they may fail again, and end it all where none can begin.
    """
    rows = {row.trial_id: row for row in history.trials}
    configs: list[Config] = []
    troubled: list[Config] = []
    number = history.next_number
    for given in trials:
        row = rows.get(given.trial_id)
        if row is not None and row.status is not TrialStatus.RUNNING:
            continue
        (troubled if row and row.error else configs).append(
            {
                "trial_id": given.trial_id,
                "number": row.number if row else number,
                "attempt": row.attempt + 1 if row else 1,
                "failures": 0,
                "logged": max(history.curves.get(given.trial_id, {}), default=0),
                "point": dict(given.point),
                "trial": given.trial.model_dump(mode="json"),
            }
        )
        number += row is None
    return configs + troubled
