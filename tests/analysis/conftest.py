"""Synthetic studies to analyse."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import write_synthetic

from plgan_tune.analysis.study import Study, read_study
from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import default_space, load_study
from plgan_tune.store.location import Location
from plgan_tune.tuning.driver import run_study

Synthetic = Callable[..., Study]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """`shared(trials, epochs, early_stopping=, seed=)`: a study that nobody trained, written and read, for all tests.

    None may change it.
    """

    @cache
    def made(trials: int, epochs: int, *, early_stopping: bool = True, seed: int = 0) -> Study:
        place = tmp_path_factory.mktemp("shared") / f"study-{trials}-{epochs}-{early_stopping}-{seed}"
        write_synthetic(Location.at(place), trials, epochs, early_stopping=early_stopping, seed=seed)
        return read_study(place)

    return made


@pytest.fixture
def synthetic(shared: Synthetic, tmp_path: Path) -> Synthetic:
    """As `shared`, but a copy for this test."""

    def copied(*numbers: int, **options: Any) -> Study:
        study = shared(*numbers, **options)
        place = shutil.copytree(study.location.path, tmp_path / study.name, dirs_exist_ok=True)
        tables = {name: getattr(study, name).copy() for name in ("trials", "epochs", "decisions")}
        return replace(study, location=Location.at(place), **tables)

    return copied


SMALL_GAN = (
    *("trial.training={epochs: 6, batch_size: 20, discriminator_steps: {int: [1, 2]}}", "trial.data.limit=150"),
    *("trial.data.validation=50", "trial.model.width=0.125", "trial.model.steps={int: [2, 3]}"),
    *("search.trials=4", "search.sampler=random", "search.confirm={finalists: 2, seeds: 2, share: 0.9}"),
    "search.early_stopping={asha: {grace_period: 2, reduction_factor: 2}}",
    "search.first=[{model.steps: 3, loss.gradient_penalty: 1.0, training.discriminator_steps: 1}]",
)
"""What makes a search of generators take seconds."""


@pytest.fixture(scope="session")
def searched_gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole search of generators without labels. None may change it."""
    results = tmp_path_factory.mktemp("generators")
    space = load_study(default_space().with_name("digits_gan.yaml"), SMALL_GAN).study
    run_study(space, backend=InProcess(), results=results, name="gan")
    return results / "gan"


def seeds_table() -> pd.DataFrame:
    """As `beside_published` makes it: one configuration, two of its five seeds without an error, one published."""
    return pd.DataFrame(
        {
            "name": ["best", "PL-GAN"],
            "error": [0.02, 0.009],
            "low": [0.01, 0.0084],
            "high": [0.03, 0.0096],
            "seeds": [5, np.nan],
            "count": [3, np.nan],
            "broken": ["best-s2 (diverged), best-s4 (failed)", ""],
            "difference": [-0.01, np.nan],
            "difference_low": [-0.0125, np.nan],
            "difference_high": [-0.0075, np.nan],
            "verdict": ["better", ""],
        }
    )
