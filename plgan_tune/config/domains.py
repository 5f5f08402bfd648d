"""Domains of searched keys. In YAML, a domain is a mapping of one name: `{uniform: [0, 1]}`."""

import math
from dataclasses import dataclass
from typing import Any, Final, Union

from plgan_tune.config.errors import RuleError, show

MOST_OPTIONS: Final = 1000
"""Most options of a choice. Each is checked when the file is read, and no sampler learns from more."""

_LONGEST = 100

Scalar = bool | int | float | str | None
Leaf = Scalar | list[Any]


def check_length(value: object) -> None:
    """Refuse a list that is longer than any network is deep, because each item would be checked.

    Raises:
        RuleError: If the list has more than 100 items.
    """
    if isinstance(value, list) and len(value) > _LONGEST:
        raise RuleError(f"a list has at most {_LONGEST} items", f"{len(value):,}: {show(value)}")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_range(low: object, high: object, *, integer: bool, log: bool) -> None:
    kind, fits = ("whole numbers", _is_integer) if integer else ("finite numbers", _is_number)
    ends = f"(low={show(low)}, high={show(high)})"
    if not (fits(low) and fits(high)):
        raise RuleError(f"both ends must be {kind}", ends)
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    if log and low <= 0:
        raise RuleError("`low > 0` must hold for a logarithm", ends)
    if integer and high >= 2**63:
        raise RuleError("`high < 2**63` must hold, as results hold 64-bit numbers", ends)
    if low > high:
        raise RuleError("`low <= high` must hold", ends)


@dataclass(frozen=True, slots=True)
class Uniform:
    """A real number, uniform in [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=False, log=False)

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        return isinstance(value, int | float) and _is_number(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        """Return both ends."""
        return (float(self.low), float(self.high))  # as floats, which a key of whole numbers refuses


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A positive real number in [low, high], uniform in its logarithm."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=False, log=True)

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        return isinstance(value, int | float) and _is_number(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        """Return both ends."""
        return (float(self.low), float(self.high))  # as floats, which a key of whole numbers refuses


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=True, log=False)

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        return isinstance(value, int) and _is_integer(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        """Return both ends."""
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class LogInt:
    """A positive whole number in [low, high], uniform in its logarithm."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=True, log=True)

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        return isinstance(value, int) and _is_integer(value) and self.low <= value <= self.high

    def corners(self) -> tuple[Leaf, ...]:
        """Return both ends."""
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the listed options, which may be lists themselves (`hidden: {choice: [[100], [100, 50]]}`)."""

    options: tuple[Leaf, ...]

    def __post_init__(self) -> None:
        if not self.options:
            raise RuleError("a choice needs at least one option", "[]")
        if len(self.options) > MOST_OPTIONS:
            given = f"{len(self.options):,}: {show(self.options)}"
            raise RuleError(f"a choice has at most {MOST_OPTIONS:,} options", given)
        for place, option in enumerate(self.options):
            check_length(option)
            if any(_same(option, other) for other in self.options[:place]):
                raise RuleError("options must differ", f"{show(option)} twice in {show(self.options)}")

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        return any(_same(value, option) for option in self.options)

    def option(self, value: object) -> Leaf:
        """Return the option that equals `value`; 1 and 1.0 are equal.

        Raises:
            ValueError: If no option does.
        """
        for option in self.options:
            if _same(value, option):
                return option
        raise ValueError(f"{show(value)} is none of {show(self.options)}")

    def corners(self) -> tuple[Leaf, ...]:
        """Return all options."""
        return self.options


def _same(a: object, b: object) -> bool:
    """Return whether two values are equal; True and 1 are not."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


Domain = Union[Uniform, LogUniform, Int, LogInt, Choice]  # noqa: UP007 - usable in isinstance and in docs alike

NAMES: Final = ("uniform", "log_uniform", "int", "log_int", "choice")


def parse_domain(mapping: dict[str, Any]) -> Domain:
    """Parse a domain such as `{uniform: [low, high]}`.

    Raises:
        RuleError: If the mapping is not a valid domain.
    """
    if len(mapping) != 1:
        raise RuleError(f"a domain has exactly one name of {', '.join(NAMES)}", show(mapping))
    (name, body) = next(iter(mapping.items()))
    if name not in NAMES:
        raise RuleError(f"a domain is one of {', '.join(NAMES)}", show(name))
    if not isinstance(body, list):
        raise RuleError(f"{name} takes {'a list of options' if name == 'choice' else '[low, high]'}", show(body))
    if name == "choice":
        return Choice(tuple(body))
    if len(body) != 2:
        raise RuleError(f"{name} takes [low, high]", show(body))
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
    """Return the mapping that `parse_domain` parses."""
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
