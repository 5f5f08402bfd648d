"""Tune's scheduler: who starts next, who has failed too often, and what becomes of a report."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from plgan_tune.backends.ray.scheduler import CoordinatorScheduler
from plgan_tune.records import TrialStatus
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.fixed_trials import FixedTrials
from plgan_tune.study.halving import NeverStop
from plgan_tune.study.state import StudyState
from tests.factories import START, Memory, make_assignment, make_metrics, make_report


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def scheduler(memory: Memory) -> CoordinatorScheduler:
    state = StudyState("test", trials=4, epochs=5, started_at=START)
    return CoordinatorScheduler(
        Coordinator(state, memory, memory, lambda: START, FixedTrials([]), NeverStop(), max_failures=3)
    )


def set_status(trial: Any, status: str) -> None:
    trial.status = status


class Controller:
    """As much of Tune's as the scheduler asks for when a trial is to start."""

    def __init__(self, trials: list[Any]) -> None:
        self.trials = trials
        self._tune_controller = SimpleNamespace(_actor_force_cleanup_timeout=10, _set_trial_status=set_status)

    def get_live_trials(self) -> set[Any]:
        return {trial for trial in self.trials if trial.status != Trial.TERMINATED}

    def stop_trial(self, trial: Any) -> None:
        trial.status = Trial.TERMINATED


def of_tune(number: int, **changes: Any) -> Any:
    return Trial("unknown", stub=True, config={"assignment": make_assignment(number, **changes)})


def test_trials_start_in_the_order_in_which_they_are_handed_out(scheduler: CoordinatorScheduler) -> None:
    """Which is not that of their numbers: `evaluate` tries failed ones last. A trial added again keeps its place."""
    trials = [of_tune(number) for number in (2, 3, 0, 1)]
    controller = Controller(trials)
    for trial in (*trials, trials[0]):
        scheduler.on_trial_add(controller, trial)
    started = []
    while (trial := scheduler.choose_trial_to_run(controller)) is not None:
        started.append(trial.config["assignment"].number)
        trial.status = Trial.RUNNING
    assert started == [2, 3, 0, 1]
    trials[2].status = trials[1].status = Trial.PENDING
    assert scheduler.choose_trial_to_run(controller) is trials[1]


def test_a_trial_that_has_failed_once_too_often_ends_as_failed(scheduler: CoordinatorScheduler, memory: Memory) -> None:
    trials = [of_tune(0, failures=4, last_error="OSError: gone"), of_tune(1, failures=3)]
    controller = Controller(trials)
    for trial in trials:
        scheduler.on_trial_add(controller, trial)
    assert scheduler.choose_trial_to_run(controller) is trials[1]
    row = memory.trials[-1]
    assert (row.trial_id, row.status, row.error) == ("t0000", TrialStatus.FAILED, "OSError: gone")


def test_a_trial_that_lacked_memory_waits_until_fewer_train(scheduler: CoordinatorScheduler) -> None:
    trials = [of_tune(number) for number in range(4)]
    controller = Controller(trials)
    for trial in trials:
        scheduler.on_trial_add(controller, trial)
        trial.status = Trial.RUNNING
    trials[1].status = Trial.PENDING  # as Tune leaves one that it restarts
    assert scheduler.train_fewer(trials[1], trials) == 3
    assert trials[1].status == Trial.PAUSED
    assert scheduler.choose_trial_to_run(controller) is None
    assert not scheduler.has_room(3)
    trials[0].status = Trial.TERMINATED
    assert scheduler.choose_trial_to_run(controller) is trials[1]


def test_one_that_lacked_memory_alone_is_not_held(scheduler: CoordinatorScheduler) -> None:
    trial = of_tune(0)
    controller = Controller([trial])
    scheduler.on_trial_add(controller, trial)
    assert scheduler.train_fewer(trial, [trial]) is None
    assert scheduler.choose_trial_to_run(controller) is trial
    assert scheduler.has_room(99)


def test_tune_stops_a_trial_that_has_ended(scheduler: CoordinatorScheduler, memory: Memory) -> None:
    trial = of_tune(0)
    running, last = make_report(make_metrics(1)), make_report(make_metrics(2), TrialStatus.COMPLETED)
    assert scheduler.on_trial_result(None, trial, {"report": running}) == TrialScheduler.CONTINUE
    assert scheduler.on_trial_result(None, trial, {"report": last}) == TrialScheduler.STOP
    assert memory.trials[-1].status is TrialStatus.COMPLETED


def test_tune_can_pickle_it_into_its_snapshot(scheduler: CoordinatorScheduler) -> None:
    cloudpickle.dumps(scheduler)
