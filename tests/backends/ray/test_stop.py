"""A search on Ray that is asked to stop: how long it waits for its trials, and that it hears of it at any moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from plgan_tune.backends.ray import tune_run
from plgan_tune.backends.ray.trainable import PlganTrainable
from plgan_tune.study.state import Ending
from tests.factories import Search, small
from tests.waiting import epochs_in, wait_until

SPACE = """
study: tiny
search: {confirm: null, trials: 2, concurrent: 2, sampler: random, early_stopping: none}
trial:
  data: {source: digits, labels: 20, validation: 200}
  model: {width: 0.05}
  loss: {alpha: {uniform: [0.1, 1.0]}}
  training: {epochs: 9999, batch_size: 20, checkpoint_every: 9999}
"""
"""On no machine a trial ends before it is stopped, and nothing but that saves it."""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def interrupting(pid: int, seconds: float) -> type[PlganTrainable]:
    """A Trainable whose second trial sends the driver what a batch system would, in its second epoch.

    Args:
        pid: of the driver.
        seconds: that each of the trial's first two epochs takes.
    """

    class Interrupting(PlganTrainable):
        def _take_up(self, config: dict[str, Any]) -> None:
            super()._take_up(config)
            assignment = config["assignment"]
            self._epochs, self._interrupts = 0, (assignment.number, assignment.attempt) == (1, 1)

        def step(self) -> dict[str, Any]:
            """A trial on a process of another's is taken up in its first step."""
            result = super().step()
            self._epochs += 1
            if self._interrupts and self._epochs == 2:
                os.kill(pid, signal.SIGUSR1)
            if self._interrupts and self._epochs <= 2:
                time.sleep(seconds)
            return result

    return Interrupting


@pytest.mark.ray
@pytest.mark.slow
def test_sigusr1_lets_an_epoch_end_that_takes_long_where_the_program_has_no_handler(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `run_study` is called in a notebook. Tune's own patience is 10 s."""
    spec = small(trials=2, early_stopping="none")
    before = signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(tune_run, "PlganTrainable", interrupting(os.getpid(), seconds=13))
            result = search(spec)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert result.ending is Ending.INTERRUPTED
    assert result.state.trial("t0001").status == "running"
    study = tmp_path / "study"
    assert list(pd.read_parquet(study / "epochs").query("trial_id == 't0001'")["epoch"]) == [1]
    assert (study / "checkpoints" / "t0001" / "attempt-001-epoch-000002.pt").exists()
    assert search(spec, resume=True).ending is Ending.DONE
    assert list(pd.read_parquet(study / "epochs").query("trial_id == 't0001'")["epoch"]) == [1, 2, 3, 4]


@pytest.mark.ray
@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_trial_that_is_stopped(tmp_path: Path, started: Started) -> None:
    """Of two trials one is stopped; the other ends its epoch and saves. Tune would be made to wait four minutes."""
    (tmp_path / "space.yaml").write_text(SPACE)
    study = tmp_path / "results" / "mine"
    words = ["--space", "space.yaml", "--name", "mine"]
    with started(tmp_path, sys.executable, "-m", "plgan_tune.search", *words) as search:
        wait_until(lambda: set(trained(study)) == {"t0000", "t0001"}, "both trials", tmp_path / "said.txt", search)
        stopped = next(
            process
            for process in psutil.Process(search.pid).children(recursive=True)
            if process.name().startswith("ray::Res")
        )
        stopped.suspend()
        search.send_signal(signal.SIGINT)
        status = search.wait(timeout=120)
        assert not stopped.is_running()
    assert status == 130, said(tmp_path)
    assert "Traceback" not in said(tmp_path)
    saved = {folder.name for folder in (study / "checkpoints").iterdir() if any(folder.glob("*.pt"))}
    assert len(saved) == 1
    assert any(line.endswith("--name mine --resume") for line in said(tmp_path).splitlines())


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text()


def trained(study: Path) -> list[str]:
    """Trials that have epochs in the log."""
    return (
        list(pd.read_parquet(study / "epochs")["trial_id"]) if (study / "epochs").is_dir() and epochs_in(study) else []
    )


INTERRUPTED_IN_A_FORK = """
import os, runpy, signal

asked = []

def interrupt():
    if not asked:
        asked.append(True)
        os.kill(os.getpid(), signal.SIGTERM)

os.register_at_fork(before=interrupt)
runpy.run_module("plgan_tune.search", run_name="__main__", alter_sys=True)
"""
"""Ray forks its processes, and Python passes over what is raised in a fork's hooks: there a KeyboardInterrupt is lost.
Where it strikes the logging module's own hook a lock stays taken for ever, and the log's thread then waits for it."""


@pytest.mark.ray
@pytest.mark.slow
def test_sigterm_while_ray_starts_is_obeyed(tmp_path: Path, started: Started) -> None:
    """And so is Ctrl-C, which SIGTERM is turned into."""
    (tmp_path / "space.yaml").write_text(SPACE)
    words = ["--space", "space.yaml", "--set", "search.trials=1", "--set", "trial.training.epochs=2", "--name", "mine"]
    with started(tmp_path, sys.executable, "-c", INTERRUPTED_IN_A_FORK, *words) as search:
        status = search.wait(timeout=120)
    assert status == 130, said(tmp_path)
    assert any(line.endswith("--name mine --resume") for line in said(tmp_path).splitlines())
