"""The front of two costs: what no other is better than in both, how crowded it lies there, and the front's knee.

A vector of costs dominates another if it is nowhere higher and somewhere lower. The first front holds all that nothing
dominates, the second all that only the first front dominates, and so on (Deb et al. 2002, NSGA-II).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from operator import itemgetter

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
    if len(line) < 3:
        return None
    first, last = line[0], line[-1]

    def beyond(vector: Costs) -> float:
        return 1 - (vector[0] - first[0]) / (last[0] - first[0]) - (vector[1] - last[1]) / (first[1] - last[1])

    farthest = max(line[1:-1], key=beyond)
    return farthest if beyond(farthest) > 0 else None


@dataclass(frozen=True, slots=True)
class OnFront:
    """A trial that no other is better than in both metrics.

    Attributes:
        trial_id: the trial.
        first: its value of the first metric, in its own unit.
        second: its value of the second.
        is_knee: whether it lies at the front's knee.
    """

    trial_id: str
    first: float
    second: float
    is_knee: bool


def front_among(trials: Iterable[tuple[str, float, float]], metric: Metric, second: Metric) -> tuple[OnFront, ...]:
    """Return the front of trials, the best of the first metric first; of equals, the first given.

    Args:
        trials: of each its id and its two values.
        metric: the first metric.
        second: the second.
    """
    given = [((metric.cost(one), second.cost(other)), trial_id) for trial_id, one, other in trials]
    found = fronts([costs for costs, _ in given])
    on_front = sorted((entry for entry, front in zip(given, found, strict=True) if front == 1), key=itemgetter(0))
    bend = knee([costs for costs, _ in on_front])
    return tuple(
        OnFront(trial_id, metric.cost(costs[0]), second.cost(costs[1]), costs == bend) for costs, trial_id in on_front
    )


def front_of(rows: Iterable[TrialRow], metric: Metric, second: Metric) -> tuple[OnFront, ...]:
    """Return the front of the search's own completed trials, by their values at the last epoch, of one seed each."""
    whole = [
        (row.trial_id, row.value_last, row.second_last)
        for row in sorted(rows, key=lambda row: row.number)
        if row.replicate_of is None and row.status is TrialStatus.COMPLETED
    ]
    known = [(name, one, other) for name, one, other in whole if one is not None and other is not None]
    return front_among(known, metric, second)
