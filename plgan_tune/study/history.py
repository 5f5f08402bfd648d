"""What earlier starts of a study left, as read from its log and its study file."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any

from plgan_tune.config.changes import describe_changes
from plgan_tune.config.errors import show
from plgan_tune.config.load import in_edition
from plgan_tune.config.own import FILE
from plgan_tune.config.study import CONFIRM, StudySpec
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
from plgan_tune.study.study_file import IMAGES, STUDY_FILE, read_study_file

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
    "search.confirm",
    "resources.",
    "trial.data.path",
)
"""Keys that a resume may change. Images may lie elsewhere, but must be the same (`check_images`)."""


RULE_SINCE = "rule_since"
"""Key of a start in the study file: the first seq that the rule of early stopping judges."""

OUTSIDE = "its point is outside the study's current domains"

TOO_LONG = "it has trained for search.trial_hours"
"""Why a trial was stopped that early stopping let go on."""


class HistoryError(Exception):
    """Resume refused; lists the keys that changed."""


@dataclass(frozen=True, slots=True)
class History:
    """A study's rows.

    Attributes:
        trials: rows of trials, by number.
        reports: reports of all trials' epochs, by seq.
        latest: trial_id -> its last epoch's row.
    """

    trials: tuple[TrialRow, ...] = ()
    reports: tuple[Report, ...] = ()
    latest: Mapping[str, EpochRow] = field(default_factory=dict)
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    """trial_id -> epoch -> the metric's value, of each trial's latest attempt that reached that epoch; NaN for none."""
    starts: tuple[Mapping[str, Any], ...] = ()
    """Provenance of each start of the study, from its study file."""
    decisions: tuple[DecisionRow, ...] = ()
    """Decisions of early stopping in the log."""
    changes: tuple[str, ...] = ()
    """Changes since the last start, of keys that may change: `key: old -> new`."""
    rule_since: int = 0
    """The first seq that the current rule of early stopping judges; another rule decided on earlier ones."""

    @property
    def ended(self) -> tuple[TrialRow, ...]:
        """Rows of trials that have ended."""
        return tuple(row for row in self.trials if row.status is not TrialStatus.RUNNING)

    @property
    def unfinished(self) -> tuple[TrialRow, ...]:
        """Rows of trials that have not ended."""
        return tuple(row for row in self.trials if row.status is TrialStatus.RUNNING)

    @property
    def next_number(self) -> int:
        """The number after the highest of all trials."""
        return max((row.number + 1 for row in self.trials), default=0)

    def to_come(self, trials: int) -> tuple[int, ...]:
        """Return the numbers of the search's own trials to come, if it makes `trials` in all: the lowest without a row.

        A driver may have died before it logged some. Replicates have numbers, too, but do not count.
        """
        begun = {row.number for row in self.trials}
        own = sum(row.replicate_of is None for row in self.trials)
        free = (number for number in count() if number not in begun)
        return tuple(islice(free, max(0, trials - own)))

    def in_all(self, trials: int) -> int:
        """Return the study's number of trials if `trials` are requested: more if more have started."""
        return len(self.trials) + len(self.to_come(trials))

    @property
    def next_seq(self) -> int:
        """The seq of the next epoch."""
        return self.reports[-1].seq + 1 if self.reports else 0


@dataclass(frozen=True, slots=True)
class Left:
    """What earlier starts left for this start to continue.

    Attributes:
        known: what the log holds.
        history: what its epochs imply.
        decisions: decisions of early stopping that the epochs imply and the log lacks.
        disagreement: the first logged decision that the current rule does not repeat, though no key of it has changed.
    """

    known: History
    history: History
    decisions: tuple[DecisionRow, ...] = ()
    disagreement: DecisionRow | None = None


def as_begun(spec: StudySpec, location: Location) -> StudySpec:
    """Return `spec` with the defaults with which the study at `location` began, if there is one.

    Those are the defaults of its edition. If it confirms nothing, as studies of earlier versions, it goes on so.

    Raises:
        StoreError: if the study's file cannot be read.
    """
    if not location.join(STUDY_FILE).exists():
        return spec
    begun = read_study_file(location).spec
    spec = in_edition(spec, begun.edition)
    if CONFIRM in spec.left_out and begun.search.confirm is None:
        return replace(spec, search=spec.search.model_copy(update={"confirm": None}))
    return spec


def read_history(location: Location, spec: StudySpec) -> History:
    """Read the history of the study at `location`; it is empty if there is no study yet.

    Raises:
        HistoryError: if the study differs from `spec` in a key that its rows depend on, or its file is missing.
        StoreError: if its files cannot be read.
    """
    file = location.join(STUDY_FILE)
    if not file.exists():
        if location.join(*TRIALS).exists():
            raise HistoryError(
                f"{location.url} holds the rows of a study, but no {STUDY_FILE} to describe them: put a copy of it "
                "back, or choose another --name"
            )
        return History()
    held = read_study_file(location)
    earlier, starts = held.spec, held.starts
    changes = _compare(file, earlier, spec)
    history = read_rows(location, spec.columns, held.study_id, spec.options, *spec.metric_names)
    since = history.next_seq
    if earlier.search.early_stopping == spec.search.early_stopping:
        since = starts[-1].get(RULE_SINCE, 0) if starts else 0
        if not isinstance(since, int):
            raise HistoryError(
                f"{file.url}: {RULE_SINCE} of the last start must be a whole number, but got {show(since)}"
            )
    return replace(history, starts=starts, changes=changes, rule_since=since)


def check_images(history: History, path: str | None, fingerprint: str, split_hash: str) -> None:
    """Check that the images are those that the study was begun with, wherever they lie now.

    Studies of earlier versions tell only how their images were split, which depends on number and labels.

    Args:
        history: what earlier starts left.
        path: where the images lie, for the message.
        fingerprint: of the images.
        split_hash: of their split, if all trials share it.

    Raises:
        HistoryError: if they are others.
    """
    where = "" if path is None else f" of {path}"
    known = next((start[IMAGES] for start in reversed(history.starts) if IMAGES in start), None)
    if known is not None:
        if known != fingerprint:
            raise HistoryError(
                f"--resume continues with the images that the study was begun with, of fingerprint {known}, but the "
                f"images and labels{where} have {fingerprint}; trial.data.path may name another place of the same "
                "images"
            )
        return
    splits = {row.split_hash for row in history.trials if row.split_hash is not None}
    if splits and split_hash not in splits:
        raise HistoryError(
            f"--resume continues with the split of the study's trials, {', '.join(sorted(splits))}, but the images and "
            f"labels{where} give {split_hash}"
        )


def read_rows(
    location: Location,
    columns: Mapping[str, str],
    study_id: str | None,
    options: Mapping[str, Sequence[Value]] = NO_OPTIONS,
    metric: str = "val_error",
    second: str | None = None,
) -> History:
    """Read only the rows of a study, not its file.

    Args:
        location: the study's folder.
        columns: dotted path of each searched key -> column name.
        study_id: id that every file must carry; None for a study from before ids existed.
        options: dotted path -> all values of a searched key that has few.
        metric: what the study searches by.
        second: its second metric, if it has two.

    Raises:
        StoreError: as in `read_tables`.
    """
    tables = read_tables(location, study_id, metric, second)
    decisions = decision_rows(tables.decisions)
    trials = sorted(trial_rows(tables.trials, columns, options, metric, second), key=lambda row: row.number)
    reported = reports(tables.epochs, metric, second)
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for row in reported:
        curves[row.trial_id][row.epoch] = row.value
    return History(tuple(trials), tuple(reported), latest_rows(tables.epochs), curves, decisions=tuple(decisions))


def brought_to_date(history: History, spec: StudySpec, decisions: Sequence[DecisionRow]) -> History:
    """Return the history with the missing ends of trials: decided but not written, or outside the current domains.

    Args:
        history: what the log holds.
        spec: the study as it is now.
        decisions: decisions that the driver died before writing (`unwritten_decisions`).
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
    """Return the decisions that the logged epochs imply and that the driver died before writing.

    If the rule has changed, earlier decisions are kept, and the new rule judges only epochs from the change on.
    """
    last = max((row.seq for row in history.decisions if row.verdict is not Verdict.DROP), default=-1)
    return tuple(row for row in implied if row.seq > last and row.seq >= history.rule_since)


def as_epochs_say(history: History, last: int) -> History:
    """Return the history with its trials' rows corrected by the logged epochs.

    A trial whose epoch `last` is logged, but not its end, is completed. An ended trial with epochs that are not logged
    is running again: the log writes trials first, and the driver died before it wrote the epochs; its checkpoint still
    exists. No row's seq exceeds that of the next epoch, because later ones are assigned again.
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
    """Return the changes since the last start.

    Raises:
        HistoryError: if earlier and later rows would not fit together.
    """
    changes = describe_changes(earlier.as_mapping(), spec.as_mapping())
    changes.pop(f"trial.{FILE}", None)  # the user's own file may lie elsewhere, as long as it holds the same
    # A domain may become narrower or wider. A key that was not searched has no column.
    searched = earlier.domains.keys() & spec.domains.keys()
    domains = tuple(f"trial.{path}." for path in searched)
    refused = [change for key, change in changes.items() if not key.startswith((*MAY_CHANGE, *domains))]
    before, now = earlier.search.confirm, spec.search.confirm
    if before is not None and now is not None and before.vary != now.vary:  # replicates would be no pairs
        refused.append(changes["search.confirm.vary"])
    if refused:
        another = f"; without --space it goes on with {file.url}" if "study" in changes else ""
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
