"""Machines for one test: processes, network and temporary folders of their own, which all end with it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which

import pandas as pd
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]

INIT = """
import signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:
    time.sleep(60)
"""
"""A machine's first process: it buries the orphans, and the kernel ends all others with it."""

APART = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]

BOOT = """
mkdir -p /tmp/ray && mount -t tmpfs tmpfs /tmp/ray && mount -t tmpfs tmpfs /dev/shm && ip link set lo up && exec "$@"
"""


@dataclass(frozen=True)
class Machine:
    """A stand-in of a machine, by Linux namespaces.

    Attributes:
        pid: of its first process.
        home: its user's folder.
    """

    pid: int
    home: Path

    @property
    def environ(self) -> Mapping[str, str]:
        """The user's, with this checkout and its Python, and none of the test's own Ray."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return kept | {
            "HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PLGAN_TUNE_CACHE": str(self.home / "cache"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def words(self, *words: str, folder: Path | None = None) -> list[str]:
        """The command line that runs `words` on this machine, in `folder` or at home."""
        inside = 'cd "$1" && shift && exec "$@"'
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net"]
        return [*enter, "--", "sh", "-c", inside, "sh", str(folder or self.home), *words]

    def run(self, *words: str, folder: Path | None = None, timeout: float = 120, **environ: str) -> str:
        """Runs to the end and answers what was printed; a failed command fails the test with it."""
        done = subprocess.run(
            self.words(*words, folder=folder),
            env={**self.environ, **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{words} ended with {done.returncode}: {done.stdout}"
        return done.stdout

    def start(self, *words: str, said: Path, folder: Path | None = None, **environ: str) -> subprocess.Popen[str]:
        """Runs beside the test; `said` gets what it prints. It ends with the machine."""
        with said.open("a") as out:
            return subprocess.Popen(
                self.words(*words, folder=folder),
                env={**self.environ, **environ},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
            )

    def signal(self, command: subprocess.Popen[str], number: signal.Signals) -> None:
        """To what was started by `start`, not to the command that went in."""
        (inside,) = psutil.Process(command.pid).children()
        inside.send_signal(number)

    def kill(self) -> None:
        """Pulls the plug."""
        psutil.Process(self.pid).kill()


@contextmanager
def _machine(home: Path) -> Iterator[Machine]:
    home.mkdir(parents=True)
    with subprocess.Popen(
        [*APART, "sh", "-c", BOOT, "sh", sys.executable, "-c", INIT], stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert first.stdout is not None
            assert first.stdout.readline() == "up\n"
            (init,) = psutil.Process(first.pid).children()
            yield Machine(init.pid, home)
        finally:
            first.kill()


@pytest.fixture
def machine() -> Callable[[Path], AbstractContextManager[Machine]]:
    """Brings up a machine whose user's folder is a new one."""
    if os.geteuid() != 0:
        pytest.skip("needs root: namespaces for processes, mounts and network")
    missing = [program for program in ("unshare", "nsenter", "ip", "mount", "ps") if which(program) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    tried = subprocess.run([*APART, "sh", "-c", BOOT, "sh", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"needs namespaces, which this machine refuses: {tried.stderr.strip()}")
    return _machine


def _assert_whole(study: Path, trials: int, epochs: int) -> None:
    rows = pd.read_parquet(study / "trials")
    assert sorted(rows["number"]) == list(range(trials))
    assert set(rows["status"]) == {"completed"}
    log = pd.read_parquet(study / "epochs")
    assert sorted(log["seq"]) == list(range(trials * epochs))
    assert not log.duplicated(["trial_id", "epoch"]).any()


@pytest.fixture
def assert_whole() -> Callable[[Path, int, int], None]:
    """Every trial of a study finished once, and every epoch is there once."""
    return _assert_whole
