"""Ctrl-C in a search, and the command that it prints: typed as it stands, that finishes the study."""

import os
import pty
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from plgan_tune.records import TrialStatus
from tests.screen import lines_on_screen
from tests.waiting import held_search, wait_for_epochs

TRIALS, EPOCHS, STOPPED = 3, 6, 4
"""The second trial is in epoch STOPPED when the search is stopped."""
SPACE = f"""
study: tiny
search: {{confirm: null, trials: 99, sampler: random, early_stopping: none}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}}}
  training: {{epochs: {EPOCHS}}}
"""


@dataclass(frozen=True)
class Tables:
    trials: pd.DataFrame
    epochs: pd.DataFrame

    def curve(self, trial_id: str) -> pd.DataFrame:
        """A trial's epochs in the order in which they were logged."""
        return self.epochs[self.epochs.trial_id == trial_id].sort_values("seq")


def read(study: Path) -> Tables:
    return Tables(pd.read_parquet(study / "trials"), pd.read_parquet(study / "epochs"))


Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text()


@dataclass(frozen=True)
class Interrupted:
    """A search that was interrupted once.

    Attributes:
        folder: where it was started.
        status: its exit status.
        before: what its log held just before.
        left: what its log held at its end.
    """

    folder: Path
    status: int
    said: str
    before: Tables
    left: Tables

    @property
    def study(self) -> Path:
        return self.folder / "results" / "mine"

    @property
    def command(self) -> str:
        """The printed command that goes on."""
        (line,) = [line for line in self.said.splitlines() if line.endswith("--resume")]
        return line.strip()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, started: Started) -> Interrupted:
    folder = tmp_path_factory.mktemp("interrupted")
    study = folder / "results" / "mine"
    (folder / "my space.yaml").write_text(SPACE)
    words = ["--space", "my space.yaml", "--set", f"search.trials={TRIALS}", "--name", "mine"]
    with started(folder, *held_search("t0001", STOPPED, *words)) as search:
        wait_for_epochs(search, study, EPOCHS + STOPPED - 1, folder / "said.txt")
        before = read(study)
        os.killpg(search.pid, signal.SIGINT)
        status = search.wait(timeout=120)
    return Interrupted(folder, status, said(folder), before, read(study))


@pytest.fixture(scope="module")
def finished(interrupted: Interrupted, started: Started) -> tuple[int, Tables, str]:
    """What the printed command, typed in the same folder, makes of it."""
    with started(interrupted.folder, "sh", "-c", interrupted.command) as search:
        status = search.wait(timeout=600)
    return status, read(interrupted.study), said(interrupted.folder)


def test_the_trial_under_way_ends_its_epoch(interrupted: Interrupted) -> None:
    assert list(interrupted.left.trials.status) == [TrialStatus.COMPLETED, TrialStatus.RUNNING]
    assert list(interrupted.left.trials.epochs) == [EPOCHS, STOPPED]


def test_ctrl_c_exits_130_without_a_traceback(interrupted: Interrupted) -> None:
    assert interrupted.status == 130, interrupted.said
    assert "Traceback" not in interrupted.said
    assert (
        "stopping: waiting for the trial to finish its epoch and save; Ctrl-C again stops at once" in interrupted.said
    )
    assert "interrupted, this run took" in interrupted.said


def test_every_epoch_of_before_is_kept(interrupted: Interrupted) -> None:
    before, left = interrupted.before.epochs, interrupted.left.epochs
    assert len(before) == EPOCHS + STOPPED - 1
    pd.testing.assert_frame_equal(left.head(len(before)).reset_index(drop=True), before)


def test_each_trial_s_row_counts_its_logged_epochs(interrupted: Interrupted) -> None:
    left = interrupted.left
    for trial_id, epochs in zip(left.trials.trial_id, left.trials.epochs, strict=True):
        assert list(left.curve(trial_id).epoch) == list(range(1, epochs + 1))


def test_the_printed_command_names_the_study(interrupted: Interrupted) -> None:
    words = shlex.split(interrupted.command)
    assert words[1:3] == ["-m", "plgan_tune.search"]
    assert "--in-process" in words
    assert words[words.index("--name") + 1] == "mine"
    assert words[words.index("--space") + 1] == "my space.yaml"
    assert words[words.index("--set") + 1] == f"search.trials={TRIALS}"


def test_the_printed_command_finishes_the_study(finished: tuple[int, Tables, str]) -> None:
    status, tables, text = finished
    assert status == 0, text
    assert "--resume" not in text
    assert sorted(tables.trials.number) == list(range(TRIALS))
    assert tables.trials.trial_id.is_unique
    assert set(tables.trials.status) == {TrialStatus.COMPLETED}
    assert tables.trials.ended_at.notna().all()
    assert (tables.trials.epochs == EPOCHS).all()


def test_what_was_there_at_the_interruption_still_is(
    interrupted: Interrupted, finished: tuple[int, Tables, str]
) -> None:
    _, tables, _ = finished
    left = interrupted.left.epochs
    pd.testing.assert_frame_equal(tables.epochs.head(len(left)).reset_index(drop=True), left)
    params = [column for column in tables.trials.columns if column.startswith("params_")]
    known = tables.trials.set_index("trial_id").loc[interrupted.left.trials.trial_id, params]
    pd.testing.assert_frame_equal(known, interrupted.left.trials.set_index("trial_id")[params])


def test_epochs_are_unique_and_their_numbers_complete(finished: tuple[int, Tables, str]) -> None:
    _, tables, _ = finished
    assert not tables.epochs.duplicated(["trial_id", "attempt", "epoch"]).any()
    assert list(tables.epochs.seq) == list(range(TRIALS * EPOCHS))
    for trial_id in tables.trials.trial_id:
        assert list(tables.curve(trial_id).epoch) == list(range(1, EPOCHS + 1))


def test_a_resumed_trial_goes_on_where_it_stopped(interrupted: Interrupted, finished: tuple[int, Tables, str]) -> None:
    """In a second attempt; of the trials that had ended there is none."""
    _, tables, _ = finished
    left = interrupted.left.trials
    for trial_id, epochs, status in zip(left.trial_id, left.epochs, left.status, strict=True):
        to_come = EPOCHS - epochs if status == TrialStatus.RUNNING else 0
        assert list(tables.curve(trial_id).attempt) == [1] * epochs + [2] * to_come


def test_sigterm_on_a_terminal_leaves_no_torn_picture(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    words = [sys.executable, "-m", "plgan_tune.search", "--space", "space.yaml", "--in-process", "--name", "mine"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, words, os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    written, asked = b"", False
    with suppress(OSError):  # the terminal's end
        while part := os.read(terminal, 65536):
            written += part
            if not asked and b"t0001" in written:
                os.kill(pid, signal.SIGTERM)
                asked = True
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130, written
    lines = lines_on_screen(written.decode())
    assert [line for line in lines if "running for" in line or line.startswith("trial ")] == []
    told = lines.index("Stopping. If the process is killed first, resume with:")
    assert lines[told + 1].endswith("--name mine --resume")
    assert any("mine: interrupted, this run took" in line for line in lines[told:])


def test_a_terminal_that_closes_stops_a_search_as_ctrl_c_does(tmp_path: Path) -> None:
    """As when a connection to the machine is lost. Nothing can be written to that terminal any more."""
    study = tmp_path / "results" / "mine"
    (tmp_path / "space.yaml").write_text(SPACE)
    words = held_search("t0000", STOPPED, "--space", "space.yaml", "--name", "mine")
    ours, theirs = pty.openpty()

    def at_a_terminal() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup this process ignores it
        os.login_tty(theirs)

    few_words = os.environ | {"TERM": "dumb"}  # nobody reads them, and a terminal takes 4 KiB
    search = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=few_words,
        text=True,
        preexec_fn=at_a_terminal,  # noqa: PLW1509 - this process has no threads
    )
    os.close(theirs)
    try:
        wait_for_epochs(search, study, STOPPED - 1, tmp_path / "said.txt")
        os.close(ours)
        assert search.wait(timeout=300) == 130
    finally:
        search.kill()
    assert list(read(study).trials.epochs) == [STOPPED]
    assert (study / "report.html").exists()
