"""Which part of a data set a file or folder belongs to, by its name: the Hugging Face Hub's rule for delimiters."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

PartName = Literal["train", "validation", "test"]

_WORDS: Final[Mapping[str, PartName]] = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
"""The Hub's words for a part, without those that begin like another's and are rare: training, testing, eval."""

_PART = re.compile(rf"({'|'.join(_WORDS)})(?:[-._ 0-9]|$)")
"""A part's word at the name's start, then its end or a delimiter (`NON_WORDS_CHARS` of `datasets/data_files.py`)."""

_SHARD = re.compile(r"(.*-)(\d+)-of-(\d+)(\..*)")
_MOST_SHARDS = 100_000

PARQUET: Final = ".parquet"


def part_of(name: str) -> PartName | None:
    """Return the part that a file or folder of this name holds, or None if it holds none.

    `train.parquet`, `train-00000-of-00003.parquet`, `train_a.parquet`, `train 2.parquet`, `train1.parquet` and a folder
    `train` hold training images; `training_notes_old.parquet`, `trainer.parquet`, `my_train.parquet` and
    `Train.parquet` do not.

    Args:
        name: The last part of a path.
    """
    found = _PART.match(name)
    return _WORDS[found.group(1)] if found else None


def part_of_parquet(name: str) -> PartName | None:
    """Return the part that a Parquet file of this name holds, or None if it holds none or is no Parquet file.

    Args:
        name: The last part of a path.
    """
    return part_of(name) if name.endswith(PARQUET) else None


def why_no_part(name: str) -> str | None:
    """Return why a file of this name is in no part, in words that follow a count; None if it is in one.

    Args:
        name: The last part of a path.
    """
    if name.startswith((".", "_")):
        return "hidden"
    if not name.endswith(PARQUET):
        return f"not named *{PARQUET}"
    return None if part_of(name) else "not named train, validation or test, then one of '-._ ', a digit"


def missing_shards(names: Iterable[str]) -> list[str]:
    """Return the shards that are not there of those that files named `-00000-of-00003` tell of, sorted.

    Args:
        names: The last parts of their paths.
    """
    there = set(names)
    found = {match.groups() for name in there if (match := _SHARD.fullmatch(name))}
    told = {(start, count, rest) for start, _, count, rest in found if int(count) <= _MOST_SHARDS}
    all_of = (
        f"{start}{shard:0{len(count)}}-of-{count}{rest}" for start, count, rest in told for shard in range(int(count))
    )
    return sorted(name for name in all_of if name not in there)
