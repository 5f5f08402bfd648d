"""Tune's events become rows for the log and news for the display."""

import logging
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback

from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus
from plgan_tune.tuning.halving import Judgement
from plgan_tune.tuning.progress import StudyState
from plgan_tune.tuning.stopping import decision

logger = logging.getLogger(__name__)

LOST_MACHINE = re.compile(r"its node has died|node is dead|The actor \w+ is unavailable: ")
"""How Ray says that an actor's machine is gone.

The last is said while Ray does not know yet: by a rank's actor, or by the trial's own, whose error comes without its
type's name. Of a process that died on a living machine Ray knows at once.
"""

ERROR_LENGTH = 400
"""Characters of an error that a trial's row keeps."""


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


class Recorder(Callback):
    """Keeps a study's state by Tune's events; hands rows to the log and news to the display.

    Tune calls it on the driver's thread, after searcher and scheduler. Which trial it is comes from the
    trial's config, because Tune writes its own id over `trial_id` of every result.

    Args:
        on_end: called when a trial has ended.
        judgement_of: what early stopping decided on the epoch that a trial has just reported, if anything.

    Attributes:
        state: the bookkeeping.
        first_error: what the first hook that failed raised, None where all is well.
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

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        """Tune pickles its callbacks into a snapshot that we never read; log and display hold threads."""
        return Callback, ()

    def best(self) -> TrialRow | None:
        """The completed trial of lowest error at its last epoch; of equals, the first suggested."""
        return self.state.best()

    def on_trial_start(self, *, trial: Any, **_info: Any) -> None:
        with self._surviving():
            self._start(trial)

    def on_trial_result(self, *, trial: Any, result: Mapping[str, Any], **_info: Any) -> None:
        with self._surviving():
            if result["status"] in (TrialStatus.DIVERGED, TrialStatus.FAILED):
                return  # no epoch ended; the trial's end follows
            trial_id = trial.config["trial_id"]
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

    def on_trial_complete(self, *, trial: Any, **_info: Any) -> None:
        with self._surviving():
            result = trial.last_result
            match result.get("status"):
                case TrialStatus.COMPLETED:
                    self._end(trial, TrialStatus.COMPLETED)
                case TrialStatus.DIVERGED | TrialStatus.FAILED as status:
                    self._end(trial, TrialStatus(status), result.get("error"))
                case _:
                    self._end(trial, TrialStatus.STOPPED)

    def on_trial_error(self, *, trial: Any, **_info: Any) -> None:
        with self._surviving():
            self._end(trial, TrialStatus.FAILED, _reason_of(trial))

    def on_trial_recover(self, *, trial: Any, **_info: Any) -> None:
        """Tune starts the trial again, with its config as it stands: the next attempt reads there what it is."""
        with self._surviving():
            self._see_to_it_that_it_started(trial)
            error = _reason_of(trial)
            trial.config["attempt"] += 1
            trial.config["failures"] += not is_lost_machine(error)
            trial.config["last_error"] = error
            trial.config["logged"] = self.state.trial(trial.config["trial_id"]).epochs
            self._log.trial(self.state.lost(trial.config["trial_id"], error))

    def stop_running(self) -> None:
        """Ends the trials under way as stopped: Tune tells nobody when a time limit ends them."""
        with self._surviving():
            for row in self.state.running():
                self._record_end(row.trial_id, TrialStatus.STOPPED, None)

    def _start(self, trial: Any) -> None:
        config = trial.config
        row = self.state.start(
            config["trial_id"], config["number"], config["point"], config["trial"]["seed"], self._now()
        )
        self._log.trial(row)
        self._display.started(row)

    def _end(self, trial: Any, status: TrialStatus, error: str | None = None) -> None:
        self._see_to_it_that_it_started(trial)
        self._record_end(trial.config["trial_id"], status, error)

    def _see_to_it_that_it_started(self, trial: Any) -> None:
        """Tune announces no start of a trial whose actor was never there."""
        if trial.config["trial_id"] not in self.state:
            self._start(trial)

    def _record_end(self, trial_id: str, status: TrialStatus, error: str | None) -> None:
        row = self.state.end(trial_id, status, self._now(), error)
        self._log.trial(row)
        self._display.ended(row)
        self._on_end()

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        """An exception in a callback would end the search: it is kept and logged once instead."""
        try:
            yield
        except Exception as error:
            if self.first_error is None:
                self.first_error = error
                logger.exception("an event could not be recorded; the search goes on")


def is_lost_machine(error: str) -> bool:
    """Whether an attempt ended because its machine went away, which is not the trial's fault."""
    return LOST_MACHINE.search(error) is not None


def _reason_of(trial: Any) -> str:
    """The trial's latest exception, from the text file in which Tune's driver collects them."""
    path = trial.error_file
    text = Path(path).read_text(encoding="utf-8", errors="replace") if path and Path(path).exists() else ""
    return reason(text) or "the trial failed without a message"


def reason(traceback: str) -> str:
    """The exception at the end of a traceback: type and message on one line, at most ERROR_LENGTH long.

    Of several tracebacks the last counts, as in Tune's error file.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    lines = re.split(r"(?m)^Failure # .*$", plain)[-1].strip("\n").splitlines()
    frames = [place for place, line in enumerate(lines) if line.lstrip().startswith('File "')]
    after = lines[frames[-1] + 1 :] if frames else lines
    message = next((place for place, line in enumerate(after) if line[:1].strip()), 0)
    return textwrap.shorten(" ".join(after[message:]), ERROR_LENGTH, placeholder=" ...")
