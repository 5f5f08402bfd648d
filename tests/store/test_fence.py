"""A put that is under way while its search is suspended, on stores that have conditional puts: it must be refused."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plgan_tune.records import TrialStatus
from plgan_tune.store import fence, lock
from plgan_tune.store.fence import VersionedFiles
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.lock import LOCK, FollowedError, LockedError, Owner, StudyLock
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import part_name, read_decisions, read_epochs, read_trials, trial_rows
from plgan_tune.store.schemas import WRITER_KEY
from plgan_tune.store.tables import read_table
from plgan_tune.store.versions import ChangedError, Versions
from tests.store.conftest import follow

pytestmark = pytest.mark.parametrize("study", ["s3", pytest.param("gs", marks=pytest.mark.slow)], indirect=True)

Around = Callable[[Callable[[str], bool], Callable[[Any], Any]], None]


@pytest.fixture
def around(study: Location, monkeypatch: pytest.MonkeyPatch) -> Around:
    """Takes a function that is called once, with what sends it, in the place of the first put of a file of a name."""
    client = "_call_s3" if hasattr(study.fs, "_call_s3") else "_request"
    send = getattr(study.fs, client)

    def replace_put(is_file: Callable[[str], bool], act: Callable[[Any], Any]) -> None:
        waiting = [act]

        async def sent(method: str, *args: Any, **kwargs: Any) -> Any:
            async def put() -> Any:
                return await send(method, *args, **kwargs)

            name = kwargs.get("Key") or kwargs.get("name") or ""
            is_put = method in ("put_object", "POST")
            return await (waiting.pop()(put) if waiting and is_put and is_file(name) else put())

        monkeypatch.setattr(study.fs, client, sent)

    return replace_put


@pytest.fixture
def first(study: Location, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyLock]:
    """Holds the lock, from another machine, and does not renew it."""
    with monkeypatch.context() as patched:
        patched.setattr(lock, "_host", lambda: "another machine")
        patched.setattr(StudyLock, "_renew_if_possible", lambda self: False)
        with StudyLock(study, lease=3600) as held:
            patched.undo()
            yield held


def begin(study: Location, rows: Any, held: StudyLock) -> StudyLog:
    log = StudyLog(study, rows.columns, rows.types, interval=60, writer=held)
    log.trial(rows.trial(0))
    log.epoch(rows.epoch(0))
    log.decision(rows.decision(0))
    log.flush()
    log.trial(rows.trial(0, epochs=2))
    log.epoch(rows.epoch(1))
    log.decision(rows.decision(1))
    return log


@pytest.mark.parametrize("table", ["trials", "epochs", "decisions"])
def test_a_put_that_arrives_after_the_follower_has_written_is_refused(
    study: Location, rows: Any, first: StudyLock, around: Around, table: str
) -> None:
    log = begin(study, rows, first)

    async def late(put: Any) -> Any:
        await asyncio.to_thread(follow, study, rows)
        return await put()

    around(lambda name: f"/{table}/" in name, late)
    with pytest.raises(StoreError, match="taken over by another search, which has ended since"):
        log.flush()
    with pytest.raises(StoreError, match="taken over"):
        log.close()
    assert log.followed
    assert read_epochs(study).column("seq").to_pylist() == list(range(6))
    assert read_decisions(study).column("seq").to_pylist()[-1] == 5
    assert trial_rows(read_trials(study), rows.columns) == [rows.trial(0, TrialStatus.COMPLETED, epochs=6)]


@pytest.mark.parametrize("table", ["trials", "epochs", "decisions"])
def test_a_put_that_arrives_before_the_follower_reads_is_kept(
    study: Location, rows: Any, first: StudyLock, around: Around, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    """The follower has the lock, but not yet shut its fence: what arrives then is part of the study that it reads."""
    log = begin(study, rows, first)
    shut, taken, arrived = VersionedFiles.shut, Event(), Event()

    def shut_later(this: VersionedFiles) -> None:
        taken.set()
        assert arrived.wait(timeout=300)
        shut(this)

    async def overtaking(put: Any) -> Any:
        follower = asyncio.create_task(asyncio.to_thread(follow, study, rows))
        assert await asyncio.to_thread(taken.wait, 300)
        answer = await put()
        arrived.set()
        await follower
        return answer

    monkeypatch.setattr(VersionedFiles, "shut", shut_later)
    around(lambda name: f"/{table}/" in name, overtaking)
    with suppress(StoreError):
        log.flush()
    log.trial(rows.trial(1))
    with pytest.raises(StoreError, match="taken over"):
        log.close()
    assert read_epochs(study).column("seq").to_pylist() == list(range(6))
    assert read_decisions(study).column("seq").to_pylist() == ([0, 1, 5] if table == "decisions" else [0, 5])
    assert trial_rows(read_trials(study), rows.columns) == [rows.trial(0, TrialStatus.COMPLETED, epochs=6)]


@pytest.mark.parametrize("ends", [True, False])
def test_a_renewal_that_arrives_late_does_not_take_the_lock_back(
    study: Location, first: StudyLock, around: Around, ends: bool
) -> None:
    follower = StudyLock(study, lease=0.0, sleep=lambda _: None)

    def take() -> None:
        follower.__enter__()
        if ends:
            follower.__exit__(None, None, None)

    async def late(put: Any) -> Any:
        await asyncio.to_thread(take)
        return await put()

    around(lambda name: name.endswith(LOCK), late)
    with pytest.raises(FollowedError):
        first._renew()
    found = Owner.of(study.join(LOCK))
    assert found is None if ends else found is not None and found.token == follower.token
    if not ends:
        follower.__exit__(None, None, None)


def test_who_renews_while_it_is_followed_keeps_the_study(study: Location, first: StudyLock, around: Around) -> None:
    """The follower's put of the lock is under way as the first, silent until now, renews it."""

    async def late(put: Any) -> Any:
        await asyncio.to_thread(first._renew)
        return await put()

    around(lambda name: name.endswith(LOCK), late)
    with pytest.raises(LockedError, match="on another machine"):
        StudyLock(study, lease=0.0, sleep=lambda _: None).__enter__()
    first.check()


def test_a_put_whose_answer_was_lost_is_repeated(study: Location, rows: Any, first: StudyLock, around: Around) -> None:
    """The client sends it again, and the store refuses that: its own first one has changed the version."""
    log = begin(study, rows, first)

    async def twice(put: Any) -> Any:
        await put()
        return await put()

    around(lambda name: "/epochs/" in name, twice)
    log.flush()
    log.close()
    assert read_epochs(study).column("seq").to_pylist() == [0, 1]


def test_a_part_that_is_begun_late_is_refused(study: Location, rows: Any, first: StudyLock) -> None:
    with StudyLog(study, rows.columns, rows.types, rows_per_part=2, writer=first) as log:
        log.epoch(rows.epoch(0))
        log.epoch(rows.epoch(1))
    follower = fence.fence_of(study, "theirs")
    assert isinstance(follower, VersionedFiles)
    VersionedFiles(study, "theirs", follower._versions, rows_per_part=2).shut()
    late = study.join("epochs", part_name(1))
    with pytest.raises(ChangedError, match="another process has created it"):
        follower._versions.put(late, b"late", None)
    assert read_epochs(study).column("seq").to_pylist() == [0, 1]
    with StudyLog(study, rows.columns, rows.types, rows_per_part=2, writer=first) as log:
        log.epoch(rows.epoch(2))
    assert read_epochs(study).column("seq").to_pylist() == [0, 1, 2]


def test_each_table_names_the_start_that_wrote_it(study: Location, rows: Any, first: StudyLock) -> None:
    begin(study, rows, first).close()
    for table in ("trials/trials.parquet", "epochs/part-00000.parquet", "decisions/part-00000.parquet"):
        assert writer_of(study.join(*table.split("/"))) == first.token


def writer_of(file: Location) -> str:
    metadata = read_table(file, pa.schema([])).schema.metadata
    return str(metadata[WRITER_KEY].decode())


def test_a_damaged_table_stays_as_it_is(study: Location, rows: Any, first: StudyLock) -> None:
    """A new version of it would have new checksums. The lock is free again where a part is missing."""
    begin(study, rows, first).close()
    damaged = study.join("epochs", part_name(0))
    content = damaged.read_bytes()
    flipped = next(other for place in range(len(content)) if has_bad_page(other := flip(content, place)))
    damaged.write_bytes(flipped)
    leave_lock_of_another(study)
    with StudyLock(study, lease=0.0, sleep=lambda _: None):
        assert damaged.read_bytes() == flipped
        with pytest.raises(StoreError, match=r"part-00000\.parquet: it is corrupt"):
            read_epochs(study)
    study.join("epochs", part_name(5)).write_bytes(content)
    with pytest.raises(StoreError, match="must hold every part"):
        StudyLock(study).__enter__()
    assert not study.join(LOCK).exists()


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def has_bad_page(content: bytes) -> bool:
    """Whether checksums alone show the damage."""
    try:
        pq.read_table(pa.BufferReader(content))
        pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    except OSError as error:
        return "CRC" in str(error)
    return False


def leave_lock_of_another(study: Location) -> None:
    owner = json.loads(study.join(LOCK).read_text())
    study.join(LOCK).write_text(json.dumps({**owner, "host": "other/boot"}))


@pytest.mark.parametrize("how", ["ignored", "refused"])
def test_a_store_without_conditional_puts_is_written_without(
    study: Location, rows: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Some servers that speak S3 ignore the condition, some say that they do not know it."""

    def replace(file: Location, content: bytes, version: str) -> None:
        if how == "refused":
            raise OSError(501, "A header you provided implies functionality that is not implemented")
        file.write_bytes(content)

    monkeypatch.setattr("plgan_tune.store.versions._STORES", {"s3": ("ETag", replace), "gs": ("generation", replace)})
    assert Versions.of_store(study) is None
    assert study.list() == []
    with StudyLock(study) as held, StudyLog(study, rows.columns, rows.types, writer=held) as log:
        log.epoch(rows.epoch(0))
    assert read_epochs(study).num_rows == 1
    assert "_lock.json" not in study.list()


@pytest.mark.filterwarnings("ignore:Sending a large body")  # gcsfs does so, too
def test_a_file_of_many_megabytes_is_one_put(study: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs would send more than 100 MB in parts, without the condition."""
    versions = Versions.of_store(study)
    assert versions is not None
    file = study.join("large")
    file.write_bytes(b"small")
    before = versions.of(file)
    versions.put(file, b"x" * 101 * 2**20, before)
    with pytest.raises(ChangedError, match=r"cannot write .*large: another process has changed it"):
        versions.put(file, b"y" * 101 * 2**20, before)
    file.remove()
    with pytest.raises(ChangedError, match="has changed it"):
        versions.put(file, b"x", before)
