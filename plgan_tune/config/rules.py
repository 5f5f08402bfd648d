"""Linear rules between a trial's keys, `2 * loss.switch_epoch + 5 <= optim.decay_epoch`: read, never run as code."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

from plgan_tune.config.errors import RuleError, show

_TOKEN: Final = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)(?![\w.])|(?P<key>[a-z]\w*(?:\.\w+)*)|(?P<sign><=|>=|[<>+*-])",
    re.ASCII,
)
_LONGEST: Final = 500
_FORM: Final = (
    "must compare two sums of keys and numbers by <, <=, > or >=, as in "
    "`2 * loss.switch_epoch + 5 <= optim.decay_epoch`"
)


@dataclass(frozen=True, slots=True)
class LinearRule:
    """`sum of factor * key + constant` is below 0, or is 0 where it is not strict.

    Attributes:
        text: as it was written.
        factors: dotted path under `trial` -> its factor.
    """

    text: str
    factors: Mapping[str, Fraction]
    constant: Fraction
    strict: bool

    def keeps(self, values: Mapping[str, int | float]) -> bool:
        """Whether these values keep the rule: as decimals, so that 0.1 + 0.2 is 0.3."""
        total = sum((factor * Fraction(str(values[key])) for key, factor in self.factors.items()), self.constant)
        return total < 0 or (total == 0 and not self.strict)


@lru_cache(maxsize=1000)
def parse_rule(text: str) -> LinearRule:
    """Reads `a < b`, where a and b are sums of numbers, keys, and keys with a factor.

    Raises:
        RuleError: where the text is no such rule.
    """
    tokens = [*_tokens(text)]
    compared = [place for place, (_, token) in enumerate(tokens) if token in ("<", "<=", ">", ">=")]
    if len(compared) != 1:
        raise RuleError(_FORM, show(text))
    place = compared[0]
    left, right, sign = tokens[:place], tokens[place + 1 :], tokens[place][1]
    if sign.startswith(">"):
        left, right = right, left
    factors: dict[str, Fraction] = {}
    constant = Fraction(0)
    for side, tokens_of in ((1, left), (-1, right)):
        for factor, key in _terms(tokens_of, text):
            if key:
                factors[key] = factors.get(key, Fraction(0)) + side * factor
            else:
                constant += side * factor
    return LinearRule(text, factors, constant, strict=len(sign) == 1)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and text of each token."""
    if len(text) > _LONGEST:
        raise RuleError(f"must be at most {_LONGEST} letters long", show(text))
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        found = _TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise RuleError(_FORM, f"{show(text[place : place + 20])} in {show(text)}")
        yield found.lastgroup, found[0]
        place = found.end()


def _terms(tokens: list[tuple[str, str]], text: str) -> Iterator[tuple[Fraction, str]]:
    """Factor and key of each term of a sum; no key where it is a number."""
    place = 0
    while place < len(tokens) or place == 0:
        sign = Fraction(1)
        if place < len(tokens) and tokens[place][1] in ("+", "-"):
            sign = Fraction(-1 if tokens[place][1] == "-" else 1)
            place += 1
        elif place > 0:  # two terms without a sign between
            raise RuleError(_FORM, show(text))
        kinds = [kind if kind != "sign" else token for kind, token in tokens[place : place + 3]]
        match kinds:
            case ["number", "*", "key"]:
                yield sign * Fraction(tokens[place][1]), tokens[place + 2][1]
                place += 3
            case ["key", "*", "number"]:
                yield sign * Fraction(tokens[place + 2][1]), tokens[place][1]
                place += 3
            case ["number", *_]:
                yield sign * Fraction(tokens[place][1]), ""
                place += 1
            case ["key", *_]:
                yield sign, tokens[place][1]
                place += 1
            case _:
                raise RuleError(_FORM, show(text))
