"""What 0.1.0 has left is read, resumed, trained again and analysed by the code of today."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from plgan_tune.analyze import app as analyze
from plgan_tune.classifier import load_classifier
from plgan_tune.config.load import load_trial
from plgan_tune.search import app as search
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location
from plgan_tune.train import train
from plgan_tune.training.checkpoint import decode_checkpoint


@pytest.fixture
def results(tmp_path: Path) -> Path:
    fixtures = Path(__file__).resolve().parents[1] / "fixtures"
    return Path(shutil.copytree(fixtures, tmp_path / "results"))


def test_it_is_resumed_and_its_rows_stay(results: Path) -> None:
    before = {name: pd.read_parquet(results / "first_release" / name) for name in ("epochs", "decisions")}
    words = ["--space", str(results / "first_release.yaml"), "--results", str(results), "--name", "first_release"]
    resumed = CliRunner().invoke(search, [*words, "--in-process", "--resume", "--set", "search.trials=4"])
    assert resumed.exit_code == 0, resumed.output
    for name, rows in before.items():
        after = pd.read_parquet(results / "first_release" / name)
        assert len(after) > len(rows)
        pd.testing.assert_frame_equal(after.head(len(rows))[list(rows)], rows)
    assert list(pd.read_parquet(results / "first_release" / "trials")["number"]) == [0, 1, 2, 3]


def test_its_checkpoint_is_whole_and_classifies(results: Path) -> None:
    files = TrialFiles.of(Location.at(results / "first_release"), "t0000")
    (file,) = files.newest_first()
    checkpoint = decode_checkpoint(file.read_bytes(), file.url)
    assert [row.epoch for row in checkpoint.rows] == [1, 2, 3]
    classifier = load_classifier(results / "first_release" / "checkpoints" / "t0000")
    assert len(classifier.classes) == 10


def test_its_best_configuration_trains(results: Path, tmp_path: Path) -> None:
    trial = load_trial(results / "first_release" / "best.yaml")
    rows = train(trial, out=tmp_path / "again")
    assert [row.epoch for row in rows] == [1, 2, 3]


def test_it_is_analysed(results: Path) -> None:
    looked = CliRunner().invoke(analyze, [str(results / "first_release")])
    assert looked.exit_code == 0, looked.output
    assert "t0000" in looked.output
