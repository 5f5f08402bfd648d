"""Ray's token, which lets whoever holds it run code: its file is for its owner alone."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from plgan_tune.study.errors import StudyError

OWNER_ONLY = 0o600


def keep_token_private(*, make: bool) -> None:
    """Takes the group's and others' rights from `~/.ray/auth_token`, which Ray makes readable to all.

    Nothing where tokens are off, or the environment names another place: such a file has an owner who chose its rights.

    Args:
        make: draw a token where there is none, before Ray, about to start, does.

    Raises:
        StudyError: where it cannot be made.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    file = Path.home() / ".ray" / "auth_token"
    if make and not file.exists():
        try:
            _make(file)
        except OSError as error:
            raise StudyError(
                f"Ray keeps its token in {file}, which cannot be made: {error.strerror}; name another file in "
                "RAY_AUTH_TOKEN_PATH, or a token in RAY_AUTH_TOKEN"
            ) from error
    with suppress(FileNotFoundError, PermissionError):  # one that another user owns is theirs to guard
        if file.stat().st_mode & 0o077:
            file.chmod(OWNER_ONLY)


def _make(file: Path) -> None:
    """It gets its name with its content, for a search that begins beside; the first to name its own wins."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unnamed = file.with_name(f"{file.name}.{secrets.token_hex(8)}.tmp")
    handle = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    try:
        with os.fdopen(handle, "w") as new:
            new.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(unnamed, file)
    finally:
        unnamed.unlink()
