"""A search whose results, checkpoints included, are in a bucket."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plgan_tune.analyze import app as analyze
from plgan_tune.backends import in_process
from plgan_tune.records import TrialStatus
from plgan_tune.search import app as search_command
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location
from plgan_tune.store.read import epoch_rows, read_epochs, read_trials
from tests.factories import interrupting
from tests.waiting import epochs_in, held_search, wait_for_epochs, wait_until

EPOCHS = 8
SPACE = f"""
study: far
search: {{confirm: null, trials: 999, sampler: random, early_stopping: none, keep_checkpoints: 1}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}}}
  training: {{epochs: {EPOCHS}, checkpoint_every: 1000}}
"""
"""Nothing but a trial's end and the signal saves a checkpoint."""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def test_it_is_stopped_gone_on_with_and_analysed(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("space.yaml").write_text(SPACE)
    study = Location.at(f"{bucket}/far/mine")
    words = ["--in-process", "--space", "space.yaml", "--results", f"{bucket}/far", "--name", "mine", "--resume"]
    with monkeypatch.context() as patched:
        patched.setattr(in_process, "TrialWorker", interrupting(signal.SIGTERM, "t0001", epoch=3))
        stopped = CliRunner().invoke(search_command, words)
    assert stopped.exit_code == 130, stopped.output
    assert any(line.endswith("--name mine --resume") for line in stopped.output.splitlines())
    assert "_lock.json" not in study.list()
    assert [(row["status"], row["epochs"]) for row in read_trials(study).to_pylist()] == [
        (TrialStatus.COMPLETED, EPOCHS),
        (TrialStatus.RUNNING, 3),
    ]
    assert any(TrialFiles.of(study, "t0001").newest_first())
    before = epoch_rows(read_epochs(study))

    done = CliRunner().invoke(search_command, [*words, "--set", "search.trials=3"])
    assert done.exit_code == 0, done.output
    rows, epochs = read_trials(study).to_pylist(), epoch_rows(read_epochs(study))
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert {row["status"] for row in rows} == {TrialStatus.COMPLETED}
    assert [row["attempt"] for row in rows] == [1, 2, 1]
    assert epochs[: len(before)] == before
    assert [row.seq for row in epochs] == list(range(3 * EPOCHS))
    (kept,) = study.join("checkpoints").list()
    assert kept == min(rows, key=lambda row: (row["val_error_last"], row["number"]))["trial_id"]
    assert {"study.yaml", "best.yaml", "report.html", "samples.png"} <= set(study.list())
    assert "_lock.json" not in study.list()
    assert {path.name for path in tmp_path.iterdir()} == {"space.yaml"}

    analysis = CliRunner().invoke(analyze, [study.url])
    assert analysis.exit_code == 0, analysis.output
    assert kept in analysis.output
    secret = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert secret not in stopped.output + done.output + analysis.output
    assert all(secret.encode() not in study.fs.cat_file(file) for file in study.fs.find(study.path))


def ended(study: Location) -> list[dict[str, Any]]:
    return [row for row in read_trials(study).to_pylist() if row["status"] == TrialStatus.COMPLETED]


def serve(port: int = 0) -> Any:
    """One more server with the content of the bucket's own: all of a process share it."""
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - a second

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    return server


@pytest.mark.slow
def test_nothing_is_missing_after_the_store_was_away_for_a_minute(
    tmp_path: Path, bucket: str, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens where the search writes; meanwhile the test looks at the bucket through the other server.

    The first trial waits for that moment. Where it ends meanwhile, its files wait for the store.
    """
    epochs, held = 64, 10
    (tmp_path / "space.yaml").write_text(SPACE)
    study, said = Location.at(f"{bucket}/away/mine"), tmp_path / "said.txt"
    study.exists()  # so that this process has its connection
    server = serve()
    _, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    words = ["--space", "space.yaml", "--results", f"{bucket}/away", "--name", "mine"]
    words += ["--set", f"trial.training.epochs={epochs}"]
    with started(tmp_path, *held_search("t0000", held, *words)) as search:
        wait_for_epochs(search, study, held - 1, said)
        server.stop()
        away_at = datetime.now(UTC)
        (tmp_path / "go").touch()
        failed = "results wait in memory and are tried again every 0.2 s: cannot look for s3://"  # whose study it is
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
