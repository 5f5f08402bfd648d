"""Trains an evaluation's trials in the same way as those of a search."""

from rich.console import Console

from plgan_tune.backends.backend import Backend, Workload
from plgan_tune.backends.run import run_trials
from plgan_tune.config.study import StudySpec
from plgan_tune.data.check import DataSummary
from plgan_tune.store.location import Writer
from plgan_tune.study.clock import Now
from plgan_tune.study.fixed_trials import FixedStudy, FixedTrials
from plgan_tune.study.halving import NeverStop
from plgan_tune.study.log_session import open_log
from plgan_tune.study.state import StudyState


def train_fixed(
    fixed: FixedStudy,
    spec: StudySpec,
    backend: Backend,
    *,
    summary: DataSummary,
    console: Console,
    now: Now,
    writer: Writer,
) -> bool:
    """Train the trials of the list that have not ended.

    Args:
        fixed: the list.
        spec: the search's study: how many trials at once, how often one may fail, what a trial takes.
        backend: who trains.
        summary: summary of the images as this process found them.
        console: where progress is shown.
        now: returns the UTC time.
        writer: writes each file of the log; raises FollowedError if another search writes now.

    Returns:
        Whether every trial has ended; False if the user has interrupted.

    Raises:
        StoreError: if the study cannot be read or written.
        StudyError: if the back-end's machines are not available, or no trial can start.
    """
    left = fixed.left_behind()
    assignments = fixed.assignments(left.history)
    if not assignments:
        return True
    state = StudyState(
        fixed.name,
        trials=len(left.history.ended) + len(assignments),
        epochs=fixed.epochs,
        started_at=now(),
        history=left.history,
        competing=False,
        metric=fixed.metric,
    )
    limits = spec.search.model_copy(update={"trials": len(assignments), "hours": None})
    run_trials(
        backend,
        Workload(fixed.location, limits, spec.resources, fixed.trials[0].trial.data, summary),
        FixedTrials(assignments),
        NeverStop(),
        state,
        open_log(fixed.location, fixed.columns, fixed.types, state, state.trials, left, writer, fixed.study_id),
        console=console,
        now=now,
    )
    return state.ended() == state.trials
