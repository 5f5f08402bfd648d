"""How often a race errs, on simulated errors: it drops equal configurations, and intervals miss, as rarely as it says.

Errors are normal: a true mean for each configuration, a part that all trainings of a seed share, and a residual.
"""

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from plgan_tune.config.study import ConfirmSpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.race import CONFIDENCE, FALSE_DROPS, Race, Standing
from tests.factories import make_trial

Errors = npt.NDArray[np.float64]

RACES = 600
FIRST = {"loss.alpha": 0.0}
"""The point of trial 0."""

RESIDUAL, SHARED = 0.01, 0.02


def slack(rate: float) -> float:
    """Three binomial standard errors of a rate over all races. The draws are seeded, so a test never varies."""
    return 3 * sqrt(rate * (1 - rate) / RACES)


def drawn(truths: Errors, seeds: int, draw: np.random.Generator) -> Errors:
    """Draw errors: a row a configuration, a column a seed."""
    residuals = draw.normal(0, RESIDUAL, (len(truths), seeds))
    return np.clip(truths[:, None] + draw.normal(0, SHARED, seeds) + residuals, 0, 1)


def rows_of(errors: Errors) -> list[TrialRow]:
    """Return a search's trials, all of the same error, and their replicates."""
    rows = [trial(number, number, 0.2) for number in range(len(errors))]
    for which in range(errors.shape[1]):
        for of, error in enumerate(errors[:, which].tolist()):
            rows.append(trial(len(rows), of, error, replicate_of=f"t{of}", replicate=which + 1))
    return rows


def trial(number: int, at: int, error: float, **changes: Any) -> TrialRow:
    return make_trial(number, TrialStatus.COMPLETED, {"loss.alpha": at / 100}, error, epochs=10, **changes)


def raced(errors: Errors, *, first: bool) -> Standing:
    confirm = ConfirmSpec(seeds=errors.shape[1], finalists=len(errors), share=0.99)
    return Race(confirm, 10, FIRST if first else None).standing(rows_of(errors))


def false_drops(configurations: int, seeds: int) -> float:
    """Return the share of races between equal configurations that drop any."""
    draw = np.random.default_rng([configurations, seeds])
    equal = np.full(configurations, 0.3)
    return float(np.mean([bool(raced(drawn(equal, seeds, draw), first=False).decisions) for _ in range(RACES)]))


@pytest.mark.parametrize("configurations", [3, 6])
def test_a_race_with_a_single_look_drops_equal_configurations_as_often_as_it_says(configurations: int) -> None:
    assert false_drops(configurations, 2) == pytest.approx(FALSE_DROPS, abs=slack(FALSE_DROPS))


@pytest.mark.parametrize("configurations", [2, 5])
def test_a_race_of_many_looks_drops_equal_configurations_no_more_often(configurations: int) -> None:
    rate = false_drops(configurations, 5)
    assert FALSE_DROPS / 4 < rate <= FALSE_DROPS + slack(FALSE_DROPS)


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
def test_the_intervals_of_all_differences_from_the_first_point_hold_together(spread: float) -> None:
    """Of equal configurations, of some that differ as much as the noise, and of some that are soon told apart."""
    draw = np.random.default_rng([int(1000 * spread), 7])
    held: list[bool] = []
    for _ in range(RACES):
        truths = np.r_[0.3, draw.normal(0.3 - spread, spread, 4)]
        standing = raced(drawn(truths, 4, draw), first=True)
        truth = {f"t{number}": float(mean - truths[0]) for number, mean in enumerate(truths)}
        found = [(place.difference, truth[place.trial_id]) for place in standing.places]
        held.append(all(one is None or one.low <= true <= one.high for one, true in found))
    assert np.mean(held) >= CONFIDENCE - slack(CONFIDENCE)


def test_a_point_that_equals_the_first_is_seldom_said_to_be_better() -> None:
    draw = np.random.default_rng(3)
    equal = np.full(4, 0.3)
    standings = [raced(drawn(equal, 4, draw), first=True) for _ in range(RACES)]
    said = [place.difference for one in standings for place in one.places[:1]]
    assert np.mean([one is not None and one.is_better for one in said]) <= (1 - CONFIDENCE) + slack(CONFIDENCE)
