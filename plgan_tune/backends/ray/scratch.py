"""Folders that serve one process: a later one removes those of a process that was killed."""

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
"""Begins the name of a search's folder among the machine's temporary ones."""

OWNER: Final = "plgan_tune_owner.json"
"""In a folder: the process that it serves."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder of this process's, which goes at the block's end. Those of dead searches go at its beginning."""
    remove_left_behind(Path(tempfile.gettempdir()), PREFIX)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name:
        mark(Path(name))
        yield Path(name)


def mark(folder: Path) -> None:
    """Notes that the folder is this process's, and nobody needs it afterwards."""
    (folder / OWNER).write_text(json.dumps(asdict(Owner.here())), encoding="utf-8")


def remove_left_behind(parent: Path, prefix: str) -> None:
    """Removes the folders of `parent` that this user's dead processes have marked, and none that is not marked."""
    for folder in parent.glob(f"{prefix}*"):
        if _is_mine(folder, stat.S_ISDIR) and _is_mine(folder / OWNER, stat.S_ISREG):
            owner = Owner.seen(Location.at(folder).join(OWNER))
            if owner is not None and owner.is_dead() is True:
                _remove(folder)


def _remove(folder: Path) -> None:
    """The mark goes last: what a last process of a dying Ray still writes, yet another start removes."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != OWNER:
            entry.unlink(missing_ok=True)
    if [entry.name for entry in folder.iterdir()] == [OWNER]:
        shutil.rmtree(folder, ignore_errors=True)


def _is_mine(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether this user made it. In folders that all may write to, another could lay a mark or a link."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return is_kind(found.st_mode) and found.st_uid == os.getuid()
