"""Clusters that grow: what the autoscaler's file allows, and what `auto` says there."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.ray.autoscaler import Growth, growth_of, read_growth
from plgan_tune.backends.ray.connect import share_of, trials_at_a_time
from plgan_tune.config.study import ResourcesSpec
from plgan_tune.study.trial_resources import TrialResources

LISTS = (
    *("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files"),
)
CONFIG: Mapping[str, Any] = {
    **{key: [] for key in LISTS},
    **{key: {} for key in ("auth", "docker", "file_mounts")},
    "idle_timeout_minutes": 5,
    "upscaling_speed": 1,
    "cluster_name": "growing",
    "max_workers": 4,
    "head_node_type": "head",
    "provider": {"type": "fake_multinode", "head_node_id": "head"},
    "available_node_types": {
        "head": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
        "small": {"resources": {"CPU": 4}, "node_config": {}, "min_workers": 0, "max_workers": 3},
        "large": {"resources": {"CPU": 8, "GPU": 2}, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
}
SMALL, LARGE = {"CPU": 4}, {"CPU": 8, "GPU": 2}
GROWTH = Growth((SMALL, SMALL, SMALL, LARGE, LARGE), 4)


def test_growth_is_every_node_that_the_types_allow() -> None:
    assert growth_of(CONFIG) == GROWTH


def test_a_type_without_a_bound_has_the_clusters() -> None:
    config = {"max_workers": 2, "available_node_types": {"any": {"resources": SMALL}}}
    assert growth_of(config) == Growth((SMALL, SMALL), 2)


@pytest.mark.parametrize(
    ("share", "trials"),
    [
        (TrialResources(1, 1, 0), 1 + 2 * 8 + 2 * 4),  # the head, and of five possible nodes the four that hold most
        (TrialResources(1, 1, 1), 4),
        (TrialResources(4, 2, 1), 1),
        (TrialResources(8, 1, 0), 3),
    ],
)
def test_trials_are_counted_over_what_may_be_added(share: TrialResources, trials: int) -> None:
    assert trials_at_a_time(share, [{"CPU": 1}], GROWTH) == trials


def test_a_gang_beyond_all_growth_is_refused_with_the_numbers() -> None:
    with pytest.raises(ClusterError) as refused:
        trials_at_a_time(TrialResources(5, 1, 1), [{"CPU": 1}], GROWTH)
    for text in ("5 x (1 CPU, 1 GPU)", "it has 1 CPU and 0 GPU", "up to 4 of 3 x (4 CPU and 0 GPU), 2 x (8 CPU and 2"):
        assert text in str(refused.value)


def test_auto_takes_a_gpu_where_one_may_be_added() -> None:
    assert share_of(ResourcesSpec(), [{"CPU": 1}, *GROWTH.nodes]).gpus == 1


def test_another_clusters_autoscaler_is_left_alone() -> None:
    assert read_growth("192.0.2.1:6379") is None


Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def growing(tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a real Ray head that was started with an autoscaler's file."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    (tmp_path / "autoscaler.json").write_text(json.dumps(CONFIG))
    words = ["--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=1"]
    words += ["--include-dashboard=false", f"--autoscaling-config={tmp_path / 'autoscaler.json'}"]
    monkeypatch.setenv("RAY_FAKE_CLUSTER", "1")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with started(tmp_path, sys.executable, "-m", "ray.scripts.scripts", "start", *words) as head:
        for _ in range(600):
            if "Ray runtime started" in (tmp_path / "said.txt").read_text():
                break
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(timeout=20)


@pytest.mark.ray
@pytest.mark.slow
def test_auto_is_refused_where_the_cluster_grows(growing: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "plgan_tune.search", "--address", growing, "--results", str(tmp_path / "results")]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert said.returncode == 2, said.stdout + said.stderr
    text = " ".join((said.stdout + said.stderr).split())
    assert "search.concurrent=auto, resources.gpus_per_rank=auto" in text
    assert "4 trials of 1 x (1 CPU, 1 GPU)" in text
