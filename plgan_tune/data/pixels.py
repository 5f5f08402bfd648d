"""One encoded image to pixels: upright, opaque, 8 bits a channel, grey or RGB, square. Every rule is one function."""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from plgan_tune.config.trial import Background, Fit
from plgan_tune.data.half import Encoded, Pixels

# Listed, so that Pillow's other decoders, some of which start external programs, never see untrusted bytes.
FORMATS: Final = ("PNG", "JPEG", "BMP", "PPM", "TIFF", "WEBP")
_GREY: Final = ("1", "L", "LA", "La")
_SEVERAL_FRAMES: Final = ("PNG", "TIFF", "WEBP")
"""Formats whose further frames are pictures; a JPEG's are thumbnails and maps of its own picture."""
_LEVELS: Final = {"white": 255, "black": 0}
_SIXTEEN_BITS: Final = 65_535

_KINDS: Final = (
    (rb"GIF8", "a GIF"),
    (rb"....ftyp(hei|hev|mif1|msf1)", "a HEIC photograph"),
    (rb"....ftypavif", "an AVIF"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "a JPEG XL"),
    (rb"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (rb"%PDF", "a PDF"),
    (rb"8BPS", "a Photoshop file"),
    (rb"(\xef\xbb\xbf)?\s*<(\?xml|svg|!DOCTYPE svg)", "an SVG or other XML"),
    (rb"\s*<(!doctype )?html", "a web page"),
    (rb"version https://git-lfs", "a pointer of Git LFS, whose file was not fetched"),
)
"""How files of other kinds begin."""
_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


class Plain(NamedTuple):
    """A decoded image of mode L or RGB, and what was done to it."""

    image: Image.Image
    turned: bool = False
    """Whether its EXIF orientation was another than upright."""
    transparent: bool = False
    """Whether some pixel was not opaque."""
    frames: int = 1
    deepest: int | None = None
    """The largest of its 16-bit levels; None if it has 8 bits or is in colour."""


@dataclass(frozen=True)
class Form:
    """The form of all decoded images: 1 (grey) or 3 (red, green, blue) channels of `size` x `size` pixels.

    Attributes:
        channels: 1 or 3.
        size: Height and width.
        fit: How images of another size are brought to it; None refuses them.
        background: The colour behind what is transparent, and beside what is padded.
    """

    channels: int
    size: int
    fit: Fit | None = "crop"
    background: Background = "white"


class BrokenError(Exception):
    """The image cannot be decoded; the message says why."""


def decoded(encoded: Encoded, background: Background) -> Plain:
    """Return an image of mode L or RGB, upright and opaque.

    Raises:
        BrokenError: If it is missing or cannot be decoded.
    """
    if encoded is None:
        raise BrokenError("an image must be the bytes of a PNG or JPEG file, but got null")
    if isinstance(encoded, OSError):
        raise BrokenError(f"the image cannot be read: {encoded.strerror or encoded}")
    if isinstance(encoded, np.ndarray):
        return Plain(Image.fromarray(encoded))
    try:
        return _plain(Image.open(BytesIO(encoded), formats=FORMATS), background)
    except UnidentifiedImageError:
        raise BrokenError(f"the image cannot be decoded: it is {_kind_of(encoded)}") from None
    except Exception as error:  # Pillow's decoders raise many types of errors for a damaged file
        raise BrokenError(f"the image cannot be decoded: {_ADDRESS.sub('', str(error))}") from error


def in_form(image: Image.Image, form: Form) -> Pixels:
    """Return the pixels (channels, size, size) of an image of mode L or RGB.

    If `form.fit` is None, the image must have the size already.
    """
    mode = "L" if form.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)  # to grey by ITU-R 601: 0.299 red + 0.587 green + 0.114 blue
    if form.fit is not None:
        image = _FITTING[form.fit](image, form)
    pixels: Pixels = np.asarray(image)
    return pixels[None] if form.channels == 1 else pixels.transpose(2, 0, 1)


def _kind_of(encoded: bytes) -> str:
    """Return in words what bytes are that are no image of the formats."""
    if not encoded:
        return "empty, 0 bytes"
    found = (kind for start, kind in _KINDS if re.match(start, encoded[:200], re.DOTALL | re.IGNORECASE))
    formats = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    return next(found, f"{len(encoded):,} bytes that do not begin as one does") + f", and must be {formats}"


def _plain(image: Image.Image, background: Background) -> Plain:
    frames = getattr(image, "n_frames", 1) if image.format in _SEVERAL_FRAMES else 1
    kind = image.format
    turned = kind == "TIFF" and _lies(image)  # its decoder turns it, and takes the tag away
    image.load()
    if kind != "TIFF" and image.info and _lies(image):
        turned = True
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        levels = _sixteen_bits(image, kind)
        return Plain(_eight_bits(image, levels, background), turned, False, frames, int(levels.max()))
    if image.has_transparency_data:
        opaque, transparent = _on_background(image, background)
        return Plain(opaque, turned, transparent, frames)
    mode = "L" if image.mode in _GREY else "RGB"
    return Plain(image if image.mode == mode else image.convert(mode), turned, False, frames)


def _lies(image: Image.Image) -> bool:
    """Return whether its EXIF orientation is another than upright."""
    return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)


def _sixteen_bits(image: Image.Image, kind: str | None) -> NDArray[np.int64]:
    """Return the levels of a 16-bit grey image of this format.

    Pillow widens those of some formats to mode I, in which others hold 32 bits without a stated range.
    """
    if not image.mode.startswith("I;16") and not (image.mode == "I" and kind in ("PNG", "PPM")):
        raise ValueError(f"its channels must have 8 bits each, or 16 if it is grey, but its mode is {image.mode}")
    return np.asarray(image).astype(np.int64)


def _eight_bits(image: Image.Image, levels: NDArray[np.int64], background: Background) -> Image.Image:
    """Scale 16-bit levels to 8 bits, v * 255 / 65535 to the nearest, and fill the transparent level, if any."""
    scaled = (levels * 255 + _SIXTEEN_BITS // 2) // _SIXTEEN_BITS
    if "transparency" in image.info:
        scaled = np.where(levels == image.info["transparency"], _LEVELS[background], scaled)
    return Image.fromarray(scaled.astype(np.uint8))


def _on_background(image: Image.Image, background: Background) -> tuple[Image.Image, bool]:
    """Composite an image on a colour; return the result, and whether any pixel was not opaque."""
    level = image.info.get("transparency")
    if isinstance(level, tuple) and max(level) > 255:
        raise ValueError("its transparent colour has 16 bits, but 8 of each channel are read")
    grey = image.mode in _GREY
    whole = image.convert("LA" if grey else "RGBA")
    alpha = whole.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return whole.convert("L" if grey else "RGB"), False
    paint = _LEVELS[background]
    behind = Image.new("L", image.size, paint) if grey else Image.new("RGB", image.size, (paint,) * 3)
    behind.paste(whole.convert(behind.mode), mask=alpha)
    return behind, True


def _cropped(image: Image.Image, form: Form) -> Image.Image:
    """Scale the shorter side to the size (bilinear, antialiased), and crop the central square."""
    size, shorter = form.size, min(image.size)
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    # Pillow's bilinear filter widens when it shrinks an image, so it is antialiased.
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    return scaled.crop((left, top, left + size, top + size))


def _padded(image: Image.Image, form: Form) -> Image.Image:
    """Scale the longer side to the size, and fill the rest on both sides with the background."""
    size, longer = form.size, max(image.size)
    width, height = (max(1, round(side * size / longer)) for side in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    paint = _LEVELS[form.background]
    square = Image.new(image.mode, (size, size), paint if image.mode == "L" else (paint,) * 3)
    square.paste(scaled, ((size - width) // 2, (size - height) // 2))
    return square


def _stretched(image: Image.Image, form: Form) -> Image.Image:
    """Scale both sides to the size, whatever their proportion."""
    return image.resize((form.size, form.size), Image.Resampling.BILINEAR)


_FITTING: Final = {"crop": _cropped, "pad": _padded, "stretch": _stretched}
