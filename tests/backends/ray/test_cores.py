"""How many cores an embedded Ray gets, and whether torch can use the GPUs that Ray counts."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.ray.connect import connect
from plgan_tune.backends.ray.cores import allowed_cores
from plgan_tune.backends.ray.gpus import gpu_problem

LOOK = "from plgan_tune.backends.ray.cores import allowed_cores; print(allowed_cores())"


@pytest.fixture(autouse=True)
def outside_a_batch_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)


def test_the_affinity_bounds_them() -> None:
    one = min(os.sched_getaffinity(0))
    look = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{one}]); {LOOK}"]
    assert subprocess.run(look, capture_output=True, text=True, check=True).stdout.strip() == "1"


def test_slurm_s_share_bounds_them_where_it_is_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = allowed_cores()
    for told, expected in (("1", 1), ("100000", cores)):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", told)
        assert allowed_cores() == expected


def test_another_word_of_slurm_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2(x3)")
    with pytest.raises(ClusterError, match="SLURM_CPUS_PER_TASK must be a whole number above 0"):
        allowed_cores()


def test_an_embedded_ray_counts_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def init(**given: Any) -> None:
        asked.update(given)
        raise RuntimeError("enough seen")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    with pytest.raises(ClusterError, match="enough seen"):
        connect(None, on_interrupt=lambda: None)
    assert asked["num_cpus"] == 1


def test_a_gpu_that_torch_cannot_use_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as Ray sets it in a task without GPUs
    problem = gpu_problem()
    if torch.cuda.is_available():
        assert problem is None
    else:
        assert problem is not None
        assert "torch cannot use it (" in problem
        assert "resources.gpus_per_rank=0" in problem


@pytest.mark.ray
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_search_on_such_a_node_ends_before_any_trial(cluster: Any, tmp_path: Path) -> None:
    cluster.add_node(num_cpus=1, num_gpus=1)
    searched = subprocess.run(
        [sys.executable, "-m", "plgan_tune.search", "--address", cluster.address, "--set", "search.trials=1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join((searched.stdout + searched.stderr).split())
    assert searched.returncode == 2, said
    assert "Ray counts a GPU here, but torch cannot use it" in said
    assert not (tmp_path / "results").exists()
