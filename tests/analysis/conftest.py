"""Synthetic studies to analyse."""

from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import write_synthetic

from plgan_tune.analysis.study import Study, read_study
from plgan_tune.store.location import Location

Synthetic = Callable[..., Study]


@pytest.fixture
def synthetic(tmp_path: Path) -> Synthetic:
    """`synthetic(trials, epochs, early_stopping=, seed=)`: a study that nobody trained, written and read."""

    def made(trials: int, epochs: int, *, early_stopping: bool = True, seed: int = 0) -> Study:
        place = tmp_path / f"study-{trials}-{epochs}-{early_stopping}-{seed}"
        write_synthetic(Location.at(place), trials, epochs, early_stopping=early_stopping, seed=seed)
        return read_study(place)

    return made
