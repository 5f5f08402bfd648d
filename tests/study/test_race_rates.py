"""How often a race errs, on simulated errors: its intervals miss as rarely as they say, and its means are no luck.

Errors are normal: a true mean for each configuration, a part that all trainings of a seed share, and a residual.
"""

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from plgan_tune.config.study import ConfirmSpec
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.race import CONFIDENCE, Race, Standing
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


def rows_of(errors: Errors, own: Errors) -> list[TrialRow]:
    """Return a search's trials and, for each, replicates on all seeds: a race takes those that it needs."""
    rows = [trial(number, number, error) for number, error in enumerate(own.tolist())]
    for which in range(errors.shape[1]):
        for of, error in enumerate(errors[:, which].tolist()):
            rows.append(trial(len(rows), of, error, replicate_of=f"t{of}", replicate=which + 1))
    return rows


def trial(number: int, at: int, error: float, **changes: Any) -> TrialRow:
    return make_trial(number, TrialStatus.COMPLETED, {"loss.alpha": at / 100}, error, epochs=10, seq=number, **changes)


def raced(truths: Errors, seeds: int, draw: np.random.Generator) -> Standing:
    """Search, so that each trial has an error of its own, and race: the first of them is the first point."""
    own = drawn(truths, 1, draw)[:, 0]
    confirm = ConfirmSpec(seeds=seeds, finalists=len(truths) - 1, share=0.999)
    return Race(confirm, 10, FIRST).standing(rows_of(drawn(truths, seeds, draw), own))


@pytest.mark.parametrize("finalists", [4, 16])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
def test_the_intervals_of_the_last_round_hold_together(finalists: int, spread: float) -> None:
    """Of equal configurations, of some that differ as much as the noise, and of some that are soon told apart."""
    draw = np.random.default_rng([int(1000 * spread), finalists])
    held: list[bool] = []
    for _ in range(RACES):
        truths = np.r_[0.3, draw.normal(0.3 - spread, spread, finalists)]
        standing = raced(truths, 8, draw)
        assert standing.is_over
        truth = {f"t{number}": float(mean - truths[0]) for number, mean in enumerate(truths)}
        found = [(place.difference, truth[place.trial_id]) for place in standing.places]
        held.append(all(one is None or one.low <= true <= one.high for one, true in found))
    assert np.mean(held) >= CONFIDENCE - slack(CONFIDENCE)


@pytest.mark.parametrize("finalists", [4, 16])
def test_a_point_that_equals_the_first_is_seldom_said_to_be_better(finalists: int) -> None:
    """Though it is the luckiest of many."""
    draw = np.random.default_rng([3, finalists])
    standings = [raced(np.full(finalists + 1, 0.3), 8, draw) for _ in range(RACES)]
    said = [place.difference for one in standings for place in one.places[:1]]
    assert np.mean([one is not None and one.is_better for one in said]) <= (1 - CONFIDENCE) / 2 + slack(0.025)


def test_the_winner_s_mean_is_far_less_lucky_than_its_error_in_the_search() -> None:
    """Of 16 equal ones. What is left is the choice between the last two, by seeds that the mean is of."""
    draw = np.random.default_rng(4)
    winners = [one for _ in range(RACES) if (one := raced(np.full(17, 0.3), 8, draw).winner) is not None]
    noise = sqrt((RESIDUAL**2 + SHARED**2) / RACES)
    luck = 0.3 - float(np.mean([winner.mean for winner in winners]))
    assert -3 * noise < luck < RESIDUAL / 4 + 3 * noise


def test_the_interval_of_a_mean_holds() -> None:
    """Of the first point, which nothing chose."""
    draw = np.random.default_rng(5)
    held = []
    for _ in range(RACES):
        (first,) = [place for place in raced(np.full(5, 0.3), 8, draw).places if place.trial_id == "t0"]
        assert first.interval is not None
        held.append(first.interval[0] <= 0.3 <= first.interval[1])
    assert np.mean(held) >= CONFIDENCE - slack(CONFIDENCE)
