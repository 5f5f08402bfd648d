"""Commands that run beside the test, and what their study's log holds meanwhile."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd
import pytest


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


def _wait_for_epochs(search: subprocess.Popen[str], study: Path, at_least: int, said: Path | None = None) -> None:
    """Until the log on disk holds so many epochs. `said` is what the search prints, default beside its results."""
    said = said or study.parents[1] / "said.txt"
    for _ in range(2400):
        if search.poll() is not None:
            raise AssertionError(f"the search ended by itself with {search.returncode}: {said.read_text()}")
        parts = study / "epochs"
        if parts.is_dir() and any(parts.glob("*.parquet")) and len(pd.read_parquet(parts)) >= at_least:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {at_least} epochs within two minutes: {said.read_text()}")


@pytest.fixture(scope="session")
def started() -> Callable[..., AbstractContextManager[subprocess.Popen[str]]]:
    """Starts a command in a folder, whose said.txt gets what it prints; at the block's end it is killed."""
    return _started


@pytest.fixture(scope="session")
def wait_for_epochs() -> Callable[..., None]:
    return _wait_for_epochs
