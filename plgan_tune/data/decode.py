"""Decode images to pixels, with one mode and one square size for the whole data set."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image

from plgan_tune.data.errors import DataError
from plgan_tune.data.half import Encoded, Half, Pixels, Rows

# Listed, so that Pillow's other decoders, some of which start external programs, never see untrusted bytes.
_FORMATS: Final = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
_GREY: Final = ("1", "L", "LA", "La")
_WITH_PALETTE: Final = ("P", "PA")
_SHARE = 32
"""Images that a thread takes at a time: handing over a 28x28 PNG costs as much as decoding it."""


@dataclass(frozen=True)
class Form:
    """The form of all decoded images: 1 (grey) or 3 (red, green, blue) channels of `size` x `size` pixels."""

    channels: int
    size: int
    resize: bool
    """Whether to scale and crop to `size`; if not, an image of another size is refused."""


@dataclass(frozen=True, eq=False)
class Reading:
    """Images while they are decoded: everything is known except the pixels, which come in blocks.

    Attributes:
        shape: (n, channels, size, size).
        labels: (n,), -1 for none.
        classes: Their names.
        blocks: uint8 of shape (k, channels, size, size), n images in total, in order.
    """

    shape: tuple[int, int, int, int]
    labels: Rows
    classes: tuple[str, ...]
    blocks: Iterator[Pixels]


def form_of(half: Half, size: int | None) -> Form:
    """Return the form that the first image of `half` determines.

    Raises:
        DataError: If there is no image, it cannot be decoded, or it is not square and `size` is null.
    """
    first = next(half.encoded(np.zeros(1, np.int64)))[0]
    image = _open(first, half, 0)
    if size is None and image.width != image.height:
        raise DataError(
            f"{half.where(0)}: with `trial.data.size: null` images must be square, "
            f"but got {image.width}x{image.height}; a number for trial.data.size resizes and crops"
        )
    return Form(1 if image.mode == "L" else 3, size or image.width, resize=size is not None)


def read(half: Half, rows: Rows, form: Form) -> Reading:
    """Return the images of `rows` (ascending) in `form`, decoded while `blocks` is consumed.

    Consuming it raises DataError, with file and row, for an image that cannot be decoded or has another size.
    """
    shape = (rows.size, form.channels, form.size, form.size)
    return Reading(shape, half.labels[rows], half.classes, _blocks(half, rows, form))


def _blocks(half: Half, rows: Rows, form: Form) -> Iterator[Pixels]:
    def share(start: int, images: Sequence[Encoded]) -> Pixels:
        places = rows[start : start + len(images)].tolist()
        return np.stack([_pixels(image, half, row, form) for row, image in zip(places, images, strict=True)])

    start = 0
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for batch in half.encoded(rows):
            cuts = range(0, len(batch), _SHARE)
            shares = [batch[cut : cut + _SHARE] for cut in cuts]
            yield np.concatenate(list(threads.map(share, [start + cut for cut in cuts], shares)))
            start += len(batch)


def _pixels(encoded: Encoded, half: Half, row: int, form: Form) -> Pixels:
    image, mode = _open(encoded, half, row), "L" if form.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if form.resize:
        image = _resized(image, form.size)
    elif image.size != (form.size, form.size):
        raise DataError(
            f"{half.where(row)}: with `trial.data.size: null` every image must have the first one's "
            f"{form.size}x{form.size} pixels, but got {image.width}x{image.height}; "
            "a number for trial.data.size resizes and crops"
        )
    pixels: Pixels = np.asarray(image)
    return pixels[None] if form.channels == 1 else pixels.transpose(2, 0, 1)


def _open(encoded: Encoded, half: Half, row: int) -> Image.Image:
    """Return the decoded image, of mode L or RGB."""
    if encoded is None:
        raise DataError(f"{half.where(row)}: an image must be the bytes of a PNG or JPEG file, but got null")
    try:
        return _plain(_decoded(encoded))
    except Exception as error:  # Pillow's decoders raise many types of errors for a damaged file
        raise DataError(f"{half.where(row)}: the image cannot be decoded: {error}") from error


def _decoded(encoded: bytes | Pixels) -> Image.Image:
    if isinstance(encoded, bytes):
        return Image.open(BytesIO(encoded), formats=_FORMATS)
    return Image.fromarray(encoded)


def _plain(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its channels must have 8 bits each, but its mode is {image.mode}")
    if image.mode in _WITH_PALETTE:
        return image.convert("RGBA").convert("RGB")  # directly to RGB warns if the palette is transparent
    mode = "L" if image.mode in _GREY else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image.Image, size: int) -> Image.Image:
    """Scale the shorter side to `size` (bilinear, antialiased), and crop the central square."""
    shorter = min(image.size)
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    # Pillow's bilinear filter widens when it shrinks an image, so it is antialiased.
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + size, top + size))
