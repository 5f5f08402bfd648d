"""A gang over several nodes, one of which is lost in mid-search."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plgan_tune.records import TrialStatus

pytestmark = [pytest.mark.ray, pytest.mark.slow]

EPOCHS = 12
SPACE = f"""
study: gang
search: {{trials: 1, concurrent: 1, sampler: random, early_stopping: none, max_failures: 0}}
resources: {{ranks: 2, gpus_per_rank: 0}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}, switch_epoch: 6}}
  training: {{epochs: {EPOCHS}, batch_size: 10, checkpoint_every: 1}}
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without a CPU and two nodes of one each: a gang of two ranks sits on both."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - seconds

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def logged(study: Path) -> int:
    parts = study / "epochs"
    return len(pd.read_parquet(parts)) if parts.is_dir() and any(parts.glob("*.parquet")) else 0


def test_a_lost_node_costs_an_attempt_but_no_failure(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    study = tmp_path / "results" / "mine"
    words = ["--space", "space.yaml", "--name", "mine", "--address", cluster.address]
    with (
        (tmp_path / "said.txt").open("w") as said,
        subprocess.Popen(
            [sys.executable, "-m", "plgan_tune.search", *words],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as search,
    ):
        try:
            for _ in range(1200):
                if search.poll() is not None or logged(study) >= 2:
                    break
                time.sleep(0.1)
            before = logged(study)
            lost = next(iter(cluster.worker_nodes))
            cluster.add_node(num_cpus=1)
            cluster.remove_node(lost, allow_graceful=False)
            status = search.wait(timeout=300)
        finally:
            if search.poll() is None:
                os.killpg(search.pid, signal.SIGKILL)
    assert status == 0, (tmp_path / "said.txt").read_text()
    assert 2 <= before < EPOCHS  # else nothing was lost
    (trial,) = pd.read_parquet(study / "trials").itertuples()
    assert (trial.status, trial.attempt) == (TrialStatus.COMPLETED, 2)
    assert sorted(pd.read_parquet(study / "epochs")["epoch"]) == list(range(1, EPOCHS + 1))
