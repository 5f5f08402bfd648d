"""What a search's driver costs: the real searcher, early stopping, bookkeeping and log, under synthetic curves.

    python benchmarks/scheduling.py [--trials 10000] [--at-a-time 1000] [--epochs 100] [--sampler tpe]

No training and no Ray cluster: trials report in turn, as fast as the driver takes their reports. The peer is what Tune
brings: OptunaSearch around the same sampler, AsyncHyperBandScheduler, its JSON and CSV loggers. Each contender has a
process of its own. Then a log of about a million rows is read and replayed, as a resume does. Prints a table and writes
it to scheduling.md. With `--sampler random` TPE's own time, ten minutes and more at this size, is left out; that table
goes to scheduling_random.md.
"""

import argparse
import multiprocessing
import pickle
import random
import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, Protocol

from machine import machine
from no_display import NoDisplay
from ray.tune.experiment import Trial
from ray.tune.logger import CSVLoggerCallback, JsonLoggerCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch
from synthetic import synthetic_spec, write_synthetic

from plgan_tune.backends.ray.callbacks import CoordinatorCallback
from plgan_tune.backends.ray.scheduler import CoordinatorScheduler
from plgan_tune.backends.ray.searcher import CoordinatorSearcher
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import MEASURES, EpochMetrics, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.study.assignment import EpochReport
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.early_stopping import build_rule, left_behind, replayed
from plgan_tune.study.folder import write_study
from plgan_tune.study.history import read_history
from plgan_tune.study.state import StudyState
from plgan_tune.tuning.distributions import distributions
from plgan_tune.tuning.sampler import OptunaSampler, build_sampler

SAMPLERS: dict[str, Any] = {"tpe": {"tpe": {"startup_trials": 50}}, "random": "random"}
RUNG = {"grace_period": 5, "reduction_factor": 3}


def study(trials: int, epochs: int, sampler: str) -> StudySpec:
    return study_from_mapping(
        {
            "study": "synthetic",
            "search": {
                "trials": trials,
                "sampler": SAMPLERS[sampler],
                "early_stopping": {"asha": RUNG},
            },
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 400},
                "loss": {"alpha": {"uniform": [0, 1]}, "beta": {"uniform": [0, 1]}},
                "optim": {"lr_discriminator": {"log_uniform": [1e-4, 1e-1]}},
                "training": {"epochs": epochs},
            },
        }
    )


class Driver(Protocol):
    """The hooks that Tune calls for an event, in its order."""

    def suggest(self, number: int) -> Any | None: ...

    def report(self, trial: Any, result: dict[str, Any]) -> bool:
        """Whether the trial goes on."""
        ...


class Controller:
    """As much of Tune's as a scheduler asks for in each of Tune's steps."""

    def __init__(self) -> None:
        self._trials: list[Any] = []
        self._live: dict[str, Any] = {}

    def get_trials(self) -> list[Any]:
        return self._trials

    def get_live_trials(self) -> list[Any]:
        return list(self._live.values())

    def started(self, trial: Any) -> None:
        trial.status = Trial.RUNNING
        self._trials.append(trial)
        self._live[trial.trial_id] = trial

    def ended(self, trial: Any) -> None:
        trial.status = Trial.TERMINATED
        del self._live[trial.trial_id]


class Ours:
    """The driver of a search."""

    def __init__(self, spec: StudySpec, log: StudyLog) -> None:
        epochs, trials = spec.any_trial().training.epochs, spec.search.trials
        state = StudyState(spec.study, trials=trials, epochs=epochs, started_at=now())
        self.controller = Controller()
        self.coordinator = Coordinator(
            state, log, NoDisplay(), now, OptunaSampler(spec), build_rule(spec), spec.search.max_failures
        )
        self.searcher, self.scheduler = CoordinatorSearcher(self.coordinator), CoordinatorScheduler(self.coordinator)
        self.callback = CoordinatorCallback(self.coordinator, self.scheduler.train_fewer)

    def suggest(self, number: int) -> Any | None:
        config = self.searcher.suggest(str(number))
        if not isinstance(config, dict):
            return None
        point = config["assignment"].point
        trial = SimpleNamespace(trial_id=str(number), config=config, point=point, error_file=None)
        self.controller.started(trial)
        self.callback.on_trial_start(trial=trial)
        return trial

    def report(self, trial: Any, result: dict[str, Any]) -> bool:
        self.scheduler.choose_trial_to_run(self.controller)
        if self.scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
            self.controller.ended(trial)
            return False
        return True


class Stock:
    """Tune's own parts."""

    def __init__(self, spec: StudySpec, folder: Path) -> None:
        self.left = spec.search.trials
        space: Any = distributions(spec.domains)
        self.searcher = OptunaSearch(space=space, metric="val_error", mode="min", sampler=build_sampler(spec.search))
        epochs = spec.any_trial().training.epochs
        self.stopping = AsyncHyperBandScheduler(metric="val_error", mode="min", max_t=epochs, **RUNG)
        self.loggers = (JsonLoggerCallback(), CSVLoggerCallback())
        self.folder = folder
        self.controller = Controller()

    def suggest(self, number: int) -> Any | None:
        if number == self.left:
            return None
        trial_id = str(number)
        point = self.searcher.suggest(trial_id)
        place = self.folder / trial_id
        trial = FolderTrial(trial_id, {"point": point}, point, place)
        trial.init_local_path()  # as Tune does before the first callback
        self.stopping.on_trial_add(None, trial)
        self.controller.started(trial)
        for logger in self.loggers:
            logger.log_trial_start(trial)
        return trial

    def report(self, trial: Any, result: dict[str, Any]) -> bool:
        self.stopping.choose_trial_to_run(self.controller)
        done = result["status"] == TrialStatus.COMPLETED
        if not done:
            self.searcher.on_trial_result(trial.trial_id, result)
        verdict = self.stopping.on_trial_result(None, trial, result)
        logged = {name: value for name, value in result.items() if name != "report"}
        for logger in self.loggers:
            logger.log_trial_result(result["epoch"], trial, logged)
        if done or verdict == TrialScheduler.STOP:
            self.searcher.on_trial_complete(trial.trial_id, result)
            self.stopping.on_trial_complete(None, trial, result)
            for logger in self.loggers:
                logger.log_trial_end(trial)
            self.controller.ended(trial)
            return False
        return True


@dataclass(eq=False)
class FolderTrial:
    """As much of a Tune trial as its loggers ask for."""

    trial_id: str
    config: dict[str, Any]
    point: dict[str, float]
    local_path: Path
    checkpoint: None = None
    status: str = Trial.PENDING

    def init_local_path(self) -> None:
        self.local_path.mkdir(parents=True, exist_ok=True)


def now() -> datetime:
    return datetime.now(UTC)


def results(point: dict[str, float], epochs: int, noise: random.Random) -> Iterator[dict[str, Any]]:
    """What a trial reports: `report` is ours, the rest is what Tune's own parts take."""
    floor = 0.1 + 0.5 * (point["loss.alpha"] - 0.6) ** 2 + 0.2 * abs(point["loss.beta"] - 0.3)
    for epoch in range(1, epochs + 1):
        error = min(0.9, floor + 0.6 / epoch + noise.gauss(0, 0.01))
        status = TrialStatus.COMPLETED if epoch == epochs else TrialStatus.RUNNING
        measured: dict[str, Any] = {
            **dict.fromkeys(MEASURES, 0.5),
            "val_score": 1.5,
            "epoch": epoch,
            "val_error": abs(error),
            "seconds": 1.0,
        }
        about: dict[str, Any] = {
            "status": status.value,
            "attempt": 1,
            "split_hash": "s",
            "node": "n",
            "reported_at": now(),
        }
        report = EpochReport(status, 1, EpochMetrics(**measured), "s", "n", about["reported_at"])
        yield {**measured, **about, "training_iteration": epoch, "report": report}


@dataclass(frozen=True)
class Course:
    """Seconds that a contender took."""

    asks: list[float]
    """Of each suggestion."""
    reports: list[tuple[int, float]]
    """Of each epoch's report, with the trial's number."""
    wall: float


def drive(driver: Driver, at_a_time: int, epochs: int) -> Course:
    """All trials to their ends, a turn of an epoch each."""
    noise = random.Random(0)
    turns: deque[tuple[int, Any, Iterator[dict[str, Any]]]] = deque()
    asks: list[float] = []
    reports: list[tuple[int, float]] = []
    began = time.perf_counter()
    number, more = 0, True
    while more or turns:
        while more and len(turns) < at_a_time:
            asked = time.perf_counter()
            trial = driver.suggest(number)
            asks.append(time.perf_counter() - asked)
            more = trial is not None
            if trial is not None:
                turns.append((number, trial, results(trial.point, epochs, noise)))
                number += 1
        if turns:
            of, trial, course = turns.popleft()
            result = next(course)
            reported = time.perf_counter()
            goes_on = driver.report(trial, result)
            reports.append((of, time.perf_counter() - reported))
            if goes_on:
                turns.append((of, trial, course))
    return Course(asks, reports, time.perf_counter() - began)


def ours(trials: int, at_a_time: int, epochs: int, sampler: str) -> dict[str, str]:
    spec = study(trials, epochs, sampler)
    with tempfile.TemporaryDirectory() as folder:
        location = Location.at(folder).join("study")
        write_study(location, spec, now())
        with StudyLog(location, spec.columns, spec.types) as log:
            driver = Ours(spec, log)
            course = drive(driver, at_a_time, epochs)
        driver.coordinator.check_whole(location.url)
        files = sum(1 for file in Path(folder).rglob("*") if file.is_file())
        history = read_history(location, spec)
        points = {row.trial_id: row.params for row in history.trials}
        decisions = list(replayed(history.reports, build_rule(spec), points, epochs))
        assert tuple(decisions) == history.decisions
    return figures(course, files)


def stock(trials: int, at_a_time: int, epochs: int, sampler: str) -> dict[str, str]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))  # two open files a running trial
    with tempfile.TemporaryDirectory() as folder:
        driver = Stock(study(trials, epochs, sampler), Path(folder))
        course = drive(driver, at_a_time, epochs)
        began = time.perf_counter()
        saved = len(pickle.dumps(driver.searcher.__dict__)) / 2**20
        saving = time.perf_counter() - began
        count = sum(1 for file in Path(folder).rglob("*") if file.is_file())
    return figures(course, count) | {"a save of the searcher's state": f"{saving:.1f} s, {saved:.0f} MiB"}


def figures(course: Course, files: int) -> dict[str, str]:
    spent = [seconds for _, seconds in course.reports]
    trials = len(course.asks) - 1  # the last asks got none
    early, late = (
        median(seconds for number, seconds in course.reports if low <= number < low + trials // 50)
        for low in (trials // 100, trials - trials // 50)
    )
    return {
        "epochs that early stopping left": f"{len(spent):,}",
        "an epoch's report, median": f"{1000 * median(spent):.3f} ms",
        "an epoch's report, mean": f"{1000 * sum(spent) / len(spent):.3f} ms",
        f"a report of the last {trials // 50} trials, against {trials // 50} from trial {trials // 100} on": (
            f"{late / early:.2f} x"
        ),
        "a suggestion, median of the first 100": f"{1000 * median(course.asks[:100]):.1f} ms",
        "a suggestion, median of the last 100": f"{1000 * median(course.asks[-101:-1]):.1f} ms",
        "suggestions, in all": f"{sum(course.asks):.0f} s",
        "the whole, in all": f"{course.wall:.0f} s",
        "memory at most": f"{memory():.2f} GiB",
        "files left": f"{files:,}",
    }


def resumed(trials: int, epochs: int) -> dict[str, str]:
    """A log in which early stopping was off is read, and replayed under the rule: the longest replay there is."""
    with tempfile.TemporaryDirectory() as folder:
        location = Location.at(folder).join("study")
        write_synthetic(location, trials, epochs, early_stopping=False)
        spec = synthetic_spec(trials, epochs)
        began = time.perf_counter()
        history = read_history(location, spec)
        read = time.perf_counter() - began
        left = left_behind(history, spec, build_rule(spec))
        replay = time.perf_counter() - began
        OptunaSampler(spec, left.history)
        told = time.perf_counter() - began
        return {
            "rows": f"{len(history.reports):,}",
            "read": f"{read:.1f} s",
            "read and replayed": f"{replay:.1f} s",
            "read, replayed and told to the sampler": f"{told:.1f} s",
            "memory at most": f"{memory():.2f} GiB",
        }


def memory() -> float:
    """The most that this process has taken, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


BARS = {
    "an epoch's report, median": "under 1 ms",
    "a report of the last": "at most 1.5 x",
    "memory at most": "under 2 GiB",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--at-a-time", type=int, default=1_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe")
    asked = parser.parse_args()
    sizes = (asked.trials, asked.at_a_time, asked.epochs, asked.sampler)
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        replay = pool.apply(resumed, (asked.trials, asked.epochs))
        print("\n".join(f"{what}: {figure}" for what, figure in replay.items()), flush=True)
        mine = pool.apply(ours, sizes)
        print("\n".join(f"{what}: {figure}" for what, figure in mine.items()), flush=True)
        peer = pool.apply(stock, sizes)
    lines = [
        "# The driver",
        "",
        f"{machine()}. {asked.trials:,} trials, {asked.at_a_time:,} at a time, of at most {asked.epochs} epochs, "
        f"suggested by Optuna's {'TPE' if asked.sampler == 'tpe' else 'random'} sampler.",
        "",
        "| | plgan-tune | OptunaSearch, ASHA and loggers of Tune | bar |",
        "| --- | --- | --- | --- |",
        *(f"| {what} | {mine.get(what, '-')} | {peer[what]} | {bar(what)} |" for what in peer),
        "",
        "A resume, from a log without early stopping that is replayed under the rule:",
        "",
        "| | | bar |",
        "| --- | --- | --- |",
        *(
            f"| {what} | {figure} | {'under 20 s' if what == 'read and replayed' else ''} |"
            for what, figure in replay.items()
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    name = "scheduling.md" if asked.sampler == "tpe" else f"scheduling_{asked.sampler}.md"
    Path(__file__).with_name(name).write_text(text)


def bar(what: str) -> str:
    return next((bound for begin, bound in BARS.items() if what.startswith(begin)), "")


if __name__ == "__main__":
    main()
