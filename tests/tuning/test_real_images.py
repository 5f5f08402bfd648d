"""The shipped spaces on real images, small enough for two cores."""

from pathlib import Path

import pandas as pd
import pytest

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import default_space, load_study
from plgan_tune.records import TrialStatus
from plgan_tune.tuning.driver import run_study

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "cifar10",
            ["data.labels=100", "data.validation=100", "data.limit=500", "model.width=0.1", "training.epochs=2"],
        ),
        (
            "mnist",
            ["data.labels=100", "data.validation=500", "data.limit=2000", "model.width=0.25", "training.epochs=3"],
        ),
    ],
)
def test_a_shipped_space_searches_real_images(
    shared_data: Path, tmp_path: Path, name: str, settings: list[str]
) -> None:
    source = ["data.source=parquet", f"data.path={shared_data / name}"]
    overrides = [f"trial.{setting}" for setting in [*source, *settings]]
    space = default_space().with_name(f"{name}.yaml")
    study = load_study(space, [*overrides, "search.trials=2", "search.early_stopping=none"]).study
    result = run_study(study, backend=InProcess(), results=tmp_path, name=name)
    trials = pd.read_parquet(tmp_path / name / "trials")
    assert list(trials["status"]) == [TrialStatus.COMPLETED] * 2
    assert trials["val_error_last"].lt(0.9).any()  # guessing errs on nine of ten
    assert trials["split_hash"].notna().all()
    assert result.best is not None
    assert (tmp_path / name / "samples.png").exists()
