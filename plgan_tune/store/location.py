"""Where a study lives: a folder on any fsspec URL or local path, whose files appear whole or not at all."""

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
        with naming("open", str(place)):
            if "://" in str(place):
                fs, path = url_to_fs(str(place))
                return cls(fs, path.rstrip("/"))
            return cls(fsspec.filesystem("file"), Path(place).expanduser().absolute().as_posix())

    @property
    def url(self) -> str:
        """What a reader types to get there: a path if local, else a URL."""
        return self.path if self.local else str(self.fs.unstrip_protocol(self.path))

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
        with naming("look for", self.url):
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
        with naming("list", self.url):
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
        with naming("read", self.url):
            return bytes(self.fs.cat_file(self.path))

    def read_text(self) -> str:
        """UTF-8. Raises StoreError where the file is not there, cannot be read or is no text."""
        content = self.read_bytes()
        with naming("read", self.url):
            return content.decode()

    def write_bytes(self, content: bytes, scratch: "Location | None" = None) -> None:
        """Replaces the file as a whole, and makes its folder; a reader sees the old content or the new.

        On a local disk the content and its name are on the disk when this returns: they survive a power cut.

        Args:
            scratch: a folder that is there, for the unfinished file; None puts it beside the file. Where another
                process has taken the folder away, nothing is written. Stores whose puts are atomic need none.

        Raises:
            StoreError: where it cannot be written; the old content then stays.
        """
        with naming("write", self.url):
            if self.puts_are_atomic:
                self.fs.pipe_file(self.path, content)
            else:
                self._write_and_move(content, scratch)

    def create(self, content: bytes) -> bool:
        """Makes the file and its folder; whether it did: False where the file was there.

        Raises:
            StoreError: where it cannot be written.
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
        # Readers of Parquet folders skip names that begin with an underscore. Each write has a name of its own: one
        # that ends late must not move what another has half written.
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
        """Removes what a failed write has left; the failure itself is what counts."""
        with suppress(Exception):
            self.fs.rm_file(unfinished)

    def write_text(self, content: str) -> None:
        """As `write_bytes`, in UTF-8."""
        self.write_bytes(content.encode())

    @property
    def puts_are_atomic(self) -> bool:
        """Whether a file appears on this store whole, without a move."""
        return bool(self.protocols & ATOMIC_PUT)

    @property
    def protocols(self) -> frozenset[str]:
        """The names of this store's protocol."""
        return frozenset([self.fs.protocol] if isinstance(self.fs.protocol, str) else self.fs.protocol)

    @property
    def _parent(self) -> "Location":
        return Location(self.fs, self.path.rpartition("/")[0])

    def make_folder(self) -> None:
        """Makes this folder. Raises StoreError where it cannot be made."""
        with naming("make", self.url):
            if self.local:
                _make_folder_synced(self.local)
            else:
                self.fs.makedirs(self.path, exist_ok=True)

    def rename(self, name: str) -> "Location":
        """Gives this file or folder another name in its folder.

        Raises:
            StoreError: where it is not there or cannot be renamed.
        """
        to = self._parent.join(name)
        with naming("rename", self.url):
            if self.local:
                self.local.rename(to.path)
            else:
                self.fs.mv(self.path, to.path, recursive=True)
        return to

    def remove(self) -> None:
        """Removes a file, or a folder with all in it; no error if it is not there.

        Raises:
            StoreError: where it cannot be removed.
        """
        with naming("remove", self.url):
            if not self.exists():
                return
            if self.puts_are_atomic:
                # `rm` would take a `*` or `[` in a name for a pattern.
                for path in self.fs.find(self.path):
                    self.fs.rm_file(path)
            else:
                self.fs.rm(self.path, recursive=True)


_LEFT: Final = re.compile(r"_.+\.[0-9a-f]{32}\.tmp|_probe\.[0-9a-f]{32}")
"""What a write, or `check_writable`, leaves where its process is killed."""


def remove_unfinished(folder: Location) -> None:
    """Removes what processes that were killed have left half written in `folder`. None may be writing there.

    Raises:
        StoreError: where the store does not answer.
    """
    for name in filter(_LEFT.fullmatch, folder.list()):
        folder.join(name).remove()


class Writer(Protocol):
    """Who writes a study's files."""

    @property
    def token(self) -> str | None:
        """The mark that its tables carry. None leaves them without one."""

    def write(self, file: Location, content: bytes) -> None:
        """Replaces a file as a whole.

        Raises:
            StoreError: If it cannot be written, or if this process may not write.
        """


class Alone:
    """The `Writer` of a folder that only one process writes."""

    token = None

    def write(self, file: Location, content: bytes) -> None:
        """As `Location.write_bytes`."""
        file.write_bytes(content)


ALONE: Final = Alone()


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


@contextmanager
def no_empty_folder_left(folder: Location) -> Iterator[None]:
    """Takes a local folder away again, and those above it, where the block has made them and left them empty."""
    places = [folder.local, *folder.local.parents] if folder.local else []
    made = [place for place in places if not place.exists()]
    try:
        yield
    finally:
        with suppress(OSError):  # what is not empty stays, with all above it
            for place in filter(Path.exists, made):
                place.rmdir()


def _create_locally(file: Path, content: bytes) -> None:
    """Raises FileExistsError where the file is there. A link is made or refused at one moment, on NFS, too."""
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
    """Makes a folder and its parents; their names are on the disk when this returns."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        _sync(place.parent)


def _sync(place: Path) -> None:
    """Puts a file's content, or a folder's names, on the disk, so that they survive a power cut.

    File systems that cannot sync a folder say so; what they have done then is all they can.
    """
    is_folder = place.is_dir()
    if os.name == "nt" and is_folder:
        return
    handle = os.open(place, os.O_RDONLY if is_folder else os.O_RDWR)  # Windows syncs what it may write alone
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def naming(action: str, url: str) -> Iterator[None]:
    """Raises a StoreError with the action, the place and the cause for whatever the block raises."""
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
