"""One search at a time in a study's folder."""

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.lock import LEASE, LOCK, FollowedError, LockedError, Owner, StudyLock, seconds_awake_or_asleep


def leave(study: Location, owner: Owner) -> None:
    study.join(LOCK).write_bytes(json.dumps(asdict(owner)).encode())


def left(study: Location) -> Owner:
    return Owner(**json.loads(study.join(LOCK).read_text()))


def elsewhere() -> Owner:
    return replace(Owner.here(), host="other/boot", token="theirs")


def never(seconds: float) -> None:
    assert seconds != LEASE, "waits for a lease"


def test_a_lock_is_there_while_it_is_held(study: Location) -> None:
    with StudyLock(study):
        assert left(study).pid == Owner.here().pid
    assert study.list() == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces are Linux's")
def test_a_container_that_sees_other_processes_is_another_host() -> None:
    assert Path("/proc/self/ns/pid").readlink().name in Owner.here().host
    assert replace(Owner.here(), host=Owner.here().host + "0", pid=2**22 + 1).is_dead() is None


def test_the_second_is_refused_at_once(study: Location) -> None:
    with StudyLock(study), pytest.raises(LockedError, match=r"another search is writing here, process \d+ on"):
        StudyLock(study, sleep=never).__enter__()
    with StudyLock(study, sleep=never):
        pass


def test_a_dead_process_of_this_host_is_followed_at_once(study: Location) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    leave(study, replace(Owner.here(), pid=process.pid, token="theirs"))
    with StudyLock(study, sleep=never):
        assert left(study).token != "theirs"


def test_a_process_number_given_anew_is_another_process(study: Location) -> None:
    owner = Owner.here()
    leave(study, replace(owner, started=owner.started - 60, token="theirs"))
    with StudyLock(study, sleep=never):
        assert left(study).token != "theirs"


def test_a_killed_process_that_nobody_has_waited_for_is_dead(study: Location) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        there = psutil.Process(process.pid)
        owner = replace(Owner.here(), pid=process.pid, started=there.create_time() - psutil.boot_time())
        assert owner.is_dead() is False
        process.kill()
        while there.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert owner.is_dead() is True


def test_a_clock_that_is_set_kills_nobody(study: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux says when it booted by the clock of now."""
    owner = Owner.here()
    boot = psutil.boot_time()
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot + 3600)
    assert psutil.boot_time() == boot + 3600
    assert psutil.Process().create_time() - psutil.boot_time() == pytest.approx(owner.started, abs=1)
    assert owner.is_dead() is False


def test_another_host_that_is_silent_for_a_lease_is_followed(study: Location) -> None:
    leave(study, elsewhere())
    waited: list[float] = []
    with StudyLock(study, sleep=waited.append):
        assert left(study).token != "theirs"
    assert LEASE in waited


@pytest.mark.parametrize("change", [{"renewal": 1}, {"token": "new"}])
def test_another_host_that_lives_is_not(study: Location, change: dict[str, Any]) -> None:
    leave(study, elsewhere())
    with pytest.raises(LockedError, match="on other"):
        StudyLock(study, sleep=lambda _: leave(study, replace(elsewhere(), **change))).__enter__()
    assert left(study).host == "other/boot"


def test_of_two_that_follow_one_alone_has_it(study: Location) -> None:
    leave(study, elsewhere())

    def outrun(seconds: float) -> None:
        if seconds != LEASE:
            leave(study, replace(elsewhere(), token="faster"))

    with pytest.raises(LockedError):
        StudyLock(study, sleep=outrun).__enter__()
    assert left(study).token == "faster"


def test_it_is_renewed(study: Location) -> None:
    with StudyLock(study, lease=0.04):
        deadline = time.monotonic() + 10
        while left(study).renewal < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)


UNREADABLE = [b"", b"half a", b"[1]", b'{"pid": 1}', b"\x00" * 64]


@pytest.mark.parametrize("content", UNREADABLE)
def test_a_lock_that_cannot_be_read_is_followed_after_a_lease(study: Location, content: bytes) -> None:
    """A power cut may leave it so; it must not bar a resume for ever."""
    study.join(LOCK).write_bytes(content)
    waited: list[float] = []
    with StudyLock(study, sleep=waited.append):
        assert left(study).pid == os.getpid()
    assert LEASE in waited


def test_a_lock_that_becomes_readable_is_not_followed(study: Location) -> None:
    study.join(LOCK).write_bytes(b"")
    with pytest.raises(LockedError, match="on other"):
        StudyLock(study, sleep=lambda _: leave(study, elsewhere())).__enter__()
    assert left(study).token == "theirs"


def test_a_file_is_created_once(study: Location) -> None:
    assert study.join("a").create(b"1")
    assert not study.join("a").create(b"2")
    assert study.join("a").read_bytes() == b"1"
    assert study.list() == ["a"]


def test_of_many_that_create_a_file_one_does(tmp_path: Path) -> None:
    """Each is there with its content, or not at all, at every moment."""
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            file = Location.at(tmp_path / str(turn) / "lock")
            assert sum(pool.map(file.create, [bytes([number]) * 4 for number in range(8)])) == 1
            assert len(set(file.read_bytes())) == 1


def test_a_file_is_created_once_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    test_a_file_is_created_once(Location.at(tmp_path))


def test_who_was_silent_for_too_long_leaves_the_study_to_its_follower(study: Location) -> None:
    """A store that fails for longer than a lease: nothing of the first may overwrite what the second writes."""
    with StudyLock(study, lease=0.04) as lock:
        lock.check()
        with lock._renewing:  # a renewal under way would write over it
            leave(study, elsewhere())
        deadline = time.monotonic() + 10
        while not (taken := _says(lock)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert "taken over by another search" in taken
    assert left(study).token == "theirs"


@pytest.fixture
def late(study: Location, monkeypatch: pytest.MonkeyPatch) -> Iterator[StudyLock]:
    """A lock whose thread renews nothing, and whose lease is always over."""
    monkeypatch.setattr(StudyLock, "_renew_if_possible", lambda self: False)
    with StudyLock(study, lease=0.0) as lock:
        yield lock


def test_whose_lease_is_over_looks_before_it_writes(study: Location, late: StudyLock) -> None:
    before = left(study).renewal
    late.check()
    assert left(study).renewal == before + 1
    leave(study, elsewhere())
    assert "taken over by another search, process" in (_says(late) or "")


def test_who_was_silent_finds_the_study_lost_when_its_follower_has_ended(study: Location, late: StudyLock) -> None:
    study.join(LOCK).remove()
    assert "taken over by another search, which has ended since" in (_says(late) or "")
    assert not study.join(LOCK).exists()


def test_a_fresh_lease_does_not_count_where_the_store_says_otherwise(
    study: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that was suspended wakes with a lease that looks fresh."""
    monkeypatch.setattr(StudyLock, "_renew_if_possible", lambda self: False)
    with StudyLock(study, lease=3600) as lock:
        lock.check()
        leave(study, elsewhere())
        assert "taken over by another search, process" in (_says(lock) or "")
    assert left(study).token == "theirs"


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="Linux's clock")
def test_a_lease_counts_the_time_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # it stands still in a suspended machine
    assert seconds_awake_or_asleep() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=60)


def test_a_folder_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    study = Location.at(tmp_path / "s")
    with StudyLock(study) as lock:
        (tmp_path / "s").rename(tmp_path / "elsewhere")
        assert "its folder was removed or renamed" in (_says(lock) or "")
    assert not (tmp_path / "s").exists()


def test_a_follower_takes_the_folder_for_unfinished_files_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Location.at(tmp_path / "s")
    with StudyLock(study) as lock:
        leave(study, elsewhere())
        with StudyLock(study, lease=0.0, sleep=lambda _: None) as follower:
            assert [name for name in study.list() if name.startswith("_live-")] == [f"_live-{follower.token}"]
            with monkeypatch.context() as late:
                late.setattr(lock, "check", lambda: None)  # asked before the other came
                with pytest.raises(StoreError, match="cannot write"):
                    lock.write(study.join("a"), b"late")
            follower.write(study.join("a"), b"theirs")
    assert study.join("a").read_bytes() == b"theirs"
    assert study.list() == ["a"]


def _says(lock: StudyLock) -> str | None:
    try:
        lock.check()
    except StoreError as error:
        return str(error)
    return None


@pytest.mark.parametrize("ends", [True, False])
def test_who_is_stopped_inside_a_renewal_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Between its look at the lock and its write another takes the study over, and may have ended since."""
    study, followers, look = Location.at(tmp_path / "study"), ExitStack(), StudyLock._look
    with followers, StudyLock(study, lease=3600) as lock:

        def overtaken(this: StudyLock) -> None:
            look(this)
            monkeypatch.setattr(StudyLock, "_look", look)
            leave(study, replace(left(study), host="other/boot"))
            followers.enter_context(StudyLock(study, lease=0.0, sleep=lambda _: None))
            if ends:
                followers.close()

        monkeypatch.setattr(StudyLock, "_look", overtaken)
        with pytest.raises(StoreError, match="No such file"):
            lock._renew()
        with pytest.raises(FollowedError, match="has been taken over by another search"):
            lock.check()
    assert study.list() == []
