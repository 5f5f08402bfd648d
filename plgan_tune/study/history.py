"""What an earlier start of the same study left: read from its log, and from nothing else."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from plgan_tune.config.changes import describe_changes
from plgan_tune.config.errors import show
from plgan_tune.config.load import in_edition
from plgan_tune.config.study import StudySpec
from plgan_tune.records import DecisionRow, EpochRow, Report, TrialRow, TrialStatus, Value, Verdict
from plgan_tune.store.location import Location
from plgan_tune.store.read import (
    NO_OPTIONS,
    TRIALS,
    decision_rows,
    latest_rows,
    read_tables,
    reports,
    trial_rows,
)
from plgan_tune.study.study_file import STUDY_FILE, read_study_file

MAY_CHANGE = (
    "search.trials",
    "search.hours",
    "search.epochs",
    "search.patience",
    "search.concurrent",
    "search.max_failures",
    "search.trial_timeout",
    "search.trial_hours",
    "search.keep_checkpoints",
    "search.sampler",
    "search.first",
    "search.rules",
    "search.warm_start",
    "search.early_stopping",
    "resources.",
)


RULE_SINCE = "rule_since"
"""Key of a start in the study file: the first seq that its rule of early stopping judges."""

OUTSIDE = "its point is outside the study's current domains"

TOO_LONG = "it has trained for search.trial_hours"
"""Why a trial was stopped that early stopping let go on."""


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
    starts: tuple[Mapping[str, Any], ...] = ()
    """What each start of the study was made with, as its study file says."""
    decisions: tuple[DecisionRow, ...] = ()
    """Of early stopping, as the log holds them."""
    changes: tuple[str, ...] = ()
    """What is asked for now, of the keys that may change, and was not at the last start: `key: old -> new`."""
    rule_since: int = 0
    """The first seq that early stopping's rule of now judges: what came before another rule had decided."""

    @property
    def ended(self) -> tuple[TrialRow, ...]:
        return tuple(row for row in self.trials if row.status is not TrialStatus.RUNNING)

    @property
    def unfinished(self) -> tuple[TrialRow, ...]:
        return tuple(row for row in self.trials if row.status is TrialStatus.RUNNING)

    @property
    def next_number(self) -> int:
        return max((row.number + 1 for row in self.trials), default=0)

    def to_come(self, trials: int) -> tuple[int, ...]:
        """The numbers of `trials` trials that have no row, whose driver may have died before it logged them."""
        begun = {row.number for row in self.trials}
        return tuple(number for number in range(trials) if number not in begun)

    def in_all(self, trials: int) -> int:
        """How many trials the study makes where `trials` are asked for: what has begun ends, though fewer be."""
        return len(self.trials) + len(self.to_come(trials))

    @property
    def next_seq(self) -> int:
        return self.reports[-1].seq + 1 if self.reports else 0


@dataclass(frozen=True, slots=True)
class Left:
    """What an earlier start has left, as this one goes on from it.

    Attributes:
        known: what the log holds.
        history: what its epochs imply.
        decisions: of early stopping, those that they imply and the log lacks.
    """

    known: History
    history: History
    decisions: tuple[DecisionRow, ...] = ()


def as_begun(spec: StudySpec, location: Location) -> StudySpec:
    """The study under the defaults that it began with at `location`, which may be of an earlier edition than today's.

    Raises:
        StoreError: where the study's file cannot be read.
    """
    return in_edition(spec, read_study_file(location).spec.edition) if location.join(STUDY_FILE).exists() else spec


def read_history(location: Location, spec: StudySpec) -> History:
    """The rows of the study at `location`; none where no study is there yet.

    Raises:
        HistoryError: where the study there differs from `spec` in a key that its rows depend on, or its file is gone.
        StoreError: where its files cannot be read.
    """
    file = location.join(STUDY_FILE)
    if not file.exists():
        if location.join(*TRIALS).exists():
            raise HistoryError(
                f"{location.url} holds the rows of a study, but no {STUDY_FILE}, which says what they are of: put a "
                "copy of it back, or take another --name"
            )
        return History()
    held = read_study_file(location)
    earlier, starts = held.spec, held.starts
    changes = _compare(file, earlier, spec)
    history = read_rows(location, spec.columns, held.study_id, spec.options)
    since = history.next_seq
    if earlier.search.early_stopping == spec.search.early_stopping:
        since = starts[-1].get(RULE_SINCE, 0) if starts else 0
        if not isinstance(since, int):
            raise HistoryError(
                f"{file.url}: {RULE_SINCE} of the last start must be a whole number, but got {show(since)}"
            )
    return replace(history, starts=starts, changes=changes, rule_since=since)


def read_rows(
    location: Location,
    columns: Mapping[str, str],
    study_id: str | None,
    options: Mapping[str, Sequence[Value]] = NO_OPTIONS,
) -> History:
    """The rows alone.

    Args:
        columns: what is searched, dotted path -> column name.
        study_id: which every file must carry; None where the study was begun before there were ids.
        options: dotted path -> all that a searched key of few values may have.

    Raises:
        StoreError: as `read_tables`.
    """
    tables = read_tables(location, study_id)
    decisions = decision_rows(tables.decisions)
    trials = sorted(trial_rows(tables.trials, columns, options), key=lambda row: row.number)
    reported = reports(tables.epochs)
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for row in reported:
        curves[row.trial_id][row.epoch] = row.val_error
    return History(tuple(trials), tuple(reported), latest_rows(tables.epochs), curves, decisions=tuple(decisions))


def brought_to_date(history: History, spec: StudySpec, decisions: Sequence[DecisionRow]) -> History:
    """The history with those trials ended that its driver did not live to end, or that are no longer searched.

    Args:
        spec: the study of now.
        decisions: those that the driver did not live to write (`unwritten_decisions`).
    """
    stopped = {row.trial_id for row in (*history.decisions, *decisions) if row.verdict is Verdict.STOP}

    def ended(row: TrialRow) -> TrialRow:
        if row.status is not TrialStatus.RUNNING:
            return row
        epoch = history.latest.get(row.trial_id)
        ended_at = epoch.reported_at if epoch else row.started_at
        if row.trial_id in stopped:
            return replace(row, status=TrialStatus.STOPPED, ended_at=ended_at)
        if has_trained_for_too_long(row):
            return replace(row, status=TrialStatus.STOPPED, ended_at=ended_at, error=TOO_LONG)
        if not spec.holds(row.params):
            return replace(row, status=TrialStatus.STOPPED, ended_at=ended_at, error=OUTSIDE)
        return row

    hours = spec.search.trial_hours

    def has_trained_for_too_long(row: TrialRow) -> bool:
        """As far as the log has its epochs; a checkpoint may hold more, whose report then ends it."""
        epoch = history.latest.get(row.trial_id)
        return epoch is not None and row.epochs == epoch.metrics.epoch and is_too_long(row.seconds, hours)

    history = as_epochs_say(history, spec.any_trial().training.epochs)
    return replace(history, trials=tuple(map(ended, history.trials)))


def is_too_long(seconds: float, hours: float | None) -> bool:
    """Whether a trial that has trained so many seconds is stopped by `search.trial_hours`."""
    return hours is not None and seconds >= hours * 3600


def unwritten_decisions(history: History, implied: Iterable[DecisionRow]) -> tuple[DecisionRow, ...]:
    """Of the decisions that the logged epochs imply, those that the driver did not live to write.

    Where the rule has changed, what was decided before stays, and the new one judges what has come since.
    """
    last = history.decisions[-1].seq if history.decisions else -1
    return tuple(row for row in implied if row.seq > last and row.seq >= history.rule_since)


def as_epochs_say(history: History, last: int) -> History:
    """The history with those trials completed whose epoch `last` is logged, but not their end.

    Trials that have ended with epochs that are not logged are under way again: the log writes trials first, and its
    driver died before it wrote their epochs. Their checkpoints are still there. No row is later than the epochs that
    are logged: the seq of the others are given anew.
    """

    def said(row: TrialRow) -> TrialRow:
        row = replace(row, seq=min(row.seq, history.next_seq))
        epoch = history.latest.get(row.trial_id)
        if row.epochs > (epoch.metrics.epoch if epoch else 0):
            return replace(row, status=TrialStatus.RUNNING, ended_at=None, error=None)
        if row.status is TrialStatus.RUNNING and epoch is not None and epoch.metrics.epoch == last:
            return replace(row, status=TrialStatus.COMPLETED, ended_at=epoch.reported_at)
        return row

    return replace(history, trials=tuple(map(said, history.trials)))


def _compare(file: Location, earlier: StudySpec, spec: StudySpec) -> tuple[str, ...]:
    """What has changed since the last start.

    Raises:
        HistoryError: where rows of before and after would not fit together.
    """
    changes = describe_changes(earlier.as_mapping(), spec.as_mapping())
    # A domain may become narrower or wider; a key that was not searched has no column.
    searched = earlier.domains.keys() & spec.domains.keys()
    domains = tuple(f"trial.{path}." for path in searched)
    refused = [change for key, change in changes.items() if not key.startswith((*MAY_CHANGE, *domains))]
    if refused:
        another = f"; is --space missing? {file.url} is one that fits" if "study" in changes else ""
        raise HistoryError(
            f"--resume continues the study in {file.url}, so these keys must not change: "
            + "; ".join(refused)
            + another
        )
    # A column keeps its type.
    kinds = [
        f"trial.{path} holds {earlier.types[path].__name__}, not {spec.types[path].__name__}"
        for path in sorted(searched)
        if earlier.types[path] != spec.types[path]
    ]
    if kinds:
        raise HistoryError(
            f"--resume continues the study in {file.url}, so the values of a domain must keep their type: "
            + "; ".join(kinds)
        )
    return tuple(changes.values())
