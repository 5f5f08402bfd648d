"""The doors of a study: what to try, which trials go on, and who listens to the log."""

from collections.abc import Mapping
from typing import Protocol

from plgan_tune.records import DecisionRow, EpochRow, Report, TrialRow, TrialStatus, Value
from plgan_tune.study.assignment import Assignment


class Suggestions(Protocol):
    """What to train, one trial after another: `OptunaSampler`, `FixedTrials`."""

    def ask(self) -> Assignment | None:
        """The next trial; None after the last."""

    def report(self, trial_id: str, epoch: int, val_error: float) -> None:
        """An epoch of the trial has ended. An attempt from a checkpoint may repeat earlier ones."""

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """The trial has ended."""


class Rule(Protocol):
    """Early stopping: `Halving`, `NeverStop`.

    A pure function of the reports that it has been given, in their order: a resume replays those of the log.
    """

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        """An epoch that is not the trial's last; the decision, where the rule makes one there.

        Args:
            report: the epoch.
            point: the trial's searched keys.
        """


class LogListener(Protocol):
    """Takes a study's rows as they arise. Must not wait for files: it is called on the driver's only thread."""

    def epoch(self, row: EpochRow, /) -> None: ...
    def decision(self, row: DecisionRow, /) -> None: ...
    def trial(self, row: TrialRow, /) -> None: ...


class LogHealth(Protocol):
    """A log whose rows wait in memory while its store fails, or for good once another search writes there."""

    @property
    def failure(self) -> str | None: ...
    @property
    def followed(self) -> bool: ...
    @property
    def waiting(self) -> int: ...


class Display(Protocol):
    """Shows a study to its user."""

    def started(self, row: TrialRow, /) -> None: ...
    def progressed(self, row: TrialRow, /) -> None: ...
    def ended(self, row: TrialRow, /) -> None: ...
    def stopping(self, waits_for: str, /) -> None: ...
    def silent(self, trial_id: str, /) -> None: ...
    def noted(self, note: str, /) -> None: ...
