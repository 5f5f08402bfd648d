"""What it costs a search that its files survive a power cut: a write of the log with and without syncing.

    python benchmarks/syncing.py [FOLDER]

A write is what the log's thread does every 5 s while trials report: the trials' snapshot, the newest part of the epochs
and that of the decisions. With and without take turns, in FOLDER (default: the temporary one), whose disk decides. A
checkpoint of the MNIST pair's size is written likewise. Prints a table and writes it to syncing.md beside itself.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median

from machine import machine

from plgan_tune.records import MEASURES, DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.store import location
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.training.session import CHECKPOINT_SECONDS

INTERVAL = 5.0
"""Seconds between two writes of a search."""

ROUNDS = 25
CHECKPOINT_BYTES = 24_000_000
STUDIES = ((50, 1_000), (1_000, 20_000), (10_000, 49_000))
"""Trials in the snapshot, and rows in the newest part of the epochs."""

SYNC = location._sync
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def trial(number: int) -> TrialRow:
    return TrialRow(
        seq=0,
        trial_id=f"t{number}",
        number=number,
        status=TrialStatus.RUNNING,
        attempt=1,
        epochs=0,
        value_last=None,
        value_best=None,
        best_epoch=None,
        params={},
        seed=0,
        split_hash=None,
        seconds=1.0,
        node=None,
        started_at=NOW,
        ended_at=None,
        error=None,
    )


def report(log: StudyLog, seq: int) -> None:
    """An epoch, and a decision on it."""
    measures = [1.0] * (len(MEASURES) - 1)
    log.epoch(EpochRow(seq, "t0", 1, EpochMetrics(seq + 1, *measures), NOW))
    log.decision(DecisionRow(seq, "t0", 1, seq + 1, 1, 0.5, None, 1, Verdict.CONTINUE, "fewer than 3 values"))


def log_writes(folder: Path, trials: int, rows: int) -> Callable[[], float]:
    """What writes a log once that holds so much, and answers how many seconds that took."""
    log = StudyLog(Location.at(folder / f"log-{trials}"), {}, {}, interval=3600)
    for number in range(trials):
        log.trial(trial(number))
    for seq in range(rows):
        report(log, seq)
    log.flush()
    seqs = count(rows)

    def once() -> float:
        log.trial(trial(0))
        report(log, next(seqs))
        began = time.perf_counter()
        log.flush()
        return time.perf_counter() - began

    return once


def checkpoint_writes(folder: Path) -> Callable[[], float]:
    file, content = Location.at(folder / "checkpoint.pt"), bytes(CHECKPOINT_BYTES)

    def once() -> float:
        began = time.perf_counter()
        file.write_bytes(content)
        return time.perf_counter() - began

    return once


def _nothing(place: Path) -> None:
    """In the place of syncing."""


def in_turns(once: Callable[[], float]) -> tuple[float, float]:
    """Median seconds with syncing and without."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(2 * ROUNDS):
        syncs = turn % 2 == 0
        location._sync = SYNC if syncs else _nothing
        seconds[syncs].append(once())
    location._sync = SYNC
    return median(seconds[True]), median(seconds[False])


def line(what: str, once: Callable[[], float], interval: float) -> str:
    """A line of the table; interval: seconds between two such writes."""
    synced, plain = in_turns(once)
    cost = synced - plain
    return f"| {what} | {synced * 1e3:.1f} ms | {plain * 1e3:.1f} ms | {cost * 1e3:.1f} ms | {cost / interval:.2%} |"


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as name:
        folder = Path(name)
        logs = [
            line(f"the log: {trials:,} trials, {rows:,} epochs", log_writes(folder, trials, rows), INTERVAL)
            for trials, rows in STUDIES
        ]
        checkpoint = line("a checkpoint of 24 MB", checkpoint_writes(folder), CHECKPOINT_SECONDS)
    lines = [
        "# Syncing",
        "",
        f"{machine()}. It did other work beside it.",
        f"Medians of {ROUNDS} writes each, in turns. A search's thread writes its log every {INTERVAL:g} s, a trial",
        f"its checkpoint every {CHECKPOINT_SECONDS:g} s; the last column is syncing's share of these.",
        "",
        "| a write of | synced | not synced | difference | share |",
        "| --- | --- | --- | --- | --- |",
        *logs,
        checkpoint,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
