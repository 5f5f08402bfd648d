import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from plgan_tune.records import TrialStatus
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.lock import LOCK, StudyLock
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import epoch_rows, read_decisions, read_epochs, read_trials, trial_rows
from tests.factories import Followed
from tests.store.conftest import follow

FULL = OSError(28, "No space left on device")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited 10 s in vain"
        time.sleep(0.001)


def seqs(study: Location) -> list[int]:
    return list(read_epochs(study).column("seq").to_pylist())


def test_pandas_reads_what_was_flushed(study: Location, rows: Any) -> None:
    with StudyLog(study, rows.columns, rows.types, interval=60) as log:
        log.trial(rows.trial(0))
        log.trial(rows.trial(1, TrialStatus.COMPLETED, epochs=3))
        log.epoch(rows.epoch(0))
        log.flush()
        assert log.waiting == 0
        trials = pd.read_parquet(f"{study.url}/trials")
        epochs = pd.read_parquet(f"{study.url}/epochs")
    assert trials["status"].tolist() == ["running", "completed"]
    assert trials["params_alpha"].tolist() == [0.5, 0.5]
    assert trials["val_error_last"].isna().tolist() == [True, False]
    assert str(trials["started_at"].dt.tz) == "UTC"
    assert epochs["seq"].tolist() == [0]


def test_rows_reach_the_store_within_the_interval(study: Location, rows: Any) -> None:
    with StudyLog(study, rows.columns, rows.types, interval=0.01) as log:
        log.trial(rows.trial(0))
        log.epoch(rows.epoch(0))
        until(lambda: study.exists() and seqs(study) == [0])
        assert read_trials(study).num_rows == 1


def test_the_newest_row_of_a_trial_stands_in_its_place(study: Location, rows: Any) -> None:
    newer = rows.trial(0, TrialStatus.STOPPED, epochs=4)
    with StudyLog(study, rows.columns, rows.types) as log:
        for row in (rows.trial(0), rows.trial(1), newer):
            log.trial(row)
    assert trial_rows(read_trials(study), rows.columns) == [newer, rows.trial(1)]


def test_a_part_is_rewritten_until_it_is_full(study: Location, rows: Any) -> None:
    with StudyLog(study, rows.columns, rows.types, interval=60, rows_per_part=4) as log:
        for seq in range(11):
            log.epoch(rows.epoch(seq))
            if seq % 3 == 0:
                log.flush()
    parts = study.join("epochs").list()
    assert parts == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    sizes = [len(pd.read_parquet(f"{study.url}/epochs/{part}")) for part in parts]
    assert sizes == [4, 4, 3]
    assert epoch_rows(read_epochs(study)) == [rows.epoch(seq) for seq in range(11)]


@pytest.mark.parametrize("already", [3, 4, 5, 8])
def test_a_reopened_study_is_gone_on_with(study: Location, rows: Any, already: int) -> None:
    with StudyLog(study, rows.columns, rows.types, rows_per_part=4) as log:
        log.trial(rows.trial(0))
        log.trial(rows.trial(1))
        for seq in range(already):
            log.epoch(rows.epoch(seq))
    with StudyLog(study, rows.columns, rows.types, rows_per_part=4) as log:
        log.trial(rows.trial(1, TrialStatus.COMPLETED, epochs=2))
        log.trial(rows.trial(2))
        for seq in range(already, already + 3):
            log.epoch(rows.epoch(seq))
    assert seqs(study) == list(range(already + 3))
    assert len(study.join("epochs").list()) == -(-(already + 3) // 4)
    read = trial_rows(read_trials(study), rows.columns)
    assert read == [rows.trial(0), rows.trial(1, TrialStatus.COMPLETED, epochs=2), rows.trial(2)]


def test_a_study_of_other_keys_is_not_overwritten(study: Location, rows: Any) -> None:
    with StudyLog(study, rows.columns, rows.types) as log:
        log.trial(rows.trial(0))
    with pytest.raises(StoreError, match="params_switch_epoch"):
        StudyLog(study, {"loss.alpha": "params_alpha"}, {"loss.alpha": float})


def test_training_alone_leaves_no_trials(study: Location, rows: Any) -> None:
    with StudyLog(study, {}, {}) as log:
        log.epoch(rows.epoch(0))
    assert study.list() == ["epochs"]


def numbers_by_pandas(study: Location) -> list[int]:
    """It reads a file in pieces."""
    return list(pd.read_parquet(f"{study.url}/trials")["number"])


def numbers_by_us(study: Location) -> list[int]:
    return list(read_trials(study).to_pandas()["number"])


def what_overtaken_readers_meet(store: str) -> tuple[type[Exception], ...]:
    """Those in pieces, whose file is replaced: S3's client tells them so, GCS's gives them some of each."""
    if store == "s3":
        from s3fs.utils import FileExpired  # noqa: PLC0415 - a second

        return (FileExpired,)
    return (pa.ArrowInvalid, OSError) if store == "gs" else ()


@pytest.mark.parametrize("numbers_in", [numbers_by_pandas, numbers_by_us])
def test_a_reader_never_sees_an_error_or_a_missing_or_double_trial(
    study: Location, rows: Any, numbers_in: Callable[[Location], list[int]]
) -> None:
    """One that is overtaken in mid-read reads again; ours reads at one go."""
    store = study.url.partition("://")[0]
    overtaken = what_overtaken_readers_meet(store) if numbers_in is numbers_by_pandas else ()
    failures: list[str] = []
    snapshots, reads, done = 90, 0, Event()

    def poll() -> None:
        nonlocal reads
        seen = 1
        while not done.is_set():
            try:
                numbers = numbers_in(study)
            except overtaken:
                continue
            except Exception as error:
                failures.append(repr(error))
                return
            if numbers != list(range(len(numbers))) or len(numbers) < seen:
                failures.append(f"saw {numbers} after {seen} trials")
            seen, reads = len(numbers), reads + 1

    with StudyLog(study, rows.columns, rows.types, interval=60) as log:
        log.trial(rows.trial(0))
        log.flush()
        reader = Thread(target=poll)
        reader.start()
        for snapshot in range(snapshots):
            log.trial(rows.trial(snapshot // 3))
            log.flush()
        until(lambda: reads >= 20 or bool(failures))
        done.set()
        reader.join()
    assert failures == []


@pytest.mark.parametrize(
    ("refused", "there", "missing"),
    [("trials", [], ["epochs", "decisions"]), ("epochs", ["trials"], ["decisions"])],
)
def test_a_row_on_the_store_has_all_there_that_it_tells_of(
    troubled: tuple[Location, Any], rows: Any, refused: str, there: list[str], missing: list[str]
) -> None:
    """Trials before their epochs, these before the decisions on them."""
    study, trouble = troubled
    trouble.cause, trouble.refused = FULL, (refused,)
    with StudyLog(study, rows.columns, rows.types, interval=60) as log:
        log.trial(rows.trial(0))
        log.epoch(rows.epoch(0))
        log.decision(rows.decision(0))
        with pytest.raises(StoreError):
            log.flush()
        assert all(study.join(table).list() for table in there)
        assert not any(study.join(table).list() for table in missing)
        trouble.cause = None
    assert seqs(study) == read_decisions(study).column("seq").to_pylist() == [0]


def test_rows_are_written_every_five_seconds_unless_asked_otherwise() -> None:
    assert signature(StudyLog).parameters["interval"].default <= 5


def test_a_failing_store_loses_nothing_and_is_reported_once(
    troubled: tuple[Location, Any], rows: Any, caplog: pytest.LogCaptureFixture
) -> None:
    study, trouble = troubled
    with (
        caplog.at_level(logging.WARNING),
        StudyLog(study, rows.columns, rows.types, 0.001, rows_per_part=4) as log,
    ):
        log.trial(rows.trial(0))
        log.epoch(rows.epoch(0))
        log.flush()
        trouble.cause = FULL
        for seq in range(1, 10):
            log.epoch(rows.epoch(seq))
        log.trial(rows.trial(1))
        until(lambda: trouble.attempts >= 5)
        assert log.failure is not None
        assert "No space left on device" in log.failure
        assert log.waiting == 9
        assert seqs(study) == [0]
        trouble.cause = None
        until(lambda: log.failure is None)
        assert log.waiting == 0
    assert seqs(study) == list(range(10))
    assert read_trials(study).num_rows == 2
    assert [("in memory" in message, "again: " in message) for message in caplog.messages] == [
        (True, False),
        (False, True),
    ]


def test_close_says_what_could_not_be_written(troubled: tuple[Location, Any], rows: Any) -> None:
    study, trouble = troubled
    trouble.cause = FULL
    log = StudyLog(study, rows.columns, rows.types, interval=0.001)
    log.epoch(rows.epoch(0))
    log.epoch(rows.epoch(1))
    with pytest.raises(StoreError, match=r"2 epochs among them.*No space left on device"):
        log.close()


def test_close_tries_again(troubled: tuple[Location, Any], rows: Any) -> None:
    study, trouble = troubled
    trouble.cause = FULL
    log = StudyLog(study, rows.columns, rows.types, interval=0.2)
    log.epoch(rows.epoch(0))
    closing = Thread(target=log.close)
    closing.start()
    until(lambda: trouble.attempts >= 1)
    trouble.cause = None
    closing.join()
    assert seqs(study) == [0]


def test_nothing_is_written_where_another_search_has_followed_and_nothing_waited_for(
    study: Location, rows: Any
) -> None:
    log = StudyLog(study, rows.columns, rows.types, interval=60, writer=Followed())
    log.epoch(rows.epoch(0))
    before = log.followed
    with pytest.raises(StoreError, match="taken over"):
        log.flush()
    assert (before, log.followed) == (False, True)
    with pytest.raises(StoreError, match="taken over"):
        log.close()
    assert not study.exists()


def test_callers_never_wait_for_the_store(troubled: tuple[Location, Any], rows: Any) -> None:
    study, trouble = troubled
    with StudyLog(study, rows.columns, rows.types, interval=0.001) as log:
        trouble.gate.clear()
        log.trial(rows.trial(0))
        time.sleep(0.05)
        begun = time.monotonic()
        for seq in range(100):
            log.trial(replace(rows.trial(0), epochs=seq))
            log.epoch(rows.epoch(seq))
        assert time.monotonic() - begun < 1
        assert log.waiting == 100
        trouble.gate.set()
    assert seqs(study) == list(range(100))


def test_a_closed_log_takes_no_rows(study: Location, rows: Any) -> None:
    log = StudyLog(study, rows.columns, rows.types)
    log.close()
    log.close()
    with pytest.raises(ValueError, match="closed"):
        log.epoch(rows.epoch(0))
    with pytest.raises(ValueError, match="closed"):
        log.trial(rows.trial(0))
    with pytest.raises(ValueError, match="closed"):
        log.flush()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"loss.alpha": 0.5}, "every searched key"),
        ({"loss.alpha": "0.5", "loss.switch_epoch": 1}, "loss.alpha is searched as float, but got '0.5'"),
        ({"loss.alpha": 0.5, "loss.switch_epoch": 1.5}, "loss.switch_epoch is searched as int, but got 1.5"),
        ({"loss.alpha": True, "loss.switch_epoch": 1}, "loss.alpha is searched as float, but got True"),
    ],
)
def test_params_that_fit_no_column_are_refused_at_once(
    study: Location, rows: Any, params: dict[str, Any], message: str
) -> None:
    with StudyLog(study, rows.columns, rows.types) as log, pytest.raises(ValueError, match=message):
        log.trial(replace(rows.trial(0), params=params))


def test_mixed_choices_stand_as_json_text(study: Location, rows: Any) -> None:
    options = ["auto", "[100, 50]", 1, True, 0.5, None]
    with StudyLog(study, {"model.x": "params_x"}, {"model.x": str}) as log:
        for number, option in enumerate(options):
            log.trial(replace(rows.trial(number), params={"model.x": option}))
    read = read_trials(study).column("params_x").to_pylist()
    assert read == ["auto", "[100, 50]", "1", "true", "0.5", None]


KILLED = """
import sys
from datetime import UTC, datetime
from plgan_tune.records import MEASURES, EpochMetrics, EpochRow
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog

log = StudyLog(Location.at(sys.argv[1]), {}, {}, interval=0.0001, rows_per_part=50)
measures = [1.0] * (len(MEASURES) - 1)
for seq in range(10**9):
    log.epoch(EpochRow(seq, "t0", 1, EpochMetrics(seq + 1, *measures), datetime.now(UTC)))
    if seq % 7 == 0:
        log.flush()
        print(seq, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path: Path, rows: Any) -> None:
    place = tmp_path / "study"
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(place)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as writer:
        assert writer.stdout is not None
        flushed = [int(writer.stdout.readline()) for _ in range(60)]
        os.kill(writer.pid, signal.SIGKILL)
        flushed += [int(line) for line in writer.stdout if line.endswith("\n")]
    study = Location.at(place)
    found = seqs(study)
    assert found == list(range(len(found)))
    assert len(found) > flushed[-1]
    with StudyLog(study, {}, {}, rows_per_part=50) as log:
        log.epoch(rows.epoch(len(found)))
    assert seqs(study) == list(range(len(found) + 1))


@pytest.mark.parametrize("table", ["trials", "epochs", "decisions"])
def test_who_is_stopped_inside_a_write_overwrites_nothing_of_its_follower(
    tmp_path: Path, rows: Any, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The first stops just before it moves a file into the log; another takes the study over, writes and ends."""
    study = Location.at(tmp_path / "s")
    move, follows = os.replace, True

    def stop_before(source: str, target: str) -> None:
        nonlocal follows
        if follows and f"/{table}/" in str(target):
            follows = False
            _follow(study, rows)
        move(source, target)

    with StudyLock(study) as lock:
        log = StudyLog(study, rows.columns, rows.types, interval=60, writer=lock)
        log.trial(rows.trial(0))
        log.epoch(rows.epoch(0))
        log.flush()
        log.trial(rows.trial(0, epochs=2))
        log.epoch(rows.epoch(1))
        log.decision(rows.decision(1))
        monkeypatch.setattr(os, "replace", stop_before)
        with pytest.raises(StoreError):
            log.flush()
        with pytest.raises(StoreError, match="taken over by another search"):
            log.close()
        assert log.followed
    assert not follows
    assert seqs(study) == list(range(6))
    assert read_decisions(study).column("seq").to_pylist() == [5]
    assert trial_rows(read_trials(study), rows.columns) == [rows.trial(0, TrialStatus.COMPLETED, epochs=6)]
    assert not [name for name in study.list() if name.startswith("_")]


def _follow(study: Location, rows: Any) -> None:
    """As a search on another host does that has seen the first one's lock not renewed for a lease."""
    owner = json.loads(study.join(LOCK).read_text())
    study.join(LOCK).write_text(json.dumps({**owner, "host": "other/boot"}))
    follow(study, rows)
