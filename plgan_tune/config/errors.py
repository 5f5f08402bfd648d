"""Errors of a specification: place, rule and value. All problems of a file are raised together."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]
"""Keys from the top of a file down; a number is an index into a list."""

_SHOWN_CHARACTERS = 100


class RuleError(ValueError):
    """A value that breaks a rule.

    Attributes:
        rule: What must hold, and what is allowed.
        value: The given value, as text.
        key: The dotted key under `trial` that has the value, if the rule is one of the trial as a whole.
    """

    def __init__(self, rule: str, value: str, key: str = "") -> None:
        super().__init__(rule, value, key)
        self.rule = rule
        self.value = value
        self.key = key

    def __str__(self) -> str:
        return f"{self.rule}, but got {self.value}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule at a key, without the file's name."""

    path: KeyPath
    rule: str
    value: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A broken rule with its place.

    Attributes:
        where: The file, `--set`, or `mapping` for a study that a script has built.
        key: Dotted path; empty for the file as a whole.
        rule: What must hold.
        value: The given value, as text.
        line: Counted from 1; None if there is none.
    """

    where: str
    key: str
    rule: str
    value: str
    line: int | None = None

    def __str__(self) -> str:
        place = self.where if self.line is None else f"{self.where}:{self.line}"
        return ": ".join(part for part in (place, self.key, f"{self.rule}, but got {self.value}") if part)


SHOWN_PROBLEMS = 100
"""At most this many problems of a specification are shown; the others are counted."""


class SpecError(Exception):
    """A specification that cannot be used. Its text has one problem per line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems: tuple[Problem, ...] = tuple(problems)

    def __str__(self) -> str:
        more = len(self.problems) - SHOWN_PROBLEMS
        told = [*map(str, self.problems[:SHOWN_PROBLEMS]), *([f"and {more:,} more problems"] if more > 0 else [])]
        return "\n".join(told)


def dotted(path: KeyPath) -> str:
    """Return a path as text: `search.first[0].loss.alpha` for `("search", "first", 0, "loss.alpha")`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def lies_under(path: KeyPath, parents: Set[KeyPath]) -> bool:
    """Return whether `path` is one of `parents` or lies below one, in a time that does not depend on their number."""
    return any(path[:depth] in parents for depth in range(len(path) + 1))


def show(value: object) -> str:
    """Return a value as a space file would write it, on one line of at most 100 characters."""
    text = ""
    for part in _flow(value):
        text += part
        if len(text) > _SHOWN_CHARACTERS:
            return f"{text[: _SHOWN_CHARACTERS - 3]}..."
    return text


def _flow(value: object) -> Iterator[str]:
    """Yield the text in parts, because a long value needs only the first ones."""
    match value:
        case None | bool():
            yield json.dumps(value)
        case float() if not math.isfinite(value):
            yield ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
        case Mapping():
            yield "{"
            for place, (key, item) in enumerate(value.items()):
                yield f"{', ' if place else ''}{key}: "
                yield from _flow(item)
            yield "}"
        case list() | tuple():
            yield "["
            for place, item in enumerate(value):
                yield ", " if place else ""
                yield from _flow(item)
            yield "]"
        case int() if value.bit_length() > 1000:
            yield f"a whole number of {value.bit_length()} bits"
        case str():
            yield repr(value[: _SHOWN_CHARACTERS + 1])
        case _:
            yield repr(value)
