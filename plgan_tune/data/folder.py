"""Image files in torchvision's ImageFolder layout: train/CLASS/*, test/CLASS/*, and optional unlabelled/*.

If no image needs a label, the folders of classes may be missing, and train/, too: any folder of images will do.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL, Encoded, Half, HalfName, Rows, Stamp, batches

_ENDINGS = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})


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
    if not files:
        place = root / name if (root / name).is_dir() else root
        raise DataError(f"{place}: it must hold images (ending in {', '.join(sorted(_ENDINGS))}), but got none")

    def encoded(rows: Rows) -> Iterator[Sequence[Encoded]]:
        for batch in batches(rows):
            yield [_bytes(files[row][0]) for row in batch]

    labels = np.array([label for _, label in files], dtype=np.int64)
    return Half(labels, classes, lambda row: str(files[row][0]), encoded)


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
    return tuple(_folders(root / "train"))


def _folders(root: Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _files(root: Path, name: HalfName, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Return the image files with their labels, labelled files first."""
    foreign = sorted(set(_folders(root / name)) - set(classes))
    if foreign:
        raise DataError(f"{root / name}: every class must be one of train/, but got {foreign}, not in {list(classes)}")
    labelled = [(file, label) for label, c in enumerate(classes) for file in _images(root / name / c)]
    unlabelled = _images(root / "unlabelled") if name == "train" else []
    if not classes:
        unlabelled = _without_classes(root, name)
    return [*labelled, *((file, NO_LABEL) for file in unlabelled)]


def _without_classes(root: Path, name: HalfName) -> list[Path]:
    """Return the images of a half whose training half has no folders of classes."""
    if name == "test" or (root / "train").is_dir():
        return [*_images(root / name), *(_images(root / "unlabelled") if name == "train" else [])]
    return [file for file in _images(root) if root / "test" not in file.parents]


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in _ENDINGS and file.is_file())


def _bytes(file: Path) -> bytes | OSError:
    try:
        return file.read_bytes()
    except OSError as error:
        return error
