"""A search whose own Ray dies under it."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.waiting import wait_for_epochs

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 60
"""So that on no machine the trials end before the first epochs are in the log."""
SPACE = f"""
study: bereft
search: {{confirm: null, trials: 2, concurrent: 2, sampler: random, early_stopping: none}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}}}
  training: {{epochs: {EPOCHS}, batch_size: 50, checkpoint_every: 1}}
"""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_the_command_that_goes_on_is_said_and_does(tmp_path: Path, started: Started, server: str) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    said, study = tmp_path / "said.txt", tmp_path / "results" / "mine"
    with started(
        tmp_path, sys.executable, "-m", "plgan_tune.search", "--space", "space.yaml", "--name", "mine"
    ) as search:
        wait_for_epochs(search, study, 2, said)
        before = pd.read_parquet(study / "epochs")
        (process,) = [child for child in psutil.Process(search.pid).children() if child.name() == server]
        process.kill()
        status = search.wait(timeout=50)  # before Ray's own minute, where the GCS has died
    text = said.read_text()
    assert status == 1, text
    assert "Traceback" not in text
    assert "Raylet is terminated" not in text
    assert "state-dump" not in text
    assert text.splitlines()[-1].endswith("--name mine --resume")
    assert f"Ray has died: its {server} (process {process.pid}) ended with -9" in text
    command = next(line.strip() for line in text.splitlines() if line.endswith("--name mine --resume"))
    assert shlex.split(command)[1:3] == ["-m", "plgan_tune.search"]
    with started(tmp_path, "sh", "-c", command) as search:
        assert search.wait(timeout=600) == 0, said.read_text()
    epochs = pd.read_parquet(study / "epochs")
    assert list(epochs["seq"]) == list(range(len(epochs)))
    pd.testing.assert_frame_equal(epochs.head(len(before)), before)
    assert epochs.groupby("trial_id")["epoch"].max().tolist() == [EPOCHS] * 2
    assert set(pd.read_parquet(study / "trials")["status"]) == {"completed"}
