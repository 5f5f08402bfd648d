"""A power cut: the disk's image, copied at some moment and mounted, holds every row that was said to be written."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from plgan_tune.store.location import Location
from plgan_tune.store.lock import LOCK, Owner
from plgan_tune.store.read import read_decisions, read_epochs, read_trials
from tests.waiting import wait_until

CUTS: Final = 10
MAKE: Final = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
OPTIONS: Final = {"ext4": "loop", "xfs": "loop,nouuid"}

WRITER: Final = """
import sys
from pathlib import Path

from plgan_tune.store.location import Location
from plgan_tune.store.lock import StudyLock
from plgan_tune.store.log import StudyLog
from tests.store.conftest import make_decision, make_epoch, make_trial

study, said = Location.at(sys.argv[1]), Path(sys.argv[2])
columns = {"loss.alpha": "params_alpha", "loss.switch_epoch": "params_switch_epoch"}
types = {"loss.alpha": float, "loss.switch_epoch": int}
with StudyLock(study) as lock, StudyLog(study, columns, types, writer=lock) as log:
    study.join("study.yaml").write_text("study: s")
    seq = 0
    while True:
        log.trial(make_trial(seq // 7))
        log.epoch(make_epoch(seq, f"t{seq // 7}"))
        log.decision(make_decision(seq))
        log.flush()
        seq += 1
        said.write_text(str(seq))
"""


@contextmanager
def mounted(image: Path, at: Path, options: str) -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    done = subprocess.run(["mount", "-o", options, image, at], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine does not mount images: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts images")
@pytest.mark.parametrize("kind", list(MAKE))
def test_what_was_written_survives_a_power_cut(tmp_path: Path, kind: str) -> None:
    if shutil.which(MAKE[kind][0]) is None:
        pytest.skip(f"needs {MAKE[kind][0]}")
    disk, copy, said = tmp_path / "disk.img", tmp_path / "copy.img", tmp_path / "said"
    with disk.open("wb") as file:
        file.truncate(320 * 2**20)
    subprocess.run([*MAKE[kind], disk], check=True)
    with mounted(disk, tmp_path / "disk", OPTIONS[kind]) as place:
        writer = subprocess.Popen([sys.executable, "-c", WRITER, place / "results" / "s", said], text=True)
        try:
            written = 0
            for _ in range(CUTS):
                wait_until(partial(_more_than, said, written), "rows", said, writer)
                writer.send_signal(signal.SIGSTOP)  # a copy is of no moment while blocks change
                written = _count(said)
                subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
                writer.send_signal(signal.SIGCONT)
                with mounted(copy, tmp_path / "copy", OPTIONS[kind]) as cut:
                    check(Location.at(cut / "results" / "s"), written)
        finally:
            writer.kill()
            writer.wait()


def _count(said: Path) -> int:
    """How many rows the writer knows to be written; 0 where it was stopped as it said so."""
    return int(said.read_text() or 0) if said.exists() else 0


def _more_than(said: Path, rows: int) -> bool:
    return _count(said) > rows


def check(study: Location, written: int) -> None:
    """All is there and can be read, and the lock says whose it was."""
    assert study.join("study.yaml").read_text() == "study: s"
    assert read_epochs(study).num_rows >= written
    assert read_decisions(study).num_rows >= written
    assert read_trials(study).num_rows >= (written + 6) // 7
    assert Owner.of(study.join(LOCK)) is not None
