"""How much memory the driver of a long search takes: every trial of a study in one process, without training.

    OMP_NUM_THREADS=1 python benchmarks/driver_memory.py [--trials 20000] [--epochs 100] [--results FOLDER]

The search is a real one, with random suggestions, ASHA, the log and the file for optuna-dashboard. Instead of a
trainer, a stub reports synthetic epochs. It waits if the file for optuna-dashboard lags behind, which it does not if
trials train. A search on Ray adds Ray's client and Tune's objects of the trials, which are measured afterwards. Prints
a table and writes it to driver_memory.md.
"""

import argparse
import logging
import random
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch
from machine import machine

from plgan_tune.backends import in_process
from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import MEASURES, DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.read import read_tables
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.tuning import driver
from plgan_tune.tuning.optuna_mirror import OptunaMirror

MARKS = (0, 1_000, 2_000, 5_000, 10_000, 20_000)
MOST_BEHIND = 1_000
"""Rows that may wait for the file for optuna-dashboard."""


def study(trials: int, epochs: int) -> StudySpec:
    return study_from_mapping(
        {
            "study": "driver_memory",
            "search": {
                "trials": trials,
                "sampler": "random",
                "early_stopping": {"asha": {"grace_period": 5, "reduction_factor": 3}},
            },
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 400},
                "loss": {"alpha": {"uniform": [0, 1]}, "beta": {"uniform": [0, 1]}},
                "optim": {"lr_discriminator": {"log_uniform": [1e-4, 1e-1]}},
                "training": {"epochs": epochs},
            },
        }
    )


def resident() -> float:
    """Return this process's resident memory in MiB."""
    return float(psutil.Process().memory_info().rss / 2**20)


class Untrained:
    """Replaces TrialWorker. The error falls as 1 / epoch to a random floor."""

    def __init__(self, *_: Any) -> None:
        self._draw = random.Random(0)

    def begin(self, assignment: Assignment) -> None:
        self._assignment, self._epoch, self._floor = assignment, 0, self._draw.uniform(0.05, 0.5)

    def step(self) -> EpochReport:
        self._epoch += 1
        error = self._floor + 0.4 / self._epoch
        metrics: dict[str, Any] = dict.fromkeys(MEASURES, 0.5) | {
            "val_score": 1.5,
            "epoch": self._epoch,
            "val_error": error,
            "seconds": 1.0,
        }
        is_last = self._epoch == self._assignment.trial.training.epochs
        return EpochReport(
            status=TrialStatus.COMPLETED if is_last else TrialStatus.RUNNING,
            attempt=self._assignment.attempt,
            metrics=EpochMetrics(**metrics),
            split_hash="0123456789abcdef",
            node="127.0.0.1",
            reported_at=datetime.now(UTC),
        )

    def save(self) -> None: ...


class Prompt(OptunaMirror):
    """Makes the search wait while many rows wait for the file."""

    def epoch(self, row: EpochRow) -> None:
        super().epoch(row)
        while self._waiting.qsize() > MOST_BEHIND and self._thread.is_alive():
            time.sleep(0.001)


class Marks:
    """A listener that notes the process's memory as the trials of `MARKS` begin."""

    def __init__(self, marks: Sequence[int]) -> None:
        self._left = list(marks)
        self.seen: list[tuple[int, int, float]] = []
        self._epochs = 0

    def epoch(self, row: EpochRow) -> None:
        self._epochs = row.seq + 1

    def decision(self, row: DecisionRow) -> None: ...

    def trial(self, row: TrialRow) -> None:
        if self._left and row.number >= self._left[0]:
            self.note(self._left.pop(0))

    def note(self, trials: int) -> None:
        self.seen.append((trials, self._epochs, resident()))
        print(f"{trials} trials, {self._epochs} epochs: {self.seen[-1][2]:.0f} MiB", flush=True)


def search(trials: int, epochs: int, results: str) -> Marks:
    marks = Marks([mark for mark in MARKS if mark < trials])
    with patch.object(in_process, "TrialWorker", Untrained), patch.object(driver, "OptunaMirror", Prompt):
        done = driver.run_study(
            study(trials, epochs),
            backend=InProcess(device=torch.device("cpu")),
            results=results,
            name="driver_memory",
            listeners=[marks],
        )
    marks.note(trials)
    tables = read_tables(Location.at(results).join("driver_memory"))
    assert tables.trials.num_rows == trials == done.state.ended()
    return marks


def table(marks: Marks) -> list[str]:
    (_, _, start), *later = marks.seen
    rows = ["| trials | epochs | resident memory | since the start, a trial |", "| --- | --- | --- | --- |"]
    rows += [f"| 0 | 0 | {start:.0f} MiB | |"]
    rows += [
        f"| {trials:,} | {epochs:,} | {mib:.0f} MiB | {(mib - start) * 1024 / trials:.0f} kB |"
        for trials, epochs, mib in later
    ]
    return rows


def ray_share(trials: int) -> list[str]:
    """Start a Ray, then make Tune's objects of as many trials, with ten results each."""
    before = resident()
    import ray  # noqa: PLC0415 - its memory is to be measured
    from ray.tune.experiment import Trial  # noqa: PLC0415

    from plgan_tune.backends.ray.tune_run import TrimResults  # noqa: PLC0415

    ray.init(num_cpus=1, include_dashboard=False)
    started, trim, kept = resident(), TrimResults(), []
    for number in range(trials):
        trial = Trial("ResourceTrainable", config={"number": number}, trial_id=f"t{number:04}", stub=True)
        for epoch in range(1, 11):
            result = {"training_iteration": epoch, "time_total_s": epoch, "config": {}, "report": (), "done": False}
            trim.on_trial_result(result=result)
            trial.update_last_result(result)
        trim.on_trial_complete(trial=trial)
        kept.append(trial)
    made = resident()
    ray.shutdown()
    return [
        "| added by Ray | resident memory |",
        "| --- | --- |",
        f"| its client and Tune | {started - before:.0f} MiB |",
        f"| {trials:,} of Tune's trials | {made - started:.0f} MiB |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=100, help="of a trial that is not stopped")
    parser.add_argument("--results", help="where the log goes; the default is a temporary folder")
    asked = parser.parse_args()
    logging.getLogger("optuna").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=asked.results) as folder:
        marks = search(asked.trials, asked.epochs, folder)
    setting = f"{asked.trials:,} trials of at most {asked.epochs} epochs, random suggestions, ASHA; no training, no Ray"
    text = "\n".join(
        ["# The driver's memory", "", f"{machine()}. {setting}.", "", *table(marks), "", *ray_share(asked.trials), ""]
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
