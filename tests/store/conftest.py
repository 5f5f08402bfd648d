"""Rows, and places to put them: the contract holds on a local disk and on a store that has no folders."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any, Final

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from plgan_tune.records import MEASURES, DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.store.location import Location
from plgan_tune.store.lock import StudyLock
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import read_epochs
from tests import factories

START: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def hasty_disk() -> None:
    """What a disk has synced, and who has a lock, is for these tests to say."""


@dataclass(frozen=True)
class Rows:
    """The columns of a small study, and rows that fit them."""

    columns: dict[str, str]
    types: dict[str, type]
    epoch: Callable[..., EpochRow]
    decision: Callable[..., DecisionRow]
    trial: Callable[..., TrialRow]


def make_epoch(seq: int, trial_id: str = "t0", attempt: int = 1) -> EpochRow:
    """Every measure its own value, so that one in another's column shows."""
    measures: dict[str, Any] = {name: place / 32 for place, name in enumerate(MEASURES)}
    measures |= {"epoch": seq + 1, "val_score": 1.5}
    return EpochRow(seq, trial_id, attempt, EpochMetrics(**measures), START + timedelta(seconds=seq))


def make_decision(seq: int, trial_id: str = "t0") -> DecisionRow:
    return DecisionRow(seq, trial_id, 1, seq + 1, 1, 0.5, None, 1, Verdict.CONTINUE, "fewer than 3 values")


def make_trial(number: int, status: TrialStatus = TrialStatus.RUNNING, epochs: int = 0) -> TrialRow:
    return factories.make_trial(
        number,
        status,
        {"loss.alpha": 0.5, "loss.switch_epoch": 10},
        0.5 if epochs else None,
        epochs=epochs,
        value_best=0.4 if epochs else None,
        split_hash="abc",
        seconds=1.5,
        started_at=START,
    )


def follow(study: Location, rows: Rows) -> None:
    """Another search takes the study over, writes and ends."""
    with (
        StudyLock(study, lease=0.0, sleep=lambda _: None) as held,
        StudyLog(study, rows.columns, rows.types, interval=60, writer=held) as log,
    ):
        log.trial(rows.trial(0, TrialStatus.COMPLETED, epochs=6))
        for seq in range(read_epochs(study).num_rows, 6):
            log.epoch(rows.epoch(seq))
        log.decision(rows.decision(5))


@pytest.fixture(scope="session")
def rows() -> Rows:
    return Rows(
        columns={"loss.alpha": "params_alpha", "loss.switch_epoch": "params_switch_epoch"},
        types={"loss.alpha": float, "loss.switch_epoch": int},
        epoch=make_epoch,
        decision=make_decision,
        trial=make_trial,
    )


@pytest.fixture(params=["local", "memory", "s3", pytest.param("gs", marks=pytest.mark.slow)])
def study(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """An empty place, its name as awkward as a user's may be."""
    if request.param == "local":
        yield Location.at(tmp_path / "my results [1]" / "a study")
        return
    servers = {"s3": "bucket", "gs": "gs_bucket"}
    root = request.getfixturevalue(servers[request.param]) if request.param in servers else "memory://"
    place = Location.at(f"{root}/{uuid.uuid4()}/a study [1]")
    yield place
    place.remove()


class Trouble:
    """A bad day: while `cause` is set, writing raises it; while `gate` is closed, writing hangs."""

    def __init__(self) -> None:
        self.cause: OSError | None = None
        self.refused: tuple[str, ...] = ("trials", "epochs")
        self.attempts = 0
        self.gate = Event()
        self.gate.set()

    def meet(self, path: str) -> None:
        assert self.gate.wait(timeout=10)
        if self.cause is not None and any(f"/{folder}/" in path for folder in self.refused):
            self.attempts += 1
            raise self.cause


class TroubledLocal(LocalFileSystem):  # type: ignore[misc,unused-ignore]
    cachable = False

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self.trouble = trouble

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value[: len(value) // 2])  # what a full disk leaves
        self.trouble.meet(path)
        super().pipe_file(path, value, mode, **kwargs)


class TroubledMemory(MemoryFileSystem):  # type: ignore[misc,unused-ignore]
    cachable = False

    def __init__(self, trouble: Trouble) -> None:
        super().__init__()
        self.trouble = trouble

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self.trouble.meet(path)
        super().pipe_file(path, value, mode, **kwargs)


@pytest.fixture(params=["local", "memory"])
def troubled(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Location, Trouble]:
    """An empty place on a filesystem that fails on command."""
    trouble = Trouble()
    if request.param == "local":
        return Location(TroubledLocal(trouble), str(tmp_path / "my results [1]" / "a study")), trouble
    return Location(TroubledMemory(trouble), f"/{uuid.uuid4()}/a study [1]"), trouble


@pytest.fixture(autouse=True, scope="session")
def _no_stale_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
