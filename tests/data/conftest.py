"""Small image sets, written as a user would write them."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from plgan_tune.config.trial import DataSpec

Encode = Callable[..., bytes]
Make = Callable[..., DataSpec]
WriteParquet = Callable[..., None]


def _pixels(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _encode(pixels: NDArray[np.uint8], kind: str = "PNG", mode: str | None = None) -> bytes:
    out = BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, kind)
    return out.getvalue()


def _write_parquet(
    target: Any,
    images: Sequence[bytes | NDArray[np.uint8] | None],
    labels: Sequence[int | None],
    **writing: Any,
) -> None:
    held = pa.array([{"bytes": _as_file(image), "path": None} for image in images], _IMAGE)
    table = pa.table({"image": held, "label": pa.array(labels, pa.int64())})
    pq.write_table(table.replace_schema_metadata(writing.pop("metadata", None)), target, **writing)


def _as_file(image: bytes | NDArray[np.uint8] | None) -> bytes | None:
    return _encode(image) if isinstance(image, np.ndarray) else image


_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Takes the place of the user's cache folder."""
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def encode() -> Encode:
    return _encode


@pytest.fixture(scope="session")
def write_parquet() -> WriteParquet:
    return _write_parquet


@pytest.fixture(scope="session")
def make() -> Make:
    """A specification; two classes' worth of labels and validation unless told."""

    def spec(source: str, path: Path | str | None = None, **keys: Any) -> DataSpec:
        given = {"labels": 2, "validation": 2, **keys}
        return DataSpec.model_validate({"source": source, "path": None if path is None else str(path), **given})

    return spec


@pytest.fixture
def parquet_set(tmp_path: Path) -> Path:
    """24 grey 8x8 training images, 5 a row group: 12 of class 0, 8 of class 1, 4 without; and 4 to test."""
    folder = tmp_path / "set"
    folder.mkdir()
    labels = [None if row % 6 == 5 else row % 2 for row in range(24)]
    images = [_pixels(row, (8, 8)) for row in range(24)]
    _write_parquet(folder / "train-00000-of-00002.parquet", images[:13], labels[:13], row_group_size=5)
    _write_parquet(folder / "train-00001-of-00002.parquet", images[13:], labels[13:], row_group_size=5)
    test = [_pixels(100 + row, (8, 8)) for row in range(4)]
    _write_parquet(folder / "test-00000-of-00001.parquet", test, [0, 1, 1, 0])
    return folder


@pytest.fixture
def shared_data() -> Path:
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data sets do not lie beside the repository")
    return folder
