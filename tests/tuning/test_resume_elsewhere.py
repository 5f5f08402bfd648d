"""`--resume` without `--space`, and of a study whose folder or images lie elsewhere now."""

import shutil
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from plgan_tune.backends import in_process
from plgan_tune.search import app
from tests.factories import interrupting

SPACE = """
study: moving
search:
  confirm: null
  trials: 2
  concurrent: 1
  sampler: random
  early_stopping: none
trial:
  data: {source: parquet, path: images, labels: 10, validation: 20}
  model: {width: 0.05}
  loss: {alpha: {uniform: [0.1, 1.0]}}
  training: {epochs: 3, checkpoint_every: 1}
"""


def _write_images(file: Path, *, changed: bool = False, transparent: bool = False) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    if changed:
        pixels[0, 0, 0] ^= 1
    rows = []
    for number, image in enumerate(pixels):
        content = BytesIO()
        Image.fromarray(np.dstack([image, image]) if transparent else image).save(content, "PNG")
        rows.append({"image": {"bytes": content.getvalue(), "path": None}, "label": number % 2})
    file.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(file)


def _search(*words: str) -> Result:
    return CliRunner().invoke(app, ["--in-process", "--name", "mine", *words])


def _errors(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "epochs")[["trial_id", "epoch", "val_error", "loss_supervised"]]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was interrupted in its second trial, and in `whole/` what it comes to."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "space.yaml").write_text(SPACE)
    _write_images(folder / "images" / "train.parquet")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert _search("--space", "space.yaml", "--results", "whole").exit_code == 0
        patched.setattr(in_process, "TrialWorker", interrupting(signal.SIGUSR1, "t0001", epoch=2))
        assert _search("--space", "space.yaml").exit_code == 130
    return folder


@pytest.fixture
def here(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The study in another folder, whose images are not where `study.yaml` says."""
    shutil.copytree(begun / "results", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    kept = begun / "images"
    kept.rename(begun / "moved")
    yield tmp_path
    (begun / "moved").rename(kept)


def test_it_goes_on_with_the_study_s_own_file_and_images_that_have_moved(here: Path, begun: Path) -> None:
    shutil.copytree(begun / "moved", here / "elsewhere" / "images")
    result = _search("--resume", "--set", "trial.data.path=elsewhere/images")
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(_errors(here / "results" / "mine"), _errors(begun / "whole" / "mine"))
    held = yaml.safe_load((here / "results" / "mine" / "study.yaml").read_text())
    assert held["trial"]["data"]["path"] == str(here / "elsewhere" / "images")
    assert _search("--resume").exit_code == 0  # and from now on they lie there


def test_images_that_are_not_the_same_are_refused_and_nothing_is_written(here: Path) -> None:
    """One pixel of one image; number and labels are the same."""
    _write_images(here / "others" / "train.parquet", changed=True)
    before = {file: file.read_bytes() for file in (here / "results").rglob("*") if file.is_file()}
    result = _search("--resume", "--set", "trial.data.path=others")
    assert result.exit_code == 2
    assert "the images that the study was begun with" in result.output
    assert {file: file.read_bytes() for file in (here / "results").rglob("*") if file.is_file()} == before


def test_images_that_changed_where_they_lie_are_refused(here: Path, begun: Path) -> None:
    _write_images(begun / "images" / "train.parquet", changed=True)
    try:
        result = _search("--resume")
    finally:
        shutil.rmtree(begun / "images")
    assert result.exit_code == 2
    assert "the images that the study was begun with" in result.output


def test_a_study_of_an_earlier_version_moves_to_images_of_the_same_split(here: Path, begun: Path) -> None:
    """It does not tell its images. Its checkpoints do not, either, so that a trial under way could not go on there."""
    file = here / "results" / "mine" / "study.yaml"
    held = yaml.safe_load(file.read_text())
    for start in held["made_with"]:
        del start["images"]
    file.write_text(yaml.safe_dump(held))
    result = _search("--resume", "--set", f"trial.data.path={begun / 'moved'}")
    assert result.exit_code == 0
    assert "an earlier version began this study" not in result.output  # there is nothing that it read otherwise
    pd.testing.assert_frame_equal(_errors(here / "results" / "mine"), _errors(begun / "whole" / "mine"))


def test_such_a_study_says_that_it_saw_other_pixels_where_images_were_transparent(here: Path) -> None:
    file = here / "results" / "mine" / "study.yaml"
    held = yaml.safe_load(file.read_text())
    for start in held["made_with"]:
        del start["images"]
    file.write_text(yaml.safe_dump(held))
    _write_images(here / "transparent" / "train.parquet", transparent=True)
    words = ("--resume", "--set", "trial.data.path=transparent", "--set", "search.trials=3")
    said = " ".join(_search(*words).output.split())
    assert "60 of 60 images are transparent" in said
    assert "an earlier version began this study, which turned no image upright and dropped transparency" in said


def test_the_digits_begin_where_there_is_no_study_to_resume(tmp_path: Path) -> None:
    result = _search("--resume", "--dry-run", "--results", str(tmp_path))
    assert result.exit_code == 0
    assert "digits" in result.output


def test_more_trials_of_the_study_are_asked_for_without_its_file(here: Path, begun: Path) -> None:
    path = f"trial.data.path={begun / 'moved'}"
    result = _search("--resume", "--set", path, "--set", "search.trials=3")
    assert result.exit_code == 0, result.output
    assert len(pd.read_parquet(here / "results" / "mine" / "trials")) == 3
    assert "--space" not in result.output
