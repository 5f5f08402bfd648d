"""The data sets that torchvision downloads and reads: MNIST, Fashion-MNIST, CIFAR-10, SVHN."""

import hashlib
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import Encoded, Half, HalfName, Rows, Stamp, batches

_PATIENCE = 5.0
"""Seconds without an answer after which a download fails."""


@dataclass(frozen=True)
class _Set:
    """A set in torchvision's layout: the class that reads it and the files below its root."""

    reader: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    origin: str
    classes: tuple[str, ...] = tuple("0123456789")

    def files(self, name: HalfName) -> tuple[str, ...]:
        """Return the files of a half."""
        return self.train if name == "train" else self.test


def _idx(folder: str, half: str) -> tuple[str, ...]:
    return tuple(f"{folder}/raw/{half}-{part}-ubyte" for part in ("images-idx3", "labels-idx1"))


_SETS = {
    "mnist": _Set("MNIST", _idx("MNIST", "train"), _idx("MNIST", "t10k"), "the four .gz files of MNIST, unpacked"),
    "fashion_mnist": _Set(
        "FashionMNIST",
        _idx("FashionMNIST", "train"),
        _idx("FashionMNIST", "t10k"),
        "the four .gz files of Fashion-MNIST, unpacked (Debian: package dataset-fashion-mnist)",
        (
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
    ),
    "cifar10": _Set(
        "CIFAR10",
        (*(f"cifar-10-batches-py/data_batch_{k}" for k in range(1, 6)), "cifar-10-batches-py/batches.meta"),
        ("cifar-10-batches-py/test_batch", "cifar-10-batches-py/batches.meta"),
        "cifar-10-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html, unpacked",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    ),
    "svhn": _Set(
        "SVHN",
        ("train_32x32.mat",),
        ("test_32x32.mat",),
        "train_32x32.mat and test_32x32.mat of ufldl.stanford.edu/housenumbers",
    ),
}


def stamp_vision(spec: DataSpec, name: HalfName, cache: Path) -> list[Stamp]:
    """Return the stamp of every file of the half. If one is absent, the set is downloaded.

    Raises:
        DataError: If the download fails; the message says which files to put where.
    """
    root = _root(spec, cache)
    _make_present(spec.source, name, root, cache)
    stats = [(str(root / file), (root / file).stat()) for file in _SETS[spec.source].files(name)]
    return [(file, stat.st_size, str(stat.st_mtime_ns)) for file, stat in stats]


def open_vision(spec: DataSpec, name: HalfName, cache: Path) -> Half:
    """Read the half with torchvision; download it if it is absent.

    Raises:
        DataError: If the download fails, or a file is not what torchvision expects.
    """
    known, root = _SETS[spec.source], _root(spec, cache)
    _make_present(spec.source, name, root, cache)
    try:
        held = _construct(known, name, root, download=False)
    except Exception as error:  # readers raise many types of errors for a damaged file
        raise DataError(f"{root}: `source: {spec.source}` cannot be read; remove its files there: {error}") from error
    labels = np.asarray(held.labels if spec.source == "svhn" else held.targets, dtype=np.int64)
    pixels = np.asarray(held.data)
    if spec.source == "svhn":
        pixels = pixels.transpose(0, 2, 3, 1)

    def encoded(rows: Rows) -> Iterator[Sequence[Encoded]]:
        for batch in batches(rows):
            yield list(pixels[batch])

    return Half(labels, known.classes, lambda row: f"{spec.source} in {root}, {name} image {row}", encoded)


def _root(spec: DataSpec, cache: Path) -> Path:
    return Path(spec.path).expanduser().resolve() if spec.path is not None else cache / "torchvision"


def _make_present(source: str, name: HalfName, root: Path, cache: Path) -> None:
    known = _SETS[source]
    # torchvision considers MNIST absent if either half is.
    wanted = known.files(name) if source == "svhn" else known.train + known.test
    if all((root / file).exists() for file in wanted):
        return
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = hashlib.sha256(str(root).encode()).hexdigest()[:16]
        with FileLock(cache / f"download-{source}-{lock}.lock"), _patience(_PATIENCE):
            _construct(known, name, root, download=True)
    except Exception as error:  # urllib's layers raise many types of errors without a network
        reason = " ".join(str(error).split())
        raise DataError(
            f"`source: {source}` is not in {root} and its download failed ({reason}). Download "
            f"{known.origin}, on a machine with a network, so that {root} holds {', '.join(wanted)}. "
            "Or point trial.data.path to Parquet files with `source: parquet`"
        ) from error


def _construct(known: _Set, name: HalfName, root: Path, *, download: bool) -> Any:
    from torchvision import datasets  # noqa: PLC0415 - two seconds, for these sources only

    reader = getattr(datasets, known.reader)
    if known.reader == "SVHN":
        return reader(str(root), split=name, download=download)
    return reader(str(root), train=name == "train", download=download)


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    # torchvision gives urllib no timeout: a silent network would block it for minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
