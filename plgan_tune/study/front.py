"""The front of two costs: what no other is better than in both, how crowded it lies there, and the front's knee.

A vector of costs dominates another if it is nowhere higher and somewhere lower. The first front holds all that nothing
dominates, the second all that only the first front dominates, and so on (Deb et al. 2002, NSGA-II).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

from plgan_tune.config.metrics import Metric
from plgan_tune.records import TrialRow, TrialStatus

Costs = tuple[float, float]
"""The costs of one trial by two metrics (`Metric.cost`): the lower, the better."""


def fronts(costs: Sequence[Costs]) -> list[int]:
    """Return the front that each vector is in, from 1. Equal vectors are in the same.

    In the order of their first cost, a front's second costs fall, so that its last member tells whether any of it
    dominates the next vector: O(n log n) (Jensen 2003).
    """
    lowest: list[float] = []  # the second cost of each front's last member so far, ascending
    found: dict[Costs, int] = {}
    for vector in sorted(set(costs)):
        front = bisect_right(lowest, vector[1])
        lowest[front : front + 1] = [vector[1]]
        found[vector] = front + 1
    return [found[vector] for vector in costs]


def crowding(front: Sequence[Costs]) -> list[float]:
    """Return the crowding distance of each vector of ONE front: the larger, the lonelier; infinite at both ends.

    The sum over both costs of the distance between its two neighbours, as a share of that between the ends. Equal
    vectors have the same, so that it does not depend on their order.
    """
    line = sorted(set(front))
    first, last = line[0], line[-1]
    found = {first: inf, last: inf}
    for before, here, after in zip(line, line[1:], line[2:], strict=False):
        found[here] = (after[0] - before[0]) / (last[0] - first[0]) + (before[1] - after[1]) / (first[1] - last[1])
    return [found[vector] for vector in front]


@dataclass(frozen=True, slots=True)
class Place:
    """A vector's place among others.

    Attributes:
        front: which front it is in, from 1.
        number: one more than there are vectors in lower fronts, or of more crowding distance in its own.
    """

    front: int
    number: int


def places(costs: Sequence[Costs]) -> list[Place]:
    """Return the place of each vector: front by front, in each the larger crowding distance first."""
    by_front: dict[int, list[Costs]] = {}
    found = fronts(costs)
    for vector, front in zip(costs, found, strict=True):
        by_front.setdefault(front, []).append(vector)
    distance = {
        vector: apart for members in by_front.values() for vector, apart in zip(members, crowding(members), strict=True)
    }
    keys = [(front, -distance[vector]) for vector, front in zip(costs, found, strict=True)]
    order = sorted(keys)
    return [Place(key[0], bisect_left(order, key) + 1) for key in keys]


def knee(front: Sequence[Costs]) -> Costs | None:
    """Return the vector of a front at which giving up more of either buys least of the other.

    With both costs scaled to [0, 1] between the front's ends, it is the farthest from the straight line through the
    ends, on the side of lower costs (Das 1999); of several, the lowest in the first cost. None if there is none on
    that side, as of fewer than three different vectors.
    """
    line = sorted(set(front))
    first, last = line[0], line[-1]
    if len(line) < 3:
        return None

    def beyond(vector: Costs) -> float:
        return 1 - (vector[0] - first[0]) / (last[0] - first[0]) - (vector[1] - last[1]) / (first[1] - last[1])

    farthest = max(line[1:-1], key=beyond)
    return farthest if beyond(farthest) > 0 else None


def costs_of(row: TrialRow, metric: Metric, second: Metric) -> Costs | None:
    """Return a trial's costs at its last epoch; None if it lacks a value."""
    if row.value_last is None or row.second_last is None:
        return None
    return metric.cost(row.value_last), second.cost(row.second_last)


def front_of(rows: Iterable[TrialRow], metric: Metric, second: Metric) -> list[TrialRow]:
    """Return the search's own completed trials that no other is better than in both, the best of the first one first.

    They are compared by their values at the last epoch, of one seed each.
    """
    whole = [
        (costs, row.number, row)
        for row in rows
        if row.replicate_of is None
        and row.status is TrialStatus.COMPLETED
        and (costs := costs_of(row, metric, second)) is not None
    ]
    found = fronts([costs for costs, _, _ in whole])
    on_front = [entry for entry, front in zip(whole, found, strict=True) if front == 1]
    return [row for _, _, row in sorted(on_front, key=lambda entry: entry[:2])]
