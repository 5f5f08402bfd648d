"""What happens to trials becomes rows for the log and news for the display. Knows no Ray: see `recorder`."""

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from typing import Any, Protocol

from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus
from plgan_tune.study.halving import Judgement, decision
from plgan_tune.study.state import StudyState

logger = logging.getLogger(__name__)


class RecordingError(Exception):
    """The driver's own bookkeeping failed: results may lack rows. The cause is a defect; please report it."""


Config = MutableMapping[str, Any]
"""A trial as it is handed out: `trial_id`, `number`, `attempt`, `failures`, `logged` (epochs that the log has), `point`
(dotted path -> value) and `trial` (its specification as a mapping). Where it may fail, `max_failures`: how often. Of an
attempt that was ended because it hung, `hung`: why, and of those before it `hung_at`: the last epoch before."""


class StudyLog(Protocol):
    """Where rows go. Must not wait for files: it is called on Tune's only thread."""

    def epoch(self, row: EpochRow, /) -> None: ...
    def decision(self, row: DecisionRow, /) -> None: ...
    def trial(self, row: TrialRow, /) -> None: ...


class Logs:
    """Several logs as one: the study's own, and what is derived from the same rows."""

    def __init__(self, *logs: StudyLog) -> None:
        self._logs = logs

    def epoch(self, row: EpochRow, /) -> None:
        for log in self._logs:
            log.epoch(row)

    def decision(self, row: DecisionRow, /) -> None:
        for log in self._logs:
            log.decision(row)

    def trial(self, row: TrialRow, /) -> None:
        for log in self._logs:
            log.trial(row)


class Display(Protocol):
    """Who shows the study to the user."""

    def started(self, row: TrialRow, /) -> None: ...
    def progressed(self, row: TrialRow, /) -> None: ...
    def ended(self, row: TrialRow, /) -> None: ...
    def stopping(self, waits_for: str, /) -> None: ...
    def silent(self, trial_id: str, /) -> None: ...
    def noted(self, note: str, /) -> None: ...


class Bookkeeper:
    """Keeps a study's state; hands rows to the log and news to the display.

    Which trial it is comes from the trial's config. What a trial reports is a `Result` of `TrialRank`.

    Args:
        on_end: called when a trial has ended.
        judgement_of: what early stopping decided on the epoch that a trial has just reported, if anything.

    Attributes:
        state: the bookkeeping.
        first_error: what the first event that could not be recorded raised, None where all is well.
    """

    def __init__(
        self,
        state: StudyState,
        log: StudyLog,
        display: Display,
        now: Callable[[], datetime],
        on_end: Callable[[], None] = lambda: None,
        judgement_of: Callable[[str], Judgement | None] = lambda trial_id: None,  # noqa: ARG005
    ) -> None:
        self.state = state
        self._on_end = on_end
        self._judgement_of = judgement_of
        self.first_error: Exception | None = None
        self._log = log
        self._display = display
        self._now = now

    def best(self) -> TrialRow | None:
        """The completed trial of lowest error at its last epoch; of equals, the first suggested."""
        return self.state.best()

    def check_whole(self, place: str) -> None:
        """Raises RecordingError where the results in `place` lack something."""
        if self.first_error is not None:
            raise RecordingError(f"the results in {place} are not whole: an event could not be recorded") from (
                self.first_error
            )

    def stopping(self, waits_for: str) -> None:
        """The study is asked to stop. Called in a signal's handler, at any moment."""
        self._display.stopping(waits_for)

    def silent(self, trial_id: str, told: str) -> None:
        """A trial reports nothing, as `told` says."""
        with self._surviving():
            self.state.silent[trial_id] = told
            self._display.silent(trial_id)

    def started(self, config: Config) -> None:
        """An attempt of a trial starts."""
        with self._surviving():
            self._start(config)

    def reported(self, config: Config, result: Mapping[str, Any]) -> None:
        """A trial has reported."""
        with self._surviving():
            for note in result.get("notes", ()):
                self.state.notes.append(f"{config['trial_id']}: {note}")
                self._display.noted(self.state.notes[-1])
            if result["status"] in (TrialStatus.DIVERGED, TrialStatus.FAILED):
                return  # no epoch ended; the trial's end follows
            trial_id = config["trial_id"]
            epoch = self.state.epoch(
                trial_id,
                result["attempt"],
                EpochMetrics(**{field.name: result[field.name] for field in fields(EpochMetrics)}),
                reported_at=result["reported_at"],
                node=result["node"],
                split_hash=result["split_hash"],
            )
            row = self.state.trial(trial_id)
            self._log.trial(row)  # first: the log's trials are never behind its epochs, nor these behind decisions
            self._log.epoch(epoch)
            judgement = self._judgement_of(trial_id)
            if judgement is not None:
                self._log.decision(decision(epoch.report, judgement))
            self._display.progressed(row)

    def ended(self, config: Config, result: Mapping[str, Any]) -> None:
        """A trial has ended with its last `result`; one that says no status was stopped."""
        with self._surviving():
            match result.get("status"):
                case TrialStatus.COMPLETED:
                    self._end(config, TrialStatus.COMPLETED)
                case TrialStatus.DIVERGED | TrialStatus.FAILED as status:
                    self._end(config, TrialStatus(status), result.get("error"))
                case _:
                    self._end(config, TrialStatus.STOPPED)

    def failed(self, config: Config, error: str) -> None:
        """A trial has failed for good."""
        with self._surviving():
            self._end(config, TrialStatus.FAILED, error)

    def starts_again(self, config: Config, error: str, *, counts: bool) -> None:
        """An attempt failed and another will follow, which reads in its config what it is.

        Args:
            counts: whether the failure is one of the trial's own.
        """
        with self._surviving():
            self._see_to_it_that_it_started(config)
            if self.state.trial(config["trial_id"]).attempt < config["attempt"]:  # nor is this attempt's announced
                self._start(config)
            config["attempt"] += 1
            config["failures"] += counts
            config["last_error"] = error
            config["logged"] = self.state.trial(config["trial_id"]).epochs
            self._log.trial(self.state.lost(config["trial_id"], error))

    def hung(self, config: Config) -> None:
        """An attempt was ended because it hung, which a machine's loss counts as: it is no failure of the trial's own.

        But where another hung before, and no further epoch was reported since, the trial is at fault.
        """
        trial_id, before = config["trial_id"], config.get("hung_at", -1)
        reached = self.state.trial(trial_id).epochs if trial_id in self.state else 0
        config["hung_at"] = max(reached, before)
        self.starts_again(config, config.pop("hung"), counts=reached <= before)

    def _start(self, config: Config) -> None:
        row = self.state.start(
            config["trial_id"], config["number"], config["point"], config["trial"]["seed"], self._now()
        )
        self._log.trial(row)
        self._display.started(row)

    def _end(self, config: Config, status: TrialStatus, error: str | None = None) -> None:
        self._see_to_it_that_it_started(config)
        row = self.state.end(config["trial_id"], status, self._now(), error)
        self._log.trial(row)
        self._display.ended(row)
        self._on_end()

    def _see_to_it_that_it_started(self, config: Config) -> None:
        """Tune announces no start of a trial whose actor was never there."""
        if config["trial_id"] not in self.state:
            self._start(config)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """An exception here would end the search: it is kept and logged once instead."""
        try:
            yield
        except Exception as error:
            if self.first_error is None:
                self.first_error = error
                logger.exception("an event could not be recorded; the search goes on")
