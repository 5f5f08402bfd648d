"""Find image files below a folder: links are followed, and what is passed over is counted by reason."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from plgan_tune.data.errors import DataError

ENDINGS: Final = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"})
"""Endings of the files that are read, in small letters."""

_OTHER_IMAGES: Final = frozenset(
    {
        *(".gif", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jfif", ".jpe", ".jif", ".apng"),
        *(".svg", ".psd", ".xcf", ".ico", ".tga", ".exr", ".hdr", ".dds", ".pbm", ".pnm", ".pam", ".eps", ".pdf"),
        *(".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".dcm", ".nii", ".npy", ".mat"),
    }
)
"""Endings of files that hold images, but are not read."""

_LEFT_BEHIND: Final = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "@sharebin", "~snapshot"),
        *("__macosx", "network trash folder", "temporary items", "thevolumesettingsfolder", "icon\r"),
        *("$recycle.bin", "recycler", "system volume information", "found.000", "thumbs.db", "ehthumbs.db"),
        *("desktop.ini", "lost+found", "__pycache__"),
    }
)
"""What NAS systems (Synology, QNAP, NetApp), macOS, Windows, file systems and Python leave in folders, besides what is
hidden; in small letters."""

HIDDEN: Final = "hidden, or left by a system"
LOOP: Final = "a link back to a folder above it"
BROKEN_LINK: Final = "a link to nothing"
NO_IMAGE: Final = "no image, by the ending"

Passed = Mapping[str, Sequence[str]]
"""Reason -> the paths that were passed over for it."""


def is_left_behind(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or what a desktop or a NAS leaves."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


class Walk:
    """The image files below a folder, found by `visit`.

    Attributes:
        images: Their paths.
        passed: Reason -> what was passed over.
    """

    def __init__(self) -> None:
        self.images: list[Path] = []
        self.passed: defaultdict[str, list[str]] = defaultdict(list)

    def visit(self, folder: Path, above: frozenset[tuple[int, int]] = frozenset()) -> None:
        """Find what is below a folder; if there is none, nothing.

        Args:
            folder: The folder, which may be a link.
            above: Device and inode of the folders above it, by which a loop is noticed.

        Raises:
            DataError: If a folder cannot be listed.
        """
        if not folder.is_dir():
            return
        inside = above | {_identity(folder)}
        for entry in entries_of(folder):
            self.look_at(entry, inside)

    def look_at(self, entry: "os.DirEntry[str]", above: frozenset[tuple[int, int]]) -> None:
        """Take an entry of a folder if it is an image, visit it if it is a folder."""
        if is_left_behind(entry.name):
            self.passed[HIDDEN].append(entry.path)
        elif not entry.is_dir():
            self._take(entry)
        elif _identity(Path(entry.path)) in above:
            self.passed[LOOP].append(entry.path)
        else:
            self.visit(Path(entry.path), above)

    def _take(self, entry: "os.DirEntry[str]") -> None:
        ending = Path(entry.name).suffix.lower()
        if not entry.is_file():
            self.passed[BROKEN_LINK].append(entry.path)
        elif ending in ENDINGS:
            self.images.append(Path(entry.path))
        else:
            self.passed[f"{ending} is not read" if ending in _OTHER_IMAGES else NO_IMAGE].append(entry.path)


def images_below(folder: Path) -> list[Path]:
    """Return the image files below a folder, sorted.

    Raises:
        DataError: If a folder cannot be listed.
    """
    walk = Walk()
    walk.visit(folder)
    return sorted(walk.images)


def folders_in(root: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted, without those that a system left; none if it is none."""
    if not root.is_dir():
        return []
    return sorted(entry.name for entry in entries_of(root) if entry.is_dir() and not is_left_behind(entry.name))


def entries_of(folder: Path) -> list["os.DirEntry[str]"]:
    """Return what is in a folder, which knows its type without being asked: on a network each question takes time.

    Raises:
        DataError: If the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder}: the folder cannot be listed: {error.strerror}") from error


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
