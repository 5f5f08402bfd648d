"""What a search's driver costs: the real searcher, early stopping, bookkeeping and log, under synthetic curves.

    python benchmarks/scheduling.py [--trials 10000] [--at-a-time 1000] [--epochs 100]

No training and no Ray cluster: trials report in turn, as fast as the driver takes their reports. Then the log is read
and replayed, as a resume does. Prints a table and writes it to scheduling.md.
"""

import argparse
import random
import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from machine import machine
from ray.tune.search import Searcher

from plgan_tune.records import EpochMetrics, TrialRow, TrialStatus
from plgan_tune.spec.load import study_from_mapping
from plgan_tune.spec.study import StudySpec
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.tuning.files import write_study
from plgan_tune.tuning.history import brought_to_date, read_history
from plgan_tune.tuning.progress import StudyState
from plgan_tune.tuning.recorder import Recorder
from plgan_tune.tuning.sampler import OptunaSampler
from plgan_tune.tuning.stopping import EarlyStopping, build_halving, replayed, start_of

MEASURES = [field.name for field in fields(EpochMetrics)]


class NoDisplay:
    def started(self, row: TrialRow, /) -> None: ...
    def progressed(self, row: TrialRow, /) -> None: ...
    def ended(self, row: TrialRow, /) -> None: ...


def study(trials: int, epochs: int) -> StudySpec:
    return study_from_mapping(
        {
            "study": "synthetic",
            "search": {
                "trials": trials,
                "sampler": {"tpe": {"startup_trials": 50}},
                "early_stopping": {"asha": {"grace_period": max(1, epochs // 20)}},
            },
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 400},
                "loss": {"alpha": {"uniform": [0, 1]}, "beta": {"uniform": [0, 1]}},
                "optim": {"lr_discriminator": {"log_uniform": [1e-4, 1e-1]}},
                "training": {"epochs": epochs},
            },
        }
    )


class Driver:
    """The hooks that Tune calls for an event, in its order, and the time that they take."""

    def __init__(self, spec: StudySpec, log: StudyLog) -> None:
        self.sampler = OptunaSampler(spec)
        self.stopping = EarlyStopping(build_halving(spec), start_of(spec))
        epochs, trials = spec.any_trial().training.epochs, spec.search.trials
        state = StudyState(spec.study, trials=trials, epochs=epochs, started_at=now())
        self.recorder = Recorder(state, log, NoDisplay(), now, judgement_of=self.stopping.taken)
        self.asking: list[float] = []
        self.reports: list[float] = []

    def suggest(self, number: int) -> Any | None:
        began = time.perf_counter()
        config = self.sampler.suggest(str(number))
        if config == Searcher.FINISHED:
            return None
        self.asking.append(time.perf_counter() - began)
        trial = SimpleNamespace(trial_id=str(number), config=config, last_result={}, error_file=None)
        self.recorder.on_trial_start(trial=trial)
        return trial

    def report(self, trial: Any, result: dict[str, Any]) -> bool:
        """Whether the trial goes on."""
        began = time.perf_counter()
        done = result["status"] == TrialStatus.COMPLETED
        if not done:
            self.sampler.on_trial_result(trial.trial_id, result)
        verdict = self.stopping.on_trial_result(None, trial, result)
        self.recorder.on_trial_result(trial=trial, result=result)
        self.reports.append(time.perf_counter() - began)
        trial.last_result = result
        if done or verdict == EarlyStopping.STOP:
            self.sampler.on_trial_complete(trial.trial_id, result)
            self.recorder.on_trial_complete(trial=trial)
            return False
        return True


def now() -> datetime:
    return datetime.now(UTC)


def results(trial: Any, epochs: int, noise: random.Random) -> Iterator[dict[str, Any]]:
    point = trial.config["point"]
    floor = 0.1 + 0.5 * (point["loss.alpha"] - 0.6) ** 2 + 0.2 * abs(point["loss.beta"] - 0.3)
    for epoch in range(1, epochs + 1):
        error = min(0.9, floor + 0.6 / epoch + noise.gauss(0, 0.01))
        status = TrialStatus.COMPLETED if epoch == epochs else TrialStatus.RUNNING
        about = {"status": status.value, "attempt": 1, "split_hash": "s", "node": "n", "reported_at": now()}
        yield {**dict.fromkeys(MEASURES, 0.5), **about, "epoch": epoch, "val_error": abs(error), "seconds": 1.0}


def drive(driver: Driver, at_a_time: int, epochs: int) -> int:
    """All trials to their ends, a turn of an epoch each; the number of epochs."""
    noise = random.Random(0)
    turns: deque[tuple[Any, Iterator[dict[str, Any]]]] = deque()
    number = 0
    while True:
        while len(turns) < at_a_time and (trial := driver.suggest(number)) is not None:
            turns.append((trial, results(trial, epochs, noise)))
            number += 1
        if not turns:
            return len(driver.reports)
        trial, course = turns.popleft()
        if driver.report(trial, next(course)):
            turns.append((trial, course))


def milliseconds(times: list[float]) -> float:
    return 1000 * median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--at-a-time", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=100)
    asked = parser.parse_args()
    spec = study(asked.trials, asked.epochs)
    with tempfile.TemporaryDirectory() as folder:
        location = Location.at(folder).join("study")
        write_study(location, spec, now())
        with StudyLog(location, spec.columns, spec.types) as log:
            driver = Driver(spec, log)
            began = time.perf_counter()
            epochs = drive(driver, asked.at_a_time, asked.epochs)
            wall = time.perf_counter() - began
        if driver.recorder.first_error is not None:
            raise driver.recorder.first_error
        began = time.perf_counter()
        history = read_history(location, spec)
        read = time.perf_counter() - began
        decisions = list(replayed(history.epochs, build_halving(spec), dict.fromkeys(history.curves, 0), asked.epochs))
        brought_to_date(history, spec, decisions)
        replay = time.perf_counter() - began
        assert tuple(decisions) == history.decisions
    part = max(1, len(driver.reports) // 10)
    first, last = milliseconds(driver.reports[:part]), milliseconds(driver.reports[-part:])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    lines = [
        "# The driver",
        "",
        f"{machine()}. {asked.trials:,} trials, {asked.at_a_time:,} at a time, of {asked.epochs} epochs; early "
        f"stopping left {epochs:,} epochs in all, in {wall:.0f} s.",
        "",
        "| | | bar |",
        "| --- | --- | --- |",
        f"| an epoch's report, median | {milliseconds(driver.reports):.3f} ms | under 1 ms |",
        f"| the last tenth of them against the first | {last / first:.2f} x | at most 1.5 x |",
        f"| a suggestion, TPE's own time, median of the first 100 | {milliseconds(driver.asking[:100]):.1f} ms | |",
        f"| a suggestion, median of the last 100 | {milliseconds(driver.asking[-100:]):.1f} ms | |",
        f"| memory at most | {memory:.2f} GiB | under 2 GiB |",
        f"| reading the log, {epochs:,} rows | {read:.1f} s | |",
        f"| reading and replaying it | {replay:.1f} s | under 20 s for 1,000,000 rows |",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
