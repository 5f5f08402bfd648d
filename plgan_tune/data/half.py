"""A source's training or test half before decoding: what each source module hands over."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plgan_tune.config.trial import DataSpec

HalfName = Literal["train", "test"]
Rows = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Encoded = bytes | Pixels | None
"""An image as its source holds it: an encoded file, pixels (h, w) or (h, w, 3), or None where missing."""

Stamp = tuple[str, int, str]
"""A file's full name, its size in bytes, and its time of change or ETag: what tells versions apart."""

NO_LABEL = -1
BATCH = 256
"""Images read at a time: few enough that large photographs fit into memory, enough to keep threads busy."""


@dataclass(frozen=True, eq=False)
class Half:
    """One half of a source; nothing is decoded yet.

    Attributes:
        labels: (n,) class of each image, -1 where it has none.
        classes: names, and a label is a place in it; a test half may leave them to the training half.
        where: row -> the file and row that a message names.
        encoded: ascending rows -> their images in that order, in batches.
    """

    labels: Rows
    classes: tuple[str, ...]
    where: Callable[[int], str]
    encoded: Callable[[Rows], Iterator[Sequence[Encoded]]]


@dataclass(frozen=True, slots=True)
class Source:
    """How the images of a `data.source` are found.

    Attributes:
        open: the half's labels and undecoded images. Its path is of the cache, for what has to be downloaded.
        stamp: the files that the half consists of, in the version they have now, found without reading them. None
            where the images come with the installation: they are decoded anew each time, and never cached.

    Both raise DataError where the data are missing or not in the source's layout.
    """

    open: Callable[[DataSpec, HalfName, Path], Half]
    stamp: Callable[[DataSpec, HalfName, Path], list[Stamp]] | None


def batches(rows: Rows) -> Iterator[Rows]:
    for start in range(0, rows.size, BATCH):
        yield rows[start : start + BATCH]
