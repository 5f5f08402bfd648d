"""The judge's file in the folder of a study or a training: what every rank measures generated images with."""

from typing import Final

from plgan_tune.store.location import Location

JUDGE_FILE: Final = "judge.pt"


def read_judge(folder: Location) -> bytes | None:
    """Return what the file holds; None if there is none: data without labels have no judge, nor have early studies.

    Raises:
        StoreError: if it cannot be read.
    """
    file = folder.join(JUDGE_FILE)
    return file.read_bytes() if file.exists() else None
