"""The lock of a study, so that one search at a time writes to it: a file that its owner renews."""

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
"""Seconds without a renewal after which an owner on another host counts as dead."""

SAME_START: Final = 2.0
"""Seconds by which two readings of a process's start may differ: the boot time is in whole seconds."""

SETTLE: Final = 0.2
"""Seconds, plus three times the duration of the write, after which a new lock must still be unchanged."""

RENEWALS: Final = 4
"""Renewals in a lease."""


class LockedError(Exception):
    """Another search is writing the study. The message names its process."""


class FollowedError(StoreError):
    """Another search has taken the study over. The message names its process."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that holds a lock.

    Attributes:
        host: The machine's name, its boot, and the process's PID namespace.
        pid: The process's number.
        started: When the process started, in seconds since boot. It tells two processes of the same number apart, also
            if the clock is set.
        token: A random id of this hold of the lock.
        renewal: The number of renewals. A waiting search watches it change for a lease: it does not trust the owner's
            clock.
    """

    host: str
    pid: int
    started: float
    token: str
    renewal: int

    @classmethod
    def here(cls) -> "Owner":
        """Return this process, with a new token."""
        pid = os.getpid()
        return cls(_host(), pid, _since_boot(psutil.Process(pid)), uuid.uuid4().hex, 0)

    @classmethod
    def of(cls, lock: Location) -> "Owner | None":
        """Return the holder of a lock, or None if there is no lock.

        Args:
            lock: The file.

        Raises:
            ValueError: If the file is not a lock.
            StoreError: If the store does not answer.
        """
        return _decoded(lock.read_bytes()) if lock.exists() else None

    @classmethod
    def seen(cls, lock: Location) -> "Owner | None":
        """Return the holder of a lock. None: there is none, the file is not a lock, or the store does not answer."""
        try:
            return cls.of(lock)
        except (StoreError, ValueError):
            return None

    def is_dead(self) -> bool | None:
        """Return whether the process has ended, or None if it is on another host."""
        if self.host != _host():
            return None
        try:
            process = psutil.Process(self.pid)
            ended = process.status() == psutil.STATUS_ZOMBIE  # it was killed, and its parent has not waited for it
            return ended or abs(_since_boot(process) - self.started) > SAME_START
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


def is_writing(study: Location) -> bool:
    """Return whether a search holds the study's lock. A search of this host counts only if it is alive."""
    owner = Owner.seen(study.join(LOCK))
    return owner is not None and owner.is_dead() is not True


class StudyLock:
    """Held while a search writes to `study`. A context manager.

    If the owner is a dead process of this host, its lock is taken over at once. If it is on another host, this waits
    for a lease and takes the lock over if it was not renewed.

    Args:
        study: The study's folder.
        lease: Seconds without a renewal after which the lock may be taken over.
        sleep: Waits for some seconds.

    Raises:
        LockedError: On entering, if another search is writing the study.
        StoreError: If the store does not answer.
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
        """The token of this lock, which the tables of this search carry."""
        return self._owner.token

    def write(self, file: Location, content: bytes) -> None:
        """Replace a file as a whole, if this search still owns the study.

        If another search takes the study over during this call, its files are not overwritten: see `store.fence`.

        Args:
            file: A file of the log.
            content: The new content.

        Raises:
            FollowedError: If another search has taken the study over, or its folder is gone.
            StoreError: If the file cannot be written.
        """
        self._fence.write(file, content, self.check)

    def check(self) -> None:
        """Ask the store whether this search still owns the study. This happens before each file of the log.

        The clock is not enough: a process that was stopped does not know for how long. If the last renewal is older
        than a lease, the lock is renewed here, because the store may work again before the next regular renewal.

        Raises:
            FollowedError: If another search has taken the study over, or its folder is gone.
            StoreError: If the store does not answer.
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
            self._file.create(_encoded(self._owner))  # if another search was faster, the check below finds its lock
        else:
            self._fence.write(self._file, _encoded(self._owner), partial(self._check_is_still, content))
        self._check_mine(time.monotonic() - begun)

    def _release(self) -> None:
        found = self._read()
        if found is not None and found.token == self._owner.token:
            self._fence.remove()
            self._file.remove()

    def _wait_for_end_of(self, content: bytes) -> None:
        """Wait for a lease if the owner is on another host, or the lock unreadable: a power cut may leave it so."""
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
        """Raise LockedError if another search has written the lock since `content` was read."""
        if self._content() not in (content, None, _encoded(self._owner)):  # its own, if the store's answer was lost
            raise self._refusal(self._read())

    def _check_mine(self, seconds: float) -> None:
        """Wait, then raise LockedError if another search has taken the lock, too. The last to write it owns it.

        Args:
            seconds: How long the store took to write the lock.
        """
        self._sleep(min(SETTLE, self._lease) + 3 * seconds)
        found = self._read()
        if found is None or found.token != self._owner.token:
            raise self._refusal(found)

    def _refusal(self, found: Owner | None) -> LockedError:
        return LockedError(f"{self._study.url}: another search is writing here, {found or 'which has just ended'}")

    def _renew_if_possible(self) -> bool:
        """Renew the lock, if the store answers. Return whether the lock is lost and renewals can end."""
        try:
            self._renew()
        except StoreError as error:  # the log reports it, too: its rows wait
            logger.debug("the lock could not be renewed: %s", error)
        return self._lost_to is not None

    def _renew(self) -> None:
        with self._renewing:
            self._owner = replace(self._owner, renewal=self._owner.renewal + 1)
            # With the fence: a process that was stopped after its look must not take the lock back.
            self._fence.write(self._file, _encoded(self._owner), self._look)
            self._renewed_at = seconds_awake_or_asleep()

    def _look(self) -> None:
        """Raise FollowedError if this search has lost the lock. Once lost, it stays lost.

        A lock that is gone is lost, too: another search may have taken the study over and ended.
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
        if self._study.puts_are_atomic or self._study.exists():  # object stores have no empty folders
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
    """Return the owner. Raise ValueError if the content is not a lock."""
    try:
        owner = Owner(**json.loads(content))
        numbers = float(owner.pid + owner.started + owner.renewal)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if not (math.isfinite(numbers) and isinstance(owner.host, str) and isinstance(owner.token, str)):
        raise ValueError("its fields are of other types")
    return owner


def seconds_awake_or_asleep() -> float:
    """Return the seconds since boot. Unlike time.monotonic(), they include those in which the machine was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _since_boot(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())


def _host() -> str:
    """Return what tells hosts apart. Two containers may share name and boot, but not see each other's processes."""
    boot, processes = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    this_boot = boot.read_text(encoding="ascii").strip() if boot.exists() else ""
    these_processes = str(processes.readlink()) if processes.is_symlink() else ""
    return f"{socket.gethostname()}/{this_boot}/{these_processes}"
