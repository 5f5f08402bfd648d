"""Trains an evaluation's trials, as a search trains its own."""

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
    """Trains what of the list is still to be trained.

    Args:
        fixed: the list.
        spec: the search's: how many trials at a time, how often one may fail, what a trial takes.
        summary: of the images as this process found them.
        writer: writes each file of the log; raises FollowedError where another search writes now.

    Returns:
        Whether every trial has ended; not so where the user has interrupted.

    Raises:
        StoreError: where the study cannot be read or written.
        StudyError: where the backend's machines cannot be had, or no trial can begin.
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
