"""What a search's own Ray leaves on a machine: in its temporary folders, and in its user's the token."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from plgan_tune.backends.ray.scratch import OWNER, PREFIX, mark, remove_left_behind, scratch_folder
from tests.waiting import wait_for_epochs

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def folder_of_a_dead_process(folder: Path) -> Path:
    folder.mkdir()
    (folder / "sockets").mkdir()
    (folder / "sockets" / "file").write_text("x")
    code = f"from pathlib import Path; from plgan_tune.backends.ray.scratch import mark; mark(Path({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    return folder


def test_only_marked_folders_of_dead_processes_go(tmp_path: Path) -> None:
    dead = folder_of_a_dead_process(tmp_path / "session_dead")
    elsewhere = folder_of_a_dead_process(tmp_path / "another_name")
    mine, foreign, damaged = (tmp_path / f"session_{name}" for name in ("mine", "foreign", "damaged"))
    for folder in (mine, foreign, damaged):
        folder.mkdir()
    mark(mine)
    (damaged / OWNER).write_text("{")
    link = tmp_path / "session_latest"
    link.symlink_to(elsewhere)
    marked_by_a_link = tmp_path / "session_lured"
    marked_by_a_link.mkdir()
    (marked_by_a_link / OWNER).symlink_to(elsewhere / OWNER)
    remove_left_behind(tmp_path, "session_")
    assert not dead.exists()
    for folder in (elsewhere, mine, foreign, damaged, link, marked_by_a_link):
        assert folder.exists()


def test_a_scratch_folder_goes_at_its_end_and_a_dead_one_at_the_next_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = folder_of_a_dead_process(tmp_path / f"{PREFIX}dead")
    with scratch_folder() as first, scratch_folder() as second:
        assert not dead.exists()
        assert {first, second} == set(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of commands the folder for temporary files; Ray's sockets in it need a short path."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


SPACE = """
study: left
search: {confirm: null, trials: 1, sampler: random, early_stopping: none}
trial:
  data: {source: digits, labels: 20, validation: 200}
  model: {width: 0.05}
  loss: {alpha: {uniform: [0.1, 1.0]}}
  training: {epochs: 9999, batch_size: 50}
"""


@pytest.mark.ray
@pytest.mark.slow
def test_what_a_killed_search_has_left_goes_with_the_next(
    tmp_path: Path, temporary: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for Ray's token, which is its owner's alone."""
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)

    def folders() -> set[Path]:
        return {*temporary.glob(f"{PREFIX}*"), *temporary.glob("ray/session_2*")}

    foreign = temporary / "ray" / "session_2026-01-01_00-00-00_000000_1"
    foreign.mkdir(parents=True)
    words = [sys.executable, "-m", "plgan_tune.search", "--space", "space.yaml", "--name"]
    with started(tmp_path, *words, "killed") as search:
        wait_for_epochs(search, tmp_path / "results" / "killed", 1, tmp_path / "said.txt")
        os.killpg(search.pid, signal.SIGKILL)
    left = folders() - {foreign}
    assert len(left) == 2
    with started(tmp_path, *words, "next", "--set", "trial.training.epochs=1") as search:
        assert search.wait(timeout=300) == 0, (tmp_path / "said.txt").read_text()
    assert foreign in folders()
    assert not left & folders()
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
