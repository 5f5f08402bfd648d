"""What the dry run says about the files of a data set: which were taken, which passed over, and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import load_dataset, notes_on_test
from plgan_tune.data.decode import Progress, unseen
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import Half
from plgan_tune.data.sources import cache_of, is_cached, open_half

_OF_FILES = ("parquet", "folder")
"""Sources whose files are the user's own."""
_EXAMPLES = 3


@dataclass(frozen=True)
class Survey:
    """The files of a data set.

    Attributes:
        taken: Half -> how many files hold it, in words.
        passed: Reason -> how many were passed over, with examples, in words.
        notes: What is missing or strange, in sentences.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    passed: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def survey(spec: DataSpec, cache: Path | None = None) -> Survey:
    """List the files of both halves without decoding an image. Of the test half, only labels are read.

    Raises:
        DataError: If the training half is missing or damaged. Of the test half this is a note.
    """
    if spec.source not in _OF_FILES:
        return Survey()
    folder = cache_of(spec, cache)
    train = open_half(spec, "train", folder)
    try:
        test = open_half(spec, "test", folder)
    except DataError as error:
        missing = f"`evaluate` will find no test images: {error}"
        return Survey({"train": _in_words(train)}, _passed(train), (*train.notes, missing))
    taken = {"train": _in_words(train), "test": _in_words(test)}
    return Survey(taken, _passed(train, test), (*train.notes, *test.notes, *_on_test(train, test)))


def check_one(spec: DataSpec) -> tuple[str, ...]:
    """Return what a look at the first image alone leaves open."""
    return ("only the first image was decoded: --check-data decodes all",) if is_cached(spec) else ()


def check_all(spec: DataSpec, cache: Path | None = None, progress: Progress = unseen) -> tuple[str, ...]:
    """Decode all images of both halves, and return what was seen.

    Raises:
        DataError: With all images that cannot be decoded, or if a half does not fit `spec`.
    """
    data = load_dataset(spec, cache, progress)
    try:
        of_test = notes_on_test(spec, cache, progress)
    except DataError as error:
        of_test = (f"`evaluate` will refuse the test images: {error}",)
    return (f"all {len(data.images):,} training images were decoded", *data.notes, *of_test)


def _in_words(half: Half) -> str:
    images = half.labels.size
    return f"{images:,} image{'s' * (images != 1)} in {half.files:,} file{'s' * (half.files != 1)}"


def _passed(*halves: Half) -> dict[str, str]:
    """Return what was passed over in any of the halves, each path once."""
    paths: dict[str, set[str]] = {}
    for half in halves:
        for reason, passed in half.passed.items():
            paths.setdefault(reason, set()).update(passed)
    return {reason: _examples(sorted(passed)) for reason, passed in paths.items()}


def _examples(paths: Sequence[str]) -> str:
    more = ", ..." if len(paths) > _EXAMPLES else ""
    return f"{len(paths):,}: {', '.join(paths[:_EXAMPLES])}{more}"


def _on_test(train: Half, test: Half) -> tuple[str, ...]:
    """Return what would make an evaluation refuse the test half, or its error mean less."""
    if not train.classes:
        return ()
    counts = np.bincount(test.labels[test.labels >= 0], minlength=len(train.classes))
    foreign = int((test.labels < 0).sum() + counts[len(train.classes) :].sum())
    lacking = [name for name, count in zip(train.classes, counts, strict=False) if not count]
    notes = []
    if foreign:
        notes.append(f"`evaluate` will refuse the test images: {foreign:,} have no label, or one that training lacks")
    if lacking:
        notes.append(f"the test images lack {_named(lacking)}: the test error says nothing about them")
    return tuple(notes)


def _named(classes: Sequence[str]) -> str:
    more = ", ..." if len(classes) > _EXAMPLES else ""
    return f"{len(classes):,} of the classes ({', '.join(map(repr, classes[:_EXAMPLES]))}{more})"
