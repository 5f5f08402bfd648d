"""What a backend is given to train, and what becomes of what its trials report. Knows no Ray, Optuna or clock."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.protocols import Display, LogListener, Rule, Suggestions
from plgan_tune.study.state import StudyState

logger = logging.getLogger(__name__)

NONE_BEGINS: Final = 3
"""Trials that fail for good before any has begun: the machines are at fault, not the trials."""


class RecordingError(Exception):
    """The driver's own bookkeeping failed: results may lack rows. The cause is a defect; please report it."""


class Coordinator:
    """Hands trials out and takes their reports: rows for the log, news for sampler, rule and display.

    A backend asks for assignments, trains each, and reports what happens; it decides nothing.

    Args:
        state: where each trial stands; kept up to date here.
        log: takes the rows.
        display: takes the news.
        now: the UTC time.
        suggestions: what to train, and who learns from it.
        rule: of early stopping.
        max_failures: how often a trial may fail by its own fault.
        on_end: called when a trial has ended.

    Attributes:
        first_error: what the first event that could not be recorded raised, None where all is well.
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
        self._any_started = False
        self._failed_before_any_started: list[Assignment] = []

    def ask(self) -> Assignment | None:
        """The next trial to train; None after the last."""
        return self._suggestions.ask()

    def start(self, assignment: Assignment) -> None:
        """An attempt has loaded its images and made its networks."""
        self._any_started = True
        with self._surviving():
            self._start(assignment)

    def report(self, assignment: Assignment, report: EpochReport) -> Verdict:
        """Takes a trial's report; answers whether the trial goes on. One that stops has ended, and is recorded so."""
        self._take_notes(assignment, report)
        if report.metrics is None:
            self._end(assignment, report.status, report.error)
            return Verdict.STOP
        epoch = self._record(assignment, report, report.metrics)
        self._suggestions.report(assignment.trial_id, report.metrics.epoch, report.metrics.val_error)
        if report.status is not TrialStatus.RUNNING:
            self._end(assignment, report.status)
            return Verdict.STOP
        decision = self._rule.report(epoch.report, assignment.point) if epoch else None
        if decision is None:
            return Verdict.CONTINUE
        self._record_decision(decision)
        if decision.verdict is Verdict.STOP:
            self._end(assignment, TrialStatus.STOPPED)
        return decision.verdict

    def retry(self, assignment: Assignment, error: str, *, counts: bool = True) -> Assignment:
        """An attempt failed; the assignment of the next.

        Args:
            assignment: of the attempt that failed.
            error: why, on one line.
            counts: whether the failure is one of the trial's own, and not of its machine.
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
        """An attempt was ended because it hung, which counts as a lost machine: it is no failure of the trial's own.

        But where another hung before, and no further epoch was reported since, the trial is at fault.
        """
        trial_id, before = assignment.trial_id, assignment.hung_at
        reached = self.state.trial(trial_id).epochs if trial_id in self.state else 0
        return self.retry(replace(assignment, hung_at=max(reached, before)), why, counts=reached <= before)

    def may_try(self, assignment: Assignment) -> bool:
        """Whether the trial has not failed more often than it may."""
        return assignment.failures <= self._max_failures

    def fail(self, assignment: Assignment, error: str) -> None:
        """A trial has failed for good."""
        if not self._any_started:
            self._failed_before_any_started.append(assignment)
        self._end(assignment, TrialStatus.FAILED, error)

    def why_none_starts(self) -> str | None:
        """A sentence, where so many trials have failed for good before any could start that none will."""
        failed = self._failed_before_any_started
        if self._any_started or len(failed) < NONE_BEGINS:
            return None
        last = failed[-1]
        return (
            f"no trial can begin: {len(failed)} failed {last.failures} times each before any could, "
            f"the last with {last.last_error}"
        )

    def silent(self, trial_id: str, sentence: str) -> None:
        """A trial reports nothing, as the sentence says."""
        with self._surviving():
            self.state.silent[trial_id] = sentence
            self._display.silent(trial_id)

    def stopping(self, waits_for: str) -> None:
        """The study is asked to stop. Called in a signal's handler, at any moment."""
        self._display.stopping(waits_for)

    def check_whole(self, place: str) -> None:
        """Raises RecordingError where the results in `place` lack something."""
        if self.first_error is not None:
            raise RecordingError(f"the results in {place} are not whole: an event could not be recorded") from (
                self.first_error
            )

    def _take_notes(self, assignment: Assignment, report: EpochReport) -> None:
        with self._surviving():
            for note in report.notes:
                self.state.notes.append(f"{assignment.trial_id}: {note}")
                self._display.noted(self.state.notes[-1])

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
            self._log.trial(row)  # first: the log's trials are never behind its epochs, nor these behind decisions
            self._log.epoch(epoch)
            self._display.progressed(row)
        return epoch

    def _record_decision(self, decision: DecisionRow) -> None:
        with self._surviving():
            self._log.decision(decision)

    def _start(self, assignment: Assignment) -> None:
        row = self.state.start(
            assignment.trial_id, assignment.number, assignment.point, assignment.trial.seed, self._now()
        )
        self._log.trial(row)
        self._display.started(row)

    def _start_if_unknown(self, assignment: Assignment) -> None:
        """A backend knows no start of a trial whose process was never there."""
        if assignment.trial_id not in self.state:
            self._start(assignment)

    def _end(self, assignment: Assignment, status: TrialStatus, error: str | None = None) -> None:
        with self._surviving():
            self._start_if_unknown(assignment)
            row: TrialRow = self.state.end(assignment.trial_id, status, self._now(), error)
            self._log.trial(row)
            self._display.ended(row)
            self._on_end()
        self._suggestions.tell(assignment.trial_id, status)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """An exception here would end the search: it is kept and logged once instead."""
        try:
            yield
        except Exception as error:
            if self.first_error is None:
                self.first_error = error
                logger.exception("an event could not be recorded; the search continues")
