"""Which part a name belongs to."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.data.names import missing_shards, part_of, part_of_parquet, why_no_part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train.parquet", "train"),
        ("train-00000-of-00003.parquet", "train"),
        ("train_a.parquet", "train"),
        ("train 2.parquet", "train"),
        ("train1.parquet", "train"),
        ("test.parquet", "test"),
        ("test-0.parquet", "test"),
        ("validation-00000-of-00001.parquet", "validation"),
        ("valid.parquet", "validation"),
        ("val_0.parquet", "validation"),
        ("dev.parquet", "validation"),
        ("training_notes_old.parquet", None),
        ("trainer.parquet", None),
        ("trains.parquet", None),
        ("testing.parquet", None),
        ("tests.parquet", None),
        ("values.parquet", None),
        ("device.parquet", None),
        ("my_train.parquet", None),
        ("Train.parquet", None),
        ("._train.parquet", None),
        ("train.csv", None),
        ("train.parquet.crdownload", None),
        ("train", None),
    ],
)
def test_a_parquet_file_belongs_to_the_part_whose_word_a_delimiter_ends(name: str, part: str | None) -> None:
    assert part_of_parquet(name) == part
    assert (why_no_part(name) is None) == (part is not None)


def test_a_folder_s_name_may_end_where_the_word_does() -> None:
    assert [part_of(name) for name in ("train", "val", "test", "training", "train_old", "")] == [
        "train",
        "validation",
        "test",
        None,
        "train",
        None,
    ]


def test_missing_shards_are_named(
    tmp_path: Path, make: Callable[..., DataSpec], write_parquet: Callable[..., None]
) -> None:
    for shard in (0, 2):
        images = [np.full((8, 8), 10 * shard + row, np.uint8) for row in range(8)]
        write_parquet(tmp_path / f"train-0000{shard}-of-00004.parquet", images, [0, 1] * 4)
    lost = [f"{tmp_path}: train-0000{shard}-of-00004.parquet is missing" for shard in (1, 3)]
    assert list(load_dataset(make("parquet", tmp_path)).notes) == lost
    assert missing_shards(["train-0.parquet", "train-00000-of-00001.parquet", "a-of-b.parquet"]) == []


def test_a_file_whose_name_only_begins_like_a_part_s_is_not_read(
    parquet_set: Path, make: Callable[..., DataSpec], write_parquet: Callable[..., None]
) -> None:
    before = load_dataset(make("parquet", parquet_set))
    write_parquet(parquet_set / "training_notes_old.parquet", [np.zeros((8, 8), np.uint8)] * 3, [0, 1, 0])
    assert len(load_dataset(make("parquet", parquet_set)).images) == len(before.images) == 24
    write_parquet(parquet_set / "train_more.parquet", [np.zeros((8, 8), np.uint8)] * 3, [0, 1, 0])
    assert len(load_dataset(make("parquet", parquet_set)).images) == 27


def test_a_folder_with_other_names_alone_says_which(
    tmp_path: Path, make: Callable[..., DataSpec], write_parquet: Callable[..., None]
) -> None:
    write_parquet(tmp_path / "training.parquet", [np.zeros((8, 8), np.uint8)] * 3, [0, 1, 0])
    with pytest.raises(DataError, match=r"train\.parquet or .* after 'train', but got .*\['training\.parquet'\]"):
        load_dataset(make("parquet", tmp_path))
