"""What a user reads about a winner: how sure its number is, and whether it is better than the first point."""

from io import StringIO

import pytest
from rich.console import Console

from plgan_tune.console.confirmed import confirmed_table, told_apart, winner_in_words
from plgan_tune.study.race import Confirmed, Difference, Standing

WINNER = Confirmed("t0007", (0.14, 0.15, 0.16), difference=Difference(-0.02, -0.031, -0.009))
FIRST = Confirmed("t0000", (0.16, 0.17, 0.18))
DROPPED = Confirmed("t0003", (0.2, 0.22), dropped="dropped: its replicate 3 diverged")


def standing(*places: Confirmed, rounds: int = 3, first: str | None = "t0000") -> Standing:
    return Standing(rounds, places, tuple(one.trial_id for one in places if one.dropped is None), first, True)


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
    ("places", "rounds", "first", "sentence"),
    [
        ((FIRST,), 3, "t0000", "no finalist is better than the first point, t0000"),
        ((Confirmed("t0007", (0.1,)),), 1, "t0000", "one fresh seed cannot tell it from the first point, t0000"),
        ((WINNER,), 3, None, None),
        ((), 0, "t0000", None),
        ((Confirmed("t0007", (0.1, 0.2)),), 2, "t0000", "a broken training cannot tell it from the first point, t0000"),
    ],
)
def test_what_cannot_be_said_is_not(
    places: tuple[Confirmed, ...], rounds: int, first: str | None, sentence: str | None
) -> None:
    assert told_apart(standing(*places, rounds=rounds, first=first)) == sentence


def test_the_interval_of_a_mean_is_students() -> None:
    assert winner_in_words(WINNER) == "mean of 3 fresh seeds, 95 %: 12.5 to 17.5 %"  # 4.303 * 0.01 / sqrt(3)
    assert winner_in_words(Confirmed("t0007", (0.14,))) == "on one fresh seed"


def test_an_interval_never_leaves_the_fractions() -> None:
    assert Confirmed("t0007", (0.0, 0.2)).interval == (0.0, 1.0)


def test_the_table_has_a_line_for_each_and_fits_80_columns() -> None:
    console = Console(file=StringIO(), width=80)
    console.print(confirmed_table(standing(WINNER, FIRST, DROPPED)))
    assert isinstance(console.file, StringIO)
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert [line[0] for line in lines if line][:4] == ["confirmed", "t0007", "t0000", "t0003"]
    assert lines[1][1:3] == ["15.00", "%"]
    assert "better" in lines[1]
    assert lines[2][-3:] == ["the", "first", "point"]
