"""Files and folders of a study, at any fsspec URL or local path. A file appears as a whole or not at all."""

import errno
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, Self

import fsspec
from fsspec.core import url_to_fs

ATOMIC_PUT: Final = frozenset({"memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss"})
"""Stores where a put is atomic, and a move is a copy and a deletion."""


class StoreError(Exception):
    """A place or file that cannot be read or written. The message names it and the cause."""


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder on a store.

    Attributes:
        fs: The fsspec filesystem.
        path: The absolute path on it, without the protocol.
    """

    fs: Any
    path: str

    @classmethod
    def at(cls, place: str | Path) -> Self:
        """Return the location of a URL (`s3://bucket/folder`) or a local path (`~` is the home folder).

        Args:
            place: The URL or path.

        Raises:
            StoreError: If fsspec does not know the protocol, or its package is not installed.
        """
        with naming("open", str(place)):
            if "://" in str(place):
                fs, path = url_to_fs(str(place))
                return cls(fs, path.rstrip("/"))
            return cls(fsspec.filesystem("file"), Path(place).expanduser().absolute().as_posix())

    @property
    def url(self) -> str:
        """The path if this is local, else the URL."""
        return self.path if self.local else str(self.fs.unstrip_protocol(self.path))

    @property
    def local(self) -> Path | None:
        """The path if this is on a local disk, else None."""
        return Path(self.path) if getattr(self.fs, "local_file", False) else None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def join(self, *names: str) -> "Location":
        """Return a location below this one."""
        return Location(self.fs, "/".join((self.path, *names)))

    def exists(self) -> bool:
        """Return whether the file or folder is there.

        Raises:
            StoreError: If the store does not answer.
        """
        with naming("look for", self.url):
            self.fs.invalidate_cache()
            try:
                # Not `fs.exists`: it returns False also if the store does not answer.
                self.fs.info(self.path)
            except FileNotFoundError:
                return False
            return True

    def list(self) -> list[str]:
        """Return the names in this folder, sorted; none if it is not there.

        Raises:
            StoreError: If the store does not answer.
        """
        with naming("list", self.url):
            self.fs.invalidate_cache()
            try:
                paths = self.fs.ls(self.path, detail=False)
            except FileNotFoundError:
                return []
            # Some object stores list the folder itself among its files.
            children = (path.rstrip("/") for path in paths)
            return sorted(path.rpartition("/")[2] for path in children if path != self.path)

    def read_bytes(self) -> bytes:
        """Return the content. Raises StoreError if the file is not there or cannot be read."""
        with naming("read", self.url):
            return bytes(self.fs.cat_file(self.path))

    def read_text(self) -> str:
        """Return the content as UTF-8. Raises StoreError if the file is not there, cannot be read or is not text."""
        content = self.read_bytes()
        with naming("read", self.url):
            return content.decode()

    def write_bytes(self, content: bytes, scratch: "Location | None" = None) -> None:
        """Replace the file as a whole, and make its folder. A reader sees the old content or the new.

        On a local disk, the content and the name are synced: they survive a power cut.

        Args:
            content: The new content.
            scratch: An existing folder for the unfinished file. None is the file's own folder. If another process has
                removed the folder, nothing is written. Not used if puts are atomic.

        Raises:
            StoreError: If it cannot be written. The old content stays.
        """
        with naming("write", self.url):
            if self.puts_are_atomic:
                self.fs.pipe_file(self.path, content)
            else:
                self._write_and_move(content, scratch)

    def create(self, content: bytes) -> bool:
        """Create the file and its folder.

        Args:
            content: The content.

        Returns:
            False if the file is there already. It keeps its content.

        Raises:
            StoreError: If it cannot be written.
        """
        with naming("write", self.url):
            try:
                if not self.puts_are_atomic:
                    self._parent.make_folder()
                if self.local:
                    _create_locally(self.local, content)
                else:
                    self.fs.pipe_file(self.path, content, mode="create")
            except FileExistsError:
                return False
            return True

    def _write_and_move(self, content: bytes, scratch: "Location | None") -> None:
        # Readers of Parquet folders skip names that begin with an underscore. Each write has its own name: a write that
        # ends late must not move the unfinished file of another.
        unfinished = f"{(scratch or self._parent).path}/_{self.name}.{uuid.uuid4().hex}.tmp"
        self._parent.make_folder()
        try:
            self.fs.pipe_file(unfinished, content)
            if self.local:
                _sync(Path(unfinished))
                os.replace(unfinished, self.path)  # noqa: PTH105 - the one call that replaces on every platform
                _sync(self.local.parent)
            else:
                self.fs.mv(unfinished, self.path)
        except BaseException:
            self._forget(unfinished)
            raise

    def _forget(self, unfinished: str) -> None:
        """Remove what a failed write left. Errors are ignored: the failure of the write is the one to report."""
        with suppress(Exception):
            self.fs.rm_file(unfinished)

    def write_text(self, content: str) -> None:
        """Replace the file by UTF-8 text. See `write_bytes`."""
        self.write_bytes(content.encode())

    @property
    def puts_are_atomic(self) -> bool:
        """Whether this store writes a file as a whole without a move."""
        return bool(self.protocols & ATOMIC_PUT)

    @property
    def protocols(self) -> frozenset[str]:
        """The names of this store's protocol."""
        return frozenset([self.fs.protocol] if isinstance(self.fs.protocol, str) else self.fs.protocol)

    @property
    def _parent(self) -> "Location":
        return Location(self.fs, self.path.rpartition("/")[0])

    def make_folder(self) -> None:
        """Make this folder. Raises StoreError if it cannot be made."""
        with naming("make", self.url):
            if self.local:
                _make_folder_synced(self.local)
            else:
                self.fs.makedirs(self.path, exist_ok=True)

    def rename(self, name: str) -> "Location":
        """Give this file or folder another name in its folder.

        Args:
            name: The new name.

        Raises:
            StoreError: If it is not there or cannot be renamed.
        """
        to = self._parent.join(name)
        with naming("rename", self.url):
            if self.local:
                self.local.rename(to.path)
            else:
                self.fs.mv(self.path, to.path, recursive=True)
        return to

    def remove(self) -> None:
        """Remove a file, or a folder with everything in it. It need not be there.

        Raises:
            StoreError: If it cannot be removed.
        """
        with naming("remove", self.url):
            if not self.exists():
                return
            if self.puts_are_atomic:
                # `rm` expands `*` and `[` in names.
                for path in self.fs.find(self.path):
                    self.fs.rm_file(path)
            else:
                self.fs.rm(self.path, recursive=True)


_LEFT: Final = re.compile(r"_.+\.[0-9a-f]{32}\.tmp|_probe\.[0-9a-f]{32}")
"""Files that a killed process leaves: of a write, of `check_writable`."""


def remove_unfinished(folder: Location) -> None:
    """Remove the unfinished files of killed processes from `folder`. No process may be writing there.

    Args:
        folder: The folder.

    Raises:
        StoreError: If the store does not answer.
    """
    for name in filter(_LEFT.fullmatch, folder.list()):
        folder.join(name).remove()


class Writer(Protocol):
    """Who writes a study's files."""

    @property
    def token(self) -> str | None:
        """The mark that its tables carry. None leaves them without one."""

    def write(self, file: Location, content: bytes) -> None:
        """Replace a file as a whole.

        Args:
            file: The file.
            content: The new content.

        Raises:
            StoreError: If it cannot be written, or if this process may not write.
        """


class Alone:
    """The `Writer` of a folder that only one process writes."""

    token = None

    def write(self, file: Location, content: bytes) -> None:
        """See `Location.write_bytes`."""
        file.write_bytes(content)


ALONE: Final = Alone()


def check_writable(folder: Location) -> None:
    """Make `folder`, then write and remove a small file in it.

    Args:
        folder: The folder.

    Raises:
        StoreError: If this fails. The message names the folder and the cause.
    """
    probe = folder.join(f"_probe.{uuid.uuid4().hex}")  # another search may do so at the same time
    try:
        probe.write_bytes(b"probe")
        probe.remove()
    except StoreError as error:
        cause = _cause(error.__cause__ or error)
        raise StoreError(f"results must go where files can be written, but {folder.url} refuses: {cause}") from error


@contextmanager
def no_empty_folder_left(folder: Location) -> Iterator[None]:
    """Remove a local folder, and those above it, if the block has made them and they are empty at its end."""
    places = [folder.local, *folder.local.parents] if folder.local else []
    made = [place for place in places if not place.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # a folder that is not empty stays, and those above it
            for place in filter(Path.exists, made):
                place.rmdir()


def _create_locally(file: Path, content: bytes) -> None:
    """Create a file, or raise FileExistsError. A link is atomic, on NFS, too."""
    unfinished = file.with_name(f"_{file.name}.{uuid.uuid4().hex}.tmp")
    unfinished.write_bytes(content)
    _sync(unfinished)
    try:
        os.link(unfinished, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with file.open("xb") as new:
            new.write(content)
        _sync(file)
    finally:
        unfinished.unlink()
    _sync(file.parent)


def _make_folder_synced(folder: Path) -> None:
    """Make a folder and its parents, and sync their names to the disk."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        _sync(place.parent)


def _sync(place: Path) -> None:
    """Sync a file's content, or a folder's names, to the disk, so that they survive a power cut.

    A file system that cannot sync folders raises an error, which is ignored.
    """
    is_folder = place.is_dir()
    if os.name == "nt" and is_folder:
        return
    # Windows syncs only files that are open for writing.
    handle = os.open(place, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def naming(action: str, url: str) -> Iterator[None]:
    """Turn every exception of the block into a StoreError that names the action, the URL and the cause."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # each store's client has its own exceptions
        raise StoreError(f"cannot {action} {url}: {_cause(error)}") from error


def _cause(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
