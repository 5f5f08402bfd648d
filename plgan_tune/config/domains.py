"""Domains of searched keys. In YAML, a domain is a mapping of one name: `{uniform: [0, 1], step: 0.25}`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
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


def _check_step(low: float, high: float, step: object, *, integer: bool) -> None:
    kind, fits = ("a whole number", _is_integer) if integer else ("a finite number", _is_number)
    given = f"(low={show(low)}, high={show(high)}, step={show(step)})"
    if not fits(step) or not isinstance(step, int | float) or step <= 0:
        raise RuleError(f"`step` must be {kind} > 0", given)
    # Where doubles still tell a multiple of the step from its neighbours.
    if not integer and step < 1e-6 * max(abs(low), abs(high)):
        raise RuleError("`step` must be at least a millionth of the larger end", given)
    start, stride = Decimal(str(low)), Decimal(str(step))
    steps = (Decimal(str(high)) - start) // stride
    if start + steps * stride != Decimal(str(high)):
        ends = f"{start + steps * stride} and {start + (steps + 1) * stride}"
        raise RuleError(f"`high` must be `low` and a whole number of steps; the nearest are {ends}", given)


@dataclass(frozen=True, slots=True)
class Uniform:
    """A real number, uniform in [low, high]; with a step, one of low, low + step, and so on."""

    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=False, log=False)
        if self.step is not None:
            _check_step(self.low, self.high, self.step, integer=False)

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        if not isinstance(value, int | float) or not _is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or abs(value - self.nearest(value)) <= 1e-8 * self.step

    def nearest(self, value: float) -> float:
        """Return the domain's value that rounding errors turned into `value`."""
        return float(value) if self.step is None else self.nth(round((value - self.low) / self.step))

    def at(self, share: float) -> float:
        """Return the value below which this share of random draws lies, in [0, 1)."""
        if self.step is not None:
            return self.nth(_cell(share, self.high, self.low, self.step))
        return min(self.high, self.low + share * (self.high - self.low))

    def count(self) -> int | None:
        """Return the number of values; None if it is infinite."""
        if self.low == self.high:
            return 1
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    def nth(self, place: int) -> float:
        """Return the value this many steps above `low`, computed as a decimal: 0.3, not 0.30000000000000004."""
        return float(Decimal(str(self.low)) + place * Decimal(str(self.step or 0)))

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

    def at(self, share: float) -> float:
        """Return the value below which this share of random draws lies, in [0, 1)."""
        low, high = math.log(self.low), math.log(self.high)
        return min(self.high, max(self.low, math.exp(low + share * (high - low))))

    def count(self) -> int | None:
        """Return 1 if both ends are equal; None if the number of values is infinite."""
        return 1 if self.low == self.high else None

    def nth(self, place: int) -> float:
        """Return the only value, if there is one."""
        return (float(self.low),)[place]

    def corners(self) -> tuple[Leaf, ...]:
        """Return both ends."""
        return (float(self.low), float(self.high))  # as floats, which a key of whole numbers refuses


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], both ends included; with a step, one of low, low + step, and so on."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, integer=True, log=False)
        _check_step(self.low, self.high, self.step, integer=True)

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        if not isinstance(value, int) or not _is_integer(value):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def at(self, share: float) -> int:
        """Return the value below which this share of random draws lies, in [0, 1)."""
        return self.nth(_cell(share, self.high, self.low, self.step))

    def count(self) -> int:
        """Return the number of values."""
        return (self.high - self.low) // self.step + 1

    def nth(self, place: int) -> int:
        """Return the value this many steps above `low`."""
        return self.low + place * self.step

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

    def at(self, share: float) -> int:
        """As Optuna draws: evenly in the logarithm between half below and half above the ends, then rounded."""
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        return min(self.high, max(self.low, round(math.exp(low + share * (high - low)))))

    def count(self) -> int:
        """Return the number of values."""
        return self.high - self.low + 1

    def nth(self, place: int) -> int:
        """Return the value this far above `low`."""
        return self.low + place

    def corners(self) -> tuple[Leaf, ...]:
        """Return both ends."""
        return (self.low, self.high)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the listed options, which may be lists themselves (`hidden: {choice: [[100], [100, 50]]}`).

    Where they are `ordered`, a sampler takes an option for near its neighbours in the list.
    """

    options: tuple[Leaf, ...]
    ordered: bool = False

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
        if not isinstance(self.ordered, bool):
            raise RuleError("`ordered` must be true or false", show(self.ordered))
        numbers = [option for option in self.options if isinstance(option, int | float)]
        if self.ordered and len(numbers) == len(self.options) and numbers not in (_rising(numbers), _falling(numbers)):
            raise RuleError("numbers that are `ordered` must rise or fall", show(self.options))

    def contains(self, value: object) -> bool:
        """Return whether the domain holds the value."""
        return any(_same(value, option) for option in self.options)

    def option(self, value: object) -> Leaf:
        """Return the option that equals `value`; 1 and 1.0 are equal.

        Raises:
            ValueError: If no option does.
        """
        return self.options[self.place(value)]

    def at(self, share: float) -> Leaf:
        """Return the option below which this share of random draws lies, in [0, 1)."""
        return self.options[int(share * len(self.options))]

    def count(self) -> int:
        """Return the number of options."""
        return len(self.options)

    def nth(self, place: int) -> Leaf:
        """Return the option at this place."""
        return self.options[place]

    def place(self, value: object) -> int:
        """Return the place of the option that equals `value`.

        Raises:
            ValueError: If no option does.
        """
        for place, option in enumerate(self.options):
            if _same(value, option):
                return place
        raise ValueError(f"{show(value)} is none of {show(self.options)}")

    def corners(self) -> tuple[Leaf, ...]:
        """Return all options."""
        return self.options


def _cell(share: float, high: float, low: float, step: float) -> int:
    """The step's place, of those from `low` to `high`."""
    steps = round((high - low) / step)
    return min(steps, int(share * (steps + 1)))


def _rising(numbers: list[int | float]) -> list[int | float]:
    return sorted(numbers)


def _falling(numbers: list[int | float]) -> list[int | float]:
    return sorted(numbers, reverse=True)


def _same(a: object, b: object) -> bool:
    """Return whether two values are equal; True and 1 are not."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


Domain = Union[Uniform, LogUniform, Int, LogInt, Choice]  # noqa: UP007 - usable in isinstance and in docs alike

NAMES: Final = ("uniform", "log_uniform", "int", "log_int", "choice")


_BESIDE: Final[Mapping[str, str]] = {"uniform": "step", "int": "step", "choice": "ordered"}
"""What may stand beside a domain's name."""


def parse_domain(mapping: dict[str, Any]) -> Domain:
    """Parse a domain such as `{uniform: [low, high]}`.

    Raises:
        RuleError: If the mapping is not a valid domain.
    """
    name, body, beside = _name_of(mapping)
    if not isinstance(body, list):
        raise RuleError(f"{name} takes {'a list of options' if name == 'choice' else '[low, high]'}", show(body))
    if name == "choice":
        return Choice(tuple(body), **beside)
    if len(body) != 2:
        raise RuleError(f"{name} takes [low, high]", show(body))
    low, high = body
    match name:
        case "uniform":
            if beside.get("step", 0) is None:  # stands for no step inside alone
                raise RuleError("`step` must be a finite number > 0", "null")
            return Uniform(low, high, **beside)
        case "log_uniform":
            return LogUniform(low, high)
        case "int":
            return Int(low, high, **beside)
        case _:
            return LogInt(low, high)


def _name_of(mapping: dict[str, Any]) -> tuple[str, Any, dict[str, Any]]:
    """Return the domain's name, its argument, and the settings beside it."""
    names = [name for name in mapping if name in NAMES]
    if len(mapping) == 1 and not names:
        raise RuleError(f"a domain is one of {', '.join(NAMES)}", show(next(iter(mapping))))
    if len(names) != 1:
        raise RuleError(f"a domain has exactly one name of {', '.join(NAMES)}", show(mapping))
    (name,) = names
    beside = {key: value for key, value in mapping.items() if key != name}
    for key in beside:
        if key != _BESIDE.get(name):
            raise RuleError(f"{name} takes {_BESIDE.get(name, 'nothing')} beside it", show(key))
    return name, mapping[name], beside


def domain_as_mapping(domain: Domain) -> dict[str, Any]:
    """Return the mapping that `parse_domain` parses."""
    match domain:
        case Uniform(low, high, step):
            return {"uniform": [low, high]} | ({} if step is None else {"step": step})
        case LogUniform(low, high):
            return {"log_uniform": [low, high]}
        case Int(low, high, step):
            return {"int": [low, high]} | ({} if step == 1 else {"step": step})
        case LogInt(low, high):
            return {"log_int": [low, high]}
        case Choice(options, ordered):
            return {"choice": list(options)} | ({"ordered": True} if ordered else {})
