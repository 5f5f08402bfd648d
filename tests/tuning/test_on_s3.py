"""A search whose results, checkpoints included, are in a bucket."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from plgan_tune.records import TrialStatus
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location
from plgan_tune.store.read import epoch_rows, read_epochs, read_trials
from tests.waiting import epochs_in, wait_for_epochs, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 8
SPACE = f"""
study: far
search: {{trials: 999, concurrent: 2, sampler: random, early_stopping: none, keep_checkpoints: 1}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}}}
  training: {{epochs: {EPOCHS}, batch_size: 10, checkpoint_every: 1000}}
"""
"""Nothing but a trial's end and the signal saves a checkpoint. No machine is so fast that the search ends by itself.
"""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def test_it_is_stopped_gone_on_with_and_analysed(tmp_path: Path, bucket: str, started: Started) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    study, said = Location.at(f"{bucket}/far/mine"), tmp_path / "said.txt"
    words = [sys.executable, "-m", "plgan_tune.search", "--space", "space.yaml", "--results", f"{bucket}/far"]
    words += ["--name", "mine", "--resume"]
    with started(tmp_path, *words) as search:
        wait_for_epochs(search, study, 3, said)
        search.send_signal(signal.SIGTERM)
        assert search.wait(timeout=120) == 130, said.read_text()
    assert any(line.endswith("--name mine --resume") for line in said.read_text().splitlines())
    assert "_lock.json" not in study.list()
    left = read_trials(study).to_pylist()
    running = [row["trial_id"] for row in left if row["status"] == TrialStatus.RUNNING]
    assert running
    begun = [row["trial_id"] for row in left if row["trial_id"] in running and row["epochs"]]
    assert all(any(TrialFiles.of(study, trial_id).newest_first()) for trial_id in begun)
    before = epoch_rows(read_epochs(study))

    trials = max(row["number"] for row in left) + 2
    with started(tmp_path, *words, "--set", f"search.trials={trials}") as search:
        assert search.wait(timeout=600) == 0, said.read_text()
    rows, epochs = read_trials(study).to_pylist(), epoch_rows(read_epochs(study))
    assert sorted(row["number"] for row in rows) == list(range(trials))
    assert {row["status"] for row in rows} == {TrialStatus.COMPLETED}
    assert {row["attempt"] for row in rows if row["trial_id"] in running} == {2}
    assert epochs[: len(before)] == before
    assert [row.seq for row in epochs] == list(range(trials * EPOCHS))
    (kept,) = study.join("checkpoints").list()
    assert kept == min(rows, key=lambda row: (row["val_error_last"], row["number"]))["trial_id"]
    assert {"study.yaml", "best.yaml", "report.html", "samples.png"} <= set(study.list())
    assert "_lock.json" not in study.list()
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml", "said.txt"}

    with started(tmp_path, sys.executable, "-m", "plgan_tune.analyze", study.url) as analysis:
        assert analysis.wait(timeout=120) == 0, said.read_text()
    assert kept in said.read_text()
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert secret not in said.read_text()
    assert all(secret.encode() not in study.fs.cat_file(file) for file in study.fs.find(study.path))


def ended(study: Location) -> list[dict[str, Any]]:
    return [row for row in read_trials(study).to_pylist() if row["status"] == TrialStatus.COMPLETED]


def serve(port: int = 0) -> ThreadedMotoServer:
    """One more server with the content of the bucket's own: all of a process share it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server


def test_nothing_is_missing_after_the_store_was_away_for_a_minute(
    tmp_path: Path, bucket: str, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens where the search writes; meanwhile the test looks at the bucket through the other server.

    Trials are long enough that none ends before. Where one ends meanwhile, its files wait for the store.
    """
    epochs = 64
    (tmp_path / "space.yaml").write_text(SPACE)
    study, said = Location.at(f"{bucket}/away/mine"), tmp_path / "said.txt"
    study.exists()  # so that this process has its connection
    server = serve()
    _, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    words = [sys.executable, "-m", "plgan_tune.search", "--space", "space.yaml", "--results", f"{bucket}/away"]
    words += ["--name", "mine", "--set", f"trial.training.epochs={epochs}"]
    with started(tmp_path, *words) as search:
        wait_for_epochs(search, study, 3, said)
        server.stop()
        away_at = datetime.now(UTC)
        failed = "results wait in memory and are tried again every 5 s: cannot look for s3://"  # whose study it is
        wait_until(lambda: failed in said.read_text(), "the failure's report", said, search, seconds=50)
        there = epochs_in(study)
        time.sleep(60 - (datetime.now(UTC) - away_at).total_seconds())  # longer than the lock's lease
        assert search.poll() is None, said.read_text()
        assert epochs_in(study) == there
        server, back_at = serve(port), datetime.now(UTC)
        wait_until(lambda: bool(ended(study)), "a trial's end", said, search)
        search.send_signal(signal.SIGTERM)
        assert search.wait(timeout=120) == 130, said.read_text()
        server.stop()
    assert "results are written again" in said.read_text()
    rows, logged = read_trials(study).to_pylist(), epoch_rows(read_epochs(study))
    running = {row["trial_id"] for row in rows if row["status"] == TrialStatus.RUNNING}
    begun = {row["trial_id"] for row in rows if row["trial_id"] in running and row["epochs"]}
    assert {row["status"] for row in rows} <= {TrialStatus.COMPLETED, TrialStatus.RUNNING}
    assert {row["attempt"] for row in rows} == {1}  # the store was no trial's fault
    assert [row.seq for row in logged] == list(range(len(logged)))
    for row in rows:
        curve = [one.metrics.epoch for one in logged if one.trial_id == row["trial_id"]]
        assert curve == list(range(1, row["epochs"] + 1))
    assert all(row["epochs"] == epochs for row in ended(study))
    assert any(away_at < one.reported_at < back_at for one in logged)  # training went on meanwhile
    kept = min(ended(study), key=lambda row: (row["val_error_last"], row["number"]))["trial_id"]
    assert {kept} | begun <= set(study.join("checkpoints").list()) <= {kept} | running
    assert all(any(TrialFiles.of(study, trial_id).newest_first()) for trial_id in (kept, *begun))
