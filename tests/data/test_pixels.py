"""Pixels are those that a person sees: upright, opaque, whole; what cannot be read so is said of all images at once."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import DataSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.data.errors import DataError

Make = Callable[..., DataSpec]
Load = Callable[..., Dataset]


def noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def saved(image: Image.Image, kind: str = "PNG", **keys: Any) -> bytes:
    out = BytesIO()
    image.save(out, kind, **keys)
    return out.getvalue()


@pytest.fixture
def load(tmp_path: Path, make: Make, write_parquet: Callable[..., None]) -> Load:
    """Load these encoded images twice over, with labels 0 and 1, as a data set of its own."""

    def loaded(images: Sequence[bytes | None], **keys: Any) -> Dataset:
        folder = tmp_path / f"set {len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        write_parquet(folder / "train.parquet", images, [row % 2 for row in range(len(images))])
        return load_dataset(make("parquet", folder, **keys))

    return loaded


def first(data: Dataset) -> NDArray[np.uint8]:
    """The first image, (size, size) or (size, size, 3)."""
    pixels: NDArray[np.uint8] = data.images[0].numpy()
    return pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int, load: Load) -> None:
    image = Image.fromarray(noise(0, (8, 8, 3)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = load([saved(image, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))] * 8)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    np.testing.assert_array_equal(first(data), np.asarray(ImageOps.exif_transpose(image)))
    assert any("8 of 8 images were turned upright" in note for note in data.notes) == (orientation > 1)


def test_a_photograph_of_a_phone_stands_upright(load: Load) -> None:
    dark_left = np.zeros((16, 32, 3), np.uint8)
    dark_left[:, 16:] = 255
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by 90 degrees clockwise: left becomes top
    data = load([saved(Image.fromarray(dark_left), "JPEG", quality=95, exif=exif)] * 8, size=8, fit="stretch")
    assert first(data)[:3].max() < 30
    assert first(data)[-3:].min() > 225


@pytest.mark.parametrize(("background", "level"), [("white", 255), ("black", 0)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparent_drawings_lie_on_the_background(mode: str, background: str, level: int, load: Load) -> None:
    """As drawing programs save them: black everywhere, and the picture in the alpha channel."""
    alpha = noise(1, (8, 8)) // 128 * 255
    image = Image.merge("LA", [Image.new("L", (8, 8), 0), Image.fromarray(alpha)])
    match mode:
        case "RGBA":
            encoded = saved(image.convert("RGBA"))
        case "LA":
            encoded = saved(image)
        case "P":  # a palette with one transparent colour
            painted = Image.new("P", (8, 8))
            painted.putdata((alpha == 0).astype(np.uint8).ravel().tolist())
            painted.putpalette([0, 0, 0, 0, 0, 0])
            encoded = saved(painted, transparency=1)
        case _:  # a palette whose colours have an alpha each
            encoded = saved(image.convert("RGBA").quantize(4))
    data = load([encoded] * 8, background=background)
    expected = np.where(alpha == 255, 0, level)
    np.testing.assert_array_equal(first(data).reshape(8, 8, -1)[..., 0], expected)
    assert f"8 of 8 images are transparent, and lie on {background} (data.background)" in data.notes


def test_half_transparent_pixels_are_mixed(load: Load) -> None:
    alpha = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)
    image = Image.fromarray(np.dstack([np.full((8, 8, 3), 100, np.uint8), alpha]))
    expected = 255 + (100 - 255) * (alpha / 255)
    np.testing.assert_allclose(first(load([saved(image)] * 8))[..., 1], expected, atol=0.51)


def test_a_transparent_colour_or_level_of_a_png_counts_as_alpha(load: Load) -> None:
    grey = (noise(2, (8, 8)) // 64 * 64).astype(np.uint8)
    expected = np.where(grey == 64, 255, grey)
    np.testing.assert_array_equal(first(load([saved(Image.fromarray(grey), transparency=64)] * 8)), expected)
    colour = Image.fromarray(grey).convert("RGB")
    data = load([saved(colour, transparency=(64, 64, 64))] * 8)
    np.testing.assert_array_equal(first(data)[..., 2], expected)


def test_opaque_alpha_changes_nothing(load: Load) -> None:
    colour = noise(3, (8, 8, 3))
    image = Image.fromarray(colour)
    image.putalpha(255)
    data = load([saved(image)] * 8)
    np.testing.assert_array_equal(first(data), colour)
    assert not [note for note in data.notes if "transparent" in note]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_are_scaled_and_said(kind: str, load: Load) -> None:
    levels = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    data = load([saved(Image.fromarray(levels), kind)] * 8)
    np.testing.assert_array_equal(first(data), np.rint(levels * (255 / 65_535)))
    assert any("8 of 8 images are grey with 16 bits" in note and "65,535" in note for note in data.notes)
    twelve = load([saved(Image.fromarray(levels // 16), kind)] * 8)
    assert any("4,095, so they are dark" in note for note in twelve.notes)


def test_palettes_cmyk_and_one_bit(load: Load) -> None:
    colour = Image.fromarray(noise(4, (8, 8, 3)))
    palette = colour.quantize(7)
    np.testing.assert_array_equal(first(load([saved(palette)] * 8)), np.asarray(palette.convert("RGB")))
    cmyk = colour.convert("CMYK")
    np.testing.assert_array_equal(first(load([saved(cmyk, "TIFF")] * 8)), np.asarray(cmyk.convert("RGB")))
    bits = Image.fromarray(noise(5, (8, 8))).convert("1")
    np.testing.assert_array_equal(first(load([saved(bits)] * 8)), np.asarray(bits.convert("L")))


def test_the_first_image_decides_about_colour_and_the_counts_are_said(load: Load) -> None:
    grey, colour = saved(Image.fromarray(noise(6, (8, 8)))), saved(Image.fromarray(noise(7, (8, 8, 3))))
    data = load([grey] * 3 + [colour] * 5)
    assert data.channels == 1
    assert any(
        note.startswith("5 of 8 images have colours and were made grey, as the first one is") for note in data.notes
    )
    kept = load([grey] * 3 + [colour] * 5, channels=3)
    assert kept.channels == 3
    np.testing.assert_array_equal(kept.images[3].numpy().transpose(1, 2, 0), noise(7, (8, 8, 3)))
    assert any(note.startswith("3 of 8 images are grey") for note in kept.notes)
    assert load([colour] * 8, channels=1).channels == 1
    assert not [note for note in load([colour] * 8).notes if "grey" in note]


def test_what_is_not_square_is_cropped_padded_or_stretched(load: Load) -> None:
    bars = np.repeat(np.array([[10, 100, 100, 240]], np.uint8), 16, axis=0).repeat(8, axis=1)  # 16 high, 32 wide
    encoded = [saved(Image.fromarray(bars))] * 8
    assert set(np.unique(first(load(encoded, size=16)))) == {100}
    padded = first(load(encoded, size=32, fit="pad"))
    np.testing.assert_array_equal(padded[8:24], bars)
    assert (padded[:8] == 255).all()
    assert (padded[24:] == 255).all()
    assert first(load(encoded, size=32, fit="pad", background="black"))[0, 0] == 0
    stretched = first(load(encoded, size=16, fit="stretch"))
    assert stretched[:, 0].tolist() == [10] * 16
    assert stretched[:, -1].tolist() == [240] * 16
    upright = first(load([saved(Image.fromarray(bars.T))] * 8, size=32, fit="pad"))
    np.testing.assert_array_equal(upright[:, 8:24], bars.T)


def test_a_fit_needs_a_size(make: Make) -> None:
    with pytest.raises((RuleError, ValueError), match=r"fit needs data\.size"):
        make("parquet", "somewhere", fit="pad")


def test_several_frames_are_said(load: Load) -> None:
    pages = [Image.fromarray(noise(seed, (8, 8))) for seed in (8, 9)]
    data = load([saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])] * 8)
    np.testing.assert_array_equal(first(data), np.asarray(pages[0]))
    assert "8 of 8 images have several frames, of which the first is read" in data.notes


def test_all_broken_images_are_named_at_once_with_their_reasons(load: Load) -> None:
    good = saved(Image.fromarray(noise(10, (8, 8))))
    gif = saved(Image.fromarray(noise(10, (8, 8))), "GIF")
    broken = [gif, b"", None, good[:60], b"<html>404", b"version https://git-lfs.github.com/spec/v1\n"]
    with pytest.raises(DataError) as refused:
        load([broken[0], *[good] * 8, *broken[1:]])
    said = str(refused.value).splitlines()
    assert len(said) == len(broken)
    for line, row, reason in zip(
        said, [0, *range(9, 14)], ["a GIF", "0 bytes", "null", "", "a web page", "Git LFS"], strict=True
    ):
        assert f"train.parquet, row {row}: " in line
        assert reason in line
        assert "0x" not in line


def test_a_thousand_broken_images_are_counted(load: Load) -> None:
    good = saved(Image.fromarray(noise(10, (8, 8))))
    with pytest.raises(DataError) as refused:
        load([good] * 8 + [b"broken"] * 1000)
    said = str(refused.value).splitlines()
    assert len(said) == 101
    assert said[-1] == "and 900 more"


def test_broken_images_may_be_skipped_and_are_counted(load: Load) -> None:
    images = [saved(Image.fromarray(noise(seed, (8, 8)))) for seed in range(20)]
    whole = load(images)
    with_gaps = list(images)
    with_gaps[0] = with_gaps[7] = with_gaps[19] = b"broken"
    for _ in range(2):  # decoded, and from the cache
        data = load(with_gaps, on_broken="skip")
        kept = [row for row in range(20) if row not in (0, 7, 19)]
        np.testing.assert_array_equal(data.images.numpy(), whole.images.numpy()[kept])
        assert data.labels.tolist() == [row % 2 for row in kept]
        (note,) = data.notes
        assert note.startswith("3 of 20 images cannot be decoded and are left out (data.on_broken: skip): ")
        assert "row 7: " in note


def test_an_image_of_another_size_is_never_skipped(load: Load) -> None:
    good, large = (saved(Image.fromarray(noise(10, (side, side)))) for side in (8, 9))
    with pytest.raises(DataError, match=r"(?s)row 8: .*8x8 pixels, but got 9x9.*row 9: .*9x9"):
        load([good] * 8 + [large] * 2, on_broken="skip")


def test_a_decompression_bomb_is_a_broken_image(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    good, large = (saved(Image.fromarray(noise(10, (side, side)))) for side in (8, 20))
    with pytest.raises(DataError, match=r"row 8: .*decompression bomb"):
        load([good] * 8 + [large] * 2, size=8)
