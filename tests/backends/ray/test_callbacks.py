"""Tune's events, called as its controller calls them, and what the coordinator hears."""

import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError
from ray.tune.callback import CallbackList

from plgan_tune.backends.ray.callbacks import ERROR_LENGTH, HUNG, CoordinatorCallback, is_lost_machine, reason
from plgan_tune.records import TrialStatus
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.fixed_trials import FixedTrials
from plgan_tune.study.halving import NeverStop
from plgan_tune.study.state import StudyState
from tests.factories import START, Memory, make_assignment


class Tune:
    """Calls the callback as `TuneController` does, for one trial."""

    def __init__(self, folder: Path) -> None:
        self.memory = Memory()
        state = StudyState("test", trials=1, epochs=5, started_at=START)
        self.coordinator = Coordinator(
            state, self.memory, self.memory, lambda: START, FixedTrials([]), NeverStop(), max_failures=3
        )
        self.at_a_time: int | None = 1
        self.callback = CoordinatorCallback(self.coordinator, lambda *_: self.at_a_time)
        self.trial = SimpleNamespace(
            trial_id="ray0", config={"assignment": make_assignment(0)}, error_file=str(folder / "error.txt")
        )

    def call(self, event: str) -> None:
        getattr(CallbackList([self.callback]), event)(iteration=1, trials=[], trial=self.trial)

    def fail(self, text: str, event: str) -> None:
        with Path(self.trial.error_file).open("a") as file:
            file.write(f"Failure # 1 (occurred at 2026-01-01_00-00-00)\n{text}\n")
        self.call(event)


@pytest.fixture
def tune(tmp_path: Path) -> Tune:
    return Tune(tmp_path)


def test_a_trial_that_recovers_has_the_assignment_of_its_next_attempt(tune: Tune) -> None:
    tune.call("on_trial_start")
    tune.fail('Traceback\n  File "a.py", line 1, in f\nOSError: the disk is gone', "on_trial_recover")
    assignment = tune.trial.config["assignment"]
    assert (assignment.attempt, assignment.failures) == (2, 1)
    assert assignment.last_error == "OSError: the disk is gone"
    tune.fail("The actor died because its node has died. Node Id: 5d", "on_trial_recover")
    assert (tune.trial.config["assignment"].attempt, tune.trial.config["assignment"].failures) == (3, 1)


def test_only_a_trial_that_lacks_memory_while_it_is_alone_is_at_fault(tune: Tune) -> None:
    tune.call("on_trial_start")
    tune.fail("1 worker(s) were killed due to the node running low on memory. Memory on the node", "on_trial_recover")
    assert tune.trial.config["assignment"].failures == 0
    assert tune.coordinator.state.notes == ["t0000: ended for lack of memory; from now on, 1 trial at a time"]
    tune.at_a_time = None
    tune.fail("ray.exceptions.OutOfMemoryError: Task was killed: the node has too little", "on_trial_recover")
    assert tune.trial.config["assignment"].failures == 1
    assert tune.trial.config["assignment"].attempt == 3


def test_a_trial_that_hung_recovers_with_that_reason_and_the_next_loss_has_its_own(tune: Tune) -> None:
    tune.trial.config[HUNG] = "it reported nothing"
    tune.call("on_trial_recover")
    assert tune.trial.config["assignment"].last_error == "it reported nothing"
    assert HUNG not in tune.trial.config


def test_a_trial_that_cannot_recover_has_failed(tune: Tune) -> None:
    tune.fail("ValueError: no such accelerator", "on_trial_error")
    row = tune.memory.trials[-1]
    assert (row.status, row.error) == (TrialStatus.FAILED, "ValueError: no such accelerator")


def test_tune_can_pickle_it_whatever_it_holds(tune: Tune) -> None:
    vars(tune.coordinator)["lock"] = threading.Lock()
    cloudpickle.dumps(tune.callback)


RAY_ERROR = """\x1b[36mray::Trial.train()\x1b[39m (pid=12, ip=10.0.0.1, actor_id=ab, repr=<x>)
  File "/site/ray/trainable.py", line 331, in train
    raise skipped from exception_cause(skipped)
  File "/site/plgan_tune/data/cache.py", line 9, in decode
    raise ValueError(message)
    ^^^^^^^^^^^^^^^^^^^^^^^^^
plgan_tune.data.DataError: train-0.parquet, row 7: the image is truncated,
got 12 of 900 bytes"""


NEVER_MADE = """The actor died because of an error raised in its creation task, ray::Trial.__init__() (pid=7)
           ^^^^^^^^^^^^
RuntimeError: The actor with name Trial failed to import on the worker.

ray::Trial.__init__() (pid=7, ip=10.0.0.2)
           ^^^^^^^^^^^^
ModuleNotFoundError: No module named 'nowhere'
"""


def test_the_reason_of_a_traceback_is_its_exception_on_one_line() -> None:
    wanted = "plgan_tune.data.DataError: train-0.parquet, row 7: the image is truncated, got 12 of 900 bytes"
    assert reason(RAY_ERROR) == wanted
    earlier = 'Failure # 1 (occurred at x)\n  File "a", line 1\nOSError: old'
    assert reason(f"{earlier}\nFailure # 2 (occurred at y)\n{RAY_ERROR}\n") == wanted
    assert reason("The actor died unexpectedly.\n\tclass_name: Trial") == (
        "The actor died unexpectedly. class_name: Trial"
    )
    assert reason(NEVER_MADE) == "ModuleNotFoundError: No module named 'nowhere'"
    assert reason("") == ""


UNAVAILABLE = ActorUnavailableError("The actor is temporarily unavailable: RpcError: Socket closed", b"a" * 16)


@pytest.mark.parametrize(
    ("said", "lost"),
    [
        pytest.param(str(UNAVAILABLE), True, id="the trial's own actor, seen by Tune: without the type's name"),
        pytest.param(f"ray.exceptions.ActorUnavailableError: {UNAVAILABLE}", True, id="a rank's actor"),
        pytest.param("The actor died because its node has died. Node Id: 5d", True, id="a dead node"),
        pytest.param("The actor died because all references to the actor were removed", False, id="a dead process"),
        pytest.param("OSError: the share is unavailable: try again", False, id="the trial's own fault"),
    ],
)
def test_a_lost_machine_is_known_by_what_ray_says(said: str, lost: bool) -> None:
    assert is_lost_machine(reason(said)) is lost


@given(st.text(max_size=2000))
def test_a_reason_is_short_whatever_the_text(text: str) -> None:
    short = reason(f'  File "a", line 1\nValueError: {text}')
    assert len(short) <= ERROR_LENGTH
    assert "\n" not in short
