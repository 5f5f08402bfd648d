"""Where a study lives: a folder on any fsspec URL or local path, whose files appear whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import fsspec
from fsspec.core import url_to_fs

from plgan_tune.typed import from_here

ATOMIC_PUT: Final = frozenset({"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"})
"""Stores where a put is seen whole or not at all, and where a move would be a copy and a deletion."""


class StoreError(Exception):
    """A place or file of a study that cannot be read or written. The message names it and the cause."""


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder on a store.

    Attributes:
        fs: the fsspec filesystem.
        path: absolute path on it, without the protocol.
    """

    fs: Any
    path: str

    @classmethod
    def at(cls, place: str | Path) -> Self:
        """Finds the store of a URL (`s3://bucket/folder`) or a local path (`~` is the home folder).

        Raises:
            StoreError: for a protocol that fsspec does not know or whose package is not installed.
        """
        with _naming("open", str(place)):
            if "://" in str(place):
                fs, path = url_to_fs(str(place))
                return cls(fs, path.rstrip("/"))
            return cls(fsspec.filesystem("file"), Path(place).expanduser().absolute().as_posix())

    @property
    def url(self) -> str:
        """What a reader types to get there: a path if local, else a URL."""
        return self.path if self.local else str(self.fs.unstrip_protocol(self.path))

    @property
    def typed(self) -> str:
        """As it is typed in this folder: a local path relative where it lies below, else whole."""
        return from_here(self.local) if self.local else self.url

    @property
    def local(self) -> Path | None:
        """The path if this is on a local disk, else None."""
        return Path(self.path) if getattr(self.fs, "local_file", False) else None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def join(self, *names: str) -> "Location":
        return Location(self.fs, "/".join((self.path, *names)))

    def exists(self) -> bool:
        """Raises StoreError where the store does not answer."""
        with _naming("look for", self.url):
            self.fs.invalidate_cache()
            try:
                # Not `fs.exists`: it takes a store that does not answer for one that has no such file.
                self.fs.info(self.path)
            except FileNotFoundError:
                return False
            return True

    def list(self) -> list[str]:
        """Names in this folder, sorted; none if it is not there.

        Raises:
            StoreError: where the store does not answer.
        """
        with _naming("list", self.url):
            self.fs.invalidate_cache()
            try:
                paths = self.fs.ls(self.path, detail=False)
            except FileNotFoundError:
                return []
            # Some object stores list a folder's own marker among its files.
            children = (path.rstrip("/") for path in paths)
            return sorted(path.rpartition("/")[2] for path in children if path != self.path)

    def read_bytes(self) -> bytes:
        """Raises StoreError where the file is not there or cannot be read."""
        with _naming("read", self.url):
            return bytes(self.fs.cat_file(self.path))

    def read_text(self) -> str:
        """UTF-8. Raises StoreError where the file is not there, cannot be read or is no text."""
        content = self.read_bytes()
        with _naming("read", self.url):
            return content.decode()

    def write_bytes(self, content: bytes) -> None:
        """Replaces the file as a whole, and makes its folder; a reader sees the old content or the new.

        Raises:
            StoreError: where it cannot be written; the old content then stays.
        """
        with _naming("write", self.url):
            if _puts_are_atomic(self.fs):
                self.fs.pipe_file(self.path, content)
            else:
                self._write_beside_and_move(content)

    def create(self, content: bytes) -> bool:
        """Makes the file and its folder; whether it did: False where the file was there.

        Raises:
            StoreError: where it cannot be written.
        """
        with _naming("write", self.url):
            try:
                if not _puts_are_atomic(self.fs):
                    self.fs.makedirs(self.path.rpartition("/")[0], exist_ok=True)
                if self.local:
                    _create_locally(self.local, content)
                else:
                    self.fs.pipe_file(self.path, content, mode="create")
            except FileExistsError:
                return False
            return True

    def _write_beside_and_move(self, content: bytes) -> None:
        folder, _, name = self.path.rpartition("/")
        # Readers of Parquet folders skip names that begin with an underscore.
        temporary = f"{folder}/_{name}.tmp"
        self.fs.makedirs(folder, exist_ok=True)
        self.fs.pipe_file(temporary, content)
        if self.local:
            os.replace(temporary, self.path)  # noqa: PTH105 - the one call that replaces on every platform
        else:
            self.fs.mv(temporary, self.path)

    def write_text(self, content: str) -> None:
        """As `write_bytes`, in UTF-8."""
        self.write_bytes(content.encode())

    def remove(self) -> None:
        """Removes a file, or a folder with all in it; no error if it is not there.

        Raises:
            StoreError: where it cannot be removed.
        """
        with _naming("remove", self.url):
            if not self.exists():
                return
            if _puts_are_atomic(self.fs):
                # `rm` would take a `*` or `[` in a name for a pattern.
                for path in self.fs.find(self.path):
                    self.fs.rm_file(path)
            else:
                self.fs.rm(self.path, recursive=True)


def check_writable(folder: Location) -> None:
    """Makes `folder` where the store has folders, then writes and removes a small file in it.

    Raises:
        StoreError: naming the folder and the cause.
    """
    probe = folder.join(f"_probe.{uuid.uuid4().hex}")  # another search may look at the same moment
    try:
        probe.write_bytes(b"probe")
        probe.remove()
    except StoreError as error:
        cause = _cause(error.__cause__ or error)
        raise StoreError(f"results must go where files can be written, but {folder.url} refuses: {cause}") from error


def _create_locally(file: Path, content: bytes) -> None:
    """Raises FileExistsError where the file is there. A link is made or refused at one moment, on NFS, too."""
    scratch = file.with_name(f"_{file.name}.{uuid.uuid4().hex}")
    scratch.write_bytes(content)
    try:
        os.link(scratch, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with file.open("xb") as new:
            new.write(content)
    finally:
        scratch.unlink()


def _puts_are_atomic(fs: Any) -> bool:
    protocols = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    return bool(protocols & ATOMIC_PUT)


@contextmanager
def _naming(action: str, url: str) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # each store's client has exceptions of its own
        raise StoreError(f"cannot {action} {url}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
