"""Image files in torchvision's ImageFolder layout: train/CLASS/*, test/CLASS/*, and optional unlabelled/*.

`unlabeled/` is as good as `unlabelled/`. If no image needs a label, the folders of classes may be missing, and train/,
too: any folder of images will do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL, Encoded, Half, HalfName, Rows, Stamp, batches
from plgan_tune.data.walk import ENDINGS, Passed, Walk, entries_of, folders_in, images_below

_UNLABELLED = ("unlabelled", "unlabeled")


def stamp_folder(spec: DataSpec, name: HalfName, cache: Path) -> list[Stamp]:  # noqa: ARG001
    """Return the stamp of every image file of the half."""
    root = _root(spec, name)
    stats = [(file, file.stat()) for file, _ in _files(root, name, _classes(root))]
    return [(str(file), stat.st_size, str(stat.st_mtime_ns)) for file, stat in stats]


def open_folder(spec: DataSpec, name: HalfName, cache: Path) -> Half:  # noqa: ARG001
    """List the half's files. The folders of train/, sorted by name, are the classes of both halves.

    Raises:
        DataError: If a folder is missing or holds no images, or test/ has a class that train/ lacks.
    """
    root = _root(spec, name)
    classes = _classes(root)
    files = _files(root, name, classes)
    passed = _passed(root, name, classes)
    if not files:
        place = root / name if (root / name).is_dir() else root
        raise DataError(
            f"{place}: it must hold images (ending in {', '.join(sorted(ENDINGS))}), but got none{_instead(passed)}"
        )

    def encoded(rows: Rows) -> Iterator[Sequence[Encoded]]:
        for batch in batches(rows):
            yield [_bytes(files[row][0]) for row in batch]

    labels = np.array([label for _, label in files], dtype=np.int64)
    return Half(labels, classes, lambda row: str(files[row][0]), encoded, len(files), passed)


def _root(spec: DataSpec, name: HalfName) -> Path:
    if spec.path is None:
        raise DataError("`trial.data.path` must be a folder for `source: folder`, but got null")
    root = Path(spec.path).expanduser().resolve()
    needed = ("train", name) if spec.labels else (name,) if name == "test" else ()
    for half in needed:
        if not (root / half).is_dir():
            raise DataError(
                f"{root / half}: for `source: folder` trial.data.path must hold a folder {half}/ with a folder of "
                f"images for each class, but there is none (trial.data.path={spec.path!r}); sort your images into "
                f"train/CLASS/ and test/CLASS/, those without a label into unlabelled/"
            )
    return root


def _classes(root: Path) -> tuple[str, ...]:
    return tuple(folders_in(root / "train"))


def _files(root: Path, name: HalfName, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Return the image files with their labels, labelled files first."""
    foreign = sorted(set(folders_in(root / name)) - set(classes))
    if foreign:
        raise DataError(f"{root / name}: every class must be one of train/, but got {foreign}, not in {list(classes)}")
    labelled = [(file, label) for label, c in enumerate(classes) for file in images_below(root / name / c)]
    unlabelled = _without_classes(root, name) if not classes else _unlabelled(root, name)
    return [*labelled, *((file, NO_LABEL) for file in unlabelled)]


def _unlabelled(root: Path, name: HalfName) -> list[Path]:
    return [file for folder in _UNLABELLED for file in images_below(root / folder)] if name == "train" else []


def _without_classes(root: Path, name: HalfName) -> list[Path]:
    """Return the images of a half whose training half has no folders of classes."""
    if name == "test" or (root / "train").is_dir():
        return [*images_below(root / name), *_unlabelled(root, name)]
    return [file for file in images_below(root) if root / "test" not in file.parents]


def _passed(root: Path, name: HalfName, classes: Sequence[str]) -> Passed:
    """Return what lies in the half's folders, or beside them, and is not read, by reason."""
    walk = Walk()
    if name == "train" and not (root / "train").is_dir():
        for entry in entries_of(root):
            if root / entry.name != root / "test":
                walk.look_at(entry, frozenset())
        return walk.passed
    walk.visit(root / name)
    if classes:
        walk.passed[f"loose in {name}/, in no class"] += [
            str(file) for file in walk.images if file.parent == root / name
        ]
    if name == "train":
        for word in _UNLABELLED:
            walk.visit(root / word)
        beside = [entry for entry in entries_of(root) if entry.name not in ("train", "test", *_UNLABELLED)]
        walk.passed["beside train/, test/ and unlabelled/"] += [entry.path for entry in beside]
    return {reason: paths for reason, paths in walk.passed.items() if paths}


def _instead(passed: Passed) -> str:
    """Return what was found instead of images, in words that end a message."""
    return "".join(f"; passed over {len(paths):,}: {reason}" for reason, paths in passed.items())


def _bytes(file: Path) -> bytes | OSError:
    try:
        return file.read_bytes()
    except OSError as error:
        return error
