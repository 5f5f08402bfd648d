"""Which files of a folder are images, as users, desktops and NAS systems leave them."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import load_dataset
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import Half, HalfName
from plgan_tune.data.sources import open_half
from plgan_tune.data.walk import Passed

Make = Callable[..., DataSpec]


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 4 images to train, 2 to test, and 4 without a label."""
    root = tmp_path / "set"
    for place, name in enumerate(("train/a", "train/b", "test/a", "test/b", "unlabelled")):
        for k in range(2 if name.startswith("test") else 4):
            picture(root / name / f"{k}.png", 10 * place + k)
    return root


def half(make: Make, root: Path, **keys: object) -> Half:
    return open_half(make("folder", root, **keys), "train", Path("unused"))


def names(passed: Passed) -> dict[str, list[str]]:
    return {reason: sorted(Path(path).name for path in paths) for reason, paths in passed.items()}


def test_a_linked_pool_and_linked_images_are_read(folder: Path, tmp_path: Path, make: Make) -> None:
    for k in range(5):
        picture(tmp_path / "elsewhere" / "deep" / f"{k}.png", 90 + k)
    (folder / "unlabelled" / "more").symlink_to(tmp_path / "elsewhere")
    picture(tmp_path / "one.png", 99)
    (folder / "train" / "a" / "linked.png").symlink_to(tmp_path / "one.png")
    data = load_dataset(make("folder", folder))
    assert (data.labels == -1).sum() == 9
    assert (data.labels == 0).sum() == 5
    (folder / "unlabelled").rename(folder / "away")
    (folder / "unlabelled").symlink_to(tmp_path / "elsewhere")
    assert (load_dataset(make("folder", folder)).labels == -1).sum() == 5


def test_loops_of_links_end_and_are_counted(folder: Path, make: Make) -> None:
    (folder / "train" / "a" / "up").symlink_to(folder / "train")
    (folder / "unlabelled" / "self").symlink_to(folder / "unlabelled")
    (folder / "train" / "b" / "gone.png").symlink_to(folder / "nowhere.png")
    found = half(make, folder)
    assert np.bincount(found.labels + 1).tolist() == [4, 8, 4]  # a sees b, and itself through it, once
    assert names(found.passed)["a link back to a folder above it"].count("self") == 1
    assert names(found.passed)["a link to nothing"] == ["gone.png"]


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "@eaDir", "#recycle", "__MACOSX", "$RECYCLE.BIN", ".Trash-1000"]
)
@pytest.mark.parametrize("where", ["train", "train/a", "test", "unlabelled"])
def test_what_desktops_and_nas_systems_leave_is_no_class_and_no_image(
    where: str, name: str, folder: Path, make: Make
) -> None:
    before = half(make, folder)
    picture(folder / where / name / "0.png", 50)
    found = half(make, folder)
    assert found.classes == before.classes == ("a", "b")
    assert found.labels.tolist() == before.labels.tolist()
    place: HalfName = "test" if where == "test" else "train"
    passed = open_half(make("folder", folder), place, Path("unused")).passed
    assert names(passed) == {"hidden, or left by a system": [name]}


def test_hidden_files_are_no_images(folder: Path, make: Make) -> None:
    picture(folder / "train" / "a" / "._0.png", 50)  # as macOS leaves them on foreign disks, though not with pixels
    picture(folder / "unlabelled" / ".hidden.png", 51)
    (folder / "train" / "b" / "Thumbs.db").write_bytes(b"")
    found = half(make, folder)
    assert found.files == 12
    assert names(found.passed) == {"hidden, or left by a system": ["._0.png", ".hidden.png", "Thumbs.db"]}


def test_a_folder_below_a_hidden_one_is_read(tmp_path: Path, make: Make) -> None:
    for k in range(6):
        picture(tmp_path / ".data" / f"{k}.png", k)
    assert half(make, tmp_path / ".data", labels=0).files == 6


def test_both_spellings_of_unlabelled_are_read(folder: Path, make: Make) -> None:
    (folder / "unlabelled").rename(folder / "unlabeled")
    assert (load_dataset(make("folder", folder)).labels == -1).sum() == 4
    picture(folder / "unlabelled" / "0.png", 77)
    assert (load_dataset(make("folder", folder)).labels == -1).sum() == 5


def test_what_is_passed_over_is_counted_by_reason(folder: Path, make: Make) -> None:
    picture(folder / "train" / "loose.png", 60)
    for name in ("train/a/photo.HEIC", "train/a/moving.gif", "train/b/notes.txt", "readme.md"):
        (folder / name).write_bytes(b"")
    picture(folder / "extra" / "0.png", 61)
    assert names(half(make, folder).passed) == {
        ".heic is not read": ["photo.HEIC"],
        ".gif is not read": ["moving.gif"],
        "no image, by the ending": ["notes.txt"],
        "loose in train/, in no class": ["loose.png"],
        "beside train/, test/ and unlabelled/": ["extra", "readme.md"],
    }


def test_any_folder_of_pictures_counts_too(tmp_path: Path, make: Make) -> None:
    for k in range(6):
        picture(tmp_path / "some" / f"{k}.png", k)
    picture(tmp_path / "test" / "0.png", 8)
    (tmp_path / "test" / "a.gif").write_bytes(b"")
    (tmp_path / "some" / "b.gif").write_bytes(b"")
    found = half(make, tmp_path, labels=0)
    assert found.files == 6
    assert names(found.passed) == {".gif is not read": ["b.gif"]}


def test_a_folder_without_images_says_what_it_has(tmp_path: Path, make: Make) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    for k in range(3):
        (tmp_path / "train" / "a" / f"{k}.heic").write_bytes(b"")
    with pytest.raises(DataError, match=r"but got none; passed over 3: \.heic is not read"):
        half(make, tmp_path)


def test_a_folder_that_cannot_be_listed_is_said(folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(place: Path) -> object:
        if place == folder / "train" / "a":
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"train/a: the folder cannot be listed: Permission denied"):
        half(make, folder)
