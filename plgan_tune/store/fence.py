"""Keeps late writes of earlier searches out of a study: of a suspended search, or of a request that is repeated."""

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
"""Begins the name of a folder for unfinished files. The token of its search ends it."""

GONE: Final = "_gone-"
"""Begins the name of such a folder while it is removed."""

TRIES: Final = 3
"""How often to write a file that changes at the same time."""

Check = Callable[[], None]
"""Asks the store who owns the study. Raises an exception if it is another search."""


class Fence(Protocol):
    """Writes files so that a later search can refuse writes that come too late."""

    def shut(self) -> None:
        """Make all unfinished writes of earlier searches fail. A search does so before it reads the study.

        Raises:
            StoreError: If the store does not answer.
        """

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """Call `check`, then replace a file as a whole. If a later search shuts its fence in between, this fails.

        Args:
            file: The file.
            content: The new content.
            check: Called before the write.

        Raises:
            StoreError: If the file cannot be written.
        """

    def remove(self) -> None:
        """Remove the fence's own files from the study's folder."""


def fence_of(study: Location, token: str) -> Fence:
    """Return the fence that the study's store allows.

    Args:
        study: The study's folder.
        token: The token of the search.
    """
    if not study.puts_are_atomic:
        return MovedFiles(study, token)
    versions = Versions.of_store(study)
    return VersionedFiles(study, token, versions) if versions else NoFence()


class NoFence:
    """For stores with neither moves nor conditional puts: only `check` prevents late writes."""

    def shut(self) -> None:
        """Do nothing."""

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """See `Fence.write`."""
        check()
        file.write_bytes(content)

    def remove(self) -> None:
        """Do nothing."""


class MovedFiles:
    """For stores with moves: unfinished files are in a folder that a later search removes, so a late move fails."""

    def __init__(self, study: Location, token: str) -> None:
        self._study, self._name = study, f"{SCRATCH}{token}"
        self._scratch: Location | None = None

    def shut(self) -> None:
        """Remove the folders of earlier searches, and make one."""
        for name in self._study.list():
            if name.startswith(SCRATCH):
                # Renamed first: while it is removed file by file, one more move could succeed.
                self._study.join(name).rename(f"{GONE}{uuid.uuid4().hex}")
        for name in self._study.list():
            if name.startswith(GONE):
                self._study.join(name).remove()
        scratch = self._study.join(self._name)
        scratch.make_folder()
        self._scratch = scratch

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """See `Fence.write`."""
        check()
        file.write_bytes(content, self._scratch)

    def remove(self) -> None:
        """Remove the folder."""
        if self._scratch is not None:
            self._scratch.remove()


class VersionedFiles:
    """For stores with conditional puts: a later search changes the versions, so late puts are refused."""

    def __init__(self, study: Location, token: str, versions: Versions, rows_per_part: int = ROWS_PER_PART) -> None:
        self._study, self._token, self._versions = study, token, versions
        self._rows_per_part = rows_per_part

    def shut(self) -> None:
        """Rewrite the newest file of each table with this search's token."""
        self._mark(self._study.join(*TRIALS))
        for table in (EPOCHS, DECISIONS):
            self._mark_newest(table)

    def write(self, file: Location, content: bytes, check: Check) -> None:
        """See `Fence.write`.

        The version is read before `check`. A search that takes the study over after `check` changes it. If the client
        repeats a put because its answer was lost, the store refuses it, too; it is then tried again.
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
        """Do nothing."""

    def _mark_newest(self, table: str) -> None:
        """Rewrite the newest part. If it is full, create the next one, which a late write could create, too."""
        while files := parts(self._study, table):
            found = self._mark(files[-1])
            if found is None or found.num_rows < self._rows_per_part:
                return
            following = self._study.join(table, part_name(len(files)))
            following.create(parquet_bytes(found.slice(0, 0), {WRITER_KEY: self._token}))

    def _mark(self, file: Location) -> Any:
        """Rewrite a file with the same rows. Return them, or None if there is no file or it is damaged."""
        while (version := self._versions.of(file)) is not None:
            try:
                content = pa.BufferReader(file.read_bytes())
                table = pq.ParquetFile(content, page_checksum_verification=True).read()
                self._versions.put(file, parquet_bytes(table, {WRITER_KEY: self._token}), version)
            except ChangedError:
                continue  # a late write was faster; the next one will be refused
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                return None  # damaged: it stays as it is, and reading the study reports it
            else:
                return table
        return None
