"""The race of a search's best on fresh seeds: a function of the trials' rows, held against its definition."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil, sqrt
from random import Random
from statistics import stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from plgan_tune.config.study import ConfirmSpec
from plgan_tune.records import TrialRow, TrialStatus, Verdict
from plgan_tune.study.race import Race, Round, Standing, plans_within, residual, rounds_of, trainings
from plgan_tune.study.ranking import rank, trained_whole
from tests.factories import make_trial

EPOCHS = 4
SHARES = st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
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
    assert (standing.ended, standing.places, standing.decisions) == (0, (), ())
    assert not standing.is_over
    assert "t0" in standing.active


FIVE = [own(number, error) for number, error in enumerate((0.3, 0.12, 0.2, 0.22, 0.4))]
"""The first point, and four finalists, whose race is of one seed for four and three more for two."""


def test_after_one_seed_the_two_of_lowest_mean_go_on() -> None:
    """By the fresh error and the search's own: t2 is (0.20 + 0.14) / 2, t1 (0.12 + 0.24) / 2, t3 (0.22 + 0.15) / 2."""
    fresh = [[0.3], [0.24], [0.14], [0.15], [0.4]]
    standing = race_of(4).standing(with_replicates(FIVE, fresh))
    assert standing.rounds == (Round(4, 1), Round(2, 4))
    assert (standing.ended, standing.is_over) == (1, False)
    assert standing.active == ("t0", "t1", "t2")
    assert [place.trial_id for place in standing.places] == ["t2", "t1", "t0", "t3", "t4"]
    third, fourth = standing.decisions
    assert [third.trial_id, fourth.trial_id] == ["t3", "t4"]
    assert third.value == pytest.approx((0.22 + 0.15) / 2)
    assert third.cutoff == pytest.approx((0.12 + 0.24) / 2)
    assert {row.reason for row in standing.decisions} == {"dropped: out after 1 seed"}
    assert {row.verdict for row in standing.decisions} == {Verdict.DROP}
    assert {row.seq for row in standing.decisions} == {replicate(4, 1).seq - 1}  # the last epoch that it rests on
    assert race_of(4).next_replicates(with_replicates(FIVE, fresh), []) == [
        (of, which) for which in (2, 3, 4) for of in ("t0", "t1", "t2")
    ]


def test_the_last_round_has_chosen_nothing_and_gives_the_mean() -> None:
    fresh = [[0.3, 0.32, 0.31, 0.33], [0.24, 0.2, 0.22, 0.21], [0.14, 0.23, 0.22, 0.24], [0.15], [0.4]]
    standing = race_of(4).standing(with_replicates(FIVE, fresh))
    assert (standing.ended, standing.is_over) == (2, True)
    winner = standing.winner
    assert winner is not None
    assert winner.trial_id == "t1"  # own 0.12: the mean of all five errors is lower than that of t2
    assert winner.judging == (0.2, 0.22, 0.21)
    assert winner.mean == pytest.approx(0.21)
    places = {place.trial_id: place for place in standing.places}
    assert places["t0"].mean == pytest.approx(0.32)
    assert places["t3"].mean == 0.15
    assert places["t3"].dropped is not None
    assert race_of(4).next_replicates(with_replicates(FIVE, fresh), []) == []


def test_the_first_point_wins_only_by_its_last_round() -> None:
    """No finalist's own luck counts against it, nor its own for it."""
    fresh = [[0.9, 0.20, 0.20, 0.20], [0.1, 0.2, 0.2, 0.21], [0.1, 0.23, 0.22, 0.24], [0.15], [0.4]]
    standing = race_of(4).standing(with_replicates(FIVE, fresh))
    assert [place.trial_id for place in standing.places] == ["t0", "t1", "t2", "t3", "t4"]


@given(tables(least=2), st.randoms())
def test_only_a_breakdown_drops_the_first_point(table: list[list[float]], draw: Random) -> None:
    rows = with_replicates([own(number, draw.random()) for number in range(len(table))], table)
    assert "t0" in race_of().standing(rows).active


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("of", [0, 1])
def test_whoever_breaks_down_on_a_fresh_seed_is_dropped(status: TrialStatus, which: int, of: int) -> None:
    """The first point, too. It is trained no further, while the others go on."""
    table = [[0.2, 0.1], [0.1, 0.2], [0.15, 0.16]]
    rows = with_replicates([own(0), own(1), own(2)], table)
    rows = [
        replace(row, status=status) if (row.replicate_of, row.replicate) == (f"t{of}", which) else row for row in rows
    ]
    assert {one for one, _ in race_of(3).next_replicates(rows, [])} == {"t0", "t1", "t2"} - {f"t{of}"}
    rows += [replicate(other, 3, 0.2) for other in range(3) if other != of]
    standing = race_of(3).standing(rows)
    assert f"t{of}" not in standing.active
    assert standing.is_over
    (decision,) = standing.decisions
    assert (decision.trial_id, decision.verdict, decision.value) == (f"t{of}", Verdict.DROP, 1.0)
    assert decision.reason == f"dropped: its replicate {which} {status}"
    dropped = [place for place in standing.places if place.trial_id == f"t{of}"]
    assert [len(place.values) for place in dropped] == [which - 1] * (which > 1)


def test_where_all_break_down_the_race_is_over_and_nobody_has_won() -> None:
    rows = [own(0), own(1), replicate(0, 1, None, DIVERGED), replicate(1, 1, None, DIVERGED)]
    standing = race_of().standing(rows)
    assert (standing.is_over, standing.active, standing.winner) == (True, (), None)
    assert len(standing.decisions) == 2


def test_who_broke_down_first_by_seed_is_said_whichever_ended_first() -> None:
    """Its second seed diverges while the first still trains: the round waits, and what it decides stays."""
    race = race_of(3, 2)
    rows = [own(0), own(1), own(2), *(replicate(of, which, 0.2) for of in (0, 2) for which in (1, 2, 3))]
    rows.append(replicate(1, 2, None, DIVERGED))
    assert race.standing([*rows, replicate(1, 1, None, RUNNING)]).ended == 0
    ended = [*rows, replicate(1, 1, None, DIVERGED)]
    (decision,) = race.standing(ended).decisions
    assert decision.reason == "dropped: its replicate 1 diverged"
    assert race.standing([*ended, replicate(1, 3, 0.1)]).decisions == (decision,)


def test_a_first_point_that_breaks_down_ahead_of_the_round_is_dropped_when_that_round_ends() -> None:
    """Its later seeds fill slots that would wait. What was decided before must not change."""
    ahead = [*FIVE, replicate(0, 1, 0.3), replicate(0, 2, None, DIVERGED)]
    race = race_of(4)
    assert race.next_replicates(ahead, []) == [("t1", 1), ("t2", 1), ("t3", 1), ("t4", 1)]
    rows = [*ahead, *(replicate(of, 1, 0.1 * of) for of in range(1, 5))]
    assert race.standing(rows).active == ("t0", "t1", "t2")
    rows += [replicate(of, which, 0.1 * of) for of in (1, 2) for which in (2, 3, 4)]
    assert race.standing(rows).active == ("t1", "t2")
    assert race.standing(rows).is_over


def test_the_dropped_come_last_those_that_lasted_longest_before_the_others() -> None:
    searched = [own(number, error) for number, error in enumerate((0.3, 0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.17))]
    fresh = [[0.3] * 8, *([error] * seeds for error, seeds in zip((0.2, 0.21, 0.22), (8, 8, 1), strict=True))]
    rows = with_replicates([*searched, own(9, 0.18)], [*fresh, *([0.1 + of / 100] for of in range(4, 10))])
    standing = race_of(8, 9).standing(rows)
    assert standing.rounds == (Round(9, 1), Round(3, 3), Round(2, 8))
    assert standing.ended == 1
    assert [len(place.values) for place in standing.places] == [1] * 10
    assert [place.dropped is None for place in standing.places] == [True] * 4 + [False] * 6


# Its rounds


@given(st.integers(1, 200), st.integers(1, 50))
def test_fewer_and_fewer_get_more_and_more_seeds(finalists: int, seeds: int) -> None:
    rounds = rounds_of(finalists, seeds)
    assert (rounds[0].finalists, rounds[-1].seeds) == (finalists, seeds)
    for before, after in pairwise(rounds):
        assert after.finalists == max(2, before.finalists // 3)
        assert after.seeds > before.seeds
    more = [after.seeds - before.seeds for before, after in pairwise((Round(0, 0), *rounds))]
    assert more[:-1] == [2**place for place in range(len(rounds) - 1)]
    assert rounds[-1].finalists <= 2 or more[-1] <= 2 * (more[-2] if len(more) > 1 else 1)


@given(st.integers(0, 120), st.integers(0, 40), st.integers(2, 20), st.booleans())
def test_the_plans_take_what_the_allowance_holds_and_no_more(
    allowance: int, finalists: int, seeds: int, with_first: bool
) -> None:
    plans = list(plans_within(allowance, finalists, seeds, with_first))
    assert bool(plans) == (finalists > 0 and allowance >= 1 + with_first)
    for rounds in plans:
        assert rounds[0].finalists <= finalists
        assert rounds[-1].seeds <= seeds
        assert trainings(rounds, with_first) <= allowance
    preferred = [(rounds[-1].seeds, rounds[0].finalists) for rounds in plans]
    assert preferred == sorted(preferred, reverse=True)
    for most, count in preferred[:1]:
        larger = [(most, count + 1), *((most + 1, one) for one in range(most, finalists + 1))]
        for more, one in larger:
            too_much = trainings(rounds_of(one, more), with_first) > allowance
            assert too_much or one > finalists or more > seeds or most == 1


@pytest.mark.parametrize(
    ("allowance", "rounds"),
    [
        (14, (Round(4, 1), Round(2, 4))),
        (29, (Round(7, 1), Round(2, 8))),
        (43, (Round(15, 1), Round(5, 3), Round(2, 8))),
        (1000, (Round(16, 1), Round(5, 3), Round(2, 8))),
        (13, (Round(3, 1), Round(2, 4))),
        (11, (Round(4, 1), Round(2, 3))),
        (6, (Round(2, 2),)),
        (4, (Round(1, 2),)),
        (2, (Round(1, 1),)),
    ],
)
def test_the_default_s_rounds(allowance: int, rounds: tuple[Round, ...]) -> None:
    assert next(plans_within(allowance, 16, 8, True)) == rounds


@given(st.integers(2, 9), st.integers(1, 5), st.randoms())
def test_the_rounds_stay_as_they_are_while_the_race_runs(seeds: int, finalists: int, draw: Random) -> None:
    race = race_of(seeds, finalists, 0.6)
    searched = [own(number, draw.random()) for number in range(12)]
    rounds = race.standing(searched).rounds
    rows, _ = play(race, searched, drawn(draw, 0.1), 3, draw)
    for count in range(len(searched), len(rows) + 1):
        assert race.standing(rows[:count]).rounds == rounds


def moved(rows: Iterable[TrialRow], by: int) -> list[TrialRow]:
    """Later in the study: with higher numbers."""
    return [replace(row, number=row.number + by, seq=row.seq + EPOCHS * by) for row in rows]


def test_an_earlier_race_s_replicates_count_against_the_share_unless_they_are_of_use() -> None:
    """Two trainings of t2, which is no finalist any more; of use are the first seed of t1 and the first point's."""
    searched = [own(0, 0.5), own(1, 0.2), own(2, 0.3)]
    old = with_replicates([], [[0.5, 0.5], [0.2], [0.3, 0.3]])
    late = moved([own(number, 0.4 - number / 30) for number in range(3, 10)], 1000)
    race = race_of(5, 3, 0.5)  # 10 trainings
    assert race.standing([*searched, *late]).rounds == (Round(3, 1), Round(2, 3))
    assert race.standing([*searched, *old, *late]).rounds == next(plans_within(8, 3, 5, True))


def test_what_was_trained_early_never_loops() -> None:
    """An allowance of one training less may hold more finalists: two with 3 seeds take 9, and four take 8."""
    late = moved([own(13, 0.23)], 1000)
    rows = [own(0, 0.5), *(own(number, 0.1 + number / 100) for number in range(1, 13)), replicate(3, 1, 0.2), *late]
    assert race_of(8, 16, 0.4).standing(rows).rounds == (Round(5, 1), Round(2, 2))


@settings(max_examples=60)
@given(st.integers(2, 8), st.integers(1, 8), SHARES, st.integers(1, 30), st.booleans(), st.randoms())
def test_what_a_race_has_decided_stays_whatever_ends_next(
    seeds: int, finalists: int, share: float, slots: int, first: bool, draw: Random
) -> None:
    """Search and race in any number of slots, and once more after an extension; some replicates break down."""
    race = race_of(seeds, finalists, share, first=first)
    error = drawn(draw, draw.choice([0.0, 0.2]))
    rows: dict[str, TrialRow] = {}
    for trials in (draw.randrange(1, 15), draw.randrange(1, 15)):
        decided: list[Any] = []
        to_come = trials
        rounds: tuple[Round, ...] | None = None
        while True:
            running = [row for row in rows.values() if row.status is RUNNING]
            ready = race.next_replicates(tuple(rows.values()), []) if to_come == 0 else []
            if len(running) < slots and (to_come or ready):
                number = len(rows)
                row = replace(own(number, None, RUNNING, epochs=0), trial_id=f"t{number}")
                if to_come == 0:
                    of, which = ready[0]
                    row = replace(row, replicate_of=of, replicate=which, params=rows[of].params)
                to_come -= to_come > 0
                rows[row.trial_id] = row
                continue
            if not running:
                break
            row = draw.choice(running)
            found = error(int((row.replicate_of or row.trial_id)[1:]), row.replicate or 0)
            status = DIVERGED if found is None else COMPLETED
            seq = 1 + max(one.seq for one in rows.values())
            rows[row.trial_id] = replace(row, status=status, value_last=found, epochs=EPOCHS, seq=seq)
            standing = race.standing(rows.values())
            if not to_come:  # between two trials of an extension, the earlier race is decided, and the next one is not
                assert list(standing.decisions[: len(decided)]) == decided
                decided = list(standing.decisions)
            if not to_come and not any(one.status is RUNNING for one in rows.values() if one.replicate_of is None):
                assert rounds in (None, standing.rounds)
                rounds = standing.rounds
        standing = race.standing(rows.values())
        assert standing.is_over  # nothing waits for what never comes
        pairs = [(row.replicate_of, row.replicate) for row in rows.values() if row.replicate_of is not None]
        assert len(set(pairs)) == len(pairs)
        searched = sum(row.epochs for row in rows.values() if row.replicate_of is None)
        exact = Fraction(str(share))
        assert EPOCHS * len(pairs) <= exact / (1 - exact) * searched


# What is shown meanwhile


def test_until_the_race_of_an_extended_search_is_over_its_last_winner_stays() -> None:
    """Also in the race of a second extension, and where the search only has a larger budget."""
    searched = [own(number, 0.3 if number == 0 else 0.1 + number / 100) for number in range(21)]
    race = race_of(8, 16, 0.4)
    rows, _ = play(race, searched, lambda of, which: 0.2 + (of + which) / 1000, 2, Random(0))
    assert race.standing(rows).is_over
    before = race.latest(rows)
    assert before == race.standing(rows)
    budget = race_of(8, 16, 0.4, budget=70 * EPOCHS)
    assert budget.latest(rows).winner == before.winner
    extended = [*rows, *moved([own(30, 0.05), own(31, 0.3), own(32, 0.31)], 1000)]
    assert race.latest(extended).winner == before.winner
    assert rank(extended, race)[0].trial_id == before.winner.trial_id  # type: ignore[union-attr]
    begun = [*extended, *moved([replicate(30, 1, 0.1)], 2000)]
    again = [*begun, *moved([own(33, None, RUNNING, epochs=1)], 3000)]
    assert race.latest(begun).winner == race.latest(again).winner == before.winner


def test_a_first_round_that_is_not_over_says_nothing() -> None:
    """Though the leader and the first point have a seed each: the others may be better."""
    begun = [*FIVE, replicate(0, 1, 0.3), replicate(1, 1, 0.1), replicate(2, 1, None, RUNNING)]
    assert race_of(4).latest(begun).winner is None
    assert rank(begun, race_of(4))[0].trial_id == "t1"


def test_a_study_of_the_earlier_race_keeps_what_it_has_come_to() -> None:
    """Three finalists had three seeds each; that race dropped by differences, and no share is left."""
    searched = [own(number, 0.3 if number == 0 else 0.1 + number / 100) for number in range(21)]
    old = with_replicates(searched, [[0.3, 0.31, 0.3], [0.2, 0.21, 0.2], [0.21, 0.22, 0.2], [0.22, 0.21, 0.2]])
    for race in (race_of(8, 16, 0.4), race_of(5, 3, 0.4)):
        rows, _ = play(race, old, lambda of, which: 0.3, 1, Random(0))
        winner = race.latest(rows).winner
        assert winner is not None
        assert (winner.trial_id, winner.values) == ("t1", (0.2, 0.21, 0.2))
        assert winner.difference is not None


def test_a_finalist_that_is_better_than_the_first_point_wins_before_one_that_is_not() -> None:
    """Though the other one's luck in the search leads by all errors."""
    searched = [own(0, 0.3), own(1, 0.01), own(2, 0.3), own(3, 0.35)]
    fresh = [[0.30] * 4, [0.31] * 4, [0.25] * 4, [0.40]]
    standing = race_of(4, 3).standing(with_replicates(searched, fresh))
    assert [place.trial_id for place in standing.places] == ["t2", "t0", "t1", "t3"]


def test_whoever_may_win_is_known_before_its_round_begins() -> None:
    """More may take part than the share holds now: their checkpoints stay."""
    searched = [own(0, 0.5), own(1, 0.2), own(2, 0.3), own(3, 0.25)]
    assert race_of(5, 2, 0.4).may_win(searched) == {"t0", "t1", "t3"}
    raced = with_replicates(searched, [[0.5], [0.2], [0.3], [0.25]])
    assert race_of(4, 3, 0.9).may_win(raced) == {"t0", "t1", "t3"}


# Who takes part


def test_the_completed_of_lowest_last_error_take_part_and_the_first_point_with_them() -> None:
    searched = [own(0, 0.9), own(1, 0.3), own(2, 0.1), own(3, 0.05, STOPPED), own(4, 0.2), own(5, 0.01, DIVERGED)]
    assert race_of(finalists=2).standing(searched).active == ("t0", "t2", "t4")
    assert race_of(finalists=2, first=False).standing(searched).active == ("t2", "t4")
    assert race_of(finalists=9).standing(searched).active == ("t0", "t2", "t4", "t1")


@pytest.mark.parametrize("status", [COMPLETED, STOPPED])
def test_a_first_point_that_was_stopped_early_races(status: TrialStatus) -> None:
    searched = [own(0, 0.9, status, epochs=1), own(1, 0.1), own(2, 0.2)]
    race = race_of(2, finalists=1)
    assert race.next_replicates(searched, []) == [("t0", 1), ("t1", 1), ("t0", 2), ("t1", 2)]
    rows = with_replicates(searched, [[0.1, 0.101], [0.3, 0.301]])
    standing = race.standing(rows)
    assert standing.winner is not None
    assert standing.winner.trial_id == "t0"
    assert standing.winner.values == (0.1, 0.101)
    assert standing.is_over
    assert rank(rows, race)[0].trial_id == "t0"


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
def test_a_first_point_that_broke_down_does_not_race(status: TrialStatus) -> None:
    standing = race_of().standing([own(0, None, status), own(1, 0.1)])
    assert (standing.first, standing.active) == (None, ("t1",))


def test_without_a_completed_trial_there_is_no_race() -> None:
    for rows in ([], [own(0, 0.5, STOPPED)], [own(1, None, DIVERGED)], [own(1, 0.5, STOPPED), own(2, None, FAILED)]):
        standing = race_of().standing(rows)
        assert (standing.is_over, standing.ended, standing.places, standing.winner) == (True, 0, (), None)
        assert race_of().next_replicates(rows, []) == []


def test_a_single_finalist_without_a_first_point_is_trained_on_all_seeds() -> None:
    """To say what it comes to: there is nobody to tell it apart from."""
    race = race_of(2, first=False)
    assert race.next_replicates([own(1)], []) == [("t1", 1), ("t1", 2)]
    rows = [own(1), replicate(1, 1, 0.3), replicate(1, 2, 0.4)]
    standing = race.standing(rows)
    assert (standing.ended, standing.is_over) == (1, True)
    assert standing.winner is not None
    assert (standing.winner.values, standing.winner.difference) == ((0.3, 0.4), None)
    assert standing.winner.interval is not None
    assert race.next_replicates(rows, []) == []


def test_a_first_point_that_is_the_only_one_to_complete_races_with_nobody() -> None:
    standing = race_of().standing([own(0, 0.3), own(1, 0.2, STOPPED)])
    assert (standing.is_over, standing.first) == (True, "t0")
    assert race_of().next_replicates([own(0, 0.3), own(1, 0.2, STOPPED)], []) == []


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
    levels = [draw.choice([0.1, 0.1, 0.12, 0.3]) for _ in range(200)]
    noise = draw.choice([0.0, 0.001, 0.05])
    known: dict[tuple[int, int], float | None] = {}

    def error(of: int, which: int) -> float | None:
        if (of, which) not in known:
            found = levels[of] + draw.uniform(-noise, noise)
            known[of, which] = None if draw.random() < breaks else found
        return known[of, which]

    return error


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
    counts = {len(place.values) for place in standing.places if place.dropped is None}
    assert counts <= {one.seeds for one in standing.rounds[: standing.ended][-1:]}  # pairs: all have the same seeds
    assert standing.is_over or not begun


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
def test_a_race_has_all_of_its_share(share: float) -> None:
    """Two alike race for as long as the share holds a round of two."""
    for trials in range(2, 7):
        searched = [own(number) for number in range(trials)]
        rows, begun = play(race_of(1000, 1, share), searched, lambda of, which: (of + which) % 2 / 10, 1, Random(0))
        exact = Fraction(str(share))
        assert len(begun) // 2 == int(exact / (1 - exact) * trials) // 2
        assert {len(place.values) for place in race_of(1000, 1, share).standing(rows).places} <= {len(begun) // 2}


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
    assert begun == [("t0", 1), ("t0", 2)]  # those of the first point are of use in any case
    rows = with_replicates([*searched, own(4, 0.1)], [[0.3, 0.3], [0.2, 0.2]])
    while ready := race.next_replicates(rows, []):
        rows.append(replicate(int(ready[0][0][1:]), ready[0][1], 0.1))
    assert sum(row.replicate_of is not None for row in rows) <= 5


def test_a_slot_that_would_wait_takes_the_first_point_s_later_seeds() -> None:
    race = race_of(4)
    first = [("t0", 1), ("t1", 1), ("t2", 1), ("t3", 1), ("t4", 1)]
    later = [("t0", 2), ("t0", 3), ("t0", 4)]
    assert race.next_replicates(FIVE, []) == first + later
    assert race.next_replicates(FIVE, first[:2]) == first[2:] + later
    assert race.next_replicates(FIVE, first + later) == []  # the rest waits for the end of the round
    under_way = [*FIVE, replicate(0, 1, None, RUNNING)]
    assert race.next_replicates(under_way, [("t0", 1)]) == first[1:] + later  # named twice, and counted once


def test_a_round_that_the_share_does_not_hold_whole_does_not_begin() -> None:
    """Of 3 trainings half are 3: a round of two, and no second one."""
    searched = [own(0), own(1), own(2)]
    race = race_of(finalists=1, share=0.5)
    assert race.next_replicates(searched, []) == [("t0", 1), ("t1", 1)]
    assert race.next_replicates(with_replicates(searched, [[0.2], [0.3]]), []) == []


@pytest.mark.parametrize("budget", [10, 40, 100, 1000, 999])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.3, 0.4, 0.7, 0.9])
def test_the_search_has_the_rest_of_the_budget(budget: int, share: float) -> None:
    largest = EPOCHS * trainings(rounds_of(4, 5), with_first=True)
    expected = ceil(budget - min(budget * Fraction(str(share)), Fraction(largest)))
    assert race_of(share=share, budget=budget).searched_epochs() == expected
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


ERRORS = np.array(
    [[0.28, 0.30, 0.34, 0.29], [0.24, 0.25, 0.31, 0.26], [0.23, 0.28, 0.30, 0.27], [0.60, 0.66, 0.57, 0.61]]
)
"""Of the first point and of three finalists, on four seeds; the last is dropped after the first of them."""


def test_intervals_and_differences_are_those_of_the_book() -> None:
    searched = [own(number, number / 10) for number in range(4)]
    standing = race_of(seeds=4).standing(with_replicates(searched, ERRORS.tolist()))
    assert standing.rounds == (Round(3, 1), Round(2, 4))
    assert standing.active == ("t0", "t1", "t2")
    places = {place.trial_id: place for place in standing.places}
    judging = ERRORS[:3, 1:].mean(axis=1)
    expected = dict(zip(("t0", "t1", "t2", "t3"), [*judging, 0.60], strict=True))
    assert means(standing) == pytest.approx(expected)
    half = float(t.ppf(0.975, 3)) * stdev(ERRORS[1]) / sqrt(3)
    assert places["t1"].interval == pytest.approx((judging[1] - half, judging[1] + half))

    variance, freedom = fitted(ERRORS[:3])
    assert freedom == 6
    half = float(t.ppf(1 - 0.05 / (2 * 2), freedom)) * sqrt(2 * variance / 3)  # two finalists in the last round
    for number in (1, 2):
        difference = places[f"t{number}"].difference
        assert difference is not None
        mean = judging[number] - judging[0]
        assert (difference.mean, difference.low, difference.high) == pytest.approx((mean, mean - half, mean + half))
    assert places["t0"].difference is places["t3"].difference is None


def test_differences_are_paired_by_seed_whichever_ended_first() -> None:
    """Seeds differ by far more than the two configurations, which differ by a hundredth on each."""
    table = [[0.11, 0.31, 0.21, 0.51], [0.10, 0.30, 0.20, 0.50]]
    rows = with_replicates([own(0), own(1)], table)
    standing = race_of(seeds=4).standing(reversed(rows))
    (place,) = [place for place in standing.places if place.trial_id == "t1"]
    assert place.difference is not None
    assert place.difference.low == pytest.approx(-0.01)
    assert place.difference.high == pytest.approx(-0.01)


def test_an_interval_lies_within_what_an_error_may_be() -> None:
    rows = with_replicates([own(0), own(1)], [[0.0, 0.5], [1.0, 0.5]])
    for place in race_of(2).standing(rows).places:
        assert place.interval is not None
        low, high = place.interval
        assert 0 <= low <= place.mean <= high <= 1


# The ranking


def test_the_winner_is_first_the_unconfirmed_follow_and_replicates_have_no_place() -> None:
    searched = [own(0, 0.4), own(1, 0.1), own(2, 0.2), own(3, 0.3), own(4, 0.05, STOPPED), own(5, 0.25)]
    rows = with_replicates(searched, [[0.5, 0.501], [0.3, 0.302], [0.2, 0.2]])
    ranked = rank(rows, race_of(2, finalists=2))
    assert [row.trial_id for row in ranked] == ["t2", "t1", "t0", "t5", "t3"]
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
