"""Waiting for what another process does, and no longer than is said."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from plgan_tune.store.location import Location
from plgan_tune.store.read import read_epochs


def held_search(trial_id: str, epoch: int, *words: str) -> list[str]:
    """The command that searches in one process, its trial held before the epoch: see `held_search.py`."""
    return [sys.executable, "-P", str(Path(__file__).with_name("held_search.py")), trial_id, str(epoch), *words]


def wait_until(
    true: Callable[[], bool],
    what: str,
    said: Path,
    process: subprocess.Popen[str] | None = None,
    seconds: float = 300,
) -> None:
    """Until `true`, and as long as `process` runs, else fails with `what` was waited for and what the process said."""
    end = time.monotonic() + seconds
    while not true():
        told = said.read_text() if said.exists() else ""
        assert process is None or process.poll() is None, f"{what}: the process ended before; {told}"
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s; {told}"
        time.sleep(0.1)


def wait_for_epochs(search: subprocess.Popen[str], study: Path | Location, at_least: int, said: Path) -> None:
    wait_until(lambda: epochs_in(study) >= at_least, f"{at_least} epochs", said, search)


def epochs_in(study: Path | Location) -> int:
    """How many epochs a study's log holds on its store."""
    location = Location.at(study) if isinstance(study, Path) else study
    return len(read_epochs(location)) if location.join("epochs").list() else 0
