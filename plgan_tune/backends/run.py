"""Run trials from suggestion to last row: connect a back-end, a study's log and its display."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console

from plgan_tune.backends.backend import Backend, Workload
from plgan_tune.console.display import build_display
from plgan_tune.store.log import StudyLog
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.clock import SleepNotes
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.log_listeners import LogListeners
from plgan_tune.study.protocols import LogListener, Rule, Suggestions
from plgan_tune.study.state import StudyState


@dataclass(frozen=True, slots=True)
class Run:
    """How a back-end's run ended.

    Attributes:
        asked_to_stop: Whether the user stopped it.
        threads: CPU threads of each rank.
        cluster: The cluster's state at the end; None if trials trained in this process.
    """

    asked_to_stop: bool
    threads: int
    cluster: ClusterStatus | None


def run_trials(
    backend: Backend,
    workload: Workload,
    suggestions: Suggestions,
    rule: Rule,
    state: StudyState,
    log_session: AbstractContextManager[tuple[StudyLog, Callable[[], None]]],
    *,
    console: Console,
    now: Callable[[], datetime],
    listening: AbstractContextManager[Sequence[LogListener]] | None = None,
) -> Run:
    """Train suggested trials until all have ended, the time is over or the user stops the search.

    Args:
        backend: Trains the trials.
        workload: What the back-end needs to know about the study.
        suggestions: Suggests configurations.
        rule: Decides which trials to stop early.
        state: The study's state, updated with every event.
        log_session: Yields the study's log and a function to call at each trial's end. Entered after the back-end is
            open, so that a failed connection leaves no files.
        console: Where to draw the display.
        now: Returns the current time in UTC.
        listening: Yields listeners that receive the rows after the log. Entered after the log.

    Returns:
        How the run ended.

    Raises:
        StoreError: If the study cannot be read or written.
        RecordingError: If an event could not be recorded.
        StudyError: If the back-end is not available or no trial can start.
    """
    listening = listening or nullcontext(())
    with backend.open(workload, console) as trainer, log_session as (log, trial_ended), listening as listeners:
        display = build_display(console, state, now, lambda: trainer.cluster)

        def note(sentence: str) -> None:
            coordinator.note(sentence)

        coordinator = Coordinator(
            state,
            LogListeners(log, *listeners, SleepNotes(note)),
            display,
            now,
            suggestions,
            rule,
            workload.search.max_failures,
            trial_ended,
        )
        with display:
            asked_to_stop = trainer.train(coordinator, Backpressure(log), display.looked)
    coordinator.check_whole(workload.study.url)
    return Run(asked_to_stop, trainer.threads, trainer.cluster)
