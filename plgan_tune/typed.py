"""What the commands print for the user to type: names as they are typed in this folder."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def from_here(path: Path) -> str:
    """A path as it is typed in this folder: relative where it lies below, else whole."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def python() -> str:
    """The interpreter as it is typed here."""
    return from_here(Path(sys.executable))


def torchrun() -> str:
    """This environment's torchrun as it is typed here."""
    return from_here(Path(sys.executable).with_name("torchrun"))


def command(words: Sequence[str]) -> str:
    """A command line, with the thread count that this process was given: a sum's last digit depends on it."""
    threads = os.environ.get("OMP_NUM_THREADS")
    return (f"OMP_NUM_THREADS={shlex.quote(threads)} " if threads else "") + shlex.join(words)
