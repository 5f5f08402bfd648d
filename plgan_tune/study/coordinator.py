"""Assigns trials to a back-end and records what they report. Uses neither Ray, Optuna nor a clock."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from math import isfinite
from typing import Final

from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.study.assignment import NO_FURTHER_POINT, Assignment, EpochReport, NoneYet
from plgan_tune.study.history import TOO_LONG
from plgan_tune.study.protocols import Display, LogListener, Rule, Suggestions
from plgan_tune.study.state import StudyState

logger = logging.getLogger(__name__)

NONE_BEGINS: Final = 3
"""Abort after this many permanent failures if no trial ever started: the machines are at fault, not the trials."""


class RecordingError(Exception):
    """The driver's own bookkeeping failed: results may lack rows. The cause is a defect; please report it."""


class Coordinator:
    """Hands out trials and takes their reports.

    Each report becomes a row of the log and goes to the sampler, the rule of early stopping and the display. A back-end
    asks for assignments, trains them and reports what happens; it decides nothing.

    Args:
        state: Where each trial stands. The coordinator keeps it up to date.
        log: Takes the rows.
        display: Shows the events.
        now: Returns the UTC time.
        suggestions: Says what to train, and learns from the reports.
        rule: The rule of early stopping.
        max_failures: How often a trial may fail by its own fault.
        on_end: Called when a trial has ended.

    Attributes:
        first_error: The first exception that was raised while an event was recorded; None if there is none.
    """

    def __init__(
        self,
        state: StudyState,
        log: LogListener,
        display: Display,
        now: Callable[[], datetime],
        suggestions: Suggestions,
        rule: Rule,
        max_failures: int,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.state = state
        self.first_error: Exception | None = None
        self._log, self._display, self._now = log, display, now
        self._suggestions, self._rule = suggestions, rule
        self._max_failures = max_failures
        self._on_end = on_end
        self._handed_out: set[str] = set()
        self._any_started = False
        self._failed_before_any_started: list[Assignment] = []

    def ask(self) -> Assignment | NoneYet | None:
        """Return the next trial to train, or None after the last, or if a limit ends the search.

        `NONE_YET` means to ask again after the next report: only while a trial is running.
        """
        if self.is_over():
            return None
        assignment = self._suggestions.ask()
        if assignment is None:
            self._note_the_last()
        if not isinstance(assignment, Assignment):
            return assignment
        self._handed_out.add(assignment.trial_id)
        self.note(*assignment.notes)
        return assignment

    def is_over(self) -> bool:
        """Return whether a limit of the search is reached: unfinished trials save, and none starts any more."""
        return self.state.over() is not None

    def start(self, assignment: Assignment) -> None:
        """Record that an attempt has loaded its images and built its networks.

        Args:
            assignment: The attempt.
        """
        self._any_started = True
        with self._surviving():
            self._start(assignment)

    def report(self, assignment: Assignment, report: EpochReport) -> Verdict:
        """Record a trial's report and decide whether the trial continues.

        Args:
            assignment: The attempt that reports.
            report: Its epoch.

        Returns:
            `Verdict.STOP` if the trial has ended: it completed, diverged or was stopped early. Its end is recorded.
        """
        self._take_notes(assignment, report)
        if report.metrics is None:
            self._end(assignment, report.status, report.error)
            return Verdict.STOP
        if (unusable := self._unusable(report.metrics)) is not None:
            self._end(assignment, *unusable)
            return Verdict.STOP
        epoch = self._record(assignment, report, report.metrics)
        names = [metric.name for metric in self.state.objectives]
        values = [value for name in names if (value := report.metrics.value(name)) is not None]
        if values:
            self._suggestions.report(assignment.trial_id, report.metrics.epoch, *values)
        if report.status is not TrialStatus.RUNNING:
            self._end(assignment, report.status)
            return Verdict.STOP
        judged = epoch if assignment.replicate_of is None else None  # replicates train to their last epoch
        decision = self._rule.report(judged.report(*names), assignment.point) if judged else None
        if decision is not None:
            self._record_decision(decision)
            if decision.verdict is Verdict.STOP:
                self._end(assignment, TrialStatus.STOPPED)
                return Verdict.STOP
        if epoch and self.state.has_trained_for_too_long(assignment.trial_id):
            self._end(assignment, TrialStatus.STOPPED, TOO_LONG)
            return Verdict.STOP
        return Verdict.CONTINUE

    def retry(self, assignment: Assignment, error: str, *, counts: bool = True) -> Assignment:
        """Record that an attempt failed and return the next attempt.

        Args:
            assignment: The attempt that failed.
            error: Why, on one line.
            counts: Whether the trial itself is at fault, not its machine.

        Returns:
            The next attempt, which starts from the trial's last checkpoint.
        """
        trial_id = assignment.trial_id
        with self._surviving():
            self._start_if_unknown(assignment)
            if self.state.trial(trial_id).attempt < assignment.attempt:  # nor is this attempt's start known
                self._start(assignment)
            self._log.trial(self.state.lost(trial_id, error))
        return replace(
            assignment,
            attempt=assignment.attempt + 1,
            failures=assignment.failures + counts,
            last_error=error,
            logged=self.state.trial(trial_id).epochs if trial_id in self.state else assignment.logged,
        )

    def retry_hung(self, assignment: Assignment, why: str) -> Assignment:
        """Record that an attempt hung and was ended, and return the next attempt.

        A hang counts like a lost machine, not as a failure of the trial. A second hang without a further epoch in
        between does count as one.

        Args:
            assignment: The attempt that hung.
            why: A sentence on the hang.

        Returns:
            The next attempt.
        """
        trial_id, before = assignment.trial_id, assignment.hung_at
        reached = self.state.trial(trial_id).epochs if trial_id in self.state else 0
        return self.retry(replace(assignment, hung_at=max(reached, before)), why, counts=reached <= before)

    def retry_for_memory(self, assignment: Assignment, error: str, at_a_time: int | None) -> Assignment:
        """Record that an attempt was ended because its node had too little memory, and return the next attempt.

        It counts as a failure of the trial only if no other trial was there to share the memory with.

        Args:
            assignment: The attempt that was ended.
            error: Why, on one line.
            at_a_time: How many trials train at a time from now on; None if it trained alone.
        """
        if at_a_time is not None:
            trials = f"{at_a_time} trial{'s' * (at_a_time != 1)}"
            self.note(f"{assignment.trial_id}: ended for lack of memory; from now on, {trials} at a time")
        return self.retry(assignment, error, counts=at_a_time is None)

    def may_try(self, assignment: Assignment) -> bool:
        """Return whether the trial may start again: it has not failed more often than `max_failures`.

        Args:
            assignment: The next attempt.
        """
        return assignment.failures <= self._max_failures

    def fail(self, assignment: Assignment, error: str) -> None:
        """Record that a trial has failed permanently.

        Args:
            assignment: Its last attempt.
            error: Why, on one line.
        """
        if not self._any_started:
            self._failed_before_any_started.append(assignment)
        self._end(assignment, TrialStatus.FAILED, error)

    def why_none_starts(self) -> str | None:
        """Return why no trial can start, if three have failed permanently before any started; None otherwise."""
        failed = self._failed_before_any_started
        if self._any_started or len(failed) < NONE_BEGINS:
            return None
        attempts = sum(assignment.failures for assignment in failed)
        return (
            f"no trial can start: {len(failed)} trials failed in {attempts} attempts before any started, "
            f"the last with {failed[-1].last_error}"
        )

    def silent(self, trial_id: str, sentence: str) -> None:
        """Show that a trial reports nothing.

        Args:
            trial_id: The trial.
            sentence: Since when, and what is done about it.
        """
        with self._surviving():
            self.state.silent[trial_id] = sentence
            self._display.silent(trial_id)

    def stopping(self, waits_for: str) -> None:
        """Show that the user stopped the study. May be called in a signal handler.

        Args:
            waits_for: What the study still waits for.
        """
        self._display.stopping(waits_for)

    def note(self, *notes: str) -> None:
        """Show the notes, and keep them for the summary."""
        with self._surviving():
            for note in notes:
                self.state.notes.append(note)
                self._display.noted(note)

    def check_whole(self, place: str) -> None:
        """Check that every event was recorded.

        Args:
            place: Where the results are, for the message.

        Raises:
            RecordingError: If the results lack a row.
        """
        if self.first_error is not None:
            raise RecordingError(f"the results in {place} are incomplete: an event could not be recorded") from (
                self.first_error
            )

    def _unusable(self, metrics: EpochMetrics) -> tuple[TrialStatus, str] | None:
        """Return how a trial ends, and why, whose epoch lacks a value that it is judged by; None if it has them.

        Its row is not logged: trials that no metric can rank would stand beside others, and a table holds no NaN.
        """
        for name in (metric.name for metric in self.state.objectives):
            value = metrics.value(name)
            if value is None and self.state.competing:
                why = f"epoch {metrics.epoch} has no {name}, search.metric: the trial's data or method cannot have one"
                return TrialStatus.FAILED, why
            if value is not None and not isfinite(value):
                return TrialStatus.DIVERGED, f"{name} is not finite in epoch {metrics.epoch}"
        return None

    def _note_the_last(self) -> None:
        """The study has as many trials as were handed out, though more were asked for."""
        asked_for = self.state.trials
        with self._surviving():
            self.state.no_more_come(self._handed_out)
        if self.state.trials < asked_for:
            self.note(NO_FURTHER_POINT.format(self.state.trials, asked_for))

    def _take_notes(self, assignment: Assignment, report: EpochReport) -> None:
        self.note(*(f"{assignment.trial_id}: {note}" for note in report.notes))

    def _record(self, assignment: Assignment, report: EpochReport, metrics: EpochMetrics) -> EpochRow | None:
        epoch: EpochRow | None = None
        with self._surviving():
            self._start_if_unknown(assignment)
            epoch = self.state.epoch(
                assignment.trial_id,
                report.attempt,
                metrics,
                reported_at=report.reported_at,
                node=report.node,
                split_hash=report.split_hash,
            )
            row = self.state.trial(assignment.trial_id)
            self._log.trial(row)  # first: in the log, trials are never behind epochs, nor epochs behind decisions
            self._log.epoch(epoch)
            self._display.progressed(row)
        return epoch

    def _record_decision(self, decision: DecisionRow) -> None:
        with self._surviving():
            self._log.decision(decision)

    def _start(self, assignment: Assignment) -> None:
        row = self.state.start(
            assignment.trial_id,
            assignment.number,
            assignment.point,
            assignment.trial.seed,
            self._now(),
            replicate_of=assignment.replicate_of,
            replicate=assignment.replicate,
        )
        self._log.trial(row)
        self._display.started(row)

    def _start_if_unknown(self, assignment: Assignment) -> None:
        """Record the start of a trial whose process never reported one."""
        if assignment.trial_id not in self.state:
            self._start(assignment)

    def _end(self, assignment: Assignment, status: TrialStatus, error: str | None = None) -> None:
        with self._surviving():
            self._start_if_unknown(assignment)
            row: TrialRow = self.state.end(assignment.trial_id, status, self._now(), error)
            self._log.trial(row)
            for decision in self.state.new_drops():
                self._log.decision(decision)
            self._display.ended(row)
            self._on_end()
        self._suggestions.tell(assignment.trial_id, status)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """Keep an exception and log the first one: it must not end the search."""
        try:
            yield
        except Exception as error:
            if self.first_error is None:
                self.first_error = error
                logger.exception("an event could not be recorded; the search continues")
