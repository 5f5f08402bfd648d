"""scikit-learn's 8x8 digits: 1,797 images that come with the installation; no download, no cache."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
from numpy.random import PCG64
from numpy.typing import NDArray

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import Encoded, Half, HalfName, Rows, batches
from plgan_tune.data.splits import balanced_rows

INSTALLED = "sklearn/datasets/data/digits.csv.gz"

TEST_IMAGES = 360
_TEST_SEED = 360
"""Fixed: every study of the digits has the same test set."""


def open_digits(spec: DataSpec, name: HalfName, cache: Path) -> Half:  # noqa: ARG001
    """Values 0..16 become round(v * 255 / 16); 360 images, 36 of each class, are the test set.

    Raises:
        DataError: where `path` is given.
    """
    if spec.path is not None:
        raise DataError(
            f"`trial.data.path` must be null for `source: digits`, which is installed, but got {spec.path!r}"
        )
    table = _table()
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    test = balanced_rows(labels, TEST_IMAGES, PCG64(_TEST_SEED))
    kept: Rows = test if name == "test" else np.setdiff1d(np.arange(labels.size), test, assume_unique=True)

    def encoded(rows: Rows) -> Iterator[Sequence[Encoded]]:
        for batch in batches(rows):
            yield list(pixels[kept[batch]])

    return Half(labels[kept], tuple("0123456789"), lambda row: f"digits, image {kept[row]}", encoded)


def _table() -> NDArray[np.float64]:
    """A row an image, its 64 values and its label: what `sklearn.datasets.load_digits` reads.

    To import scikit-learn for it would take a second, in every process of a search.
    """
    with suppress(PackageNotFoundError, FileNotFoundError):  # as where it is laid out in another way
        return np.loadtxt(str(distribution("scikit-learn").locate_file(INSTALLED)), delimiter=",")
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second

    return np.column_stack(load_digits(return_X_y=True))
