"""What a dry run says about a user's images before the hours of a search, and what a search says before its first."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import load_study
from plgan_tune.console.reading import reading_images
from plgan_tune.search import app
from plgan_tune.tuning.driver import run_study

SPACE = """
study: pictures
search: {trials: 1, confirm: null}
trial:
  data: {source: folder, path: %s, labels: 4, validation: 8}
  model: {width: 0.05}
  training: {epochs: 1, batch_size: 10}
"""


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of 12 grey images, of which only the first has any to test; and what else lies about."""
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    for name in ("train/a", "train/b", "test/a"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for k in range(12):
            pixels = draw.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{k:02}.png")
    (tmp_path / "set" / "train" / "a" / "photo.heic").write_bytes(b"")
    (tmp_path / "set" / "train" / "@eaDir").mkdir()
    file = tmp_path / "space.yaml"
    file.write_text(SPACE % (tmp_path / "set"))
    return file


def said(space: Path, *options: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["--space", str(space), *options])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def test_a_dry_run_lists_what_it_took_and_what_it_passed_over(space: Path) -> None:
    told = said(space, "--dry-run")
    for line in (
        "train files 24 images in 24 files",
        "test files 12 images in 12 files",
        ".heic is not read, 1: ",
        "hidden, or left by a system, 1: ",
        "only the first image was decoded: --check-data decodes all",
        "the test images lack 1 of the classes ('b')",
    ):
        assert line in told
    assert not (space.parent / "cache").exists()


def test_a_dry_run_says_that_there_are_no_test_images(space: Path) -> None:
    (space.parent / "set" / "test").rename(space.parent / "away")
    assert "`evaluate` will find no test images: " in said(space, "--dry-run")


def test_a_check_of_the_data_decodes_all_and_names_all_broken_images(space: Path) -> None:
    told = said(space, "--check-data")
    assert "all 24 training images were decoded" in told
    assert "only the first image" not in told
    assert "the test images lack 1" in told
    for name in ("train/a/00.png", "train/b/07.png"):
        (space.parent / "set" / name).write_bytes(b"GIF89a")
    told = said(space, "--check-data", status=2)
    assert told.count("it is a GIF") == 2
    skipped = said(space, "--check-data", "--set", "trial.data.on_broken=skip")
    assert "2 of 24 images cannot be decoded and are left out" in skipped
    (space.parent / "set" / "test" / "a" / "00.png").write_bytes(b"")
    assert "test: 1 of 12 images cannot be decoded" in said(space, "--check-data", "--set", "trial.data.on_broken=skip")


def test_a_search_says_what_was_seen_before_its_first_trial(space: Path) -> None:
    first = space.parent / "set" / "train" / "a" / "00.png"
    (space.parent / "set" / "unlabeled").mkdir()
    for k in range(12):
        copy = space.parent / "set" / "unlabeled" / f"{k}.png"
        copy.write_bytes((space.parent / "set" / "train" / "b" / f"{k:02}.png").read_bytes())
    Image.open(first).convert("RGBA").save(first)
    console = Console(record=True, width=300)
    run_study(
        load_study(space).study,
        backend=InProcess(),
        results=space.parent / "results",
        console=console,
    )
    told = console.export_text()
    assert "35 of 36 images are grey, and have three equal channels" in told
    assert told.index("4 of 8 validation images are the same as one to learn from") < told.index("t0000")


def test_a_bar_shows_rate_and_time_left_while_images_are_decoded() -> None:
    console = Console(force_terminal=True, width=120, color_system=None, legacy_windows=False)
    with console.capture() as shown, reading_images(console) as told:
        told(256, 1024)
        told(512, 1024)
    assert "reading the images" in shown.get()
    plain = Console(force_terminal=False)
    with plain.capture() as nothing, reading_images(plain) as told:
        told(256, 1024)
    assert nothing.get().strip() == ""
