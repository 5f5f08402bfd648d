"""A disk that is full for a while costs nothing: rows wait, trials go on, checkpoints are tried again."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.root]

EPOCHS = 12
SPACE = f"""
study: full
search: {{trials: 4, sampler: random, concurrent: 2}}
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
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 1):  # to the last byte
            try:
                while True:
                    file.write(b"0" * size)
            except OSError:
                continue


def test_nothing_is_missing_after_the_disk_was_full(
    tmp_path: Path, small_disk: Path, started: Started, wait_for_epochs: Callable[..., None]
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    study, ballast = small_disk / "mine", small_disk / "ballast"
    options = ["--space", "space.yaml", "--results", str(small_disk), "--name", "mine"]
    with started(tmp_path, sys.executable, "-m", "plgan_tune.search", *options) as search:
        wait_for_epochs(search, study, 3, tmp_path / "said.txt")
        fill(ballast)
        full_at = datetime.now(UTC)
        said = tmp_path / "said.txt"
        deadline = time.monotonic() + 120
        while "results wait in memory" not in said.read_text():
            assert search.poll() is None, said.read_text()
            assert time.monotonic() < deadline, said.read_text()
            time.sleep(0.2)
        time.sleep(10)
        assert search.poll() is None, said.read_text()
        freed_at = datetime.now(UTC)
        ballast.unlink()
        assert search.wait(timeout=600) == 0, said.read_text()
    assert "No space left on device" in said.read_text()
    assert "results are written again" in said.read_text()
    trials, epochs = pd.read_parquet(study / "trials"), pd.read_parquet(study / "epochs")
    assert trials["status"].tolist() == ["completed"] * 4
    assert trials["attempt"].tolist() == [1] * 4  # the disk was no trial's fault
    assert epochs["seq"].tolist() == list(range(4 * EPOCHS))
    assert not epochs.duplicated(["trial_id", "epoch"]).any()
    assert epochs["reported_at"].between(full_at, freed_at).any()  # training went on meanwhile
    best = trials.nsmallest(1, "val_error_last")["trial_id"].item()
    assert list((study / "checkpoints" / best).glob(f"*-epoch-{EPOCHS:06d}.pt"))
    assert list((study / "checkpoints" / best).glob("samples.png"))
