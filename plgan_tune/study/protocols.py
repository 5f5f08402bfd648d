"""The interfaces of a study: what to try, which trials continue, and who listens to the log."""

from collections.abc import Mapping
from typing import Protocol

from plgan_tune.records import DecisionRow, EpochRow, Report, TrialRow, TrialStatus, Value
from plgan_tune.study.assignment import Assignment, NoneYet


class Suggestions(Protocol):
    """What to train, one trial after another.

    `OptunaSampler` suggests the trials of a search, `FixedTrials` those of an evaluation.
    """

    def ask(self) -> Assignment | NoneYet | None:
        """Return the next trial to train, or None after the last.

        `NONE_YET` while what comes next depends on trials that are running.
        """

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:
        """Take the value of an epoch. An attempt that starts from a checkpoint may repeat earlier epochs.

        Args:
            trial_id: The trial.
            epoch: Epochs that the trial has completed.
            value: The study's metric after that epoch, in its own unit: by default the validation error, a fraction.
            *others: That of its second metric, if it searches by two.
        """

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        """Take the end of a trial.

        Args:
            trial_id: The trial.
            status: How it ended: completed, stopped, diverged or failed.
        """


class Rule(Protocol):
    """Early stopping: which trials continue.

    A rule must be a pure function of the reports in their order, because a resume replays the reports of the log.
    `Halving` is asynchronous successive halving; `NeverStop` lets every trial end.
    """

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow | None:
        """Take an epoch that is not the trial's last, and decide whether the trial continues.

        Args:
            report: The epoch, with the value of the study's metric, of which the higher may be the better one, and
                that of its second metric if it has two.
            point: Dotted path of each searched key -> its value in this trial.

        Returns:
            The decision, or None if the rule makes none at this epoch.
        """


class LogListener(Protocol):
    """Takes a study's rows as they arise.

    Its methods are called on the driver's only thread, so they must not wait for files or a network.
    """

    def epoch(self, row: EpochRow, /) -> None:
        """Take the row of an epoch that has ended."""

    def decision(self, row: DecisionRow, /) -> None:
        """Take a decision of early stopping."""

    def trial(self, row: TrialRow, /) -> None:
        """Take a trial's new row: it started, reported an epoch, or ended."""


class LogHealth(Protocol):
    """A log whose rows wait in memory while its store fails, or forever once another search writes there."""

    @property
    def failure(self) -> str | None:
        """Why the last write failed; None if it succeeded."""

    @property
    def followed(self) -> bool:
        """Whether another search writes this study now."""

    @property
    def waiting(self) -> int:
        """How many rows wait in memory."""


class Display(Protocol):
    """Shows a study to its user."""

    def started(self, row: TrialRow, /) -> None:
        """Show that an attempt of a trial has started."""

    def progressed(self, row: TrialRow, /) -> None:
        """Show that a trial has completed an epoch."""

    def ended(self, row: TrialRow, /) -> None:
        """Show that a trial has ended."""

    def stopping(self, waits_for: str, /) -> None:
        """Show that the user stopped the study, and what it waits for."""

    def silent(self, trial_id: str, /) -> None:
        """Show that a trial reports nothing."""

    def noted(self, note: str, /) -> None:
        """Show a note on a trial's files."""
