"""One search at a time in a study's folder: a file that its owner renews."""

import json
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

import psutil

from plgan_tune.store.location import Location, StoreError

logger = logging.getLogger(__name__)

LOCK: Final = "_lock.json"
LEASE: Final = 30.0
"""Seconds after which an owner on another host that has renewed nothing is taken for dead."""

CLOCK_STEP: Final = 2.0
"""Seconds by which a process may seem to have started at another time after its machine's clock was set."""

RENEWALS: Final = 4
"""In a lease."""


class LockedError(Exception):
    """A study that another search is writing. The message says who."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock.

    Attributes:
        host: name and boot of its machine.
        started: of its process, seconds since 1970: process numbers are given anew.
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
        return cls(_host(), pid, psutil.Process(pid).create_time(), uuid.uuid4().hex, 0)

    def is_dead(self) -> bool | None:
        """None where only its silence can tell: it is on another host."""
        if self.host != _host():
            return None
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > CLOCK_STEP
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition('/')[0]}"


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
        self._ended = Event()
        self._follower: Owner | None = None
        self._thread = Thread(target=self._renew, name="study-lock", daemon=True)

    def __enter__(self) -> Self:
        found = self._read()
        if found is not None:
            self._wait_for_end_of(found)
            self._write()
        elif not self._file.create(_encoded(self._owner)):
            raise self._refusal(self._read())
        self._check_mine()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        found = self._read()
        if found is not None and found.token == self._owner.token:
            self._file.remove()

    def check(self) -> None:
        """Raises StoreError where another search has taken the study over: this one could renew nothing for a lease."""
        if self._follower is not None:
            raise StoreError(f"{self._study.url} has been taken over by another search, {self._follower}")

    def _wait_for_end_of(self, found: Owner) -> None:
        dead = found.is_dead()
        if dead is False:
            raise self._refusal(found)
        if dead is None:
            self._sleep(self._lease)
            if self._read() not in (found, None):
                raise self._refusal(found)

    def _check_mine(self) -> None:
        """Of two that follow a dead owner at a time the later to write has it."""
        self._sleep(min(0.2, self._lease))
        found = self._read()
        if found is None or found.token != self._owner.token:
            raise self._refusal(found)

    def _refusal(self, found: Owner | None) -> LockedError:
        return LockedError(f"{self._study.url}: another search is writing here, {found or 'which has just ended'}")

    def _renew(self) -> None:
        while not self._ended.wait(self._lease / RENEWALS):
            self._owner = replace(self._owner, renewal=self._owner.renewal + 1)
            try:
                found = self._read()
                if found is not None and found.token != self._owner.token:
                    self._follower = found
                    return
                self._write()
            except StoreError as error:  # the rows say so too, and wait
                logger.debug("the lock could not be renewed: %s", error)

    def _read(self) -> Owner | None:
        if not self._file.exists():
            return None
        try:
            return Owner(**json.loads(self._file.read_text()))
        except (ValueError, TypeError) as error:
            advice = "remove it if no search of this study runs"
            raise StoreError(f"{self._file.url} is no lock of a search ({error}); {advice}") from error

    def _write(self) -> None:
        self._file.write_bytes(_encoded(self._owner))


def _encoded(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()}/{boot.read_text().strip() if boot.exists() else ''}"
