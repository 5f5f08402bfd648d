"""The space of a DCGAN that classifies, on generated images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import default_space, load_study
from plgan_tune.records import TrialStatus
from plgan_tune.tuning.driver import run_study


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of dark and of bright images of 20 x 20 pixels."""
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for half, count in (("train", 30), ("test", 2)):
        for name, low in (("dark", 0), ("bright", 150)):
            folder = tmp_path / "images" / half / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(low, low + 100, (20, 20), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return tmp_path / "images"


def test_it_searches_with_each_norm_and_confirms_the_best(images: Path, tmp_path: Path) -> None:
    data = {"source": "folder", "path": images, "labels": 4, "validation": 20}
    norms = [f"{{model.discriminator_norm: {norm}}}" for norm in ("batch", "weight", "none")]
    settings = [
        *(f"trial.data.{key}={value}" for key, value in data.items()),
        *("trial.model.width=0.05", "trial.training={epochs: 2, batch_size: 10}"),
        *("search.trials=3", "search.early_stopping=none", f"search.first=[{', '.join(norms)}]"),
        "search.confirm={finalists: 2, seeds: 2, share: 0.9}",
    ]
    study = load_study(default_space().with_name("mnist_dcgan_ssl.yaml"), settings).study
    result = run_study(study, backend=InProcess(), results=tmp_path, name="study")
    trials = pd.read_parquet(tmp_path / "study" / "trials").sort_values("number")
    assert set(trials["status"]) == {TrialStatus.COMPLETED}
    searched = trials[trials["replicate_of"].isna()]
    assert list(searched["params_discriminator_norm"]) == ["batch", "weight", "none"]
    assert len(trials) > len(searched)
    assert result.best is not None
    assert (tmp_path / "study" / "samples.png").exists()
