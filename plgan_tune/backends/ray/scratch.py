"""Temporary folders of one process. A later process removes those of a killed one."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from plgan_tune.store.location import Location
from plgan_tune.store.lock import Owner

PREFIX: Final = "plgan_tune_ray_"
"""Prefix of a search's folder in the machine's temporary folder."""

OWNER: Final = "plgan_tune_owner.json"
"""The file in a folder that names its process."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder, removed when the block ends. Remove those of dead searches first."""
    remove_left_behind(Path(tempfile.gettempdir()), PREFIX)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        mark(Path(name))
        yield Path(name)


def mark(folder: Path) -> None:
    """Mark the folder as this process's, to be removed after the process has died."""
    (folder / OWNER).write_text(json.dumps(asdict(Owner.here())), encoding="utf-8")


def remove_left_behind(parent: Path, prefix: str) -> None:
    """Remove the folders in `parent` that dead processes of this user have marked, and no others."""
    for folder in parent.glob(f"{prefix}*"):
        if _is_mine(folder, stat.S_ISDIR) and _is_mine(folder / OWNER, stat.S_ISREG):
            owner = Owner.seen(Location.at(folder).join(OWNER))
            if owner is not None and owner.is_dead() is True:
                _remove(folder)


def _remove(folder: Path) -> None:
    """Remove the folder, the mark last: if a dying Ray still writes files, the next start removes them."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != OWNER:
            entry.unlink(missing_ok=True)
    if [entry.name for entry in folder.iterdir()] == [OWNER]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_mine(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Return whether this user owns it. In a world-writable folder, another user could plant a mark or a link."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return is_kind(found.st_mode) and found.st_uid == os.getuid()
