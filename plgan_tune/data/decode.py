"""Decode the images of a half to pixels of one form, on all cores, and say at the end what was seen."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import BATCH, Encoded, Half, Pixels, Rows
from plgan_tune.data.pixels import BrokenError, Form, Plain, decoded, in_form

Hashes = NDArray[np.uint64]
"""128 bits of each image's pixels, (n, 2): images with equal ones are the same."""

Progress = Callable[[int, int], None]
"""Is told how many images of how many are done."""

_SHARE = 32
"""Images that a thread takes at a time, at most: handing over a 28x28 PNG costs as much as decoding it."""
_NAMED = 100
"""Broken images that a refusal names; the others are counted."""
_EXAMPLES = 10
"""Those that a note names."""


def unseen(done: int, total: int) -> None:
    """Show no progress."""


@dataclass(eq=False)
class Seen:
    """What the images turned out to be, complete once all blocks are consumed.

    Attributes:
        skipped: Places in `Reading.rows` of images that were left out because they are broken.
        hashes: Those of each block.
        notes: Sentences for the user.
    """

    skipped: list[int] = field(default_factory=list)
    hashes: list[Hashes] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Reading:
    """Images while they are decoded: everything is known except the pixels, which come in blocks.

    Attributes:
        shape: (n, channels, size, size), of which broken images may be skipped.
        rows: (n,) rows of the half.
        labels: (n,), -1 for none.
        classes: Their names.
        blocks: uint8 of shape (k, channels, size, size), in order; n images in total, less those skipped.
        seen: What is known once all blocks are consumed.
    """

    shape: tuple[int, int, int, int]
    rows: Rows
    labels: Rows
    classes: tuple[str, ...]
    blocks: Iterator[Pixels]
    seen: Seen = field(default_factory=Seen)


def form_of(half: Half, spec: DataSpec) -> Form:
    """Return the form that `spec` asks for, and that the first image which can be decoded determines in the rest.

    Raises:
        DataError: If no image can be decoded, or this one is not square and `size` is null.
    """
    row, image = _first(half, spec)
    if spec.size is None and image.width != image.height:
        raise DataError(
            f"{half.where(row)}: with `trial.data.size: null` images must be square, but got "
            f"{image.width}x{image.height}; a number for trial.data.size resizes, and trial.data.fit says how"
        )
    channels = (1 if image.mode == "L" else 3) if spec.channels == "auto" else spec.channels
    return Form(channels, spec.size or image.width, None if spec.size is None else spec.fit, spec.background)


def check_first(half: Half, spec: DataSpec) -> None:
    """Decode the first image alone.

    Raises:
        DataError: If it cannot be decoded.
    """
    try:
        decoded(next(half.encoded(np.zeros(1, np.int64)))[0], spec.background)
    except BrokenError as error:
        raise DataError(f"{half.where(0)}: {error}") from error


def read(half: Half, rows: Rows, form: Form, spec: DataSpec, progress: Progress = unseen) -> Reading:
    """Return the images of `rows` (ascending) in `form`, decoded while `blocks` is consumed.

    Consuming it raises DataError after the last image: with file, row and reason of every image that cannot be decoded,
    if `spec.on_broken` is refuse, and of every one that has another size, if `form` has no fit.
    """
    seen = Seen()
    shape = (rows.size, form.channels, form.size, form.size)
    return Reading(shape, rows, half.labels[rows], half.classes, _blocks(half, rows, form, spec, seen, progress), seen)


def pixels_of(half: Half, form: Form) -> Pixels:
    """Return the pixels of all images of a half, (n, channels, size, size).

    Raises:
        DataError: With file and reason of every image that cannot be decoded.
    """
    rows = np.arange(half.labels.size)
    blocks = list(_decoding(half, rows, form))
    _refuse([half.where(place) + f": {one.problem}" for place, one in enumerate(_flat(blocks)) if one.problem])
    found = [one.pixels for one in _flat(blocks) if one.pixels is not None]
    return np.stack(found) if found else np.empty((0, form.channels, form.size, form.size), np.uint8)


class _One(NamedTuple):
    """An image that was decoded: its pixels, or what is wrong with it."""

    pixels: Pixels | None
    hash: bytes
    problem: str = ""
    """Why it is broken."""
    misfit: str = ""
    """Its size, if the form cannot take it."""
    traits: tuple[str, ...] = ()
    deepest: int = 0
    """Its largest 16-bit level."""


def _first(half: Half, spec: DataSpec) -> tuple[int, Image.Image]:
    """Return the first image that can be decoded, and its row."""
    first: DataError | None = None
    row = 0
    for batch in half.encoded(np.arange(half.labels.size)):
        for encoded in batch:
            try:
                return row, decoded(encoded, spec.background).image
            except BrokenError as error:
                first = first or DataError(f"{half.where(row)}: {error}")
            row += 1
    raise first or DataError("there must be at least 1 image, but got none")


def _blocks(half: Half, rows: Rows, form: Form, spec: DataSpec, seen: Seen, progress: Progress) -> Iterator[Pixels]:
    tally = _Tally(half, rows, seen)
    for batch in _decoding(half, rows, form):
        tally.add(batch)
        progress(tally.done, rows.size)
        kept = [one.pixels for one in batch if one.pixels is not None]
        if kept:
            yield np.stack(kept)
    seen.notes = tally.close(form, spec)


def _decoding(half: Half, rows: Rows, form: Form) -> Iterator[list[_One]]:
    """Yield the images of each batch in order. The next batch is read while the cores decode this one."""
    from joblib import cpu_count  # noqa: PLC0415 - a tenth of a second

    cores = cpu_count()  # of this process: by its affinity, the quota of its container and LOKY_MAX_CPU_COUNT
    share = max(1, min(_SHARE, -(-BATCH // cores)))
    pending: list[Future[list[_One]]] = []
    with ThreadPoolExecutor(cores) as threads:
        for batch in half.encoded(rows):
            submitted = [threads.submit(_share, batch[cut : cut + share], form) for cut in range(0, len(batch), share)]
            if pending:
                yield [one for future in pending for one in future.result()]
            pending = submitted
        if pending:
            yield [one for future in pending for one in future.result()]


def _share(images: Sequence[Encoded], form: Form) -> list[_One]:
    return [_one(image, form) for image in images]


def _one(encoded: Encoded, form: Form) -> _One:
    try:
        plain = decoded(encoded, form.background)
    except BrokenError as error:
        return _One(None, b"", problem=str(error))
    if form.fit is None and plain.image.size != (form.size, form.size):
        return _One(None, b"", misfit=f"{plain.image.width}x{plain.image.height}")
    pixels = in_form(plain.image, form)
    digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest()
    return _One(pixels, digest, traits=_traits(plain), deepest=plain.deepest or 0)


def _traits(plain: Plain) -> tuple[str, ...]:
    held = {
        "grey" if plain.image.mode == "L" else "colour": True,
        "turned": plain.turned,
        "transparent": plain.transparent,
        "several frames": plain.frames > 1,
        "16 bits": plain.deepest is not None,
    }
    return tuple(name for name, holds in held.items() if holds)


class _Tally:
    """Counts what the images turn out to be."""

    def __init__(self, half: Half, rows: Rows, seen: Seen) -> None:
        self.done = 0
        self._half, self._rows, self._seen = half, rows, seen
        self._kinds: Counter[tuple[str, ...]] = Counter()
        self._broken: list[str] = []
        self._misfits: list[tuple[int, str]] = []
        self._deepest = 0

    def add(self, batch: Sequence[_One]) -> None:
        """Count a batch."""
        self._kinds.update(one.traits for one in batch)
        self._deepest = max([self._deepest, *(one.deepest for one in batch)])
        for place, one in enumerate(batch, self.done):
            if one.pixels is None:
                self._set_aside(place, one)
        digests = b"".join(one.hash for one in batch)
        self._seen.hashes.append(np.frombuffer(digests, np.uint64).reshape(-1, 2))
        self.done += len(batch)

    def _set_aside(self, place: int, one: _One) -> None:
        row = int(self._rows[place])
        if one.misfit:
            self._misfits.append((row, one.misfit))
        else:
            self._seen.skipped.append(place)
            self._broken.append(f"{self._half.where(row)}: {one.problem}")

    def close(self, form: Form, spec: DataSpec) -> tuple[str, ...]:
        """Return sentences on what was seen.

        Raises:
            DataError: If images are broken and not to be skipped, or have another size.
        """
        rule = f"with `trial.data.size: null` every image must have the first one's {form.size}x{form.size} pixels"
        hint = "a number for trial.data.size resizes, and trial.data.fit says how"
        misfits = [f"{self._half.where(row)}: {rule}, but got {size}; {hint}" for row, size in self._misfits]
        _refuse([*misfits, *(self._broken if spec.on_broken == "refuse" else ())])
        return (*self._half.notes, *self._sentences(form, spec))

    def _sentences(self, form: Form, spec: DataSpec) -> Iterator[str]:
        count, total = Counter[str](), self.done
        for traits, images in self._kinds.items():
            count.update(dict.fromkeys(traits, images))
        if self._broken:
            yield (
                f"{_of(len(self._broken), total)} cannot be decoded and are left out (data.on_broken: skip): "
                f"{'; '.join(self._broken[:_EXAMPLES])}{', ...' * (len(self._broken) > _EXAMPLES)}"
            )
        why = "as the first one is (data.channels: auto)" if spec.channels == "auto" else "(data.channels)"
        if form.channels == 1 and count["colour"]:
            yield (
                f"{_of(count['colour'], total)} have colours and were made grey, {why}; "
                "data.channels: 3 keeps the colours"
            )
        if form.channels == 3 and count["grey"]:
            yield f"{_of(count['grey'], total)} are grey, and have three equal channels, {why}"
        if count["transparent"]:
            yield f"{_of(count['transparent'], total)} are transparent, and lie on {form.background} (data.background)"
        if count["turned"]:
            yield f"{_of(count['turned'], total)} were turned upright, as their EXIF orientation says"
        if count["16 bits"]:
            yield (
                f"{_of(count['16 bits'], total)} are grey with 16 bits, and were scaled by 255 / 65535; the highest "
                f"level of all is {self._deepest:,}{', so they are dark' if self._deepest < 1 << 14 else ''}"
            )
        if count["several frames"]:
            yield f"{_of(count['several frames'], total)} have several frames, of which the first is read"


def _of(count: int, total: int) -> str:
    return f"{count:,} of {total:,} images"


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise DataError("\n".join(problems[:_NAMED]) + _and_more(problems))


def _and_more(problems: Sequence[str]) -> str:
    return f"\nand {len(problems) - _NAMED:,} more" if len(problems) > _NAMED else ""


def _flat(batches: Sequence[Sequence[_One]]) -> Iterator[_One]:
    return (one for batch in batches for one in batch)
