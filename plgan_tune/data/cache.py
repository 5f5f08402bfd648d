"""Cache decoded images on disk, once per node for all trials, ranks and studies.

An entry is a folder of three files and their checksums. It is written under a temporary name and renamed, so a folder
with its final name is complete. A lock lets only one process decode, and checksums reveal damage.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.decode import Reading
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import HalfName, Pixels, Rows, Stamp

VERSION = 1
"""Version of an entry's layout and of the decoding. Entries of another version are not read."""

_FILES = ("images.npy", "labels.npy", "classes.json")
_CHECKSUMS = "checksums.json"
_CHUNK = 1 << 24

_log = logging.getLogger(__name__)


class _DamageError(Exception):
    """The entry differs from what was written."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images (n, channels, size, size), labels (n,), -1 for none, and the names of the classes."""

    images: Pixels
    labels: Rows
    classes: tuple[str, ...]


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
        with FileLock(folder / f"{key}.lock"):
            return _load_or_make(entry, read)
    except (OSError, _DamageError) as error:
        raise DataError(
            f"{folder}: the cache of decoded images must be a folder that can be written and has room, but "
            f"got: {error}; the environment variable PLGAN_TUNE_CACHE names another"
        ) from error


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
    images, labels, classes = (folder / file for file in _FILES)
    with images.open("wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": reading.shape}
        np.lib.format.write_array_header_1_0(out, header)
        # Written, not mapped: on a full disk, a mapping kills the process, but a write raises.
        for block in reading.blocks:
            out.write(block.tobytes())
    np.save(labels, reading.labels)
    classes.write_text(json.dumps(reading.classes), encoding="utf-8")
    checksums = {file: _checksum(folder / file) for file in _FILES}
    (folder / _CHECKSUMS).write_text(json.dumps(checksums), encoding="utf-8")


def _load(entry: Path) -> Decoded:
    images, labels, classes = (entry / file for file in _FILES)
    try:
        checksums = json.loads((entry / _CHECKSUMS).read_text(encoding="utf-8"))
        for file in _FILES:
            if checksums[file] != _checksum(entry / file):
                raise _DamageError(f"{file} has another checksum")
        # Copy on write: torch needs writable memory, and the file must not change.
        pixels = np.load(images, mmap_mode="c")
        return Decoded(pixels, np.load(labels), tuple(json.loads(classes.read_text(encoding="utf-8"))))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _DamageError(repr(error)) from error


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as bytes_in:
        while chunk := bytes_in.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
