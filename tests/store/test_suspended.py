"""A driver that is stopped at any moment, its follower, and what the first does when it goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from plgan_tune.store.location import Location
from plgan_tune.store.lock import StudyLock
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import read_tables

ROOT = Path(__file__).resolve().parents[2]
LEASE = 0.6

STOPPED = f"""
import itertools, sys, time
from plgan_tune.store import lock
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from tests.store.conftest import make_decision, make_epoch, make_trial

lock._host = lambda: "another machine"  # of one on its own a follower asks the system, which says that it lives
columns = {{"loss.alpha": "params_alpha", "loss.switch_epoch": "params_switch_epoch"}}
types = {{"loss.alpha": float, "loss.switch_epoch": int}}
study = Location.at(sys.argv[1])
with lock.StudyLock(study, lease={LEASE}) as held:
    log = StudyLog(study, columns, types, interval=0.0001, rows_per_part=40, writer=held)
    for seq in itertools.count():
        log.trial(make_trial(seq % 3))
        log.epoch(make_epoch(seq, f"t{{seq % 3}}"))
        log.decision(make_decision(seq, f"t{{seq % 3}}"))
        if seq == 60:
            log.flush()
            print("writes", flush=True)
        if log.followed:
            print("followed", flush=True)
            break
        time.sleep(0.001)
"""


@pytest.mark.slow
def test_who_is_stopped_at_any_moment_overwrites_nothing_of_its_follower(tmp_path: Path, rows: Any) -> None:
    draw = random.Random(0)
    for turn in range(10):
        study = Location.at(tmp_path / str(turn))
        with stopped_one(study) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "writes\n"
            time.sleep(draw.uniform(0, 0.05))
            os.kill(first.pid, signal.SIGSTOP)
            while psutil.Process(first.pid).status() != psutil.STATUS_STOPPED:
                time.sleep(0.001)
            followed(study, rows)
            left = contents(study)
            os.kill(first.pid, signal.SIGCONT)
            said, _ = first.communicate(timeout=120)
            assert said == "followed\n"
        assert contents(study) == left
        assert read_tables(study).epochs.num_rows > 60 + 50


@contextmanager
def stopped_one(study: Location) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", STOPPED, study.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def followed(study: Location, rows: Any) -> None:
    """Another search takes the study over, writes and ends."""
    with (
        StudyLock(study, lease=LEASE) as lock,
        StudyLog(study, rows.columns, rows.types, rows_per_part=40, writer=lock) as log,
    ):
        begun = read_tables(study).epochs.num_rows
        for seq in range(begun, begun + 50):
            log.epoch(rows.epoch(seq, f"t{seq % 3}"))
            log.decision(rows.decision(seq, f"t{seq % 3}"))


def contents(study: Location) -> dict[str, bytes]:
    folders = [study.join(table) for table in ("trials", "epochs", "decisions")]
    return {f"{folder.name}/{name}": folder.join(name).read_bytes() for folder in folders for name in folder.list()}
