"""The spaces of generators without labels: of digits that a judge knows, and of pictures whose classes nobody knows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plgan_tune.analysis.study import read_study
from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.study import StudySpec
from plgan_tune.generator import load_generator
from plgan_tune.records import TrialStatus
from plgan_tune.tuning.driver import run_study

SMALL = (
    *("trial.training={epochs: 2, batch_size: 20, discriminator_steps: {int: [1, 2]}}", "trial.data.limit=150"),
    *("search.trials=3", "search.early_stopping=none", "search.sampler=random"),
    "search.confirm={finalists: 2, seeds: 2, share: 0.9}",
)


def space(name: str, *settings: str) -> StudySpec:
    return load_study(default_space().with_name(f"{name}.yaml"), [*SMALL, *settings]).study


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plain folder of pictures of 20 x 20 pixels, in folders that are no classes."""
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for place in ("2024", "2025/summer"):
        (tmp_path / "pictures" / place).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / place / f"{number}.png")
    return tmp_path / "pictures"


def test_digits_are_searched_by_their_distance(tmp_path: Path) -> None:
    """The best of the finalists has the lowest distance on fresh seeds; nothing speaks of errors."""
    first = "{model.width: 0.125, model.steps: 2, loss.gradient_penalty: 10.0, training.discriminator_steps: 1}"
    study = space("digits_gan", "trial.data.validation=50", f"search.first=[{first}]")
    run_study(study, backend=InProcess(), results=tmp_path, name="study")
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    assert set(trials["status"]) == {TrialStatus.COMPLETED}
    assert {"val_distance_last", "val_distance_best"} <= set(trials.columns)
    assert not [column for column in trials.columns if "error_" in column]
    epochs = pd.read_parquet(tmp_path / "study" / "epochs")
    assert epochs["val_error"].isna().all()
    for measure in ("val_distance", "val_coverage", "val_score", "val_transport", "critic_gap", "loss_penalty"):
        assert epochs[measure].notna().all()
    confirmed = read_study(str(tmp_path / "study")).ranked.iloc[0]
    assert confirmed["trial_id"] in set(trials["replicate_of"].dropna())
    assert load_generator(tmp_path / "study").sample(2).shape == (2, 1, 8, 8)


def test_pictures_of_no_class_are_searched_by_their_pixels(pictures: Path, tmp_path: Path) -> None:
    data = {"source": "folder", "path": pictures, "validation": 20}
    settings = [*(f"trial.data.{key}={value}" for key, value in data.items()), "trial.model.width=0.05"]
    study = space("mnist_wirgan", *settings, "search.metric=val_transport", "search.first=[]")
    run_study(study, backend=InProcess(), results=tmp_path, name="study")
    trials, epochs = (pd.read_parquet(tmp_path / "study" / table) for table in ("trials", "epochs"))
    assert set(trials["status"]) == {TrialStatus.COMPLETED}
    assert trials["val_transport_last"].notna().all()
    assert epochs["val_distance"].isna().all()
    assert not (tmp_path / "study" / "judge.pt").exists()
    assert load_generator(tmp_path / "study").sample(2).shape == (2, 3, 20, 20)
