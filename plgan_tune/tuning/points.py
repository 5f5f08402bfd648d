"""The points of a study's domains: told apart, counted out and drawn without a sampler."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Final

import numpy as np

from plgan_tune.config.domains import Domain
from plgan_tune.config.study import Point, decode, held
from plgan_tune.records import Value

DRAWS: Final = 10_000
"""Points at random, before all are gone through."""

MOST_LISTED: Final = 1_000_000
"""Of a finite space, points that are gone through."""

May = Callable[[Point], bool]
"""Whether a point may be tried: none has tried it, and it keeps the rules."""

Key = Hashable
"""A point, so that it is met again."""


def key_of(domains: Mapping[str, Domain], point: Mapping[str, Value]) -> Key:
    """The point as its domains hold it: 1 and 1.0 are one, True and 1 are not."""
    values = (held(domain, decode(domain, point[path])) for path, domain in domains.items())
    return tuple((value, isinstance(value, bool)) for value in values)


def nth_point(domains: Mapping[str, Domain], place: int) -> Point:
    """One of finitely many points, counted like the hands of a clock: the last key's values change the fastest."""
    point: dict[str, Value] = {}
    for path, domain in reversed(list(domains.items())):
        count = domain.count()
        assert count is not None
        place, digit = divmod(place, count)
        point[path] = held(domain, domain.nth(digit))
    return {path: point[path] for path in domains}


def grid(domains: Mapping[str, Domain], points: int, seed: int) -> Iterator[Point]:
    """All of the `points` points once, in an order that hangs on nothing but the seed."""
    for place in np.random.default_rng(seed).permutation(points):
        yield nth_point(domains, int(place))


class Sobol:
    """The points of a scrambled Sobol sequence (Owen 1998), which fill the domains more evenly than random ones.

    The n-th is a function of the seed and n alone. Left out is what may not be, and what domains of few values make of
    an earlier point.

    Args:
        seed: of the scrambling.
        may: whether a point keeps the rules.
    """

    def __init__(self, domains: Mapping[str, Domain], seed: int, may: May) -> None:
        from scipy.stats import qmc  # noqa: PLC0415 - half a second, for those who ask for it

        self._domains, self._may = domains, may
        self._sequence = qmc.Sobol(max(1, len(domains)), scramble=True, seed=np.random.default_rng(seed))
        self._points: dict[Key, Point] = {}

    def nth(self, place: int) -> Point | None:
        """None where so many points are not to be had."""
        for _ in range(DRAWS + place):
            if place < len(self._points):
                break
            shares = self._sequence.random(1)[0].tolist()
            values = zip(self._domains.items(), shares, strict=False)
            point = {path: held(domain, domain.at(share)) for (path, domain), share in values}
            if self._may(point):
                self._points.setdefault(key_of(self._domains, point), point)
        return list(self._points.values())[place] if place < len(self._points) else None


def drawn(domains: Mapping[str, Domain], draw: np.random.Generator) -> Point:
    """A point at random, each key's value as its domain draws."""
    return {path: held(domain, domain.at(draw.random())) for path, domain in domains.items()}


def first_that(may: May, domains: Mapping[str, Domain], points: int | None, draw: np.random.Generator) -> Point | None:
    """A point that may be tried; None where there is none.

    Args:
        points: how many there are in all; None where not finitely many.
    """
    return next((point for point in _from_anywhere(domains, points, draw) if may(point)), None)


def _from_anywhere(domains: Mapping[str, Domain], points: int | None, draw: np.random.Generator) -> Iterator[Point]:
    """Some at random, which mostly are untried; then all, where they can be counted, from a random one on.

    A search tries few enough points that one that is not tried is soon met.
    """
    for _ in range(DRAWS):
        yield drawn(domains, draw)
    if points is not None:
        start = int(draw.random() * points)
        for step in range(min(points, MOST_LISTED)):
            yield nth_point(domains, (start + step) % points)
