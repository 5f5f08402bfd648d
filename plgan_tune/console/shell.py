"""Format commands that the user can type in the current folder."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from plgan_tune.console.format import escaped, visible
from plgan_tune.store.location import Location


def from_here(path: Path) -> str:
    """Return a path as typed in the current folder: relative if it lies below, else absolute."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def typed(location: Location) -> str:
    """Return a location as typed in the current folder: a local path as `from_here` gives it, else the URL."""
    return from_here(location.local) if location.local else location.url


def python() -> str:
    """Return the interpreter as typed in the current folder."""
    return from_here(Path(sys.executable))


def torchrun() -> str:
    """Return this environment's torchrun as typed in the current folder."""
    return from_here(Path(sys.executable).with_name("torchrun"))


def quoted(word: str) -> str:
    """Quote a word for a shell; one with control characters in bash's `$'...'`."""
    if visible(word) == word and "\t" not in word and "\n" not in word:
        return shlex.quote(word)
    return "$'" + "".join(map(_in_bash, word)) + "'"


def _in_bash(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not valid UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in "\\'":
        return f"\\{character}"
    return escaped(character) if visible(character) != character or character in "\t\n" else character


def shell_line(words: Sequence[str]) -> str:
    """Return a command line to copy, with every word quoted."""
    return " ".join(map(quoted, words))


Option = str | int | Path | bool | None | Sequence[str]
"""An option's value. False and None: not given; True: a flag; several texts: a repeated option."""


def option_words(options: Mapping[str, Option]) -> list[str]:
    """Return the words of a command line that give these options, in order."""
    words: list[str] = []
    for option, given in options.items():
        match given:
            case None | False:
                continue
            case True:
                words.append(option)
            case str() | int() | Path():
                words += [option, str(given)]
            case _:
                words += [word for text in given for word in (option, text)]
    return words
