"""What the commands print for the user to type: names as they are typed in this folder."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from plgan_tune.console.format import escaped, visible
from plgan_tune.store.location import Location


def from_here(path: Path) -> str:
    """A path as it is typed in this folder: relative where it lies below, else whole."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def typed(location: Location) -> str:
    """A place as it is typed in this folder: a local path relative where it lies below, else whole."""
    return from_here(location.local) if location.local else location.url


def python() -> str:
    """The interpreter as it is typed here."""
    return from_here(Path(sys.executable))


def torchrun() -> str:
    """This environment's torchrun as it is typed here."""
    return from_here(Path(sys.executable).with_name("torchrun"))


def quoted(word: str) -> str:
    """A word as a shell reads it back; one that would steer a terminal in bash's `$'...'`."""
    if visible(word) == word and "\t" not in word and "\n" not in word:
        return shlex.quote(word)
    return "$'" + "".join(map(_in_bash, word)) + "'"


def _in_bash(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file's name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character in "\\'":
        return f"\\{character}"
    return escaped(character) if visible(character) != character or character in "\t\n" else character


def shell_line(words: Sequence[str]) -> str:
    """A command line to copy, whatever its words hold."""
    return " ".join(map(quoted, words))


Option = str | int | Path | bool | None | Sequence[str]
"""What an option was given: False and None are an option that was not, True a flag, several texts one that repeats."""


def option_words(options: Mapping[str, Option]) -> list[str]:
    """The words of a command line that give these options again, in their order."""
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
