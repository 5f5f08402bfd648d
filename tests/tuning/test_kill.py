"""A search whose driver is killed, time and again, at moments that nobody chose."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest

from plgan_tune.config.load import load_study
from plgan_tune.records import DecisionRow, EpochRow, Verdict
from plgan_tune.store.location import Location
from plgan_tune.store.read import decision_rows, epoch_rows, read_decisions, read_epochs
from plgan_tune.study.early_stopping import build_rule, replayed
from tests.waiting import wait_for_epochs

pytestmark = pytest.mark.slow

KILLS = 8
EPOCHS = 12
SPACE = f"""
study: killed
search: {{confirm: null, trials: 9999, early_stopping: {{asha: {{grace_period: 2, reduction_factor: 2}}}}}}
resources: {{gpus_per_rank: 0}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}, switch_epoch: 6}}
  training: {{epochs: {EPOCHS}, batch_size: 10, checkpoint_every: 1}}
"""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def logged(study: Path) -> tuple[list[EpochRow], list[DecisionRow]]:
    location = Location.at(study)
    return epoch_rows(read_epochs(location)), decision_rows(read_decisions(location))


def test_nothing_is_lost_or_counted_twice(tmp_path: Path, started: Started) -> None:
    """Kills a search time and again, then lets it end, and holds the log against what it implies.

    Every other time it has logged new epochs before; in between it is killed while it starts and takes up its log.
    """
    (tmp_path / "space.yaml").write_text(SPACE)
    study = tmp_path / "results" / "mine"
    words = [sys.executable, "-m", "plgan_tune.search", "--in-process", "--space", "space.yaml"]
    words += ["--name", "mine", "--resume"]
    moments = random.Random(0)
    epochs: list[EpochRow] = []
    decisions: list[DecisionRow] = []
    for kill in range(KILLS):
        with started(tmp_path, *words) as search:
            if kill % 2 == 0:
                wait_for_epochs(search, study, len(epochs) + 1, tmp_path / "said.txt")
                time.sleep(moments.uniform(0.0, 2.0))
            else:
                time.sleep(moments.uniform(0.0, 6.0))
            os.killpg(search.pid, signal.SIGKILL)
            search.wait(timeout=30)
        before, (epochs, decisions) = (epochs, decisions), logged(study)
        assert epochs[: len(before[0])] == before[0]
        assert decisions[: len(before[1])] == before[1]
    suggested = pd.read_parquet(study / "trials")["number"].max() + 3
    with started(tmp_path, *words, "--set", f"search.trials={suggested}") as search:
        assert search.wait(timeout=600) == 0, (tmp_path / "said.txt").read_text()
    last, (epochs, decisions) = (epochs, decisions), logged(study)
    assert epochs[: len(last[0])] == last[0]
    assert decisions[: len(last[1])] == last[1]
    trials = pd.read_parquet(study / "trials")

    assert [row.seq for row in epochs] == list(range(len(epochs)))
    curves = pd.DataFrame({"trial_id": row.trial_id, "epoch": row.metrics.epoch} for row in epochs)
    for _, curve in curves.groupby("trial_id"):
        assert list(curve["epoch"]) == list(range(1, len(curve) + 1))  # checkpoints follow each epoch
    assert sorted(trials["number"]) == list(range(suggested))
    assert trials["attempt"].max() > 1
    latest = {row.trial_id: row.seq for row in epochs}
    last_own = trials["trial_id"].map(latest)
    assert (last_own < trials["seq"]).all()
    assert (trials["seq"] <= len(epochs)).all()

    spec = load_study(tmp_path / "space.yaml").study
    implied = replayed(
        [row.report() for row in epochs], build_rule(spec), {trial_id: {} for trial_id in trials["trial_id"]}, EPOCHS
    )
    assert list(implied) == decisions
    stopped = {row.trial_id for row in decisions if row.verdict is Verdict.STOP}
    assert stopped == set(trials.loc[trials["status"] == "stopped", "trial_id"])
    assert stopped
    assert set(trials.loc[trials["status"] != "stopped", "status"]) == {"completed"}
    assert set(trials.loc[trials["status"] == "completed", "epochs"]) == {EPOCHS}
