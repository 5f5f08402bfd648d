"""A source's training or test half before decoding, as each source module returns it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from plgan_tune.config.trial import DataSpec

HalfName = Literal["train", "test"]
Rows = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Encoded = bytes | Pixels | OSError | None
"""An image as its source holds it: an encoded file, pixels (h, w) or (h, w, 3), None if missing, or why its file cannot
be read."""

Stamp = tuple[str, int, str]
"""A file's full name, its size in bytes, and its modification time or ETag, to distinguish versions."""

NO_LABEL = -1
BATCH = 256
"""Images read at a time: few enough for large photographs to fit in memory, enough to keep threads busy."""


@dataclass(frozen=True, eq=False)
class Half:
    """One half of a source, not decoded yet.

    Attributes:
        labels: (n,) class of each image, -1 for none.
        classes: Their names; a label is an index into them. A test half may leave them empty.
        where: Row -> its file and row, for messages.
        encoded: Ascending rows -> their images in that order, in batches.
        files: How many files hold them; 0 if they come with the installation.
        passed: Reason -> paths beside them that were passed over.
        notes: What is strange about the files, in sentences.
    """

    labels: Rows
    classes: tuple[str, ...]
    where: Callable[[int], str]
    encoded: Callable[[Rows], Iterator[Sequence[Encoded]]]
    files: int = 0
    passed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """How to find the images of a `data.source`.

    Attributes:
        open: Returns the half's labels and undecoded images. Its path is the cache, for downloads.
        stamp: Returns the half's files and their current versions without reading them. None for images that come with
            the installation, which are decoded each time and never cached.

    Both raise DataError if the data are missing or not in the source's layout.
    """

    open: Callable[[DataSpec, HalfName, Path], Half]
    stamp: Callable[[DataSpec, HalfName, Path], list[Stamp]] | None


def batches(rows: Rows) -> Iterator[Rows]:
    """Yield the rows in batches of BATCH."""
    for start in range(0, rows.size, BATCH):
        yield rows[start : start + BATCH]
