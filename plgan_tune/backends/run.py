"""Trials from their suggestion to their last row: a backend, a study's log and its display put together."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

from rich.console import Console

from plgan_tune.backends.backend import Backend, Workload
from plgan_tune.console.display import build_display
from plgan_tune.store.log import StudyLog
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.log_listeners import LogListeners
from plgan_tune.study.protocols import LogListener, Rule, Suggestions
from plgan_tune.study.state import StudyState


@dataclass(frozen=True, slots=True)
class Run:
    """How a backend's run ended.

    Attributes:
        asked_to_stop: whether the user ended it.
        threads: of each rank.
        cluster: as it was at the end; None where trials trained in this process.
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
    """Trains what is suggested until all trials have ended, the time is over or the user asks to stop.

    Args:
        log_session: the study's log and what is called at a trial's end; entered once the machines are there, so that
            a cluster that refuses leaves nothing.
        listening: whoever takes the rows after the log, entered after it.

    Raises:
        StoreError: where the study cannot be read or written.
        RecordingError: where an event could not be recorded.
        StudyError: where the machines cannot be had, or no trial can begin.
    """
    listening = listening or nullcontext(())
    with backend.open(workload, console) as trainer, log_session as (log, trial_ended), listening as listeners:
        display = build_display(console, state, now, lambda: trainer.cluster)
        coordinator = Coordinator(
            state,
            LogListeners(log, *listeners),
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
