"""Trials that hang: told, started again after `search.trial_timeout`, and not waited for at a stop."""

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil
import pytest
import ray
from rich.console import Console

from plgan_tune.backends.ray import silence, tune_run
from plgan_tune.backends.ray.gang import Gang, RankActor
from plgan_tune.backends.ray.ray_private import Controller
from plgan_tune.backends.ray.silence import MOST_STOP_SECONDS, STOP_SECONDS, SilenceWatch
from plgan_tune.backends.ray.trainable import PlganTrainable
from plgan_tune.records import TrialStatus
from tests.factories import UNTIMED, Search, make_assignment, make_metrics, make_report, small


class Listened:
    """A watch in the middle of Tune's loop, whose clock the test drives."""

    def __init__(self, timeout: float | None = None) -> None:
        self.now = 0.0
        self.told: list[str] = []
        self.ended: list[Any] = []
        self.trials: dict[str, Any] = {}
        self.controller = Controller()
        self.waits = SimpleNamespace(
            _trial_to_actor={}, _actor_manager=SimpleNamespace(_live_actors_to_ray_actors_resources={})
        )
        self.controller.take(SimpleNamespace(_tune_controller=self.waits))
        self.watch = SilenceWatch(
            self.controller,
            timeout,
            lambda trial_id, text: self.told.append(f"{trial_id}: {text}"),
            lambda: self.now,
            self.ended.append,
        )

    def process(self, trial_id: str) -> None:
        """Its process is asked for and finds room."""
        trial = self.trials[trial_id] = _Trial(trial_id)
        self.waits._trial_to_actor[trial] = trial_id
        self.waits._actor_manager._live_actors_to_ray_actors_resources[trial_id] = (f"actor of {trial_id}", None)
        self.watch.on_step_begin()

    def begin(self, trial_id: str) -> None:
        self.process(trial_id)
        self.watch.on_trial_start(trial=self.trials[trial_id])

    def report(self, trial_id: str, seconds: float = 0.0) -> None:
        self.watch.on_trial_result(
            trial=self.trials[trial_id], result={"report": make_report(make_metrics(1, seconds=seconds))}
        )

    def epochs(self, trial_id: str, *took: float) -> None:
        for seconds in took:
            self.wait(seconds)
            self.report(trial_id)

    def wait(self, seconds: float) -> None:
        """Tune's loop comes by every second."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1, until)
            self.watch.on_step_begin()


class _Trial:
    """Of Tune; hashed by itself."""

    def __init__(self, trial_id: str) -> None:
        self.config: dict[str, Any] = {"assignment": replace(make_assignment(0), trial_id=trial_id)}


def test_a_trial_is_silent_after_ten_usual_epochs() -> None:
    tune = Listened()
    tune.begin("t0000")
    tune.begin("t0001")
    tune.epochs("t0000", 6, 6, 6, 6)
    tune.wait(35)
    assert tune.told == []  # t0001 has been silent for 59 s
    tune.wait(2)
    assert tune.told == [
        "t0001: no report for 1 min 0 s, where 10 usual epochs take 1 min 0 s; "
        "search.trial_timeout would start it again"
    ]
    tune.wait(1000)
    assert [text[:5] for text in tune.told] == ["t0001", "t0000"]
    assert tune.ended == []
    tune.report("t0001")
    tune.wait(59)
    assert len(tune.told) == 2


def test_short_epochs_make_no_short_silence_and_few_epochs_none() -> None:
    tune = Listened()
    tune.begin("t0000")
    tune.wait(2000)
    tune.epochs("t0000", 0.1, 0.1)
    tune.begin("t0001")
    tune.wait(2000)
    assert tune.told == []
    tune.epochs("t0000", *[0.1] * 9)
    tune.wait(29)
    assert tune.told == [tune.told[0]]
    assert tune.told[0].startswith("t0001")
    tune.wait(2)
    assert tune.told[1].startswith("t0000: no report for 30 s, where 10 usual epochs take 1 s;")


def test_a_trial_whose_own_epochs_are_long_is_measured_by_them() -> None:
    tune = Listened()
    tune.begin("t0000")
    tune.begin("t0001")
    tune.epochs("t0001", 100, 100)
    tune.epochs("t0000", *[1] * 50)
    tune.wait(900)
    assert [text[:5] for text in tune.told] == ["t0000"]
    tune.wait(60)
    assert [text[:5] for text in tune.told] == ["t0000", "t0001"]


def test_epochs_of_an_earlier_attempt_that_are_reported_at_once_are_as_long_as_they_were() -> None:
    tune = Listened()
    tune.begin("t0000")
    for _ in range(5):
        tune.report("t0000", seconds=100.0)
    tune.wait(990)
    assert tune.told == []
    tune.wait(10)
    assert len(tune.told) == 1


def test_while_the_driver_does_not_listen_no_trial_is_silent() -> None:
    """It was suspended with its machine, stopped, or waited for its store."""
    tune = Listened(timeout=60)
    tune.begin("t0000")
    tune.epochs("t0000", 1, 1, 1)
    tune.now += 10_000
    tune.watch.on_step_begin()
    assert (tune.told, tune.ended) == ([], [])


def test_a_silent_trial_is_ended_once_and_listened_to_anew() -> None:
    tune = Listened(timeout=60)
    tune.process("t0000")  # loads its images
    tune.wait(50)
    tune.begin("t0000")
    tune.wait(59)
    assert tune.ended == []
    tune.wait(2)
    assert tune.ended == ["actor of t0000"]
    trial = tune.trials["t0000"]
    assert trial.config["hung"] == "it reported nothing for 1 min 0 s, search.trial_timeout"
    tune.watch.on_trial_recover(trial=trial)
    tune.wait(59)
    assert len(tune.ended) == 1
    tune.wait(2)
    assert len(tune.ended) == 2


def test_a_stop_waits_for_twice_the_longest_epoch() -> None:
    tune = Listened()
    assert tune.watch.patience() == STOP_SECONDS
    tune.process("t0000")
    assert tune.watch.patience() == STOP_SECONDS  # nothing to save
    tune.begin("t0000")
    assert tune.watch.patience() == MOST_STOP_SECONDS  # of an epoch nothing is known
    tune.epochs("t0000", 2, 4, 2)
    tune.begin("t0001")
    assert tune.watch.patience() == STOP_SECONDS + 8
    tune.wait(1)
    assert tune.waits._actor_force_cleanup_timeout == STOP_SECONDS + 8
    tune.wait(60)
    assert tune.watch.patience() == STOP_SECONDS  # both are silent
    tune.report("t0000")
    tune.watch.stop()  # before another look
    assert tune.waits._actor_force_cleanup_timeout == STOP_SECONDS + 2 * 61
    tune.epochs("t0000", 1000)
    assert tune.watch.patience() == MOST_STOP_SECONDS


def test_a_stop_ends_who_is_silent_or_has_not_begun() -> None:
    tune = Listened()
    tune.begin("t0000")
    tune.begin("t0001")
    tune.epochs("t0000", *[1] * 40)
    tune.process("t0002")
    tune.watch.on_step_end()
    assert tune.ended == []
    tune.watch.stop()
    tune.watch.on_step_end()
    assert tune.ended == ["actor of t0001", "actor of t0002"]


class Stopped(PlganTrainable):
    """A Trainable of two ranks of which processes are stopped (SIGSTOP) in a third epoch, in first attempts.

    Of the second trial it is the Trainable's own, of the third that of rank 1.
    """

    def _take_up(self, config: dict[str, Any]) -> None:
        super()._take_up(config)
        self._epoch = config["assignment"].logged
        self._hangs = config["assignment"].number if config["assignment"].attempt == 1 else 0

    def step(self) -> dict[str, Any]:
        result = super().step()
        self._epoch += 1
        if self._epoch == 2 and self._hangs:
            assert isinstance(self._worker, Gang)
            if self._hangs == 1:
                self._worker.step = stop  # type: ignore[method-assign]
            else:
                ray.get(self._worker._actors[1].__ray_call__.remote(plant))
        return result


def stop() -> Any:
    os.kill(os.getpid(), signal.SIGSTOP)


def plant(actor: RankActor) -> None:
    assert actor._worker is not None
    actor._worker.step = stop  # type: ignore[method-assign]


def stopped_processes() -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        if process.status() == psutil.STATUS_STOPPED:
            yield process


@pytest.mark.ray
@pytest.mark.slow
def test_trials_that_hang_are_told_of_and_start_again(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three trials the last two; no failure of their own is allowed."""
    options: dict[str, Any] = {"trials": 3, "max_failures": 0, "early_stopping": "none", "ranks": 2}
    spec = small(training={"epochs": 4, "checkpoint_every": 1}, **options)
    search(spec, "whole")
    monkeypatch.setattr(tune_run, "PlganTrainable", Stopped)
    monkeypatch.setattr(silence, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(silence, "SILENT_EPOCHS", 1)  # ten may be longer than the timeout, on a busy machine
    said = io.StringIO()
    timeout = small(training={"epochs": 4, "checkpoint_every": 1}, trial_timeout=60.0, **options)
    search(timeout, "hung", console=Console(file=said, width=200))
    for trial_id in ("t0001", "t0002"):
        assert f"{trial_id} is silent: no report for " in said.getvalue()
        again = f"{trial_id} starts again, attempt 2: it reported nothing for 1 min 0 s, search.trial_timeout"
        assert again in said.getvalue()
    assert "it starts again after 1 min 0 s, search.trial_timeout" in said.getvalue()
    trials = pd.read_parquet(tmp_path / "hung" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED] * 3
    assert list(trials["attempt"]) == [1, 2, 2]
    whole, hung = (pd.read_parquet(tmp_path / name / "epochs") for name in ("whole", "hung"))
    assert list(hung["seq"]) == list(range(12))
    assert list(hung["attempt"]) == [1] * 4 + [1, 1, 2, 2] * 2
    pd.testing.assert_frame_equal(whole[UNTIMED], hung[UNTIMED])
    assert not list(stopped_processes())
