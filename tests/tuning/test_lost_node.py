"""A gang over several nodes, one of which is lost in mid-search."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
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


Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


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


def test_a_lost_node_costs_an_attempt_but_no_failure(
    cluster: Any, tmp_path: Path, started: Started, wait_for_epochs: Callable[..., None]
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    study = tmp_path / "results" / "mine"
    words = ["--space", "space.yaml", "--name", "mine", "--address", cluster.address]
    with started(tmp_path, sys.executable, "-m", "plgan_tune.search", *words) as search:
        wait_for_epochs(search, study, at_least=2)
        before = len(pd.read_parquet(study / "epochs"))
        lost = next(iter(cluster.worker_nodes))
        cluster.add_node(num_cpus=1)
        cluster.remove_node(lost, allow_graceful=False)
        status = search.wait(timeout=300)
    assert status == 0, (tmp_path / "said.txt").read_text()
    assert 2 <= before < EPOCHS  # else nothing was lost
    (trial,) = pd.read_parquet(study / "trials").itertuples()
    assert (trial.status, trial.attempt) == (TrialStatus.COMPLETED, 2)
    assert sorted(pd.read_parquet(study / "epochs")["epoch"]) == list(range(1, EPOCHS + 1))
