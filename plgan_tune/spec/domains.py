"""Domains: what a searched key may be. Written in YAML as a mapping of one name, `{uniform: [0, 1]}`."""

import math
from dataclasses import dataclass
from typing import Any, Final, Union

Scalar = bool | int | float | str | None
Leaf = Scalar | list[Any]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_range(low: object, high: object, *, integer: bool, log: bool) -> None:
    kind, fits = ("whole numbers", _is_integer) if integer else ("finite numbers", _is_number)
    if not (fits(low) and fits(high)):
        raise ValueError(f"both ends must be {kind}, but got (low={low!r}, high={high!r})")
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if log and low <= 0:
        raise ValueError(f"`low > 0` must hold for a logarithm, but got (low={low!r}, high={high!r})")
    if low > high:
        raise ValueError(f"`low <= high` must hold, but got (low={low!r}, high={high!r})")


@dataclass(frozen=True, slots=True)
class Uniform:
    """A real number, every part of [low, high] as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=False, log=False)

    def contains(self, value: object) -> bool:
        return isinstance(value, int | float) and _is_number(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A positive real number, every order of magnitude of [low, high] as likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=False, log=True)

    def contains(self, value: object) -> bool:
        return isinstance(value, int | float) and _is_number(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number of [low, high], both ends included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=True, log=False)

    def contains(self, value: object) -> bool:
        return isinstance(value, int) and _is_integer(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class LogInt:
    """A positive whole number of [low, high], every order of magnitude as likely."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=True, log=True)

    def contains(self, value: object) -> bool:
        return isinstance(value, int) and _is_integer(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the listed options, which may be lists themselves (`hidden: {choice: [[100], [100, 50]]}`)."""

    options: tuple[Leaf, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise ValueError("a choice needs at least one option, but got []")
        for place, option in enumerate(self.options):
            if any(_same(option, other) for other in self.options[:place]):
                raise ValueError(f"options must differ, but {option!r} stands twice in {list(self.options)!r}")

    def contains(self, value: object) -> bool:
        return any(_same(value, option) for option in self.options)

    def corners(self) -> tuple[Leaf, ...]:
        return self.options


def _same(a: object, b: object) -> bool:
    """Equality that keeps True and 1 apart."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


Domain = Union[Uniform, LogUniform, Int, LogInt, Choice]  # noqa: UP007 - usable in isinstance and in docs alike

NAMES: Final = ("uniform", "log_uniform", "int", "log_int", "choice")


def parse_domain(mapping: dict[str, Any]) -> Domain:
    """Reads `{uniform: [low, high]}` and its kin.

    Raises:
        ValueError: with the rule, then the value, where the mapping is no valid domain.
    """
    if len(mapping) != 1:
        raise ValueError(f"a domain has exactly one name, but got {len(mapping)}: {', '.join(map(str, mapping)) or 'none'}")
    (name, body) = next(iter(mapping.items()))
    if name not in NAMES:
        raise ValueError(f"a domain is one of {', '.join(NAMES)}, but got {name!r}")
    if not isinstance(body, list):
        raise ValueError(f"{name} takes a list, but got {body!r}")
    if name == "choice":
        return Choice(tuple(body))
    if len(body) != 2:
        raise ValueError(f"{name} takes [low, high], but got {body!r}")
    low, high = body
    match name:
        case "uniform":
            return Uniform(low, high)
        case "log_uniform":
            return LogUniform(low, high)
        case "int":
            return Int(low, high)
        case _:
            return LogInt(low, high)


def domain_as_mapping(domain: Domain) -> dict[str, list[Any]]:
    """The inverse of `parse_domain`."""
    match domain:
        case Uniform(low, high):
            return {"uniform": [low, high]}
        case LogUniform(low, high):
            return {"log_uniform": [low, high]}
        case Int(low, high):
            return {"int": [low, high]}
        case LogInt(low, high):
            return {"log_int": [low, high]}
        case Choice(options):
            return {"choice": list(options)}
