"""A study with a fixed list of trials."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from plgan_tune.config.metrics import VAL_ERROR, Metric
from plgan_tune.config.trial import TrialSpec
from plgan_tune.records import TrialRow, TrialStatus, Value
from plgan_tune.store.location import Location
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.history import History, Left, as_epochs_say, read_rows


@dataclass(frozen=True, slots=True)
class FixedTrial:
    """One trial of the list.

    Attributes:
        trial_id: the study's id of it, by which later starts of the study recognise the trial.
        point: the values that distinguish trials, one column each.
        trial: the whole specification.
    """

    trial_id: str
    point: Mapping[str, Value]
    trial: TrialSpec


@dataclass(frozen=True, slots=True)
class FixedStudy:
    """Trials of equal length, in training order. None is stopped early, and all keep their files.

    Attributes:
        name: name for the user.
        location: the study's folder. It keeps trials of earlier starts that are not in `trials`.
        trials: at least one.
        types: key of a trial's point -> bool, int, float or str.
        study_id: id that its files carry.
        metric: what its trials' rows keep the last and the best value of.
    """

    name: str
    location: Location
    trials: tuple[FixedTrial, ...]
    types: Mapping[str, type]
    study_id: str | None
    metric: Metric = VAL_ERROR

    @property
    def columns(self) -> Mapping[str, str]:
        """Key of a trial's point -> column name, which is the same."""
        return {key: key for key in self.types}

    @property
    def epochs(self) -> int:
        """Epochs of each trial."""
        return self.trials[0].trial.training.epochs

    def rows(self) -> History:
        """Return the rows of its log.

        Raises:
            StoreError: if the log cannot be read.
        """
        return read_rows(self.location, self.columns, self.study_id, metric=self.metric.name)

    def left_behind(self) -> Left:
        """Return what earlier starts left, with failed trials as running: a new start retries them.

        Raises:
            StoreError: if the log cannot be read.
        """
        there = self.location.exists()
        known = self.rows() if there else History()
        history = as_epochs_say(known, self.epochs)
        return Left(known, replace(history, trials=tuple(map(_tried_again, history.trials))))

    def assignments(self, history: History) -> list[Assignment]:
        """Return, for each trial that has not ended, its first attempt or the next one if it has started.

        Trials that failed come last: they may fail again, and the run ends if no trial can start.
        """
        rows = {row.trial_id: row for row in history.trials}
        assignments: list[Assignment] = []
        troubled: list[Assignment] = []
        number = history.next_number
        for fixed in self.trials:
            row = rows.get(fixed.trial_id)
            if row is not None and row.status is not TrialStatus.RUNNING:
                continue
            (troubled if row and row.error else assignments).append(
                Assignment(
                    trial_id=fixed.trial_id,
                    number=row.number if row else number,
                    attempt=row.attempt + 1 if row else 1,
                    logged=max(history.curves.get(fixed.trial_id, {}), default=0),
                    point=dict(fixed.point),
                    trial=fixed.trial,
                )
            )
            number += row is None
        return assignments + troubled


class FixedTrials:
    """Suggests these assignments in their order and ignores results."""

    def __init__(self, assignments: Iterable[Assignment]) -> None:
        self._assignments = iter(assignments)

    def ask(self) -> Assignment | None:
        """Return the next assignment; None after the last."""
        return next(self._assignments, None)

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:
        """Ignore an epoch's value."""

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """Ignore how a trial ended."""


def _tried_again(row: TrialRow) -> TrialRow:
    if row.status is not TrialStatus.FAILED:
        return row
    return replace(row, status=TrialStatus.RUNNING, ended_at=None)
