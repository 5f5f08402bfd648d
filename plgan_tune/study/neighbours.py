"""Other searches of this machine, which share its cores, GPUs and memory."""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Final

import psutil

_COMMAND: Final = re.compile(r"(?:plgan_tune[./]|plgan-tune\0)(search|evaluate|train)(?:\.py)?(?:\0|$)")


def other_searches() -> list[str]:
    """Return what else of plgan_tune trains on this machine, such as `search, process 4711`, by process."""
    processes = psutil.process_iter(["pid", "cmdline"])
    return in_words((process.info["pid"], process.info["cmdline"] or ()) for process in processes)


def in_words(processes: Iterable[tuple[int, Sequence[str]]], me: int | None = None) -> list[str]:
    """Return those of the processes that search, evaluate or train.

    Args:
        processes: Number and command line of each.
        me: The one to leave out; None is this process.
    """
    me = os.getpid() if me is None else me
    found = [(number, _COMMAND.search("\0".join(words[:8]))) for number, words in sorted(processes) if number != me]
    return [f"{command[1]}, process {number}" for number, command in found if command is not None]
