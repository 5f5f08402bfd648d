"""Every source ends in the same tensors, and what is wrong with it is said with file and row."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from plgan_tune.config.trial import DataSpec
from plgan_tune.data import digits
from plgan_tune.data.check import check_data
from plgan_tune.data.dataset import load_dataset, load_test
from plgan_tune.data.errors import DataError

Make = Callable[..., DataSpec]
Write = Callable[..., None]
Encode = Callable[..., bytes]


def pixels(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_digits(make: Make, cache: Path) -> None:
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second

    spec = make("digits", labels=20, validation=300)
    train, (test, test_labels) = load_dataset(spec), load_test(spec)
    assert (train.channels, train.size, train.n_classes) == (1, 8, 10)
    assert train.images.dtype == test.dtype == torch.uint8
    assert test_labels.bincount().tolist() == [36] * 10
    values = np.concatenate([train.images.numpy(), test.numpy()])[:, 0] / (255 / 16)
    np.testing.assert_allclose(values, np.rint(values), atol=0.04)
    original = sorted(map(bytes, load_digits().images.astype(np.uint8)))
    assert sorted(map(bytes, np.rint(values).astype(np.uint8))) == original
    assert not cache.exists()


def test_digits_are_found_where_scikit_learn_keeps_them_elsewhere(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make("digits", labels=20, validation=300)
    here = load_dataset(spec)
    monkeypatch.setattr(digits, "INSTALLED", "sklearn/digits.csv")
    elsewhere = load_dataset(spec)
    assert torch.equal(here.images, elsewhere.images)
    assert torch.equal(here.labels, elsewhere.labels)


def test_digits_test_set_is_the_same_whatever_the_split(make: Make) -> None:
    one, other = (load_test(make("digits", labels=20, validation=300, split_seed=seed)) for seed in (0, 1))
    assert torch.equal(one[0], other[0])


def test_digits_take_no_path(make: Make) -> None:
    with pytest.raises(DataError, match=r"`trial\.data\.path` must be null"):
        load_dataset(make("digits", "somewhere", labels=20, validation=300))


def test_parquet_holds_what_was_written(parquet_set: Path, make: Make) -> None:
    spec = make("parquet", parquet_set)
    train = load_dataset(spec)
    assert train.images.shape == (24, 1, 8, 8)
    for row in range(24):
        np.testing.assert_array_equal(train.images[row, 0].numpy(), pixels(row, (8, 8)))
        assert train.labels[row].item() == (-1 if row % 6 == 5 else row % 2)
    unlabelled = set(torch.nonzero(train.labels < 0).flatten().tolist())
    assert unlabelled < set(train.split.pool.tolist())
    images, labels = load_test(spec)
    np.testing.assert_array_equal(images[2, 0].numpy(), pixels(102, (8, 8)))
    assert labels.tolist() == [0, 1, 1, 0]


def test_parquet_by_url(make: Make, write_parquet: Write) -> None:
    system = fsspec.filesystem("memory")
    images = [pixels(row, (8, 8, 3)) for row in range(8)]
    for name in ("train", "test"):
        with system.open(f"/by-url/{name}.parquet", "wb") as target:
            write_parquet(target, images, [0, 1] * 4)
    spec = make("parquet", "memory://by-url")
    np.testing.assert_array_equal(load_dataset(spec).images.numpy(), np.stack(images).transpose(0, 3, 1, 2))
    assert len(load_test(spec)[1]) == 8


def test_parquet_columns_are_found_by_type_and_names_in_metadata(tmp_path: Path, make: Make, encode: Encode) -> None:
    features = {"digit": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = pa.table(
        {
            "picture": pa.array([encode(pixels(row, (8, 8)), "JPEG") for row in range(6)], pa.binary()),
            "note": ["-"] * 6,
            "digit": pa.array([0, 1] * 3, pa.int8()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "train.parquet")
    train = load_dataset(make("parquet", tmp_path))
    assert train.classes == ("cat", "dog")
    assert train.labels.tolist() == [0, 1] * 3


def _folder(root: Path) -> None:
    for place, name in enumerate(("train/b", "train/a", "test/a", "test/b", "unlabelled/deep")):
        (root / name).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(pixels(10 * place + k, (8, 8, 3))).save(root / name / f"{k}.png")
    (root / "train" / "a" / "notes.txt").write_text("not an image")


def test_folder(tmp_path: Path, make: Make) -> None:
    _folder(tmp_path)
    spec = make("folder", tmp_path)
    train = load_dataset(spec, tmp_path / "another cache")
    assert (tmp_path / "another cache").is_dir()
    assert train.classes == ("a", "b")
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [-1] * 4
    np.testing.assert_array_equal(train.images[0].numpy(), pixels(10, (8, 8, 3)).transpose(2, 0, 1))
    assert load_test(spec)[1].tolist() == [0] * 4 + [1] * 4


def test_folder_refuses_a_class_that_only_test_has(tmp_path: Path, make: Make) -> None:
    _folder(tmp_path)
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(DataError, match=r"test: every class must be one of train/, but got \['c'\]"):
        load_test(make("folder", tmp_path))


@pytest.mark.parametrize("inside", ["", "train", "unlabelled"])
def test_a_folder_of_pictures_of_no_class(tmp_path: Path, make: Make, inside: str) -> None:
    """Anywhere below it; those of test/ are the test half."""
    for place in (tmp_path / inside / ("." if inside == "train" else "some"), tmp_path / "test"):
        place.mkdir(parents=True)
        for k in range(6):
            Image.fromarray(pixels(k, (8, 8, 3))).save(place / f"{k}.png")
    spec = make("folder", tmp_path, labels=0)
    train = load_dataset(spec)
    assert train.classes == ()
    assert train.labels.tolist() == [-1] * 6
    assert load_test(spec)[1].tolist() == [-1] * 6
    summary = check_data(spec)
    assert (summary.classes, summary.images_per_class, summary.unlabelled) == ((), (), 6)
    with pytest.raises(DataError, match=r"must hold a folder train/|at least 2 classes"):
        load_dataset(make("folder", tmp_path))


def test_parquet_without_labels(tmp_path: Path, make: Make, encode: Encode) -> None:
    """No column of labels, or one of nulls."""
    images = [encode(pixels(k, (8, 8, 3))) for k in range(6)]
    for folder, columns in (("none", {}), ("nulls", {"label": pa.array([None] * 6, pa.int64())})):
        (tmp_path / folder).mkdir()
        pq.write_table(pa.table({"image": images, **columns}), tmp_path / folder / "train.parquet")
        train = load_dataset(make("parquet", tmp_path / folder, labels=0))
        assert (train.classes, train.labels.tolist()) == ((), [-1] * 6)
        with pytest.raises(DataError, match=r"a column `label`|at least 2 classes"):
            load_dataset(make("parquet", tmp_path / folder))


def _idx(folder: Path, half: str, images: NDArray[np.uint8], labels: list[int]) -> None:
    """The original MNIST format."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, magic, held in (
        ("images-idx3", 0x803, images),
        ("labels-idx1", 0x801, np.array(labels, np.uint8)),
    ):
        header = np.array([magic, *np.shape(held)], ">i4").tobytes()
        (folder / f"{half}-{part}-ubyte").write_bytes(header + np.asarray(held).tobytes())


@pytest.mark.parametrize(("source", "below"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_torchvision_files_that_are_there(source: str, below: str, tmp_path: Path, make: Make) -> None:
    train, test = pixels(0, (30, 28, 28)), pixels(1, (10, 28, 28))
    _idx(tmp_path / below / "raw", "train", train, [*range(10)] * 3)
    _idx(tmp_path / below / "raw", "t10k", test, [*range(10)])
    spec = make(source, tmp_path, labels=10, validation=10)
    np.testing.assert_array_equal(load_dataset(spec).images[:, 0].numpy(), train)
    np.testing.assert_array_equal(load_test(spec)[0][:, 0].numpy(), test)


def _md5(file: Path) -> str:
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def test_svhn_files_that_are_there(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import SVHN  # noqa: PLC0415 - seconds

    images, labels = pixels(0, (30, 32, 32, 3)), [10, *range(1, 10)] * 3
    file = tmp_path / "train_32x32.mat"
    savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": np.array(labels, np.uint8)[:, None]})
    monkeypatch.setitem(SVHN.split_list, "train", ["nowhere", file.name, _md5(file)])
    train = load_dataset(make("svhn", tmp_path, labels=10, validation=10))
    np.testing.assert_array_equal(train.images.numpy(), images.transpose(0, 3, 1, 2))
    assert train.labels.tolist() == [*range(10)] * 3


def test_cifar10_files_that_are_there(tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pixels(0, (60, 3, 32, 32))
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    for name, part in zip(names, np.split(images, 6), strict=True):
        (folder / name).write_bytes(pickle.dumps({"data": part.reshape(10, -1), "labels": [*range(10)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(k) for k in range(10)]}))
    sums = [[name, _md5(folder / name)] for name in names]
    monkeypatch.setattr("torchvision.datasets.CIFAR10.train_list", sums[:5])
    monkeypatch.setattr("torchvision.datasets.CIFAR10.test_list", sums[5:])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": _md5(folder / "batches.meta")}
    monkeypatch.setattr("torchvision.datasets.CIFAR10.meta", meta)
    spec = make("cifar10", tmp_path, labels=10, validation=10)
    train = load_dataset(spec)
    np.testing.assert_array_equal(train.images.numpy(), images[:50])
    assert (train.labels.tolist(), train.classes[0]) == ([*range(10)] * 5, "airplane")
    np.testing.assert_array_equal(load_test(spec)[0].numpy(), images[50:])


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10", "svhn"])
def test_no_network_says_what_to_put_where(source: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: refuses at once
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match=rf"{source}.*download failed.*so that .* holds .*source: parquet"):
        load_dataset(make(source, labels=10, validation=10))


def test_size_shrinks_the_shorter_side_and_crops_the_centre(tmp_path: Path, make: Make, write_parquet: Write) -> None:
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 200
    write_parquet(tmp_path / "train.parquet", [wide] * 6, [0, 1] * 3)
    train = load_dataset(make("parquet", tmp_path, size=8))
    assert (train.images == 200).all()
    small = load_dataset(make("parquet", tmp_path, size=4)).images
    assert small.shape == (6, 1, 4, 4)
    assert (small[..., 1:3] == 200).all()


def test_shrinking_is_antialiased(tmp_path: Path, make: Make, write_parquet: Write) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (32, 16))
    write_parquet(tmp_path / "train.parquet", [stripes] * 6, [0, 1] * 3)
    images = load_dataset(make("parquet", tmp_path, size=8)).images
    assert images.min() > 100
    assert images.max() < 155


@pytest.mark.parametrize("modes", [("RGB", "L"), ("RGBA", "P"), ("P", "LA")])
def test_a_first_image_in_colour_makes_all_colour(
    modes: tuple[str, str], tmp_path: Path, make: Make, write_parquet: Write, encode: Encode
) -> None:
    _write_white(tmp_path, modes, write_parquet, encode)
    images = load_dataset(make("parquet", tmp_path)).images
    assert torch.equal(images, torch.full((6, 3, 8, 8), 255, dtype=torch.uint8))


@pytest.mark.parametrize("modes", [("L", "RGB"), ("LA", "RGBA"), ("1", "L")])
def test_a_grey_first_image_makes_all_grey(
    modes: tuple[str, str], tmp_path: Path, make: Make, write_parquet: Write, encode: Encode
) -> None:
    _write_white(tmp_path, modes, write_parquet, encode)
    images = load_dataset(make("parquet", tmp_path)).images
    assert torch.equal(images, torch.full((6, 1, 8, 8), 255, dtype=torch.uint8))


def _write_white(folder: Path, modes: tuple[str, str], write_parquet: Write, encode: Encode) -> None:
    """One white image of the first mode, five of the second."""
    white = np.full((8, 8, 3), 255, np.uint8)
    images = [encode(white, "PNG", mode) for mode in (modes[0], *[modes[1]] * 5)]
    write_parquet(folder / "train.parquet", images, [0, 1] * 3)


def test_limit_decodes_only_what_it_keeps(tmp_path: Path, make: Make, write_parquet: Write) -> None:
    n = 40
    images = [pixels(row, (8, 8)) for row in range(n)]
    write_parquet(tmp_path / "train.parquet", images, [0, 1] * (n // 2), row_group_size=3)
    spec = make("parquet", tmp_path, limit=8)
    kept = load_dataset(spec)
    assert kept.labels.bincount().tolist() == [4, 4]
    rows = {bytes(pixels(row, (8, 8))): row for row in range(n)}
    chosen = {rows[image.numpy().tobytes()] for image in kept.images}
    broken = [image if row in chosen | {0} else b"broken" for row, image in enumerate(images)]
    write_parquet(tmp_path / "train.parquet", broken, [0, 1] * (n // 2), row_group_size=3)
    again = load_dataset(spec)
    assert torch.equal(again.images, kept.images)


def test_a_search_does_not_need_the_test_images(parquet_set: Path, make: Make) -> None:
    (parquet_set / "test-00000-of-00001.parquet").write_bytes(b"broken")
    spec = make("parquet", parquet_set)
    load_dataset(spec)
    with pytest.raises(DataError, match=r"test-00000-of-00001\.parquet: the file cannot be read as Parquet"):
        load_test(spec)


def test_test_labels_must_be_known_from_training(parquet_set: Path, make: Make, write_parquet: Write) -> None:
    image = pixels(0, (8, 8))
    for wrong in (2, None):
        write_parquet(parquet_set / "test-00000-of-00001.parquet", [image] * 2, [0, wrong])
        with pytest.raises(DataError, match=rf"parquet, row 1: .*must be in \[0, 1\].*but got {wrong}"):
            load_test(make("parquet", parquet_set))


def test_broken_images_name_file_and_row(
    tmp_path: Path, make: Make, cache: Path, write_parquet: Write, encode: Encode
) -> None:
    good = encode(pixels(0, (8, 8)))
    deep = encode(np.arange(64, dtype=np.float32).reshape(8, 8), "TIFF")
    cases: list[tuple[bytes | None, str]] = [
        (good[:-30], "cannot be decoded"),
        (b"no image", "cannot be decoded"),
        (encode(pixels(0, (64, 64)), "JPEG")[:-900], "cannot be decoded"),
        (deep, "8 bits each"),
        (None, "but got null"),
        (encode(pixels(0, (9, 8))), "the first one's 8x8 pixels, but got 8x9"),
    ]
    for k, (bad, said) in enumerate(cases):
        folder = tmp_path / str(k)
        folder.mkdir()
        write_parquet(folder / "train-0.parquet", [good] * 7, [0, 1, 0, 1, 0, 1, 0])
        write_parquet(folder / "train-1.parquet", [good, good, bad, good], [0, 1, 0, 1], row_group_size=2)
        with pytest.raises(DataError, match=rf"train-1\.parquet, row 2: .*{said}"):
            load_dataset(make("parquet", folder))
    assert not [entry for entry in cache.iterdir() if entry.is_dir()]


def test_wrong_parquet_schemas(tmp_path: Path, make: Make, encode: Encode) -> None:
    image = pa.array([encode(pixels(0, (8, 8)))] * 4, pa.binary())
    label = pa.array([0, 1, 0, 1])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"label": label}, r"exactly one column must hold images.*but got \[\] of \(label: int64\)"),
        ({"a": image, "b": image, "label": label}, r"exactly one column.*but got \['a', 'b'\]"),
        ({"image": image}, "must be a column `label` of integers"),
        ({"image": image, "label": pa.array(["x"] * 4), "id": label}, "must be a column `label` of integers"),
        ({"image": image, "a": label, "b": label}, "must be a column `label` of integers"),
        ({"image": image, "label": pa.array([0, 1, -1, 1])}, r"train\.parquet, row 2: .*but got -1"),
        ({"image": image, "label": pa.array([0, 9, 0, 9])}, "highest label=9, images with a label=4"),
        ({"image": image, "label": pa.nulls(4)}, "at least 2 classes must have a label"),
    ]
    for columns, said in cases:
        pq.write_table(pa.table(columns), tmp_path / "train.parquet")
        with pytest.raises(DataError, match=said):
            load_dataset(make("parquet", tmp_path))


@pytest.mark.parametrize("source", ["parquet", "folder"])
def test_missing_data(source: str, tmp_path: Path, make: Make) -> None:
    with pytest.raises(DataError, match=r"data.path` must be a folder.*but got null"):
        load_dataset(make(source))
    with pytest.raises(DataError, match=r"nowhere.*data\.path must"):
        load_dataset(make(source, tmp_path / "nowhere"))
    with pytest.raises(DataError, match=r"data\.path must hold"):
        load_dataset(make(source, tmp_path))


def test_an_unknown_protocol_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match=r"carrier-pigeon://.*must be a folder or URL"):
        load_dataset(make("parquet", "carrier-pigeon://coop/set"))


def test_to_moves_everything(parquet_set: Path, make: Make) -> None:
    moved = load_dataset(make("parquet", parquet_set)).to("meta")
    split = moved.split
    tensors = (moved.images, moved.labels, split.labelled, split.pool, split.validation)
    assert {tensor.device.type for tensor in tensors} == {"meta"}


@pytest.mark.parametrize(("name", "shape"), [("mnist", (200, 1, 28, 28)), ("cifar10", (200, 3, 32, 32))])
def test_real_images(name: str, shape: tuple[int, ...], shared_data: Path, make: Make) -> None:
    train = load_dataset(make("parquet", shared_data / name, labels=20, validation=50, limit=200))
    assert train.images.shape == shape
    assert train.labels.bincount().tolist() == [20] * 10
    assert train.images.float().std() > 30
