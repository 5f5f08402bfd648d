"""What an earlier start of the same study left: read from its log, and from nothing else."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plgan_tune.records import DecisionRow, EpochRow, Report, TrialRow, TrialStatus, Verdict
from plgan_tune.spec.errors import SpecError
from plgan_tune.spec.load import study_from_mapping
from plgan_tune.spec.study import MADE_WITH, StudySpec, flatten
from plgan_tune.spec.yaml import read_yaml
from plgan_tune.store.location import Location
from plgan_tune.store.read import (
    STUDY_FILE,
    decision_rows,
    latest_rows,
    read_decisions,
    read_epochs,
    read_trials,
    reports,
    trial_rows,
)

MAY_CHANGE = (
    "search.trials",
    "search.hours",
    "search.concurrent",
    "search.max_failures",
    "search.keep_checkpoints",
    "search.sampler",
    "search.first",
    "search.warm_start",
    "search.early_stopping",
    "resources.",
)


OUTSIDE = "its point is outside the study's domains of now"


class HistoryError(Exception):
    """A study that cannot be gone on with as asked, with the keys that stand against it."""


@dataclass(frozen=True, slots=True)
class History:
    """A study's rows.

    Attributes:
        trials: by number.
        reports: of all trials' epochs, by seq.
        latest: trial_id -> its last epoch's row.
    """

    trials: tuple[TrialRow, ...] = ()
    reports: tuple[Report, ...] = ()
    latest: Mapping[str, EpochRow] = field(default_factory=dict)
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """trial_id -> epoch -> val_error, of each trial's latest attempt that reached that epoch."""
    starts: tuple[Any, ...] = ()
    """What each start of the study was made with, as its study file says."""
    decisions: tuple[DecisionRow, ...] = ()
    """Of early stopping, as the log holds them."""
    changes: tuple[str, ...] = ()
    """What is asked for now, of the keys that may change, and was not at the last start: `key: old -> new`."""

    @property
    def ended(self) -> tuple[TrialRow, ...]:
        return tuple(row for row in self.trials if row.status is not TrialStatus.RUNNING)

    @property
    def unfinished(self) -> tuple[TrialRow, ...]:
        return tuple(row for row in self.trials if row.status is TrialStatus.RUNNING)

    @property
    def next_number(self) -> int:
        return max((row.number + 1 for row in self.trials), default=0)

    @property
    def next_seq(self) -> int:
        return self.reports[-1].seq + 1 if self.reports else 0


def read_history(location: Location, spec: StudySpec) -> History:
    """The rows of the study at `location`; none where no study is there yet.

    Raises:
        HistoryError: where the study there differs from `spec` in a key that its rows depend on.
        StoreError: where its files cannot be read.
    """
    file = location.join(STUDY_FILE)
    if not file.exists():
        return History()
    starts, changes = _compare(file, spec)
    return replace(read_rows(location, spec.columns), starts=starts, changes=changes)


def read_rows(location: Location, columns: Mapping[str, str]) -> History:
    """The rows alone.

    Args:
        columns: what is searched, dotted path -> column name.

    Raises:
        StoreError: where files cannot be read.
    """
    trials = sorted(trial_rows(read_trials(location), columns), key=lambda row: row.number)
    table = read_epochs(location)
    reported = reports(table)
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for row in reported:
        curves[row.trial_id][row.epoch] = row.val_error
    decisions = decision_rows(read_decisions(location))
    return History(tuple(trials), tuple(reported), latest_rows(table), curves, decisions=tuple(decisions))


def brought_to_date(history: History, spec: StudySpec, decisions: Sequence[DecisionRow]) -> History:
    """The history with those trials ended that its driver did not live to end, or that are no longer searched.

    Args:
        spec: the study of now.
        decisions: what the epochs imply by its rule.
    """
    stopped = {row.trial_id for row in decisions if row.verdict is Verdict.STOP}

    def ended(row: TrialRow) -> TrialRow:
        if row.status is not TrialStatus.RUNNING:
            return row
        epoch = history.latest.get(row.trial_id)
        ended_at = epoch.reported_at if epoch else row.started_at
        if row.trial_id in stopped:
            return replace(row, status=TrialStatus.STOPPED, ended_at=ended_at)
        if not spec.holds(row.params):
            return replace(row, status=TrialStatus.STOPPED, ended_at=ended_at, error=OUTSIDE)
        return row

    history = with_completed(history, spec.any_trial().training.epochs)
    return replace(history, trials=tuple(map(ended, history.trials)))


def with_completed(history: History, last: int) -> History:
    """The history with those trials completed whose epoch `last` is logged, but not their end."""
    ended_at = {row.trial_id: row.reported_at for row in history.latest.values() if row.metrics.epoch == last}

    def completed(row: TrialRow) -> TrialRow:
        if row.status is not TrialStatus.RUNNING or row.trial_id not in ended_at:
            return row
        return replace(row, status=TrialStatus.COMPLETED, ended_at=ended_at[row.trial_id])

    return replace(history, trials=tuple(map(completed, history.trials)))


def _compare(file: Location, spec: StudySpec) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """What the study was made with, start by start, and what has changed since the last."""
    document = read_yaml(file.read_text())
    if not isinstance(document.value, dict):
        raise HistoryError(f"{file.url} is no study")
    try:
        earlier = study_from_mapping(document.value)
    except SpecError as error:
        raise HistoryError(f"{file.url} is no longer a study that can be gone on with: {error}") from error
    old, new = flatten(earlier.as_mapping()), flatten(spec.as_mapping())
    changes = {
        key: f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    }
    # A domain may become narrower or wider; a key that was not searched has no column.
    domains = tuple(f"trial.{path}." for path in earlier.domains.keys() & spec.domains.keys())
    refused = [change for key, change in changes.items() if not key.startswith((*MAY_CHANGE, *domains))]
    if refused:
        raise HistoryError(
            f"--resume goes on with the study in {file.url}, so these keys must stay as they are there: "
            + "; ".join(refused)
        )
    return tuple(document.value.get(MADE_WITH) or ()), tuple(changes.values())
