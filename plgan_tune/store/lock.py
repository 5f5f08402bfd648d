"""One search at a time in a study's folder: a file that its owner renews."""

import json
import logging
import math
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Final, Self

import psutil

from plgan_tune.store.fence import Fence, NoFence, fence_of
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.repeat import Repeating

logger = logging.getLogger(__name__)

LOCK: Final = "_lock.json"
LEASE: Final = 30.0
"""Seconds after which an owner on another host that has renewed nothing is taken for dead."""

SAME_START: Final = 2.0
"""Seconds by which two readings of a process's start may differ: the time of boot is in whole seconds."""

SETTLE: Final = 0.2
"""Seconds that a lock which was written must stand, beside thrice the time that the store took to write it."""

RENEWALS: Final = 4
"""In a lease."""


class LockedError(Exception):
    """A study that another search is writing. The message says who."""


class FollowedError(StoreError):
    """A study that another search has taken over. The message says who."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host: name and boot of its machine, and which of its processes it sees.
        started: of its process, seconds since its machine's boot, whose clock may be set meanwhile: process numbers are
            given anew.
        token: of this hold alone.
        renewal: counted by the owner. Another's clock is not trusted: a lease is watched, not read.
    """

    host: str
    pid: int
    started: float
    token: str
    renewal: int

    @classmethod
    def here(cls) -> "Owner":
        pid = os.getpid()
        return cls(_host(), pid, _since_boot(psutil.Process(pid)), uuid.uuid4().hex, 0)

    @classmethod
    def of(cls, lock: Location) -> "Owner | None":
        """Who holds the lock; None where there is none.

        Raises:
            ValueError: where the file is no lock.
            StoreError: where the store does not answer.
        """
        return _decoded(lock.read_bytes()) if lock.exists() else None

    @classmethod
    def seen(cls, lock: Location) -> "Owner | None":
        """As `of`, for one who only looks: None also where the search ends in this moment, or the file is no lock."""
        try:
            return cls.of(lock)
        except (StoreError, ValueError):
            return None

    def is_dead(self) -> bool | None:
        """None where only its silence can tell: it is on another host."""
        if self.host != _host():
            return None
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE  # killed, and nobody has asked how it ended
            return ended or abs(_since_boot(process) - self.started) > SAME_START
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


def is_writing(study: Location) -> bool:
    """Whether a search holds the study's lock and is not known to be dead; of one on another host nothing is known."""
    owner = Owner.seen(study.join(LOCK))
    return owner is not None and owner.is_dead() is not True


class StudyLock:
    """Held while a search writes to `study`. A context manager.

    An owner of this host that is dead is followed at once; one of another host once it has renewed nothing for a
    lease, so entering may take that long.

    Raises:
        LockedError: on entering, where the owner lives.
        StoreError: where the store does not answer.
    """

    def __init__(self, study: Location, lease: float = LEASE, sleep: Callable[[float], None] = time.sleep) -> None:
        self._study, self._file = study, study.join(LOCK)
        self._lease, self._sleep = lease, sleep
        self._owner = Owner.here()
        self._lost_to: str | None = None
        self._renewed_at = seconds_awake_or_asleep()
        self._renewing = Lock()
        self._fence: Fence = NoFence()
        self._renewals = Repeating(self._renew_if_possible, lease / RENEWALS, "study-lock")

    def __enter__(self) -> Self:
        self._fence = fence_of(self._study, self._owner.token)
        self._take()
        try:
            self._fence.shut()
        except BaseException:
            self._release()
            raise
        self._renewed_at = seconds_awake_or_asleep()
        self._renewals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._renewals.__exit__(kind, error, trace)
        self._release()

    @property
    def token(self) -> str:
        """The mark that the tables of this search carry."""
        return self._owner.token

    def write(self, file: Location, content: bytes) -> None:
        """Replaces a file of the log as a whole, where the study is still this search's.

        A search that takes the study over meanwhile is not overwritten: see `fence`.

        Raises:
            FollowedError: where another search has the study, or the study's folder is gone.
            StoreError: where it cannot be written.
        """
        self._fence.write(file, content, self.check)

    def check(self) -> None:
        """Asks the store whose study it is now; called before each file of the log.

        Its own clock is not enough: a machine that was suspended, or a process that was stopped, does not know for how
        long. Where the last renewal is older than a lease, the lock is renewed first: the store may be back a moment
        before the thread that renews.

        Raises:
            FollowedError: where another search has the study, or the study's folder is gone.
            StoreError: where the store does not answer.
        """
        if seconds_awake_or_asleep() - self._renewed_at > self._lease:
            self._renew()
        else:
            self._look()

    def _take(self) -> None:
        content = self._content()
        if content is not None:
            self._wait_for_end_of(content)
        begun = time.monotonic()
        if content is None:
            self._file.create(_encoded(self._owner))  # if another was faster, the lock is its own
        else:
            self._fence.write(self._file, _encoded(self._owner), partial(self._check_is_still, content))
        self._check_mine(time.monotonic() - begun)

    def _release(self) -> None:
        found = self._read()
        if found is not None and found.token == self._owner.token:
            self._fence.remove()
            self._file.remove()

    def _wait_for_end_of(self, content: bytes) -> None:
        """Args: content: of the lock that was found. One that cannot be read is left by a machine that lost power."""
        try:
            found = _decoded(content)
        except ValueError:
            found = None
        dead = found.is_dead() if found else None
        if dead is False:
            raise self._refusal(found)
        if dead is None:
            self._sleep(self._lease)

    def _check_is_still(self, content: bytes) -> None:
        """Raises LockedError where the lock that was found has been written since."""
        if self._content() not in (content, None):
            raise self._refusal(self._read())

    def _check_mine(self, seconds: float) -> None:
        """Of two that follow a dead owner at a time the later to write has it.

        Args:
            seconds: that the store took to write the lock.
        """
        self._sleep(min(SETTLE, self._lease) + 3 * seconds)
        found = self._read()
        if found is None or found.token != self._owner.token:
            raise self._refusal(found)

    def _refusal(self, found: Owner | None) -> LockedError:
        return LockedError(f"{self._study.url}: another search is writing here, {found or 'which has just ended'}")

    def _renew_if_possible(self) -> bool:
        """Whether the lock is lost, and need not be renewed again."""
        try:
            self._renew()
        except StoreError as error:  # the rows say so too, and wait
            logger.debug("the lock could not be renewed: %s", error)
        return self._lost_to is not None

    def _renew(self) -> None:
        with self._renewing:
            self._owner = replace(self._owner, renewal=self._owner.renewal + 1)
            # Behind the fence: one who was stopped since it looked takes nothing back, neither from its follower nor
            # where that has ended.
            self._fence.write(self._file, _encoded(self._owner), self._look)
            self._renewed_at = seconds_awake_or_asleep()

    def _look(self) -> None:
        """Raises FollowedError where the lock is not this one's any more; one that is lost once stays lost.

        One that is gone is lost, too: a follower may have ended since, and the study is as it left it.
        """
        if self._lost_to is None:
            found = self._read()
            if found is None or found.token != self._owner.token:
                self._lost_to = self._loss(found)
        if self._lost_to is not None:
            raise FollowedError(f"{self._study.url} {self._lost_to}")

    def _loss(self, found: Owner | None) -> str:
        if found is not None:
            return f"has been taken over by another search, {found}"
        if self._study.puts_are_atomic or self._study.exists():  # there a folder without files is none
            return "has been taken over by another search, which has ended since"
        return "is gone: its folder was removed or renamed while the search was writing to it"

    def _content(self) -> bytes | None:
        return self._file.read_bytes() if self._file.exists() else None

    def _read(self) -> Owner | None:
        try:
            return Owner.of(self._file)
        except ValueError as error:
            advice = "remove it if no search of this study runs"
            raise StoreError(f"{self._file.url} is no lock of a search ({error}); {advice}") from error


def _encoded(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _decoded(content: bytes) -> Owner:
    """Raises ValueError where the content is no lock's."""
    try:
        owner = Owner(**json.loads(content))
        numbers = float(owner.pid + owner.started + owner.renewal)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not (math.isfinite(numbers) and isinstance(owner.host, str) and isinstance(owner.token, str)):
        raise ValueError("its fields are of other types")
    return owner


def seconds_awake_or_asleep() -> float:
    """Seconds since the machine's boot, those in which it was suspended included, as time.monotonic() has them not."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _since_boot(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())


def _host() -> str:
    """Two containers may share name and boot, and yet neither sees the other's processes."""
    boot, processes = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    this_boot = boot.read_text().strip() if boot.exists() else ""
    these_processes = str(processes.readlink()) if processes.is_symlink() else ""
    return f"{socket.gethostname()}/{this_boot}/{these_processes}"
