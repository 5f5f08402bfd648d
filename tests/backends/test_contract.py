"""What every back-end makes of a study: the same suite over all of them, and the same rows from each."""

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from plgan_tune.backends import run
from plgan_tune.backends.backend import Backend
from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import StudySpec
from plgan_tune.evaluate import app as evaluate
from plgan_tune.records import DecisionRow, EpochRow, TrialRow, TrialStatus
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.lock import seconds_awake_or_asleep
from plgan_tune.store.log import StudyLog
from plgan_tune.study import log_session
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.errors import StudyError
from plgan_tune.study.protocols import LogHealth
from plgan_tune.study.state import Ending
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.backends import planted
from tests.factories import UNTIMED, small

UNEQUAL = ["node", "seconds", "images_per_second", "reported_at", "evaluated_at", "started_at", "ended_at"]
"""Columns that say when and where."""

TOO_WIDE = [1, 10**6, 10**6]
"""Hidden layers of four terabytes, for which no machine has the memory."""


def on_ray() -> Backend:
    from plgan_tune.backends.ray.backend import RayBackend  # noqa: PLC0415 - seconds

    return RayBackend()


def breaking_on_ray() -> type:
    from tests.backends.ray.planted import Breaking  # noqa: PLC0415 - as above

    return Breaking


def unable_on_ray() -> type:
    from tests.backends.ray.planted import unable  # noqa: PLC0415 - as above

    return unable()


@dataclass(frozen=True)
class Kind:
    """A back-end, and what a test may put in its parts' place.

    Attributes:
        make: makes one.
        worker: the name of what trains a trial.
        clock: the name of what it measures a search's hours by.
        breaking: makes a worker of which some trials break.
        unable: makes a worker that cannot begin any trial.
    """

    make: Callable[[], Backend]
    worker: str
    clock: str
    breaking: Callable[[], type]
    unable: Callable[[], type]


IN_PROCESS = Kind(
    InProcess,
    "plgan_tune.backends.in_process.TrialWorker",
    "plgan_tune.backends.in_process.seconds_awake_or_asleep",
    lambda: planted.Breaking,
    lambda: planted.Unable,
)
ON_RAY = Kind(
    on_ray,
    "plgan_tune.backends.ray.tune_run.PlganTrainable",
    "plgan_tune.backends.ray.tune_run.seconds_awake_or_asleep",
    breaking_on_ray,
    unable_on_ray,
)


def kinds(*marks: pytest.MarkDecorator) -> list[Any]:
    """Both, the second with these marks."""
    return [
        pytest.param(IN_PROCESS, id="in process"),
        pytest.param(ON_RAY, id="on Ray", marks=[pytest.mark.ray, *marks]),
    ]


@pytest.fixture(params=kinds(pytest.mark.slow))
def kind(request: pytest.FixtureRequest) -> Kind:
    if request.node.get_closest_marker("ray"):
        request.getfixturevalue("embedded_ray")
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def search(kind: Kind, tmp_path: Path) -> Callable[..., StudyResult]:
    def run(spec: StudySpec, **options: Any) -> StudyResult:
        return run_study(spec, backend=kind.make(), results=tmp_path, name="study", **options)

    return run


def table(folder: Path, name: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder / name)
    kept = frame.drop(columns=[column for column in UNEQUAL if column in frame])
    return kept.sort_values({"trials": "number", "evaluations": "trial_id"}.get(name, "seq"), ignore_index=True)


DAY = timedelta(days=1)


@pytest.mark.parametrize("kind", kinds(), indirect=True)  # what plain pytest asks of Ray
def test_a_search_ends_and_a_resume_adds_to_it(
    search: Callable[..., StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its hours, though the machine's clock is set a day forward at each look."""
    days, true = count(), time.time
    monkeypatch.setattr(time, "time", lambda: true() + next(days) * DAY.total_seconds())
    first = search(small(trials=2, hours=2.0))
    assert first.ending is Ending.DONE
    before = table(tmp_path / "study", "epochs")
    result = search(small(trials=4, hours=2.0), resume=True)
    assert result.ending is Ending.DONE
    trials, epochs = (table(tmp_path / "study", name) for name in ("trials", "epochs"))
    assert list(trials["number"]) == [0, 1, 2, 3]
    assert set(trials["status"]) <= {"completed", "stopped"}
    assert list(epochs["seq"]) == list(range(len(epochs)))
    pd.testing.assert_frame_equal(epochs.head(len(before)), before)
    best = result.state.best()
    assert best is not None
    assert (tmp_path / "study" / "best.yaml").exists()
    timed: Any = pd.read_parquet(tmp_path / "study" / "trials")
    assert ((timed["ended_at"] - timed["started_at"]) < DAY).all()


def test_trials_that_break_cost_the_others_nothing(
    kind: Kind, search: Callable[..., StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six two fail for good, one diverges, and three go on from their checkpoints in a second attempt."""
    healthy = {"model.hidden": [8], "loss.unsupervised_scale": 0.5}
    points = [
        {**healthy, "model.hidden": TOO_WIDE},
        healthy,
        {**healthy, "loss.unsupervised_scale": 3e38},
        *[healthy] * 3,
    ]
    spec = small(
        {"unsupervised_scale": {"choice": [3e38, 0.5]}, "alpha": {"int": [0, 5]}},
        {"epochs": 4, "checkpoint_every": 2},
        model={"kind": "mlp", "hidden": {"choice": [TOO_WIDE, [8]]}},
        early_stopping="none",
        max_failures=1,
        first=[{**point, "loss.alpha": number} for number, point in enumerate(points)],
    )
    run_study(spec, backend=InProcess(), results=tmp_path, name="whole")
    monkeypatch.setattr(kind.worker, kind.breaking())
    assert search(spec).ending is Ending.DONE
    trials = pd.read_parquet(tmp_path / "study" / "trials").set_index("number").sort_index()
    assert list(trials["status"]) == ["failed", "failed", "diverged", "completed", "completed", "completed"]
    assert list(trials["attempt"]) == [2, 2, 1, 2, 2, 2]
    assert "memory" in str(trials.loc[0, "error"])
    assert "\n" not in str(trials.loc[0, "error"])
    assert "planted" in str(trials.loc[1, "error"])
    assert "epoch 1" in str(trials.loc[2, "error"])
    assert "loss_unsupervised" in str(trials.loc[2, "error"])
    whole, broken = (pd.read_parquet(tmp_path / name / "epochs").sort_values("seq") for name in ("whole", "study"))
    attempts = {trial_id: list(rows) for trial_id, rows in broken.groupby("trial_id")["attempt"]}
    assert attempts == {"t0001": [1, 1], "t0003": [1, 1, 2, 2], "t0004": [1, 1, 2, 2], "t0005": [2, 2, 2, 2]}
    for trial_id, numbers in attempts.items():
        one, other = (frame.loc[frame["trial_id"] == trial_id, UNTIMED] for frame in (whole, broken))
        pd.testing.assert_frame_equal(
            one.head(len(numbers)).reset_index(drop=True), other.reset_index(drop=True), check_exact=True
        )


def test_a_search_none_of_whose_trials_can_begin_ends_with_the_third(
    kind: Kind, search: Callable[..., StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind.worker, kind.unable())
    with pytest.raises(StudyError, match=rf"3 trials failed in 6 attempts .* {planted.UNABLE}"):
        search(small(early_stopping="none", trials=6, max_failures=1))
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    assert list(trials["status"]) == [TrialStatus.FAILED] * 3
    assert list(trials["attempt"]) == [2] * 3
    assert trials["error"].str.contains(planted.UNABLE).all()


class Listener:
    """Does something in the driver when an epoch has been logged, in each of its runs."""

    def __init__(self, on_epoch: Callable[[EpochRow], None]) -> None:
        self._on_epoch = on_epoch

    def epoch(self, row: EpochRow, /) -> None:
        self._on_epoch(row)

    def decision(self, row: DecisionRow, /) -> None: ...
    def trial(self, row: TrialRow, /) -> None: ...


def test_a_search_that_is_cut_short_twice_comes_to_the_same(
    kind: Kind, search: Callable[..., StudyResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after an epoch, then out of time after another: its rows are those of one that nobody stopped."""
    first = [{"loss.alpha": alpha, "loss.ramp": "one", "optim.lr_discriminator": 0.003} for alpha in (0.2, 0.9, 0.6)]
    spec = small(training={"epochs": 6}, trials=3, first=first, hours=1.0)
    run_study(spec, backend=InProcess(), results=tmp_path, name="whole")
    passed = 0.0
    monkeypatch.setattr(kind.clock, lambda: seconds_awake_or_asleep() + passed)

    def interrupt(row: EpochRow) -> None:
        if row.metrics.epoch == 2:
            signal.raise_signal(signal.SIGINT)

    def two_hours_later(row: EpochRow) -> None:
        nonlocal passed
        if row.metrics.epoch == 4:
            passed = 7200.0

    def stopped_after(on_epoch: Callable[[EpochRow], None]) -> tuple[Ending, TrialRow]:
        result = search(spec, resume=True, listeners=[Listener(on_epoch)])
        (row,) = result.state.rows()
        return result.ending, row

    ending, row = stopped_after(interrupt)
    assert (ending, row.status, row.attempt) == (Ending.INTERRUPTED, TrialStatus.RUNNING, 1)
    assert 2 <= row.epochs < 4
    ending, row = stopped_after(two_hours_later)
    assert (ending, row.status, row.attempt) == (Ending.OUT_OF_TIME, TrialStatus.RUNNING, 2)
    assert 4 <= row.epochs < 6
    assert search(spec, resume=True).ending is Ending.DONE
    assert list(table(tmp_path / "study", "trials")["attempt"]) == [3, 1, 1]
    for name in ("epochs", "decisions"):
        whole, cut = (table(tmp_path / study, name).drop(columns=["attempt"]) for study in ("whole", "study"))
        assert len(whole) > 2
        pd.testing.assert_frame_equal(whole, cut, check_exact=True)


def test_a_search_whose_epochs_are_over_saves_what_is_unfinished(
    search: Callable[..., StudyResult], tmp_path: Path
) -> None:
    """And a resume with more of them trains no epoch again."""
    spec = partial(small, training={"epochs": 6}, trials=2, early_stopping="none")
    assert search(spec(epochs=4)).ending is Ending.OUT_OF_EPOCHS
    assert len(table(tmp_path / "study", "epochs")) == 4
    assert search(spec(epochs=4), resume=True).ending is Ending.OUT_OF_EPOCHS
    assert len(table(tmp_path / "study", "epochs")) == 4
    assert search(spec(epochs=13), resume=True).ending is Ending.DONE
    epochs = table(tmp_path / "study", "epochs")
    assert sorted(zip(epochs["trial_id"], epochs["epoch"], strict=True)) == [
        (trial_id, epoch) for trial_id in ("t0000", "t0001") for epoch in range(1, 7)
    ]


class Outage:
    """A store that refuses epochs from a search's first one until the search has rested for a while."""

    def __init__(self) -> None:
        self.refuses = False
        self.rests: list[datetime] = []

    def begin(self, row: EpochRow) -> None:
        self.refuses = not self.rests

    def write(self, file: Location, content: bytes, scratch: Location | None) -> None:
        if self.refuses and "/epochs/" in file.url:
            raise StoreError("no space left")
        WRITE(file, content, scratch)

    def rest(self, seconds: float) -> None:
        self.rests.append(datetime.now(UTC))
        self.refuses = len(self.rests) < 4
        time.sleep(seconds)


WRITE = Location.write_bytes


def test_a_search_rests_while_too_many_rows_wait_and_then_nothing_is_missing(
    search: Callable[..., StudyResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage = Outage()

    class Prompt(Backpressure):
        """Knows of a failure at once, however fast the epochs."""

        def __init__(self, log: LogHealth) -> None:
            super().__init__(log, most=3, sleep=outage.rest)
            self._health = log

        def hold(self, interrupted: Callable[[], bool]) -> None:
            while outage.refuses and self._health.failure is None:
                time.sleep(0.01)
            super().hold(interrupted)

    def write_bytes(file: Location, content: bytes, scratch: Location | None = None) -> None:
        outage.write(file, content, scratch)

    monkeypatch.setattr(Location, "write_bytes", write_bytes)
    monkeypatch.setattr(log_session, "StudyLog", partial(StudyLog, interval=0.1))
    monkeypatch.setattr(run, "Backpressure", Prompt)
    with caplog.at_level(logging.WARNING):
        spec = small(trials=4, early_stopping="none")
        assert search(spec, listeners=[Listener(outage.begin)]).ending is Ending.DONE
    assert [line.partition(":")[0] for line in caplog.messages if line.startswith("the search")] == [
        "the search pauses",
        "the search continues",
    ]
    epochs = pd.read_parquet(tmp_path / "study" / "epochs")
    assert epochs["seq"].tolist() == list(range(4 * 4))
    meanwhile = epochs["reported_at"].between(outage.rests[0], outage.rests[-1])
    assert meanwhile.sum() <= 1  # one trial at a time, which asks for its next epoch only once the last is taken


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("embedded_ray")
def test_the_rows_of_one_process_are_those_of_ray_with_one_trial_at_a_time(tmp_path: Path) -> None:
    """Those of a search and of its evaluation, bit for bit."""
    for backend, name, words in ((InProcess(), "alone", ["--in-process"]), (on_ray(), "ray", [])):
        run_study(small(trials=8), backend=backend, results=tmp_path, name=name)
        evaluated = CliRunner().invoke(
            evaluate, [str(tmp_path / name), "--top", "2", "--seeds", "3", "--methods", *words]
        )
        assert evaluated.exit_code == 0, evaluated.output
    for name in ("trials", "epochs", "decisions", "evaluations", "seeds/trials", "seeds/epochs"):
        alone, ray = (table(tmp_path / study, name) for study in ("alone", "ray"))
        assert len(alone) > 4
        pd.testing.assert_frame_equal(alone, ray, check_exact=True)
    assert len(table(tmp_path / "ray", "evaluations")) == 3 * 6
    assert table(tmp_path / "ray", "epochs")["val_distance"].notna().all()


def test_a_process_holds_one_rank(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="ranks must be 1 where trials train in this process"):
        run_study(small(ranks=2), backend=InProcess(), results=tmp_path, name="study")
    assert not (tmp_path / "study").exists()


def test_a_stop_keeps_what_is_done_and_a_resume_comes_to_the_same(tmp_path: Path) -> None:
    """Stopped after every epoch, and resumed until it is done."""
    first = [{"loss.alpha": alpha, "loss.ramp": "one", "optim.lr_discriminator": 0.003} for alpha in (0.2, 0.9, 0.6)]
    spec = small(trials=3, first=first)
    run_study(spec, backend=InProcess(), results=tmp_path, name="whole")
    endings: list[Ending] = []
    while Ending.DONE not in endings:
        stopping = InProcess(stop_requested=after_one_answer())
        endings.append(run_study(spec, backend=stopping, results=tmp_path, name="cut", resume=True).ending)
    epochs = table(tmp_path / "whole", "epochs")
    assert len(endings) > len(epochs) - 3  # a start an epoch, but for those that end a trial
    for name in ("epochs", "decisions"):
        whole, cut = (table(tmp_path / study, name).drop(columns=["attempt"]) for study in ("whole", "cut"))
        pd.testing.assert_frame_equal(whole, cut, check_exact=True)


def after_one_answer() -> Callable[[], bool]:
    """Whether a stop is asked for: not at first, then always."""
    asked = count()
    return lambda: next(asked) > 0


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
from plgan_tune.search import app
app()
"""


def test_a_machine_without_ray_searches_in_one_process(tmp_path: Path) -> None:
    words = ["--in-process", "--results", str(tmp_path), "--name", "mine"]
    words += [word for key in ("search.trials=2", "trial.training.epochs=2") for word in ("--set", key)]
    words += ["--set", "trial.loss.switch_epoch=1", "--set", "trial.optim.decay_epoch=1", "--set", "search.first=[]"]
    words += ["--set", "search.confirm=null"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_parquet(tmp_path / "mine" / "trials")) == 2
