"""Cache decoded images on disk, once per node for all trials, ranks and studies.

An entry is a folder of some files and their checksums. It is written under a temporary name and renamed, so a folder
with its final name is complete. A lock lets only one process decode, and checksums reveal damage.
"""

import hashlib
import json
import logging
import os
import shutil
import socket
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import numpy as np
from filelock import FileLock, Timeout

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.decode import Hashes, Reading
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import HalfName, Pixels, Rows, Stamp

VERSION = 2
"""Version of an entry's layout and of the decoding. Entries of another version are not read."""

_FILES = ("images.npy", "labels.npy", "rows.npy", "hashes.npy", "classes.json", "notes.json")
_CHECKSUMS = "checksums.json"
_CHUNK = 1 << 24
_PATIENCE = 5.0
"""Seconds of waiting for another process after which it is named."""

_log = logging.getLogger(__name__)


class _DamageError(Exception):
    """The entry differs from what was written."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images as they were decoded.

    Attributes:
        images: (n, channels, size, size).
        labels: (n,), -1 for none.
        rows: (n,) their rows in the half: less than all if `limit` or a broken image left some out.
        hashes: (n, 2); images with equal ones are the same.
        classes: Names of the classes.
        notes: What was seen while they were decoded, in sentences.
    """

    images: Pixels
    labels: Rows
    rows: Rows
    hashes: Hashes
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def cache_folder() -> Path:
    """Return PLGAN_TUNE_CACHE if it is set, else plgan_tune in XDG_CACHE_HOME or ~/.cache.

    Raises:
        DataError: If none of them is known, as in a container whose user has no home.
    """
    chosen = os.environ.get("PLGAN_TUNE_CACHE")
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "plgan_tune"
    except RuntimeError:
        raise DataError(
            "the cache of decoded images needs a folder, but this user has no home folder and HOME is not set; the "
            "environment variable PLGAN_TUNE_CACHE names one"
        ) from None


def key_of(spec: DataSpec, name: HalfName, stamps: list[Stamp]) -> str:
    """Return the entry's name: equal keys mean equal images. Labels and validation only select among the images."""
    identity = {
        "version": VERSION,
        "half": name,
        "source": spec.source,
        "size": spec.size,
        "form": [spec.fit, spec.background, spec.channels, spec.on_broken],
        "limit": spec.limit if name == "train" else None,
        "split_seed": spec.split_seed if name == "train" and spec.limit is not None else None,
        "files": stamps,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]


def cached(folder: Path, key: str, read: Callable[[], Reading]) -> Decoded:
    """Return the entry `key` of the cache, memory-mapped; if it is absent or damaged, decode it with `read`.

    Any number of processes of a node may call this at once: one decodes, the others wait for it.

    Raises:
        DataError: From `read`, or if the folder cannot be written.
    """
    entry = folder / key
    try:
        if entry.exists():
            return _load(entry)
    except _DamageError:
        pass  # checked again under the lock, since another process may have repaired it
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _held(folder / f"{key}.lock"):
            return _load_or_make(entry, read)
    except (OSError, _DamageError) as error:
        raise DataError(
            f"{folder}: the cache of decoded images must be a folder that can be written and has room, but "
            f"got: {error}; the environment variable PLGAN_TUNE_CACHE names another"
        ) from error


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold a lock. What waits for longer than `_PATIENCE` says which process holds it."""
    lock, holder = FileLock(file), file.with_suffix(".holder")
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        _log.warning("waiting for %s, which decodes these images (%s)", _who(holder), file)
        lock.acquire()
    try:
        holder.write_text(json.dumps([os.getpid(), socket.gethostname(), f"{datetime.now(UTC):%F %T} UTC"]))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _who(holder: Path) -> str:
    try:
        process, host, since = json.loads(holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it has just begun or ended
        return "another process"
    return f"process {process} on {host}, since {since}"


def _load_or_make(entry: Path, read: Callable[[], Reading]) -> Decoded:
    """Load the entry, or create it. The caller holds the entry's lock."""
    if entry.exists():
        try:
            return _load(entry)
        except _DamageError as damage:
            _log.warning("%s is damaged (%s): removed, and the images are decoded again", entry, damage)
            shutil.rmtree(entry)
    unfinished = entry.with_name(f"_{entry.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a process that was killed here
    try:
        unfinished.mkdir()
        _write(unfinished, read())
        unfinished.rename(entry)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return _load(entry)


def _write(folder: Path, reading: Reading) -> None:
    images, labels, rows, hashes, classes, notes = (folder / file for file in _FILES)
    n = 0
    with images.open("wb") as out:
        _write_header(out, reading.shape)
        # Written, not mapped: on a full disk, a mapping kills the process, but a write raises.
        for block in reading.blocks:
            out.write(block.tobytes())
            n += len(block)
        # NumPy leaves room in a header for every number of images, so that it can be written again in place.
        _write_header(out, (n, *reading.shape[1:]))
    np.save(labels, np.delete(reading.labels, reading.seen.skipped))
    np.save(rows, np.delete(reading.rows, reading.seen.skipped))
    np.save(hashes, joined(reading.seen.hashes))
    classes.write_text(json.dumps(reading.classes), encoding="utf-8")
    notes.write_text(json.dumps(reading.seen.notes), encoding="utf-8")
    checksums = {file: _checksum(folder / file) for file in _FILES}
    (folder / _CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")


def _write_header(out: BinaryIO, shape: tuple[int, ...]) -> None:
    out.seek(0)
    np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})


def gathered(reading: Reading) -> Decoded:
    """Decode images into memory."""
    blocks = list(reading.blocks)
    kept, skipped = reading.shape[1:], reading.seen.skipped
    return Decoded(
        np.concatenate(blocks) if blocks else np.empty((0, *kept), np.uint8),
        np.delete(reading.labels, skipped),
        np.delete(reading.rows, skipped),
        joined(reading.seen.hashes),
        reading.classes,
        reading.seen.notes,
    )


def joined(hashes: Sequence[Hashes]) -> Hashes:
    """Return the hashes of all blocks, (n, 2)."""
    return np.concatenate([np.empty((0, 2), np.uint64), *hashes])


def _load(entry: Path) -> Decoded:
    images, labels, rows, hashes, classes, notes = (entry / file for file in _FILES)
    try:
        checksums = json.loads((entry / _CHECKSUMS).read_text(encoding="utf-8"))
        for file in _FILES:
            if checksums[file] != _checksum(entry / file):
                raise _DamageError(f"{file} has another checksum")
        # Copy on write: torch needs writable memory, and the file must not change.
        pixels = np.load(images, mmap_mode="c")
        names = (tuple(json.loads(file.read_text(encoding="utf-8"))) for file in (classes, notes))
        return Decoded(pixels, np.load(labels), np.load(rows), np.load(hashes), *names)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamageError(repr(error)) from error


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as bytes_in:
        while chunk := bytes_in.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
