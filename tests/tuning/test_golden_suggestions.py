"""The default search suggests what an earlier version suggested (fixtures/README.md)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import optuna
import pytest

from plgan_tune.config.load import default_space, load_study
from plgan_tune.records import TrialStatus, Value
from plgan_tune.tuning.sampler import OptunaSampler

STORED: Final = Path(__file__).resolve().parents[1] / "fixtures" / "golden_suggestions.json"
SUGGESTIONS: Final = 24
"""Twice as many as the digits' random trials: the rest is TPE's."""


def course(number: int, epochs: int) -> tuple[Sequence[float], TrialStatus]:
    """Trial `number`'s errors: every third is stopped at epoch 10, every seventh diverges after 4 epochs."""
    last = epochs if number % 3 else 10
    errors = [0.9 - 0.5 * epoch / last - 0.3 * (7 * number % 11) / 11 for epoch in range(1, last + 1)]
    if number % 7 == 5:
        return errors[:4], TrialStatus.DIVERGED
    return errors, TrialStatus.COMPLETED if last == epochs else TrialStatus.STOPPED


def suggestions() -> list[Mapping[str, Value]]:
    study = load_study(default_space(), [f"search.trials={SUGGESTIONS}"]).study
    sampler, points = OptunaSampler(study), []
    while (assignment := sampler.ask()) is not None:
        points.append(assignment.point)
        errors, ending = course(assignment.number, assignment.trial.training.epochs)
        for epoch, error in enumerate(errors, start=1):
            sampler.report(assignment.trial_id, epoch, error)
        sampler.tell(assignment.trial_id, ending)
    return points


@pytest.mark.usefixtures("usual_kernels")
def test_the_default_search_gives_its_stored_suggestions() -> None:
    """Whole numbers exactly; others but for the last digits of a logarithm, which NumPy rounds by the machine."""
    stored = json.loads(STORED.read_text())
    if optuna.__version__ != stored["optuna"]:
        pytest.skip(f"needs Optuna {stored['optuna']}, whose suggestions are stored, not {optuna.__version__}")
    found = suggestions()
    assert found == [pytest.approx(point, rel=1e-12) for point in stored["points"]]
    kinds = [[type(value) for value in point.values()] for point in found]
    assert kinds == [[type(value) for value in point.values()] for point in stored["points"]]
