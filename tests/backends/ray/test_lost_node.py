"""Clusters of several nodes, one of which is lost in mid-search."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plgan_tune.records import TrialStatus
from tests.waiting import wait_for_epochs

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def space(trials: int, ranks: int, epochs: int) -> str:
    """All trials at a time, and no failure allowed. Ranks have more to compute than to tell each other.

    Args:
        epochs: so many that on no machine a trial ends before its first are in the log and its node is lost.
    """
    return f"""
study: lost
search:
  {{confirm: null, trials: {trials}, concurrent: {trials}, sampler: random, early_stopping: none, max_failures: 0}}
resources: {{ranks: {ranks}, gpus_per_rank: 0}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.2}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}, switch_epoch: 6}}
  training: {{epochs: {epochs}, batch_size: 50, checkpoint_every: 1}}
"""


Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@dataclass(frozen=True)
class Bereft:
    """What a search left that lost a node.

    Attributes:
        before: its epochs just before.
    """

    before: pd.DataFrame
    trials: pd.DataFrame
    epochs: pd.DataFrame


Bereave = Callable[..., Bereft]


@pytest.fixture
def bereave(cluster: Any, tmp_path: Path, started: Started) -> Bereave:
    """Searches `text` on so many nodes, of which one is killed after `at_least` epochs, `spare` coming in its place."""

    def search(text: str, nodes: int, at_least: int, spare: int = 0) -> Bereft:
        (tmp_path / "space.yaml").write_text(text)
        study = tmp_path / "results" / "mine"
        for _ in range(nodes):
            cluster.add_node(num_cpus=1)
        words = ["--space", "space.yaml", "--name", "mine", "--address", cluster.address]
        with started(tmp_path, sys.executable, "-m", "plgan_tune.search", *words) as command:
            wait_for_epochs(command, study, at_least, tmp_path / "said.txt")
            before = pd.read_parquet(study / "epochs")
            lost = next(iter(cluster.worker_nodes))
            for _ in range(spare):
                cluster.add_node(num_cpus=1)
            cluster.remove_node(lost, allow_graceful=False)
            status = command.wait(timeout=600)
        assert status == 0, (tmp_path / "said.txt").read_text()
        return Bereft(before, pd.read_parquet(study / "trials"), pd.read_parquet(study / "epochs"))

    return search


def test_a_gang_that_loses_a_node_has_another_attempt_and_no_failure(bereave: Bereave) -> None:
    epochs = 24
    left = bereave(space(trials=1, ranks=2, epochs=epochs), nodes=2, at_least=2, spare=1)
    assert len(left.before) < epochs  # else nothing was lost
    (trial,) = left.trials.itertuples()
    assert (trial.status, trial.attempt) == (TrialStatus.COMPLETED, 2)
    assert sorted(left.epochs["epoch"]) == list(range(1, epochs + 1))


def test_a_lost_node_s_trial_goes_on_elsewhere_from_its_checkpoint(bereave: Bereave) -> None:
    """A trial a node. The two that are left finish theirs, and the third one's."""
    epochs = 40
    left = bereave(space(trials=3, ranks=1, epochs=epochs), nodes=3, at_least=6)
    assert left.before.groupby("trial_id")["epoch"].max().max() < epochs  # else nothing was lost
    assert sorted(left.trials["number"]) == [0, 1, 2]
    assert set(left.trials["status"]) == {TrialStatus.COMPLETED}
    assert sorted(left.trials["attempt"]) == [1, 1, 2]
    log = left.epochs.sort_values("seq")
    assert list(log["seq"]) == list(range(3 * epochs))
    for trial in left.trials.itertuples():
        curve = log[log["trial_id"] == trial.trial_id]
        assert list(curve["epoch"]) == list(range(1, epochs + 1))
        assert curve["attempt"].is_monotonic_increasing
        assert curve["attempt"].nunique() == trial.attempt  # what the lost attempt had trained is kept
