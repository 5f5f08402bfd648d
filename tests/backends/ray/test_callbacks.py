"""Tune's events, called as its controller calls them, and what the log and the display are given."""

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray import cloudpickle
from ray.exceptions import ActorUnavailableError
from ray.tune import Callback
from ray.tune.callback import CallbackList

from plgan_tune.backends.ray.callbacks import ERROR_LENGTH, Recorder, is_lost_machine, reason
from plgan_tune.records import DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus
from plgan_tune.study.state import StudyState

START = datetime(2026, 1, 1, tzinfo=UTC)
EPOCHS = 5


class Memory:
    """A log and a display that remember what they were given."""

    def __init__(self) -> None:
        self.epochs: list[EpochRow] = []
        self.decisions: list[DecisionRow] = []
        self.trials: list[TrialRow] = []
        self.news: list[tuple[str, str]] = []

    def epoch(self, row: EpochRow) -> None:
        self.epochs.append(row)

    def decision(self, row: DecisionRow) -> None:
        self.decisions.append(row)

    def trial(self, row: TrialRow) -> None:
        self.trials.append(row)

    def started(self, row: TrialRow) -> None:
        self.news.append(("started", row.trial_id))

    def progressed(self, row: TrialRow) -> None:
        self.news.append(("progressed", row.trial_id))

    def ended(self, row: TrialRow) -> None:
        self.news.append((str(row.status), row.trial_id))

    def silent(self, trial_id: str) -> None:
        self.news.append(("silent", trial_id))

    def noted(self, note: str) -> None:
        self.news.append(("noted", note))

    def stopping(self, waits_for: str) -> None:
        self.news.append(("stopping", waits_for))


def clock() -> Iterator[datetime]:
    moment = START
    while True:
        yield moment
        moment += timedelta(seconds=1)


def new_state() -> StudyState:
    return StudyState("test", trials=9, epochs=EPOCHS, started_at=START)


def measured(epoch: int, val_error: float, seconds: float = 2.0) -> EpochMetrics:
    known: dict[str, Any] = {"epoch": epoch, "val_error": val_error, "seconds": seconds}
    return EpochMetrics(**{field.name: 0.5 for field in fields(EpochMetrics)} | known)


class Tune:
    """Calls a recorder as `TuneController` does, and keeps each trial's last result as it does."""

    def __init__(self, memory: Memory | Any, folder: Path) -> None:
        ticks = clock()
        self.memory = memory
        self.recorder = Recorder(new_state(), memory, memory, lambda: next(ticks))
        self._callbacks = CallbackList([self.recorder])
        self._folder = folder
        self._trials: dict[int, Any] = {}

    def trial(self, number: int) -> Any:
        config = {
            "trial_id": f"t{number:04d}",
            "number": number,
            "point": {"loss.alpha": number / 10},
            "trial": {"seed": 7},
            "attempt": 1,
            "failures": 0,
        }
        trial = SimpleNamespace(trial_id=f"ray{number}", config=config, last_result={}, error_file=None)
        return self._trials.setdefault(number, trial)

    def start(self, number: int) -> None:
        self._callbacks.on_trial_start(iteration=1, trials=[], trial=self.trial(number))

    def result(self, number: int, result: dict[str, Any]) -> None:
        trial = self.trial(number)
        result = {**result, "trial_id": trial.trial_id}  # as the controller overwrites it
        self._callbacks.on_trial_result(iteration=1, trials=[], trial=trial, result=result)
        trial.last_result = result

    def epoch(
        self,
        number: int,
        metrics: EpochMetrics,
        attempt: int = 1,
        status: str = "running",
        node: str = "n1",
        notes: Sequence[str] = (),
    ) -> None:
        about = {
            "attempt": attempt,
            "status": status,
            "node": node,
            "split_hash": "abc",
            "reported_at": START,
            "notes": notes,
        }
        self.result(number, {**asdict(metrics), **about})

    def hang(self, number: int) -> None:
        """As a trial whose process was ended because it hung."""
        self.trial(number).config["hung"] = "it reported nothing"
        self._callbacks.on_trial_recover(iteration=1, trials=[], trial=self.trial(number))

    def complete(self, number: int) -> None:
        self._callbacks.on_trial_complete(iteration=1, trials=[], trial=self.trial(number))

    def fail(self, number: int, text: str, *, retry: bool) -> None:
        trial = self.trial(number)
        trial.error_file = str(self._folder / f"error{number}.txt")
        with Path(trial.error_file).open("a") as file:
            file.write(f"Failure # 1 (occurred at 2026-01-01_00-00-00)\n{text}\n")
        hook = self._callbacks.on_trial_recover if retry else self._callbacks.on_trial_error
        hook(iteration=1, trials=[], trial=trial)


@pytest.fixture
def tune(tmp_path: Path) -> Tune:
    return Tune(Memory(), tmp_path)


def train(tune: Tune, number: int, errors: list[float]) -> None:
    """A whole training with these errors."""
    tune.start(number)
    for epoch, error in enumerate(errors, start=1):
        tune.epoch(number, measured(epoch, error), status="completed" if epoch == len(errors) else "running")
    tune.complete(number)


def test_a_trial_from_its_start_to_its_completion(tune: Tune) -> None:
    tune.start(3)
    (row,) = tune.memory.trials
    assert (row.trial_id, row.number, row.seed, row.params) == ("t0003", 3, 7, {"loss.alpha": 0.3})
    assert (row.status, row.attempt, row.epochs, row.val_error_last) == (TrialStatus.RUNNING, 1, 0, None)
    tune.epoch(3, measured(1, 0.5))
    tune.epoch(3, measured(2, 0.2))
    tune.epoch(3, measured(3, 0.3, seconds=4.0), status="completed")
    tune.complete(3)
    row = tune.memory.trials[-1]
    assert (row.status, row.epochs, row.seconds) == (TrialStatus.COMPLETED, 3, 8.0)
    assert (row.val_error_last, row.val_error_best, row.best_epoch) == (0.3, 0.2, 2)
    assert (row.node, row.split_hash, row.error) == ("n1", "abc", None)
    assert (row.started_at, row.ended_at) == (START, START + timedelta(seconds=1))
    assert [epoch.metrics for epoch in tune.memory.epochs] == [
        measured(1, 0.5),
        measured(2, 0.2),
        measured(3, 0.3, seconds=4.0),
    ]
    assert {epoch.trial_id for epoch in tune.memory.epochs} == {"t0003"}
    assert [row.epochs for row in tune.memory.trials] == [0, 1, 2, 3, 3]
    assert [what for what, _ in tune.memory.news] == ["started", *["progressed"] * 3, "completed"]


def test_a_trial_that_tune_ends_before_it_says_so_is_stopped(tune: Tune) -> None:
    tune.start(0)
    tune.epoch(0, measured(1, 0.5))
    tune.complete(0)
    assert (tune.memory.trials[-1].status, tune.memory.trials[-1].epochs) == (TrialStatus.STOPPED, 1)


def test_a_divergence_is_no_epoch_and_says_why(tune: Tune) -> None:
    tune.start(0)
    tune.epoch(0, measured(1, 0.5))
    tune.result(0, {"status": "diverged", "error": "loss_feature is nan in epoch 2", "done": True})
    tune.complete(0)
    row = tune.memory.trials[-1]
    assert (row.status, row.epochs, row.error) == (TrialStatus.DIVERGED, 1, "loss_feature is nan in epoch 2")
    assert len(tune.memory.epochs) == 1


def test_a_failure_keeps_the_exception_of_the_latest_attempt(tune: Tune) -> None:
    tune.start(0)
    tune.epoch(0, measured(1, 0.5))
    tune.epoch(0, measured(2, 0.4))
    tune.fail(0, 'Traceback\n  File "a.py", line 1, in f\nOSError: the disk is gone', retry=True)
    assert (tune.memory.trials[-1].status, tune.memory.trials[-1].error) == (
        TrialStatus.RUNNING,
        "OSError: the disk is gone",
    )
    tune.start(0)
    assert tune.memory.trials[-1].attempt == 2
    tune.epoch(0, measured(2, 0.4), attempt=2, node="n2")
    tune.fail(0, 'Traceback\n  File "a.py", line 2, in g\nRuntimeError: out of memory', retry=False)
    row = tune.memory.trials[-1]
    assert (row.status, row.attempt, row.error) == (TrialStatus.FAILED, 2, "RuntimeError: out of memory")
    assert (row.epochs, row.seconds, row.node) == (2, 6.0, "n2")
    assert [(epoch.attempt, epoch.metrics.epoch) for epoch in tune.memory.epochs] == [(1, 1), (1, 2), (2, 2)]


def test_a_retried_trial_that_completes_has_no_error(tune: Tune) -> None:
    tune.start(0)
    tune.fail(0, "OSError: gone", retry=True)
    tune.start(0)
    tune.epoch(0, measured(1, 0.4), attempt=2, status="completed")
    tune.complete(0)
    assert (tune.memory.trials[-1].status, tune.memory.trials[-1].error) == (TrialStatus.COMPLETED, None)


def test_a_trial_that_ends_before_it_starts_has_a_row(tune: Tune) -> None:
    tune.fail(4, "ValueError: no such accelerator", retry=False)
    assert (tune.memory.trials[-1].trial_id, tune.memory.trials[-1].status) == ("t0004", TrialStatus.FAILED)


def test_a_trial_whose_set_up_fails_may_start_again(tune: Tune) -> None:
    """Tune says nothing of a start that never was."""
    for _ in range(2):
        tune.fail(4, "OSError: the images are gone for now", retry=True)
    assert tune.memory.trials[-1].attempt == 2
    tune.start(4)
    assert tune.memory.trials[-1].attempt == 3
    tune.epoch(4, measured(1, 0.4), attempt=3, status="completed")
    tune.complete(4)
    assert tune.recorder.first_error is None
    row = tune.memory.trials[-1]
    assert (row.status, row.attempt) == (TrialStatus.COMPLETED, 3)


def test_a_hang_counts_only_where_no_epoch_came_since_the_last(tune: Tune) -> None:
    config = tune.trial(0).config
    tune.hang(0)  # before it has begun
    assert (config["attempt"], config["failures"]) == (2, 0)
    tune.start(0)
    tune.epoch(0, measured(1, 0.5), attempt=2)
    tune.hang(0)
    assert (config["attempt"], config["failures"], config["logged"]) == (3, 0, 1)
    tune.start(0)
    tune.epoch(0, measured(1, 0.5), attempt=3)  # trained again
    tune.hang(0)
    assert (config["attempt"], config["failures"]) == (4, 1)
    tune.start(0)
    tune.epoch(0, measured(2, 0.5), attempt=4)
    tune.hang(0)
    assert (config["attempt"], config["failures"]) == (5, 1)
    assert config["last_error"] == "it reported nothing"
    assert tune.memory.trials[-1].error == "it reported nothing"
    assert "hung" not in config  # the next loss has a reason of its own


def test_a_silence_lasts_until_the_next_sign_of_life(tune: Tune) -> None:
    tune.start(0)
    tune.recorder.silent("t0000", "no report for 40 s")
    assert tune.recorder.state.silent == {"t0000": "no report for 40 s"}
    tune.epoch(0, measured(1, 0.5))
    assert tune.recorder.state.silent == {}
    assert tune.memory.news == [("started", "t0000"), ("silent", "t0000"), ("progressed", "t0000")]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=30))
def test_seq_counts_the_epochs_of_all_trials_in_order_of_arrival(arrivals: list[tuple[int, float]]) -> None:
    state = new_state()
    for number in range(4):
        state.start(f"t{number}", number, {}, 0, START)
    rows = []
    for number, error in arrivals:
        epoch = state.trial(f"t{number}").epochs + 1
        row = state.epoch(f"t{number}", 1, measured(epoch, error), reported_at=START, node=None, split_hash=None)
        rows.append(row)
        now = state.trial(f"t{number}")
        mine = [done.metrics.val_error for done in rows if done.trial_id == now.trial_id]
        assert (now.val_error_last, now.val_error_best, now.epochs) == (mine[-1], min(mine), len(mine))
        assert mine[(now.best_epoch or 0) - 1] == min(mine)
        assert state.curve(now.trial_id) == tuple(mine)
        assert now.seq == row.seq + 1
    assert [row.seq for row in rows] == list(range(len(rows)))


def test_the_best_is_the_lowest_last_error_of_a_completed_trial(tune: Tune) -> None:
    assert tune.recorder.best() is None
    train(tune, 0, [0.1, 0.4])  # a lucky epoch does not count
    train(tune, 3, [0.5, 0.3])
    train(tune, 2, [0.6, 0.3])
    tune.start(1)
    tune.epoch(1, measured(1, 0.05))
    tune.complete(1)  # stopped
    best = tune.recorder.best()
    assert best is not None
    assert (best.trial_id, best.val_error_last) == ("t0002", 0.3)


def test_a_failing_log_neither_ends_the_search_nor_floods_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Memory):
        def trial(self, row: TrialRow) -> None:
            raise OSError("no space left on device")

    tune = Tune(Broken(), tmp_path)
    with caplog.at_level(logging.ERROR):
        train(tune, 0, [0.5, 0.3])
        tune.fail(1, "OSError", retry=True)
        tune.fail(1, "OSError", retry=False)
    assert len(caplog.records) == 1
    assert "no space left" in caplog.text
    assert isinstance(tune.recorder.first_error, OSError)
    best = tune.recorder.best()
    assert best is not None
    assert best.val_error_last == 0.3


def test_a_result_without_its_fields_does_not_end_the_search(tune: Tune) -> None:
    tune.start(0)
    tune.result(0, {"status": "running", "attempt": 1})
    tune.result(0, {"done": True})
    assert isinstance(tune.recorder.first_error, KeyError)
    assert tune.memory.epochs == []


def test_tune_can_pickle_it_whatever_log_and_display_hold(tune: Tune) -> None:
    vars(tune.memory)["lock"] = threading.Lock()
    assert type(cloudpickle.loads(cloudpickle.dumps(tune.recorder))) is Callback


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


def test_what_a_result_notes_is_told_whatever_else_it_says(tune: Tune) -> None:
    tune.start(0)
    tune.epoch(0, measured(1, 0.5), notes=["its checkpoint is damaged"])
    tune.result(0, {"status": "diverged", "error": "nan", "attempt": 1, "notes": ["another"]})
    assert [said for kind, said in tune.memory.news if kind == "noted"] == [
        "t0000: its checkpoint is damaged",
        "t0000: another",
    ]
