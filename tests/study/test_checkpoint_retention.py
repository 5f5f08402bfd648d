"""Checkpoints are removed last: never before the log has what makes them superfluous."""

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from plgan_tune.records import DecisionRow, TrialStatus, Verdict
from plgan_tune.store.checkpoints import TrialFiles, trials_with_files
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import read_decisions, read_epochs, read_trials
from plgan_tune.study.checkpoint_retention import CheckpointKeeper
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.fixed_trials import FixedTrials
from plgan_tune.study.halving import NeverStop
from plgan_tune.study.history import History, Left
from plgan_tune.study.log_session import open_log
from plgan_tune.study.state import StudyState
from tests.factories import START, make_assignment, make_metrics, make_report, make_trial

COLUMNS, TYPES = {"loss.alpha": "params_alpha"}, {"loss.alpha": float}


@dataclass(frozen=True)
class Removal:
    """A trial whose checkpoint is removed, and what the store holds at that moment."""

    trial_id: str
    statuses: dict[str, str]
    epochs: list[str]
    decisions: list[str]


class Store(MemoryFileSystem):  # type: ignore[misc,unused-ignore]
    """Notes each removal of a checkpoint. While `refused` names a table, it cannot be written."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.study = Location(self, f"/{uuid.uuid4()}/mine")
        self.refused: str | None = None
        self.removals: list[Removal] = []

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if self.refused is not None and f"/{self.refused}/" in path:
            raise OSError("the store is away")
        super().pipe_file(path, value, mode, **kwargs)

    def rm_file(self, path: str) -> None:
        if "/checkpoints/" in path:
            statuses = {row["trial_id"]: row["status"] for row in read_trials(self.study).to_pylist()}
            logged = (read(self.study).column("trial_id").to_pylist() for read in (read_epochs, read_decisions))
            self.removals.append(Removal(path.split("/")[-2], statuses, *logged))
        super().rm_file(path)


class Silent:
    def __getattr__(self, event: str) -> Callable[[Any], None]:
        return lambda row: None


def coordinator_of(state: StudyState, log: StudyLog, on_end: Callable[[], None]) -> Coordinator:
    return Coordinator(state, log, Silent(), lambda: START, FixedTrials([]), NeverStop(), 3, on_end)


def train(coordinator: Coordinator, log: StudyLog, study: Location, number: int, error: float) -> None:
    """A trial of one epoch that was judged, from its start to its end."""
    assignment = replace(make_assignment(number, point={"loss.alpha": 0.5}), trial_id=f"t{number}")
    coordinator.start(assignment)
    TrialFiles.of(study, assignment.trial_id).write(1, 1, b"")
    log.decision(DecisionRow(number, assignment.trial_id, 1, 1, 1, error, None, 1, Verdict.CONTINUE, ""))
    coordinator.report(assignment, make_report(make_metrics(1, error), TrialStatus.COMPLETED))


def new_state() -> StudyState:
    return StudyState("test", trials=3, epochs=1, started_at=START)


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "waited 10 s in vain"
        time.sleep(0.005)


def test_a_checkpoint_goes_once_the_log_has_all_of_its_trial_and_the_better_one() -> None:
    store, state = Store(), new_state()
    with open_log(store.study, COLUMNS, TYPES, state, 1, Left(History(), History())) as (log, on_end):
        coordinator = coordinator_of(state, log, on_end)
        for number, error in enumerate((0.5, 0.3, 0.4)):
            train(coordinator, log, store.study, number, error)
            until(lambda: len(trials_with_files(store.study)) == 1)
    assert [removal.trial_id for removal in store.removals] == ["t0", "t2"]
    for removal, known in zip(store.removals, (["t0", "t1"], ["t0", "t1", "t2"]), strict=True):
        assert removal.statuses == dict.fromkeys(known, TrialStatus.COMPLETED)
        assert removal.epochs == removal.decisions == known
    assert trials_with_files(store.study) == ["t1"]


@pytest.mark.parametrize("table", ["trials", "epochs", "decisions"])
def test_no_checkpoint_goes_while_a_table_cannot_be_written(table: str, caplog: pytest.LogCaptureFixture) -> None:
    store, state = Store(), new_state()
    with (
        caplog.at_level(logging.WARNING),
        open_log(store.study, COLUMNS, TYPES, state, 1, Left(History(), History())) as (log, on_end),
    ):
        store.refused = table
        coordinator = coordinator_of(state, log, on_end)
        for number, error in enumerate((0.5, 0.3)):
            train(coordinator, log, store.study, number, error)
        until(lambda: "checkpoints that are no longer needed could not be removed yet" in caplog.text)
        assert store.removals == []
        assert trials_with_files(store.study) == ["t0", "t1"]
        store.refused = None
    assert [removal.trial_id for removal in store.removals] == ["t0"]
    assert trials_with_files(store.study) == ["t1"]


def test_what_a_driver_did_not_live_to_remove_goes_at_the_resume() -> None:
    study = Store().study
    TrialFiles.of(study, "t0").write(1, 1, b"")
    known = History((make_trial(0, TrialStatus.STOPPED),))
    state = StudyState("test", trials=1, epochs=1, started_at=START, history=known)
    with open_log(study, COLUMNS, TYPES, state, 1, Left(known, known)):
        pass
    assert trials_with_files(study) == []


def test_a_copy_of_a_trial_s_folder_is_its_user_s() -> None:
    study = Store().study
    for name in ("t0003", "patent-s1", "t0003-keep", "my_model"):  # none of them is in the log
        TrialFiles.of(study, name).write(1, 1, b"")
    with open_log(study, COLUMNS, TYPES, new_state(), 1, Left(History(), History())):
        pass
    assert trials_with_files(study) == ["my_model", "t0003-keep"]


def test_a_trial_whose_end_is_on_its_way_to_the_log_keeps_its_checkpoint() -> None:
    """The books are kept by another thread than the one that removes: it may have ended a trial and not yet said so."""
    study, state, log = Store().study, new_state(), SimpleNamespace(flush=lambda: None)
    keeper = CheckpointKeeper(study, state, log, keep=0)
    for number in (0, 1):
        state.start(f"t{number}", number, {}, 0, START)
        TrialFiles.of(study, f"t{number}").write(1, 1, b"")
    state.end("t0", TrialStatus.STOPPED, START)
    keeper.trial_ended()
    state.end("t1", TrialStatus.STOPPED, START)
    with keeper:
        pass
    assert trials_with_files(study) == ["t1"]


def test_what_a_killed_driver_left_half_written_goes_at_the_resume() -> None:
    study, half = Store().study, f".{'0af' * 10}00.tmp"
    left = [("epochs", f"_part-00003.parquet{half}"), ("trials", f"_trials.parquet{half}"), (f"_best.yaml{half}",)]
    kept = [("epochs", "_mine.parquet"), ("_notes.tmp",), ("notes.tmp",)]
    for names in (*left, *kept, ("_probe." + "0af" * 10 + "00",)):
        study.join(*names).write_text("half")
    with open_log(study, COLUMNS, TYPES, new_state(), 1, Left(History(), History())):
        pass
    assert not any(study.join(*names).exists() for names in left)
    assert all(study.join(*names).exists() for names in kept)
    assert study.list() == ["_notes.tmp", "decisions", "epochs", "notes.tmp", "trials"]


class Flushes:
    """A log that counts how often it is flushed."""

    count = 0

    def flush(self) -> None:
        self.count += 1


def test_a_folder_that_stays_for_its_user_s_files_costs_no_flush() -> None:
    study, log = Store().study, Flushes()
    study.join("checkpoints", "t0", "notes.txt").write_text("mine")
    known = History((make_trial(0, TrialStatus.STOPPED),))
    state = StudyState("test", trials=1, epochs=1, started_at=START, history=known)
    with CheckpointKeeper(study, state, log, 1) as keeper:
        keeper.trial_ended()
    assert log.count == 0
    TrialFiles.of(study, "t0").write(1, 1, b"")
    with CheckpointKeeper(study, state, log, 1) as keeper:
        keeper.trial_ended()
    assert log.count == 1
    assert TrialFiles.of(study, "t0").location.list() == ["notes.txt"]
