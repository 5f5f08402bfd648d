"""A driver whose machine is suspended, the search that takes its study over, and what the first does when it wakes."""

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from plgan_tune.records import TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.read import read_tables
from tests.waiting import held_search, wait_for_epochs, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces and these clocks are Linux's"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc"),
    pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare"),
]

EPOCHS, TRIALS = 4, 5
HELD = 2
"""The third trial waits before this epoch."""
SPACE = f"""
study: suspended
search:
  {{confirm: null, trials: 9999, sampler: random, early_stopping: {{asha: {{grace_period: 1, reduction_factor: 2}}}}}}
trial:
  data: {{source: digits, labels: 20, validation: 100}}
  model: {{kind: mlp, width: 0.1}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}}}
  training: {{epochs: {EPOCHS}, checkpoint_every: 1}}
"""
ELSEWHERE = ["unshare", "--pid", "--fork", "--mount-proc"]
"""Another PID namespace is another host to a lock: neither sees the other's processes."""

CLOCKS = "import time; print(time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic())"

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


class Machine:
    """What a preloaded library needs to have a process suspended with its machine (suspended.c)."""

    def __init__(self, folder: Path) -> None:
        self._library, self._numbers = folder / "suspended.so", folder / "numbers"
        source = Path(__file__).with_name("suspended.c")
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", self._library, source, "-ldl"], check=True)
        self.say()

    def say(self, seconds_asleep: float = 0.0, stop_inside_a_write: bool = False) -> None:
        numbers = struct.pack("qq", int(seconds_asleep * 1e9), stop_inside_a_write)
        with self._numbers.open("r+b" if self._numbers.exists() else "wb") as file:  # it is mapped
            file.write(numbers)

    def environment(self, stop_before: str) -> dict[str, str]:
        return {"LD_PRELOAD": str(self._library), "SUSPENDED": str(self._numbers), "STOP_BEFORE": stop_before}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "machine").mkdir()
    return Machine(tmp_path / "machine")


@pytest.fixture
def _elsewhere() -> None:
    """Skips where there are no namespaces."""
    done = subprocess.run([*ELSEWHERE, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespace can be made here: {done.stderr.strip()}")


def test_a_suspended_process_has_clocks_that_differ(machine: Machine) -> None:
    def asleep(environment: dict[str, str]) -> float:
        command = [sys.executable, "-c", CLOCKS]
        return float(subprocess.check_output(command, env=os.environ | environment, text=True))

    before = asleep({})
    machine.say(seconds_asleep=1000)
    assert asleep(machine.environment("")) == pytest.approx(before + 1000, abs=1)


@pytest.mark.usefixtures("_elsewhere")
@pytest.mark.parametrize("stopped", ["at rest", "trials/", "epochs/", "decisions/", "_lock.json"])
def test_who_wakes_up_overwrites_nothing_of_its_follower(
    tmp_path: Path, machine: Machine, started: Started, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    """The first search cannot end: it has too many trials, and waits in the third for the file `go`.

    It is stopped there, or as it moves a file into the study, and its clock with it. The second ends the study.
    """
    (tmp_path / "space.yaml").write_text(SPACE)
    results, said = tmp_path / "results", tmp_path / "said.txt"
    study, words = results / "mine", ["--space", "space.yaml", "--results", "results", "--name", "mine"]
    with monkeypatch.context() as asleep:
        for name, value in machine.environment(f"/mine/{stopped}").items():
            asleep.setenv(name, value)
        running = started(tmp_path, *held_search("t0002", HELD, *words))
        first = running.__enter__()
    try:
        wait_for_epochs(first, study, 3, said)
        wait_until((study / "checkpoints" / "t0002").exists, "the third trial", said, first)
        stop(first, machine, tmp_path / "go", stopped)
        asleep_since = time.monotonic()
        follow(words, tmp_path)
        left = contents(study)
        trials = read_tables(Location.at(study)).trials
        assert trials.num_rows >= TRIALS
        assert set(trials.column("status").to_pylist()) == {TrialStatus.COMPLETED, TrialStatus.STOPPED}
        (tmp_path / "go").touch()
        machine.say(seconds_asleep=time.monotonic() - asleep_since)
        first.send_signal(signal.SIGCONT)
        assert first.wait(timeout=300) == 2, said.read_text()
    finally:
        running.__exit__(None, None, None)
    assert "has been taken over by another search, which has ended since" in " ".join(said.read_text().split())
    assert contents(study) == left


def stop(first: "subprocess.Popen[str]", machine: Machine, go: Path, stopped: str) -> None:
    if stopped == "at rest":
        first.send_signal(signal.SIGSTOP)
    else:
        machine.say(stop_inside_a_write=True)
        if stopped != "_lock.json":  # which is renewed while the trial waits
            go.touch()
    process = psutil.Process(first.pid)
    is_stopped: Callable[[], bool] = lambda: process.status() == psutil.STATUS_STOPPED  # noqa: E731
    wait_until(is_stopped, "the stop", go, first)
    go.unlink(missing_ok=True)


def follow(words: list[str], folder: Path) -> None:
    """Waits for the lease to end, then for the study."""
    search = [sys.executable, "-m", "plgan_tune.search", "--in-process", *words, "--resume"]
    command = [*ELSEWHERE, *search, "--set", f"search.trials={TRIALS}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def contents(study: Path) -> dict[str, bytes]:
    """All but what a late driver may write: the mirror, and checkpoints of the trials that it trains meanwhile."""
    files = {str(path.relative_to(study)): path for path in study.rglob("*") if path.is_file()}
    late = re.compile(r"optuna\.log|checkpoints/(?!t0000|t0001)t\d+/.*attempt-001-.*")
    return {name: file.read_bytes() for name, file in files.items() if not late.fullmatch(name)}
