"""Fronts, crowding and the knee against their definitions written out."""

from itertools import pairwise
from math import inf, isinf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.metrics import METRICS
from plgan_tune.records import TrialStatus
from plgan_tune.study.front import Costs, crowding, front_of, fronts, knee, places
from tests.factories import make_trial

ERROR, COVERAGE = METRICS["val_error"], METRICS["val_coverage"]

few = st.tuples(st.integers(0, 6), st.integers(0, 6)).map(lambda pair: (pair[0] / 4, pair[1] / 4))
any_costs = st.lists(st.one_of(few, st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))), min_size=1, max_size=40)


def dominates(one: Costs, other: Costs) -> bool:
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def peeled(costs: list[Costs]) -> list[int]:
    """Front after front: what nothing that is left dominates."""
    found: dict[int, int] = {}
    front = 0
    while len(found) < len(costs):
        front += 1
        left = [place for place in range(len(costs)) if place not in found]
        for place in left:
            if not any(dominates(costs[other], costs[place]) for other in left):
                found[place] = -front
        found = {place: abs(at) for place, at in found.items()}
    return [found[place] for place in range(len(costs))]


@given(any_costs)
def test_fronts_are_what_peeling_leaves(costs: list[Costs]) -> None:
    assert fronts(costs) == peeled(costs)


@given(any_costs, st.randoms(use_true_random=False))
def test_places_do_not_depend_on_the_order(costs: list[Costs], draw: Any) -> None:
    order = list(range(len(costs)))
    draw.shuffle(order)
    shuffled = places([costs[place] for place in order])
    assert [shuffled[order.index(place)] for place in range(len(costs))] == places(costs)
    assert knee([costs[place] for place in order]) == knee(costs) if set(fronts(costs)) == {1} else True


@given(any_costs)
def test_fronts_depend_on_the_order_of_each_cost_alone(costs: list[Costs]) -> None:
    """Any ascending function of a cost leaves them: here its rank, and the other's."""
    ranked = [sorted({cost[place] for cost in costs}) for place in (0, 1)]
    by_rank = [(float(ranked[0].index(one)), float(ranked[1].index(other))) for one, other in costs]
    assert fronts(by_rank) == fronts(costs)
    assert fronts([(other, one) for one, other in costs]) == fronts(costs)


@given(st.lists(few, min_size=1, max_size=40), st.sampled_from([0.25, 2.0, 64.0]), st.sampled_from([-8.0, 0.5, 3.0]))
def test_places_and_the_knee_do_not_depend_on_the_unit(costs: list[Costs], factor: float, more: float) -> None:
    """Powers of two and shifts by quarters, so that no digit is lost."""
    moved = [(factor * one + more, other / factor - more) for one, other in costs]
    assert places(moved) == places(costs)
    front = [cost for cost, at in zip(costs, fronts(costs), strict=True) if at == 1]
    found = knee(front)
    assert knee([(factor * one + more, other / factor - more) for one, other in front]) == (
        None if found is None else (factor * found[0] + more, found[1] / factor - more)
    )


@given(any_costs)
def test_places_are_front_by_front_and_the_lonelier_first(costs: list[Costs]) -> None:
    found = places(costs)
    assert [place.front for place in found] == fronts(costs)
    for at, place in enumerate(found):
        mates = [other for other in range(len(costs)) if found[other].front == place.front]
        distance = dict(zip(mates, crowding([costs[mate] for mate in mates]), strict=True))
        ahead = sum(
            other.front < place.front or (other.front == place.front and distance[number] > distance[at])
            for number, other in enumerate(found)
        )
        assert place.number == ahead + 1


@given(any_costs)
def test_the_ends_of_a_front_are_never_crowded(costs: list[Costs]) -> None:
    front = [cost for cost, at in zip(costs, fronts(costs), strict=True) if at == 1]
    distance = crowding(front)
    for place in (0, 1):
        least = min(cost[place] for cost in front)
        assert all(isinf(apart) for cost, apart in zip(front, distance, strict=True) if cost[place] == least)
    for before, after in pairwise(sorted(set(front))):
        assert before[0] < after[0]
        assert before[1] > after[1]


def test_crowding_as_deb_writes_it() -> None:
    assert crowding([(0.0, 4.0), (1.0, 2.0), (3.0, 1.0), (4.0, 0.0)]) == [inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, inf]
    assert crowding([(1.0, 1.0)]) == [inf]


def test_the_knee_is_the_farthest_from_the_line_through_the_ends() -> None:
    assert knee([(0.0, 10.0), (0.2, 1.0), (0.5, 0.9), (1.0, 0.0)]) == (0.2, 1.0)
    assert knee([(0.0, 10.0), (1.0, 0.0)]) is None
    assert knee([(0.0, 10.0), (0.9, 9.0), (1.0, 0.0)]) is None  # beyond the line: giving up either buys little
    assert knee([(0.0, 1.0), (0.5, 0.5), (1.0, 0.0)]) is None


def test_the_front_of_a_study_holds_its_own_whole_trials_the_best_of_the_first_in_front() -> None:
    """The higher coverage is the better one. Equal ones are on the front together."""
    whole = TrialStatus.COMPLETED
    pairs = [(0.3, 0.9), (0.1, 0.2), (0.2, 0.5), (0.2, 0.5), (0.25, 0.4)]
    rows = [make_trial(number, whole, error=one, second_last=other) for number, (one, other) in enumerate(pairs)]
    rows += [
        make_trial(5, TrialStatus.STOPPED, error=0.01, second_last=0.99),
        make_trial(6, whole, error=0.01, second_last=0.99, replicate_of="t1", replicate=1),
        make_trial(7, whole, error=0.01),
    ]
    found = front_of(reversed(rows), ERROR, COVERAGE)
    assert [one.trial_id for one in found] == ["t1", "t2", "t3", "t0"]
    assert [(one.first, one.second) for one in found] == [(0.1, 0.2), (0.2, 0.5), (0.2, 0.5), (0.3, 0.9)]
    assert not any(one.is_knee for one in found)  # it lies beyond the line
    rows.append(make_trial(8, whole, error=0.15, second_last=0.8))
    assert [(one.trial_id, one.is_knee) for one in front_of(rows, ERROR, COVERAGE)] == [
        ("t1", False),
        ("t8", True),
        ("t0", False),
    ]
    assert front_of(rows[5:8], ERROR, COVERAGE) == ()


@pytest.mark.parametrize("count", [1, 2])
def test_few_have_no_knee(count: int) -> None:
    assert knee([(0.0, 1.0)] * count) is None
