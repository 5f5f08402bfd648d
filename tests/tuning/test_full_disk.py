"""A disk that is full for a while costs nothing: rows wait, trials go on, checkpoints are tried again."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from plgan_tune.records import TrialStatus
from tests.waiting import held_search, wait_for_epochs, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.root]

EPOCHS, HELD = 40, 10
"""The first trial waits before epoch HELD until the disk is full."""
SPACE = f"""
study: full
search: {{confirm: null, trials: 99999, sampler: random, early_stopping: none}}
trial:
  data: {{source: digits, labels: 20, validation: 100}}
  model: {{kind: mlp, width: 0.1}}
  loss: {{alpha: {{uniform: [0.05, 1.0]}}}}
  training: {{epochs: {EPOCHS}, checkpoint_every: 1}}
"""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 MiB; skips where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(ballast: Path) -> None:
    """Adds to it what room there is: a file that was being replaced gives room back."""
    with ballast.open("ab", buffering=0) as file:
        for size in (2**20, 1):  # to the last byte
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue


def ended(study: Path) -> pd.DataFrame:
    trials = pd.read_parquet(study / "trials")
    return trials[trials["status"] == TrialStatus.COMPLETED]


def test_nothing_is_missing_after_the_disk_was_full(tmp_path: Path, small_disk: Path, started: Started) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    study, ballast, said = small_disk / "mine", small_disk / "ballast", tmp_path / "said.txt"
    options = ["--space", "space.yaml", "--results", str(small_disk), "--name", "mine"]
    with started(tmp_path, *held_search("t0000", HELD, *options)) as search:
        wait_for_epochs(search, study, HELD - 1, said)
        fill(ballast)
        full_at = datetime.now(UTC)
        (tmp_path / "go").touch()

        def fails_on_a_full_disk() -> bool:
            fill(ballast)
            return "results wait in memory" in said.read_text()

        wait_until(fails_on_a_full_disk, "the failure's report", said, search, seconds=120)
        time.sleep(10)
        assert search.poll() is None, said.read_text()
        freed_at = datetime.now(UTC)
        ballast.unlink()
        wait_until(lambda: not ended(study).empty, "a trial's end", said, search)
        search.send_signal(signal.SIGTERM)
        assert search.wait(timeout=120) == 130, said.read_text()
    assert "No space left on device" in said.read_text()
    assert "results are written again" in said.read_text()
    trials, epochs = pd.read_parquet(study / "trials"), pd.read_parquet(study / "epochs")
    assert set(trials["status"]) <= {TrialStatus.COMPLETED, TrialStatus.RUNNING}
    assert set(trials["attempt"]) == {1}  # the disk was no trial's fault
    assert epochs["seq"].tolist() == list(range(len(epochs)))
    for trial_id, trained in zip(trials["trial_id"], trials["epochs"], strict=True):
        assert epochs.loc[epochs["trial_id"] == trial_id, "epoch"].tolist() == list(range(1, trained + 1))
    assert epochs["reported_at"].between(full_at, freed_at).any()  # training went on meanwhile
    best = ended(study).nsmallest(1, "val_error_last")["trial_id"].item()
    assert list((study / "checkpoints" / best).glob(f"*-epoch-{EPOCHS:06d}.pt"))
    assert list((study / "checkpoints" / best).glob("samples.png"))
