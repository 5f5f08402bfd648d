"""`trial.own`: a user's own file of Python, and values for its keys. The file is read here, and never run."""

import hashlib
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from plgan_tune.config.errors import Finding, KeyPath, RuleError, show
from plgan_tune.config.trial import LEAVES

OWN: Final = "own."
"""How the dotted paths of the section begin."""

FILE: Final = "own.file"
SHA256: Final = "own.sha256"

MOST_BYTES: Final = 2**20

_KEY: Final = re.compile(r"[a-z][a-z0-9_]*")
OWN_NAME: Final = "must be a name of small letters, digits and '_', the first a letter, that the file defines"
_PLAIN: Final = "must be a number, text, true or false, or a domain of these"


def is_own_key(path: str) -> bool:
    """Return whether a dotted path is a key that a user's file defines."""
    return path.startswith(OWN) and path not in (FILE, SHA256) and bool(_KEY.fullmatch(path.removeprefix(OWN)))


def in_order(paths: Iterable[str]) -> list[str]:
    """Return dotted paths in the order of `LEAVES`; keys of a user's file come last, as they were given."""
    given = dict.fromkeys(paths)
    return [*(path for path in LEAVES if path in given), *filter(is_own_key, given)]


def sha256_of(content: bytes) -> str:
    """Return the hash that names a file's content."""
    return hashlib.sha256(content).hexdigest()


def check_plain(value: Any) -> None:
    """Check a value, or an option of a domain, of a key that a user's file defines.

    Raises:
        RuleError: If it is not a number, text, true or false.
    """
    if not isinstance(value, bool | int | float | str) or (isinstance(value, float) and not math.isfinite(value)):
        raise RuleError(_PLAIN, show(value))


def with_content(mapping: Any, folder: Path) -> tuple[Any, list[Finding]]:
    """Return a space file in which `trial.own.file` is an absolute path and `trial.own.sha256` that of its content.

    Args:
        mapping: The content of the space file, not checked yet.
        folder: Where it is; `file` is relative to it.

    Returns:
        The mapping, and what is wrong with the file: it cannot be read, or has another hash than the given one.
    """
    trial = mapping.get("trial") if isinstance(mapping, dict) else None
    own = trial.get("own") if isinstance(trial, dict) else None
    if not isinstance(trial, dict) or not isinstance(own, dict) or not isinstance(own.get("file"), str):
        return mapping, []
    path = own_path(own["file"], folder)
    try:
        sha256 = sha256_of(read_own(path))
    except RuleError as error:
        return mapping, [Finding(_at("file"), error.rule, error.value)]
    given = own.get("sha256")
    known = {"file": str(path), "sha256": sha256}
    read = {**mapping, "trial": {**trial, "own": {**own, **known}}}
    if given in (None, sha256):
        return read, []
    return read, [Finding(_at("sha256"), f"must be the hash of what {path} holds, {show(sha256)}", show(given))]


def own_path(file: str | Path, folder: Path = Path()) -> Path:
    """Return the absolute path of a user's file, where `~` is the home folder: that of no user stays as it is.

    Args:
        file: As it was given.
        folder: What it is relative to.
    """
    return (folder / os.path.expanduser(file)).absolute()  # noqa: PTH111 - Path.expanduser raises for no user


def read_own(path: Path) -> bytes:
    """Return the content of a user's file.

    Raises:
        RuleError: If it cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        cause = getattr(error, "strerror", None) or error
        raise RuleError("must be a file that can be read", f"{path}: {cause}".replace("\0", "\\0")) from None
    if len(content) > MOST_BYTES:
        raise RuleError(f"must be a file of at most {MOST_BYTES // 1024:,} KiB", f"{path}, which is larger")
    return content


def _at(key: str) -> KeyPath:
    return ("trial", "own", key)
