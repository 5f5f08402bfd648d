"""The default search suggests what an earlier version suggested (fixtures/README.md)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import optuna
import pytest

from plgan_tune.spec.load import default_space, load_study
from plgan_tune.tuning.sampler import OptunaSampler

STORED: Final = Path(__file__).resolve().parents[1] / "fixtures" / "golden_suggestions.json"
SUGGESTIONS: Final = 24
"""Twice as many as the digits' random trials: the rest is TPE's."""


def course(number: int, epochs: int) -> Sequence[dict[str, Any]]:
    """What trial `number` reports: every third is stopped at epoch 10, every seventh diverges after 4 epochs."""
    last = epochs if number % 3 else 10
    errors = [0.9 - 0.5 * epoch / last - 0.3 * (7 * number % 11) / 11 for epoch in range(1, last + 1)]
    results = [{"epoch": epoch, "val_error": error, "status": "running"} for epoch, error in enumerate(errors, start=1)]
    if number % 7 == 5:
        return [*results[:4], {"status": "diverged", "error": "loss_feature is not finite", "done": True}]
    return [*results[:-1], {**results[-1], "status": "completed"}] if last == epochs else results


def suggestions() -> list[dict[str, Any]]:
    study = load_study(default_space(), [f"search.trials={SUGGESTIONS}"]).study
    sampler, points = OptunaSampler(study), []
    for number in range(SUGGESTIONS):
        suggested = sampler.suggest(f"ray_{number}")
        assert isinstance(suggested, dict)
        points.append(suggested["point"])
        *reported, last = course(number, suggested["trial"]["training"]["epochs"])
        for result in reported:
            sampler.on_trial_result(f"ray_{number}", result)
        sampler.on_trial_complete(f"ray_{number}", result=last)
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
