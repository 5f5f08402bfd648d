"""The copy of a user's own file in the folder of a study or a training: what every process loads."""

from typing import Final

from plgan_tune.store.location import Location

FOLDER: Final = "own"


def own_copy(folder: Location, sha256: str) -> Location:
    """Return the place of the copy of the file whose content has this hash."""
    return folder.join(FOLDER, f"{sha256}.py")


def keep_own(folder: Location, sha256: str, content: bytes) -> None:
    """Write the copy, unless it is there as it should be.

    Raises:
        StoreError: If it cannot be written.
    """
    copy = own_copy(folder, sha256)
    if not copy.exists() or copy.read_bytes() != content:
        copy.write_bytes(content)
