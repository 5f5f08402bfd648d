"""Searches on Ray, and clusters of several nodes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.backends.ray.backend import RayBackend
from plgan_tune.config.study import StudySpec
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.factories import Search


@pytest.fixture
def search(embedded_ray: None, tmp_path: Path) -> Search:
    def run(spec: StudySpec, name: str = "study", **options: Any) -> StudyResult:
        return run_study(spec, backend=RayBackend(), results=tmp_path, name=name, **options)

    return run


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without a CPU; tests add nodes to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - seconds

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield nodes
    nodes.shutdown()
