"""scikit-learn's 8x8 digits: 1,797 images that scikit-learn installs, without download or cache."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
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
"""Fixed, so that every study of the digits has the same test set."""


def open_digits(spec: DataSpec, name: HalfName, cache: Path) -> Half:  # noqa: ARG001
    """Open a half of the digits. Values 0..16 become round(v * 255 / 16). The test set has 36 images of each class.

    Raises:
        DataError: If `path` is given.
    """
    if spec.path is not None:
        raise DataError(
            f"`trial.data.path` must be null for `source: digits`, which is installed, but got {spec.path!r}"
        )
    table = _table(INSTALLED)
    pixels = np.rint(table[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    test = balanced_rows(labels, TEST_IMAGES, PCG64(_TEST_SEED))
    kept: Rows = test if name == "test" else np.setdiff1d(np.arange(labels.size), test, assume_unique=True)

    def encoded(rows: Rows) -> Iterator[Sequence[Encoded]]:
        for batch in batches(rows):
            yield list(pixels[kept[batch]])

    return Half(labels[kept], tuple("0123456789"), lambda row: f"digits, image {kept[row]}", encoded)


@cache
def _table(installed: str) -> NDArray[np.float64]:
    """Return one row per image, with its 64 values and its label, as `sklearn.datasets.load_digits` does.

    Importing scikit-learn for it would take a second in every process of a search; each reading takes 50 ms.
    """
    with suppress(PackageNotFoundError, FileNotFoundError):  # in case the file lies elsewhere
        return np.loadtxt(str(distribution("scikit-learn").locate_file(installed)), delimiter=",")
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second

    return np.column_stack(load_digits(return_X_y=True))
