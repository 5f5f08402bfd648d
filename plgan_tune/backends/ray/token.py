"""Protect the file of Ray's token: whoever holds the token can run code."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

OWNER_ONLY = 0o600


def keep_token_private(*, make: bool) -> None:
    """Remove the group's and others' permissions from `~/.ray/auth_token`, which Ray makes readable to all.

    Does nothing if tokens are off, or if the environment names another token or file: its owner chose the permissions.

    Args:
        make: Whether to create a missing token, before Ray creates it at its start. Where the home folder cannot be
            written, this process and those that it starts have one in their environment.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    file = Path.home() / ".ray" / "auth_token"
    try:
        if make and not file.exists():
            _make(file)
    except OSError:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return
    with suppress(FileNotFoundError, PermissionError):  # a file of another user is theirs to protect
        if file.stat().st_mode & 0o077:
            file.chmod(OWNER_ONLY)


def _make(file: Path) -> None:
    """Write a token under a temporary name and link it, so that a parallel search never reads half a file.

    If several searches make one, the first to link its token wins.
    """
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
