"""The dry run's look at the data agrees with loading them, and decodes one image only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.check import DataSummary, check_data
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError

Make = Callable[..., DataSpec]


@pytest.mark.parametrize("keys", [{}, {"limit": 9}, {"size": 4}])
def test_summary_agrees_with_the_data_set(keys: dict[str, Any], parquet_set: Path, make: Make) -> None:
    spec = make("parquet", parquet_set, **keys)
    summary, data = check_data(spec), load_dataset(spec)
    assert summary == DataSummary(
        classes=data.classes,
        images_per_class=tuple(data.labels[data.labels >= 0].bincount().tolist()),
        unlabelled=int((data.labels < 0).sum()),
        channels=data.channels,
        size=data.size,
    )
    assert summary.images == len(data.images)


def test_only_the_first_image_is_decoded(
    tmp_path: Path, make: Make, write_parquet: Callable[..., None], encode: Callable[..., bytes]
) -> None:
    good, oblong = (encode(np.zeros(shape, np.uint8)) for shape in ((8, 8), (8, 6)))
    write_parquet(tmp_path / "train.parquet", [good, b"broken", b"broken", b"broken"], [0, 1, 0, 1])
    assert check_data(make("parquet", tmp_path)).images_per_class == (2, 2)
    write_parquet(tmp_path / "train.parquet", [good[:44], good, good, good], [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"train\.parquet, row 0: the image cannot be decoded"):
        check_data(make("parquet", tmp_path))
    write_parquet(tmp_path / "train.parquet", [oblong, good, good, good], [0, 1, 0, 1])
    with pytest.raises(DataError, match=r"row 0: .*must be square, but got 6x8"):
        check_data(make("parquet", tmp_path))


def test_what_does_not_fit_names_the_source(parquet_set: Path, make: Make) -> None:
    with pytest.raises(DataError, match=rf"{parquet_set}: .*takes 16 images a class, and class '1' has 8"):
        check_data(make("parquet", parquet_set, labels=2, validation=30))


def test_mnist_has_its_counts(shared_data: Path, make: Make) -> None:
    summary = check_data(make("parquet", shared_data / "mnist", labels=100, validation=5000))
    assert summary.images_per_class == (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
    assert (summary.unlabelled, summary.channels, summary.size) == (0, 1, 28)


def test_a_store_that_refuses_in_its_own_words_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials S3's client raises what is no OSError."""

    class NoCredentialsError(Exception): ...

    def refuse(self: Any, path: str, **_: Any) -> None:
        raise NoCredentialsError("Unable to locate credentials")

    monkeypatch.setattr(MemoryFileSystem, "ls", refuse)
    with pytest.raises(DataError, match=r"memory://images: trial.data.path must be .*Unable to locate credentials"):
        check_data(DataSpec(source="parquet", path="memory://images", labels=20, validation=20))
