"""Keeps late writes of a study's earlier searches out: of a search that was suspended, or a put that is repeated."""

import uuid
from collections.abc import Callable
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from plgan_tune.store.location import Location
from plgan_tune.store.parts import ROWS_PER_PART
from plgan_tune.store.read import DECISIONS, EPOCHS, TRIALS, part_name, parts
from plgan_tune.store.schemas import WRITER_KEY
from plgan_tune.store.tables import parquet_bytes
from plgan_tune.store.versions import ChangedError, Versions

SCRATCH: Final = "_live-"
"""Begins the name of a folder for unfinished files; the token of its search ends it."""

GONE: Final = "_gone-"
"""Begins the name of such a folder that has been taken away."""

TRIES: Final = 3
"""How often a file is written that changes meanwhile."""

Check = Callable[[], None]
"""Asks the store whose study it is. Raises an exception if it is another search's."""


class Fence(Protocol):
    """Writes files so that a later search can refuse writes that come too late."""

    def shut(self) -> None:
        """Refuses whatever earlier searches have not finished to write. The first act of one that holds the lock.

        Raises:
            StoreError: If the store does not answer.
        """

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """Replaces a file as a whole, after `check`. If a later search shuts its fence in between, nothing is written.

        Raises:
            StoreError: If the file cannot be written.
        """

    def remove(self) -> None:
        """Removes what the fence has put into the study's folder."""


def fence_of(study: Location, token: str) -> Fence:
    """The fence that the study's store allows.

    Args:
        study: the study's folder.
        token: of the search that writes.
    """
    if not study.puts_are_atomic:
        return MovedFiles(study, token)
    versions = Versions.of_store(study)
    return VersionedFiles(study, token, versions) if versions else NoFence()


class NoFence:
    """Only `check` refuses late writes: the store has neither moves nor conditional puts."""

    def shut(self) -> None:
        """Nothing can be refused."""

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """Writes after `check`."""
        check()
        file.write_bytes(content)

    def remove(self) -> None:
        """Nothing is there."""


class MovedFiles:
    """Unfinished files lie in a folder that a later search takes away: the move of a late write then fails."""

    def __init__(self, study: Location, token: str) -> None:
        self._study, self._name = study, f"{SCRATCH}{token}"
        self._scratch: Location | None = None

    def shut(self) -> None:
        """Removes the folders of earlier searches, and makes one."""
        for name in self._study.list():
            if name.startswith(SCRATCH):
                # Renamed first: to remove it file by file leaves time for one more write.
                self._study.join(name).rename(f"{GONE}{uuid.uuid4().hex}")
        for name in self._study.list():
            if name.startswith(GONE):
                self._study.join(name).remove()
        scratch = self._study.join(self._name)
        scratch.make_folder()
        self._scratch = scratch

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """Writes into the folder and moves, after `check`."""
        check()
        file.write_bytes(content, self._scratch)

    def remove(self) -> None:
        """Removes the folder."""
        if self._scratch is not None:
            self._scratch.remove()


class VersionedFiles:
    """A put names the version that it replaces. A later search gives each file that may be written a new version."""

    def __init__(self, study: Location, token: str, versions: Versions, rows_per_part: int = ROWS_PER_PART) -> None:
        self._study, self._token, self._versions = study, token, versions
        self._rows_per_part = rows_per_part

    def shut(self) -> None:
        """Rewrites the newest file of each table with this search's token."""
        self._mark(self._study.join(*TRIALS))
        for table in (EPOCHS, DECISIONS):
            self._mark_newest(table)

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """Puts a new version, after `check`.

        The version is read before `check`: if a later search takes the study over after it, this version is gone. A
        put that the client repeats because its answer was lost is refused, too, and is then tried again.
        """
        for rest in reversed(range(TRIES)):
            version = self._versions.of(file)
            check()
            try:
                return self._versions.put(file, content, version)
            except ChangedError:
                if not rest:
                    raise
        return None

    def remove(self) -> None:
        """Nothing is there."""

    def _mark_newest(self, table: str) -> None:
        """Rewrites the newest part. If it is full, a late write may begin the next one: that is created here."""
        while files := parts(self._study, table):
            found = self._mark(files[-1])
            if found is None or found.num_rows < self._rows_per_part:
                return
            following = self._study.join(table, part_name(len(files)))
            following.create(parquet_bytes(found.slice(0, 0), {WRITER_KEY: self._token}))

    def _mark(self, file: Location) -> Any:
        """Gives the file a new version with the same rows. Returns them, None if there are none that can be read."""
        while (version := self._versions.of(file)) is not None:
            try:
                content = pa.BufferReader(file.read_bytes())
                table = pq.ParquetFile(content, page_checksum_verification=True).read()
                self._versions.put(file, parquet_bytes(table, {WRITER_KEY: self._token}), version)
            except ChangedError:
                continue  # by a write that was late, and is now the last
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                return None  # damaged: stays as it is, and is named when the study is read
            else:
                return table
        return None
