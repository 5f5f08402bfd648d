"""The race of a search's best on fresh seeds: a function of the trials' rows, held against its definition."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from math import ceil, sqrt
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import studentized_range, t

from plgan_tune.config.study import ConfirmSpec
from plgan_tune.records import TrialRow, TrialStatus, Verdict
from plgan_tune.study.race import FALSE_DROPS, Race, Standing, residual, significant_difference
from plgan_tune.study.ranking import rank, trained_whole
from tests.factories import make_trial

EPOCHS = 4
FIRST = {"loss.alpha": 0.0}
"""The point of trial 0."""

COMPLETED, STOPPED, DIVERGED, FAILED, RUNNING = (
    TrialStatus.COMPLETED,
    TrialStatus.STOPPED,
    TrialStatus.DIVERGED,
    TrialStatus.FAILED,
    TrialStatus.RUNNING,
)


def own(number: int, error: float | None = 0.5, status: TrialStatus = COMPLETED, **changes: Any) -> TrialRow:
    """A trial of the search, at its own point."""
    known = {"epochs": EPOCHS, "seq": EPOCHS * (number + 1), **changes}
    return make_trial(number, status, {"loss.alpha": number / 10}, error, **known)


def replicate(of: int, which: int, error: float | None = 0.5, status: TrialStatus = COMPLETED) -> TrialRow:
    number = 100 * which + of
    return make_trial(
        number,
        status,
        {"loss.alpha": of / 10},
        error,
        epochs=EPOCHS,
        seq=EPOCHS * (number + 1),
        seed=which,
        replicate_of=f"t{of}",
        replicate=which,
    )


def race_of(seeds: int = 5, finalists: int = 4, share: float = 0.9, *, first: bool = True, **about: Any) -> Race:
    return Race(ConfirmSpec(seeds=seeds, finalists=finalists, share=share), EPOCHS, FIRST if first else None, **about)


def with_replicates(searched: Iterable[TrialRow], errors: Sequence[Sequence[float]]) -> list[TrialRow]:
    """Trials 0, 1, ... of a search, and the errors of each on the seeds 1, 2, ..."""
    found = [replicate(of, which, error) for of, row in enumerate(errors) for which, error in enumerate(row, start=1)]
    return [*searched, *found]


def means(standing: Standing) -> dict[str, float]:
    return {place.trial_id: place.mean for place in standing.places}


# What is said of the rows


def tables(least: int = 1, seeds: int = 4) -> st.SearchStrategy[list[list[float]]]:
    """Errors of up to five configurations, each on as many seeds."""
    return st.integers(1, seeds).flatmap(
        lambda count: st.lists(st.lists(st.floats(0, 1), min_size=count, max_size=count), min_size=least, max_size=5)
    )


@given(tables(), st.booleans(), st.randoms(), st.data())
def test_where_a_race_stands_is_a_function_of_the_rows_in_whatever_order(
    table: list[list[float]], first: bool, draw: Random, data: st.DataObject
) -> None:
    race = race_of(first=first)
    rows = with_replicates([own(number, number / 10) for number in range(len(table))], table)
    broken = data.draw(st.lists(st.sampled_from(rows), max_size=2))
    rows = [replace(row, status=DIVERGED) if row in broken and row.replicate_of else row for row in rows]
    shuffled = draw.sample(rows, len(rows))
    assert race.standing(shuffled) == race.standing(rows)
    assert race.standing(iter(rows)) == race_of(first=first).standing(tuple(rows))
    assert race.next_replicates(shuffled, []) == race.next_replicates(rows, [])
    assert rank(shuffled, race) == rank(rows, race)


@given(tables(least=2))
def test_nothing_is_decided_while_a_trial_of_the_search_runs(table: list[list[float]]) -> None:
    """It may become a finalist."""
    searched = [own(number, number / 10) for number in range(len(table))]
    standing = race_of().standing(with_replicates([*searched, own(9, None, RUNNING)], table))
    assert (standing.rounds, standing.places, standing.decisions) == (0, (), ())
    assert not standing.is_over
    assert set(standing.active) == {row.trial_id for row in searched}


def test_a_race_of_the_clearly_different_drops_the_worse_and_ends_early() -> None:
    """Noise of a thousandth, differences of a tenth: two seeds tell."""
    table = [[0.30, 0.301], [0.10, 0.101], [0.20, 0.202], [0.40, 0.401]]
    searched = [own(number, error) for number, error in enumerate((0.3, 0.1, 0.2, 0.4))]
    standing = race_of().standing(with_replicates(searched, table))
    assert standing.is_over
    assert standing.rounds == 2
    assert standing.active == ("t0", "t1")
    assert standing.winner is not None
    assert standing.winner.trial_id == "t1"
    assert standing.winner.difference is not None
    assert standing.winner.difference.is_better
    assert {(row.trial_id, row.verdict) for row in standing.decisions} == {
        ("t2", Verdict.DROP),
        ("t3", Verdict.DROP),
    }
    ends = [row.seq for row in with_replicates([], table)]
    assert {row.seq for row in standing.decisions} == {max(ends) - 1}  # the last epoch that the round rests on
    assert all(row.competitors >= 2 and row.cutoff is not None and row.value > row.cutoff for row in standing.decisions)
    assert race_of().next_replicates(with_replicates(searched, table), []) == []


def test_equal_ones_race_to_the_last_seed() -> None:
    table = [[0.3, 0.1, 0.2], [0.2, 0.3, 0.1]]
    standing = race_of(seeds=3).standing(with_replicates([own(0), own(1)], table))
    assert (standing.rounds, standing.is_over, standing.decisions) == (3, True, ())
    assert not race_of(seeds=4).standing(with_replicates([own(0), own(1)], table)).is_over


def test_the_first_point_is_never_dropped_by_its_error() -> None:
    table = [[0.9, 0.901, 0.9], [0.10, 0.101, 0.1], [0.11, 0.108, 0.11]]
    for seeds in (1, 2, 3):
        standing = race_of().standing(with_replicates([own(0), own(1), own(2)], [row[:seeds] for row in table]))
        assert "t0" in standing.active
        assert standing.first == "t0"
        assert not [row for row in standing.decisions if row.trial_id == "t0"]
        (place,) = [place for place in standing.places if place.trial_id == "t0"]
        assert place.errors == tuple(table[0][: standing.rounds])
        assert place.dropped is None
        assert place.difference is None


@given(tables(least=2), st.randoms())
def test_only_a_breakdown_drops_the_first_point(table: list[list[float]], draw: Random) -> None:
    rows = with_replicates([own(number, draw.random()) for number in range(len(table))], table)
    assert "t0" in race_of().standing(rows).active


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("of", [0, 1])
def test_whoever_breaks_down_on_a_fresh_seed_is_dropped(status: TrialStatus, which: int, of: int) -> None:
    """The first point, too."""
    table = [[0.2, 0.1], [0.1, 0.2], [0.15, 0.16]]
    rows = with_replicates([own(0), own(1), own(2)], table)
    rows = [
        replace(row, status=status) if (row.replicate_of, row.replicate) == (f"t{of}", which) else row for row in rows
    ]
    standing = race_of().standing(rows)
    assert f"t{of}" not in standing.active
    assert standing.rounds == 2
    (decision,) = standing.decisions
    assert (decision.trial_id, decision.verdict, decision.value) == (f"t{of}", Verdict.DROP, 1.0)
    assert decision.reason == f"dropped: its replicate {which} {status}"
    dropped = [place for place in standing.places if place.trial_id == f"t{of}"]
    assert [len(place.errors) for place in dropped] == [which - 1] * (which > 1)
    assert {(f"t{of}", number) for number in (1, 2, 3)}.isdisjoint(race_of().next_replicates(rows, []))


def test_where_all_break_down_the_race_is_over_and_nobody_has_won() -> None:
    rows = [own(0), own(1), replicate(0, 1, None, DIVERGED), replicate(1, 1, None, DIVERGED)]
    standing = race_of().standing(rows)
    assert (standing.is_over, standing.active, standing.winner) == (True, (), None)
    assert len(standing.decisions) == 2


def test_the_dropped_come_last_those_that_lasted_longest_before_the_others() -> None:
    table = [[0.2, 0.1, 0.3], [0.1, 0.3, 0.2], [0.3, 0.2, 0.1], [0.15, 0.25, 0.2]]
    rows = with_replicates([own(number) for number in range(4)], table)
    rows = [
        replace(row, status=DIVERGED) if (row.replicate_of, row.replicate) in {("t3", 2), ("t1", 3)} else row
        for row in rows
    ]
    places = race_of().standing(rows).places
    assert [(place.trial_id, len(place.errors)) for place in places] == [("t0", 3), ("t2", 3), ("t1", 2), ("t3", 1)]
    assert [place.dropped for place in places] == [
        None,
        None,
        "dropped: its replicate 3 diverged",
        "dropped: its replicate 2 diverged",
    ]


# Who takes part


def test_the_completed_of_lowest_last_error_take_part_and_the_first_point_with_them() -> None:
    searched = [own(0, 0.9), own(1, 0.3), own(2, 0.1), own(3, 0.05, STOPPED), own(4, 0.2), own(5, 0.01, DIVERGED)]
    assert race_of(finalists=2).standing(searched).active == ("t0", "t2", "t4")
    assert race_of(finalists=2, first=False).standing(searched).active == ("t2", "t4")
    assert race_of(finalists=9).standing(searched).active == ("t0", "t2", "t4", "t1")


@pytest.mark.parametrize("status", [COMPLETED, STOPPED])
def test_a_first_point_that_was_stopped_early_races(status: TrialStatus) -> None:
    searched = [own(0, 0.9, status, epochs=1), own(1, 0.1), own(2, 0.2)]
    race = race_of(finalists=1)
    assert race.next_replicates(searched, []) == [("t0", 1), ("t1", 1), ("t0", 2), ("t1", 2)]
    rows = with_replicates(searched, [[0.1, 0.101], [0.3, 0.301]])
    standing = race.standing(rows)
    assert standing.winner is not None
    assert standing.winner.trial_id == "t0"
    assert standing.winner.errors == (0.1, 0.101)
    assert standing.is_over
    assert standing.places[1].dropped is not None
    assert rank(rows, race)[0].trial_id == "t0"


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
def test_a_first_point_that_broke_down_does_not_race(status: TrialStatus) -> None:
    standing = race_of().standing([own(0, None, status), own(1, 0.1)])
    assert (standing.first, standing.active) == (None, ("t1",))


def test_without_a_completed_trial_there_is_no_race() -> None:
    for rows in ([], [own(0, 0.5, STOPPED)], [own(1, None, DIVERGED)], [own(1, 0.5, STOPPED), own(2, None, FAILED)]):
        standing = race_of().standing(rows)
        assert (standing.is_over, standing.rounds, standing.places, standing.winner) == (True, 0, (), None)
        assert race_of().next_replicates(rows, []) == []


def test_a_single_finalist_without_a_first_point_is_trained_once_more() -> None:
    """To say what it comes to on a fresh seed: there is nobody to tell it apart from."""
    race = race_of(first=False)
    assert race.next_replicates([own(1)], [])[:1] == [("t1", 1)]
    rows = [own(1), replicate(1, 1, 0.3)]
    standing = race.standing(rows)
    assert (standing.rounds, standing.is_over) == (1, True)
    assert standing.winner is not None
    assert (standing.winner.errors, standing.winner.interval, standing.winner.difference) == ((0.3,), None, None)
    assert race.next_replicates(rows, []) == []


def test_a_first_point_that_is_the_only_one_to_complete_races_with_nobody() -> None:
    standing = race_of().standing([own(0, 0.3), own(1, 0.2, STOPPED)])
    assert (standing.is_over, standing.first) == (True, "t0")
    assert race_of().next_replicates([own(0, 0.3), own(1, 0.2, STOPPED)], []) == []


def test_fewer_finalists_race_where_the_share_takes_so_many_through_no_three_rounds() -> None:
    """Of 20 trainings half are 10: with the first point 2 finalists through three rounds, of 4 trainings one."""
    searched = [own(number, number / 100) for number in range(10)]
    assert len(race_of(finalists=9, share=0.5).standing(searched).active) == 1 + 2
    assert len(race_of(finalists=9, share=0.5, first=False).standing(searched).active) == 3
    assert len(race_of(finalists=9, share=0.5).standing(searched[:4]).active) == 1 + 1
    assert len(race_of(finalists=9, share=0.5).standing(searched[:1]).active) == 1


# What is trained next


def play(
    race: Race, searched: Sequence[TrialRow], error: Callable[[int, int], float | None], slots: int, draw: Random
) -> tuple[list[TrialRow], list[tuple[str, int]]]:
    """Race to the end in so many slots, which become free in any order; the rows, and what was begun, in order.

    Where `error` is None, the replicate diverges.
    """
    rows = {row.trial_id: row for row in searched}
    running: list[tuple[str, int]] = []
    begun: list[tuple[str, int]] = []
    while True:
        while len(running) < slots:
            ready = race.next_replicates(tuple(rows.values()), running)
            if not ready:
                break
            running.append(ready[0])
            begun.append(ready[0])
            row = replicate(int(ready[0][0][1:]), ready[0][1], None, RUNNING)
            rows[row.trial_id] = row
        if not running:
            return list(rows.values()), begun
        trial_id, which = running.pop(draw.randrange(len(running)))
        found = error(int(trial_id[1:]), which)
        row = replicate(int(trial_id[1:]), which, found, DIVERGED if found is None else COMPLETED)
        rows[row.trial_id] = row


def drawn(draw: Random, breaks: float = 0.0) -> Callable[[int, int], float | None]:
    """An error function of a few configurations: some are alike and some are not, and some break down."""
    levels = [draw.choice([0.1, 0.1, 0.12, 0.3]) for _ in range(50)]
    noise = draw.choice([0.0, 0.001, 0.05])
    known: dict[tuple[int, int], float | None] = {}

    def error(of: int, which: int) -> float | None:
        if (of, which) not in known:
            found = levels[of] + draw.uniform(-noise, noise)
            known[of, which] = None if draw.random() < breaks else found
        return known[of, which]

    return error


SHARES = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(1, 5), SHARES, st.integers(1, 12), st.booleans(), st.integers(1, 6), st.randoms())
def test_a_race_keeps_to_its_seeds_its_share_and_its_order(
    seeds: int, finalists: int, share: float, trials: int, first: bool, slots: int, draw: Random
) -> None:
    race = race_of(seeds, finalists, share, first=first)
    searched = [own(number, draw.random()) for number in range(trials)]
    rows, begun = play(race, searched, drawn(draw, draw.choice([0.0, 0.2])), slots, draw)
    assert len(set(begun)) == len(begun)
    assert all(1 <= which <= seeds for _, which in begun)
    assert len({trial_id for trial_id, _ in begun}) <= finalists + first
    assert len(begun) <= race.most_trainings(len(searched))
    exact = Fraction(str(share))
    assert EPOCHS * len(begun) <= exact / (1 - exact) * sum(row.epochs for row in searched)
    standing = race.standing(rows)
    for trial_id in {trial_id for trial_id, _ in begun}:  # each has the seeds from the first on, without a gap
        which = sorted(number for of, number in begun if of == trial_id)
        assert which == list(range(1, len(which) + 1))
    if slots == 1:
        assert [which for _, which in begun] == sorted(which for _, which in begun)
    counts = {len(place.errors) for place in standing.places if place.dropped is None}
    assert counts <= {standing.rounds}  # pairs: all that take part have the same seeds
    assert standing.is_over or standing.rounds < seeds


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_a_race_has_all_of_its_share(share: float) -> None:
    """Two alike race for as long as the share holds a round of two."""
    for trials in range(2, 7):
        searched = [own(number) for number in range(trials)]
        rows, begun = play(race_of(1000, 1, share), searched, lambda of, which: (of + which) % 2 / 10, 1, Random(0))
        exact = Fraction(str(share))
        assert len(begun) // 2 == int(exact / (1 - exact) * trials) // 2
        assert {len(place.errors) for place in race_of(1000, 1, share).standing(rows).places} <= {len(begun) // 2}


@settings(max_examples=40)
@given(st.integers(2, 6), st.integers(1, 5), SHARES, st.integers(1, 12), st.integers(1, 6), st.randoms())
def test_a_race_keeps_to_its_budget(
    seeds: int, finalists: int, share: float, trials: int, slots: int, draw: Random
) -> None:
    budget = draw.randrange(EPOCHS * trials, 4 * EPOCHS * trials + 1)
    race = race_of(seeds, finalists, share, budget=budget)
    searched = [own(number, draw.random()) for number in range(trials)]
    _, begun = play(race, searched, drawn(draw), slots, draw)
    assert EPOCHS * (trials + len(begun)) <= budget
    assert EPOCHS * len(begun) <= Fraction(str(share)) * budget


@settings(max_examples=40)
@given(st.integers(1, 5), SHARES, st.integers(2, 12), st.integers(1, 3), st.integers(1, 6), st.randoms())
def test_a_race_that_begins_in_slots_that_the_search_leaves_free_keeps_to_its_share(
    finalists: int, share: float, ended: int, running: int, slots: int, draw: Random
) -> None:
    """Some of what it trains is of use no more once the search's last trials have ended better."""
    race = race_of(5, finalists, share)
    rows = {number: own(number, draw.random()) for number in range(ended)}
    rows |= {number: own(number, None, RUNNING, epochs=0) for number in range(ended, ended + running)}
    begun: dict[tuple[str, int], TrialRow] = {}

    def hand_out() -> bool:
        ready = race.next_replicates((*rows.values(), *begun.values()), [])
        if ready:
            begun[ready[0]] = replicate(int(ready[0][0][1:]), ready[0][1], draw.random())
        return bool(ready)

    for number in range(ended, ended + running):
        for _ in range(draw.randrange(slots + 1)):
            hand_out()
        rows[number] = own(number, draw.random())
    while hand_out():
        pass
    exact = Fraction(str(share))
    assert EPOCHS * len(begun) <= exact / (1 - exact) * sum(row.epochs for row in rows.values())


def test_a_finalist_that_comes_late_is_trained_only_as_far_as_the_share_goes() -> None:
    """Half of four trials' epochs took the first point and t1 through two rounds; then t4 ended, better than t1."""
    race = race_of(finalists=1, share=0.5)
    searched = [own(0, 0.5), own(1, 0.2), own(2, 0.3), own(3, 0.4)]
    begun = race.next_replicates([*searched, own(4, None, RUNNING, epochs=0)], [])
    assert begun == [("t0", 1), ("t1", 1), ("t0", 2), ("t1", 2)]
    rows = with_replicates([*searched, own(4, 0.1)], [[0.3, 0.3], [0.2, 0.2]])
    while ready := race.next_replicates(rows, []):
        rows.append(replicate(int(ready[0][0][1:]), ready[0][1], 0.1))
    assert sum(row.replicate_of is not None for row in rows) <= 5


def test_a_slot_that_would_wait_takes_the_round_after_the_next() -> None:
    searched = [own(0), own(1), own(2)]
    race = race_of(finalists=2)
    first, second = ([(f"t{of}", which) for of in range(3)] for which in (1, 2))
    assert race.next_replicates(searched, []) == first + second
    assert race.next_replicates(searched, first[:2]) == [*first[2:], *second]
    assert race.next_replicates(searched, [*first, *second[:1]]) == second[1:]
    assert race.next_replicates(searched, first + second) == []  # the third waits for the end of the first
    done = with_replicates(searched, [[0.3], [0.2], [0.1]])
    assert race.next_replicates(done, second)[:3] == [(f"t{of}", 3) for of in range(3)]
    under_way = [*done, replicate(0, 2, None, RUNNING)]
    assert race.next_replicates(under_way, [("t0", 2)])[:2] == second[1:]  # named twice, and counted once


def test_a_round_that_the_share_does_not_hold_whole_does_not_begin() -> None:
    """Of 3 trainings half are 3: a round of two, and no second one."""
    searched = [own(0), own(1), own(2)]
    race = race_of(finalists=1, share=0.5)
    assert race.next_replicates(searched, []) == [("t0", 1), ("t1", 1)]
    assert race.next_replicates(with_replicates(searched, [[0.2], [0.3]]), []) == []


@pytest.mark.parametrize("budget", [10, 40, 100, 1000, 999])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.3, 0.4, 0.7, 0.9])
def test_the_search_has_the_rest_of_the_budget(budget: int, share: float) -> None:
    assert race_of(share=share, budget=budget).searched_epochs() == ceil(budget * (1 - Fraction(str(share))))
    assert race_of(share=share).searched_epochs() is None


# Its statistics


def fitted(errors: np.ndarray) -> tuple[float, int]:
    """The residual variance of configurations + seeds by least squares, and its degrees of freedom."""
    configurations, seeds = errors.shape
    design = np.zeros((errors.size, configurations + seeds))
    for place, (row, column) in enumerate(np.ndindex(errors.shape)):
        design[place, row] = design[place, configurations + column] = 1.0
    found, *_ = np.linalg.lstsq(design, errors.ravel(), rcond=None)
    freedom = errors.size - int(np.linalg.matrix_rank(design))
    return float(((errors.ravel() - design @ found) ** 2).sum()) / freedom, freedom


@given(
    st.tuples(st.integers(2, 5), st.integers(2, 5)).flatmap(
        lambda shape: st.lists(
            st.lists(st.floats(0, 1), min_size=shape[1], max_size=shape[1]), min_size=shape[0], max_size=shape[0]
        )
    )
)
def test_the_residual_is_what_neither_configurations_nor_seeds_explain(table: list[list[float]]) -> None:
    errors = np.array(table)
    variance, freedom = residual(errors)
    expected, expected_freedom = fitted(errors)
    assert freedom == expected_freedom
    assert variance == pytest.approx(expected, abs=1e-12)
    quantile = float(studentized_range.ppf(0.98, len(table), freedom)) if len(table) == 3 == len(table[0]) else None
    if quantile is not None:
        assert significant_difference(errors, 0.02) == pytest.approx(quantile * sqrt(expected / 3), abs=1e-9)


ERRORS = np.array([[0.30, 0.34, 0.29], [0.25, 0.31, 0.26], [0.28, 0.30, 0.27], [0.60, 0.66, 0.57]])
"""Of the first point and of three finalists, on three seeds; the last is far off."""


def test_intervals_and_differences_are_those_of_the_book() -> None:
    searched = [own(number, number / 10) for number in range(4)]
    standing = race_of(seeds=5).standing(with_replicates(searched, ERRORS.tolist()))
    assert standing.active == ("t0", "t1", "t2")
    places = {place.trial_id: place for place in standing.places}
    assert means(standing) == pytest.approx(dict(zip(("t0", "t1", "t2", "t3"), ERRORS.mean(axis=1), strict=True)))
    half = float(t.ppf(0.975, 2)) * ERRORS[1].std(ddof=1) / sqrt(3)
    assert places["t1"].interval == pytest.approx((ERRORS[1].mean() - half, ERRORS[1].mean() + half))

    left = ERRORS[:3]
    variance, freedom = fitted(left)
    assert freedom == 4
    half = float(t.ppf(1 - 0.05 / (2 * 3), freedom)) * sqrt(2 * variance / 3)  # three finalists at the start
    for number in (1, 2):
        difference = places[f"t{number}"].difference
        assert difference is not None
        mean = left[number].mean() - left[0].mean()
        assert (difference.mean, difference.low, difference.high) == pytest.approx((mean, mean - half, mean + half))
    assert places["t0"].difference is places["t3"].difference is None

    two = ERRORS[:, :2]  # the last went at once
    margin = float(studentized_range.ppf(1 - FALSE_DROPS / 4, 4, 3)) * sqrt(fitted(two)[0] / 2)
    (decision,) = standing.decisions
    assert decision.trial_id == "t3"
    assert decision.value == pytest.approx(two[3].mean())
    assert decision.cutoff == pytest.approx(two.mean(axis=1).min() + margin)
    assert decision.competitors == 4
    assert decision.seq == replicate(3, 2).seq - 1


def test_differences_are_paired_by_seed_whichever_ended_first() -> None:
    """Seeds differ by far more than the two configurations, which differ by a hundredth on each."""
    table = [[0.11, 0.31, 0.21, 0.51], [0.10, 0.30, 0.20, 0.50]]
    rows = with_replicates([own(0), own(1)], table)
    standing = race_of(seeds=4).standing(reversed(rows))
    (place,) = [place for place in standing.places if place.trial_id == "t1"]
    assert place.difference is not None
    assert place.difference.low == pytest.approx(-0.01)
    assert place.difference.high == pytest.approx(-0.01)
    assert standing.rounds == 2  # they are told apart


def test_an_interval_lies_within_what_an_error_may_be() -> None:
    rows = with_replicates([own(0), own(1)], [[0.0, 0.5], [1.0, 0.5]])
    for place in race_of().standing(rows).places:
        assert place.interval is not None
        low, high = place.interval
        assert 0 <= low <= place.mean <= high <= 1


def test_equal_configurations_are_rarely_told_apart() -> None:
    """The level holds over all rounds: of 300 races of four alike, a tenth may drop one."""
    draw = np.random.default_rng(0)
    dropped = 0
    for _ in range(300):
        table = (0.3 + 0.05 * draw.standard_normal((1, 5)) + 0.02 * draw.standard_normal((4, 5))).clip(0, 1)
        rows = with_replicates([own(number) for number in range(4)], table.tolist())
        dropped += bool(race_of(first=False).standing(rows).decisions)
    assert dropped <= 0.15 * 300


# The ranking


def test_the_winner_is_first_the_unconfirmed_follow_and_replicates_have_no_place() -> None:
    searched = [own(0, 0.4), own(1, 0.1), own(2, 0.2), own(3, 0.3), own(4, 0.05, STOPPED), own(5, 0.25)]
    rows = with_replicates(searched, [[0.5, 0.501], [0.3, 0.302], [0.2, 0.2]])
    ranked = rank(rows, race_of(finalists=2))
    assert [row.trial_id for row in ranked] == ["t2", "t0", "t1", "t5", "t3"]
    assert all(row.replicate_of is None for row in ranked)
    assert [row.trial_id for row in rank(rows)] == ["t1", "t2", "t5", "t3", "t0"]
    assert [row.trial_id for row in rank(searched, race_of(finalists=2))] == ["t1", "t2", "t5", "t3", "t0"]


def test_the_whole_training_of_a_stopped_trial_is_its_first_replicate_that_completed() -> None:
    stopped, completed = own(0, 0.4, STOPPED), own(1, 0.3)
    others = [replicate(0, 3, 0.1), replicate(0, 2, 0.2), replicate(0, 1, None, DIVERGED), replicate(1, 1, 0.1)]
    rows = [stopped, completed, *others]
    assert trained_whole(completed, rows) is completed
    assert trained_whole(stopped, rows) is others[1]
    assert trained_whole(stopped, [stopped, completed, others[3]]) is None
    assert trained_whole(stopped, [stopped, replace(others[0], status=RUNNING)]) is None
