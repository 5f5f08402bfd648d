"""Commands that run beside the test, what their study's log holds meanwhile, and rows of trials."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.records import TrialRow, TrialStatus, Value
from plgan_tune.spec.study import StudySpec
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.tuning.small import Search


@contextmanager
def _started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a terminal's place: a process group of its own, which is what Ctrl-C interrupts."""
    with (
        (folder / "said.txt").open("w") as said,
        subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as command,
    ):
        try:
            yield command
        finally:
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def started() -> Callable[..., AbstractContextManager[subprocess.Popen[str]]]:
    """Starts a command in a folder, whose said.txt gets what it prints; at the block's end it is killed."""
    return _started


def _make_trial(
    number: int,
    status: TrialStatus = TrialStatus.RUNNING,
    params: Mapping[str, Value] | None = None,
    error: float | None = None,
) -> TrialRow:
    return TrialRow(
        seq=number,
        trial_id=f"t{number}",
        number=number,
        status=status,
        attempt=1,
        epochs=1,
        val_error_last=error,
        val_error_best=error,
        best_epoch=None if error is None else 1,
        params=params or {"loss.alpha": 0.5},
        seed=0,
        split_hash=None,
        seconds=1.0,
        node=None,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        ended_at=None,
        error=None,
    )


@pytest.fixture(scope="session")
def trial_row() -> Callable[..., TrialRow]:
    """A row of the trial of that number: its status, its point and its error at the last epoch."""
    return _make_trial


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without a CPU; tests add nodes to it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    from ray.cluster_utils import Cluster  # noqa: PLC0415 - seconds

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


@pytest.fixture
def search(embedded_ray: None, tmp_path: Path) -> Search:
    def run(spec: StudySpec, name: str = "study", **options: Any) -> StudyResult:
        return run_study(spec, results=tmp_path, name=name, **options)

    return run
