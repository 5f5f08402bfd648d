"""What a user reads about a winner: how sure its number is, and whether it is better than the first point."""

from io import StringIO
from math import sqrt
from statistics import stdev

import pytest
from rich.console import Console
from scipy.stats import t

from plgan_tune.config.metrics import METRICS, MetricName
from plgan_tune.console.confirmed import confirmed_table, difference_in_words, told_apart, verdict, winner_in_words
from plgan_tune.study.race import Confirmed, Difference, Round, Standing

WINNER = Confirmed("t0007", (0.11, 0.14, 0.15, 0.16), 1, difference=Difference(-0.02, -0.031, -0.009))
FIRST = Confirmed("t0000", (0.15, 0.16, 0.17, 0.18), 1)
BROKEN = Confirmed("t0003", (0.2,), dropped="its replicate 2 diverged")
OUT = [Confirmed(f"t001{number}", (0.2 + number / 100,), dropped="out after 1 seed") for number in range(3)]


def standing(*places: Confirmed, first: str | None = "t0000") -> Standing:
    rounds, active = (Round(5, 1), Round(2, 4)), tuple(one.trial_id for one in places if one.dropped is None)
    return Standing(rounds, 2, places, active, first, True)


def test_a_winner_that_is_told_apart() -> None:
    assert told_apart(standing(WINNER, FIRST)) == (
        "better than the first point, t0000, by 2.00 points (95 %: 0.90 to 3.10), on the same seeds"
    )


def test_a_winner_that_is_not_told_apart_is_not_called_better() -> None:
    unsure = Confirmed("t0007", (0.16, 0.17), difference=Difference(-0.01, -0.03, 0.01))
    assert told_apart(standing(unsure, FIRST)) == (
        "not told apart from the first point, t0000: better by 1.00 points (95 %: -1.00 to 3.00), on the same seeds"
    )


@pytest.mark.parametrize(
    ("places", "first", "sentence"),
    [
        ((FIRST,), "t0000", "no finalist is better than the first point, t0000"),
        ((Confirmed("t0007", (0.1,)),), "t0000", "one fresh seed cannot tell it from the first point, t0000"),
        ((WINNER,), None, None),
        ((), "t0000", None),
        ((Confirmed("t0007", (0.1, 0.2)),), "t0000", "a broken training cannot tell it from the first point, t0000"),
    ],
)
def test_what_cannot_be_said_is_not(places: tuple[Confirmed, ...], first: str | None, sentence: str | None) -> None:
    assert told_apart(standing(*places, first=first)) == sentence


def test_the_interval_of_a_mean_is_students() -> None:
    """Of the last round's mean, by the deviation of all fresh seeds."""
    half = float(t.ppf(0.975, 3)) * stdev(WINNER.values) / sqrt(3)
    low, high = 100 * (0.15 - half), 100 * (0.15 + half)
    assert winner_in_words(WINNER) == f"mean of 3 fresh seeds, 95 %: {low:.1f} to {high:.1f} %"
    assert winner_in_words(Confirmed("t0007", (0.14,))) == "on one fresh seed"


def test_an_interval_never_leaves_the_fractions() -> None:
    assert Confirmed("t0007", (0.0, 0.2)).interval == (0.0, 1.0)


def printed(*places: Confirmed) -> list[str]:
    console = Console(file=StringIO(), width=80)
    console.print(confirmed_table(standing(*places)))
    assert isinstance(console.file, StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_table_has_a_line_for_each_and_fits_80_columns() -> None:
    found = printed(WINNER, FIRST, BROKEN)
    assert max(map(len, found)) <= 80
    lines = [line.split() for line in found]
    assert [line[0] for line in lines][:4] == ["confirmed", "t0007", "t0000", "t0003"]
    assert lines[1][1:3] == ["15.00", "%"]
    assert lines[1][6] == "3"  # seeds that the mean is of
    assert "better" in lines[1]
    assert lines[2][-3:] == ["the", "first", "point"]


def test_many_that_were_soon_out_take_a_line_together() -> None:
    """They have a seed each, which tells nothing of them."""
    found = printed(WINNER, FIRST, *OUT)
    assert [line.split()[0] for line in found] == ["confirmed", "t0007", "t0000", "3"]
    assert found[-1] == "3 more were out after 1 seed"
    assert printed(WINNER, FIRST, OUT[0])[-1] == "1 more was out after 1 seed"


@pytest.mark.parametrize(
    ("metric", "values", "gain", "said", "from_the_first"),
    [
        ("val_coverage", (0.82, 0.86), 0.04, "4.00 points (95 %: 2.00 to 6.00)", "+4.00 (+2.0 to +6.0)"),
        ("val_score", (8.1, 8.3), 0.5, "0.5 (95 %: 0.48 to 0.52)", "+0.5 (+0.48 to +0.52)"),
        ("val_distance", (2.4, 2.6), 1.5, "1.5 (95 %: 1.48 to 1.52)", "-1.5 (-1.52 to -1.48)"),
    ],
)
def test_a_gain_is_one_in_the_metric_s_direction_and_a_difference_in_its_unit(
    metric: MetricName, values: tuple[float, float], gain: float, said: str, from_the_first: str
) -> None:
    better = Difference(-gain, -gain - 0.02, -gain + 0.02)
    winner = Confirmed("t0007", values, difference=better, metric=METRICS[metric])
    first = Confirmed("t0000", (0.5, 0.6), metric=METRICS[metric])
    assert told_apart(standing(winner, first)) == (f"better than the first point, t0000, by {said}, on the same seeds")
    assert difference_in_words(winner) == from_the_first
    assert verdict(standing(winner, first), winner) == "better"
    unit = "%" if METRICS[metric].is_share else ""
    assert winner_in_words(winner).endswith(unit)
