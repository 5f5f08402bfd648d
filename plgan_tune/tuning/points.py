"""The points of a study's domains: compared, enumerated and drawn without a sampler."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final

import numpy as np

from plgan_tune.config.domains import Domain
from plgan_tune.config.study import Point, decode, held, point_at
from plgan_tune.records import Value

DRAWS: Final = 10_000
"""Random points to try before all are enumerated."""

MOST_LISTED: Final = 1_000_000
"""Most points of a finite space to enumerate."""

May = Callable[[Point], bool]
"""Returns whether a point may be tried: it is untried and keeps the rules."""

Key = Hashable
"""A point in a form that compares and hashes."""


def key_of(domains: Mapping[str, Domain], point: Mapping[str, Value]) -> Key:
    """Return the key of a point: 1 and 1.0 are equal, True and 1 are not."""
    values = (held(domain, decode(domain, point[path])) for path, domain in domains.items())
    return tuple((value, isinstance(value, bool)) for value in values)


def nth_point(domains: Mapping[str, Domain], place: int) -> Point:
    """Return one of finitely many points; the values of the last key change the fastest."""
    point: dict[str, Value] = {}
    for path, domain in reversed(list(domains.items())):
        count = domain.count()
        assert count is not None
        place, digit = divmod(place, count)
        point[path] = held(domain, domain.nth(digit))
    return {path: point[path] for path in domains}


def grid(domains: Mapping[str, Domain], points: int, seed: int) -> Iterator[Point]:
    """Yield all of the `points` points once, in a random order that depends on the seed alone."""
    for place in np.random.default_rng(seed).permutation(points):
        yield nth_point(domains, int(place))


class Sobol:
    """The points of a scrambled Sobol sequence (Owen 1998), which fill the domains more evenly than random ones.

    The n-th is a function of the seed and n alone. Points that break a rule are left out, and so are repetitions of an
    earlier point, which domains of few values make.

    Args:
        domains: the domains.
        seed: seed of the scrambling.
        may: returns whether a point keeps the rules.
    """

    def __init__(self, domains: Mapping[str, Domain], seed: int, may: May) -> None:
        from scipy.stats import qmc  # noqa: PLC0415 - half a second, for those who ask for it

        self._domains, self._may = domains, may
        self._sequence = qmc.Sobol(max(1, len(domains)), scramble=True, seed=np.random.default_rng(seed))
        self._points: dict[Key, Point] = {}

    def nth(self, place: int) -> Point | None:
        """Return the point at this place; None if there are not enough points."""
        for _ in range(DRAWS + place):
            if place < len(self._points):
                break
            shares = self._sequence.random(1)[0].tolist()
            point = point_at(self._domains, shares)
            if self._may(point):
                self._points.setdefault(key_of(self._domains, point), point)
        return list(self._points.values())[place] if place < len(self._points) else None


def drawn(domains: Mapping[str, Domain], draw: np.random.Generator) -> Point:
    """Return a random point."""
    return point_at(domains, (draw.random() for _ in domains))


def first_that(may: May, domains: Mapping[str, Domain], points: int | None, draw: np.random.Generator) -> Point | None:
    """Return a point that may be tried; None if there is none.

    Args:
        may: returns whether a point may be tried.
        domains: the domains.
        points: number of all points; None if it is infinite.
        draw: draws the points.
    """
    return next((point for point in _from_anywhere(domains, points, draw) if may(point)), None)


def _from_anywhere(domains: Mapping[str, Domain], points: int | None, draw: np.random.Generator) -> Iterator[Point]:
    """Yield random points, most of them untried; then all points of a finite space, starting at a random one.

    A search tries so few points that an untried one is found soon.
    """
    for _ in range(DRAWS):
        yield drawn(domains, draw)
    if points is not None:
        start = int(draw.random() * points)
        for step in range(min(points, MOST_LISTED)):
            yield nth_point(domains, (start + step) % points)
