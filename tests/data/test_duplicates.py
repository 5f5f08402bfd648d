"""Images that are the same are found by their pixels, said, and left out where that is asked for."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import load_dataset, notes_on_test
from plgan_tune.data.duplicates import also_in, groups_of, one_of_each, torn

Make = Callable[..., DataSpec]
Write = Callable[..., None]

LEAK = "validation images are the same as one to learn from, so val_error is too low"


def noise(seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)


def test_a_copy_in_validation_is_said_and_one_of_each_is_kept(tmp_path: Path, make: Make, write_parquet: Write) -> None:
    """Each image twice, the second time in another format: only the pixels are the same."""
    images = [noise(row) for row in range(20)]
    as_tiff = []
    for image in images:
        out = BytesIO()
        Image.fromarray(image).save(out, "TIFF")
        as_tiff.append(out.getvalue())
    write_parquet(tmp_path / "train.parquet", [*images, *as_tiff], [row % 2 for row in range(40)])
    said = load_dataset(make("parquet", tmp_path, validation=4))
    assert any(LEAK in note for note in said.notes)
    dropped = load_dataset(make("parquet", tmp_path, validation=4, duplicates="drop"))
    assert "20 of 40 images are copies, and are left out (data.duplicates: drop)" in dropped.notes
    parts = torch.cat([dropped.split.validation, dropped.split.pool]).sort().values
    assert parts.tolist() == list(range(20))
    assert set(dropped.split.labelled.tolist()) <= set(range(20))
    assert (dropped.labels[20:] == -1).all()


def test_of_copies_one_with_a_label_is_kept(tmp_path: Path, make: Make, write_parquet: Write) -> None:
    images = [noise(row) for row in range(10)]
    write_parquet(tmp_path / "train.parquet", [*images, *images], [None] * 10 + [row % 2 for row in range(10)])
    data = load_dataset(make("parquet", tmp_path, duplicates="drop"))
    assert torch.cat([data.split.validation, data.split.pool]).min() == 10
    assert data.labels[10:].tolist() == [0, 1] * 5


def test_without_copies_nothing_is_said_and_nothing_changes(parquet_set: Path, make: Make) -> None:
    one, other = (load_dataset(make("parquet", parquet_set, duplicates=word)) for word in ("note", "drop"))
    assert one.notes == other.notes == ()
    assert one.split.hash == other.split.hash
    assert torch.equal(one.split.pool, other.split.pool)
    assert torch.equal(one.labels, other.labels)


def test_an_image_with_two_labels_is_said(tmp_path: Path, make: Make, write_parquet: Write) -> None:
    write_parquet(tmp_path / "train.parquet", [*map(noise, range(10)), noise(0)], [row % 2 for row in range(10)] + [1])
    notes = load_dataset(make("parquet", tmp_path)).notes
    assert "images that are there more than once, with different labels: 1" in notes


def test_the_digits_have_no_copies(make: Make) -> None:
    assert load_dataset(make("digits", labels=20, validation=300)).notes == ()


def test_test_images_that_training_has_are_said(parquet_set: Path, make: Make, write_parquet: Write) -> None:
    spec = make("parquet", parquet_set)
    assert notes_on_test(spec) == ()
    write_parquet(parquet_set / "test-00000-of-00001.parquet", [noise(0), noise(100)], [0, 1])
    assert notes_on_test(spec) == ("1 of 2 test images are the same as a training image: test errors are too low",)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 2)), min_size=1, max_size=30), st.integers(0, 30))
def test_groups_agree_with_a_dictionary(images: list[tuple[int, int]], cut: int) -> None:
    hashes = np.array([[image % 3, image] for image, _ in images], np.uint64)
    labels = np.array([label for _, label in images], np.int64)
    (groups,) = groups_of(hashes)
    classes: dict[int, set[int]] = {}
    for image, label in images:
        classes.setdefault(image, set()).add(label)
    assert len(set(groups.tolist())) == len(classes)
    kept = one_of_each(groups, labels)
    assert sorted(images[row][0] for row in kept) == sorted(classes)
    assert all(labels[row] >= 0 or classes[images[row][0]] == {-1} for row in kept)
    assert torn(groups, labels) == sum(len(known - {-1}) > 1 for known in classes.values())
    one, other = groups_of(hashes[:cut], hashes[cut:])
    later = {image for image, _ in images[cut:]}
    assert also_in(one, other) == sum(image in later for image, _ in images[:cut])
