"""A finished search, written as a search would have left it: no Ray, no training."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.study.folder import write_study
from tests.factories import START, make_trial

ERRORS = (0.30, 0.10, 0.20, 0.05)
"""The last values of t0000, t0001, ...; the last was stopped early."""

TINY: Mapping[str, Any] = {
    "study": "tiny",
    "search": {"trials": 4, "concurrent": 1},
    "trial": {
        "data": {"source": "digits", "labels": 20, "validation": 100, "limit": 300},
        "model": {"width": 0.03},
        "loss": {"alpha": {"uniform": [0.1, 1.0]}, "beta": {"uniform": [0.1, 1.0]}, "switch_epoch": 1},
        "optim": {"decay_epoch": 2},  # with which the patent's settings differ in alpha and beta alone
        "training": {"epochs": 2, "batch_size": 50},
    },
}


@pytest.fixture(scope="session")
def tiny() -> StudySpec:
    """A study of two epochs of tenths of a second."""
    return study_from_mapping(TINY)


@pytest.fixture(scope="session")
def searched() -> list[TrialRow]:
    """Its trials."""
    return [row(number, error) for number, error in enumerate(ERRORS)]


def row(number: int, error: float) -> TrialRow:
    return make_trial(
        number,
        TrialStatus.STOPPED if number == len(ERRORS) - 1 else TrialStatus.COMPLETED,
        {"loss.alpha": 0.1 + number / 10, "loss.beta": 0.4},
        error,
        seq=2 * (number + 1),
        trial_id=f"t{number:04d}",
        epochs=2,
        best_epoch=2,
        split_hash="0",
        ended_at=START,
    )


@pytest.fixture(scope="session")
def write_search() -> Callable[[Path, StudySpec, list[TrialRow]], Path]:
    """`write_search(folder, study, rows)`: the folder as a finished search leaves it."""
    return write


def write(folder: Path, study: StudySpec, rows: list[TrialRow]) -> Path:
    location = Location.at(folder)
    write_study(location, study, START)
    with StudyLog(location, study.columns, study.types, metric=study.metric.name) as log:
        log.open_tables()
        for one in rows:
            log.trial(one)
    return folder
