"""Linear rules between keys: how they are read, and which files are refused for them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.domains import Scalar
from plgan_tune.config.errors import RuleError, SpecError
from plgan_tune.config.load import load_study
from plgan_tune.config.rules import parse_rule

Write = Callable[[str], Path]

GOOD = """\
study: s
search:
  rules: [{rules}]
  first: [{first}]
trial:
  data: {{source: digits, labels: 20, validation: 400}}
  loss: {{switch_epoch: {{int: [1, 40]}}, alpha: {{uniform: [0, 1]}}, ramp: {{choice: [clamp, one]}}}}
  optim: {{decay_epoch: {{int: [30, 60]}}}}
  training: {{epochs: 60}}
"""

KEYS = ("loss.alpha", "loss.beta", "optim.beta1")
Term = tuple[int, str, bool]

terms = st.lists(st.tuples(st.integers(-99, 99), st.sampled_from(["", *KEYS]), st.booleans()), min_size=1, max_size=5)


def written(side: Sequence[Term]) -> str:
    """Tenths of keys and numbers; a factor before or after its key."""
    text = ""
    for number, (tenths, key, before) in enumerate(side):
        sign = "-" if tenths < 0 else "+" if number else ""
        size = f"{abs(tenths) / 10:g}"
        factor = size if not key else f"{size} * {key}" if before else f"{key}*{size}"
        text += f" {sign} {factor}"
    return text


def worth(side: Sequence[Term], values: dict[str, float]) -> Fraction:
    return sum(
        (Fraction(tenths, 10) * (Fraction(str(values[key])) if key else 1) for tenths, key, _ in side), Fraction()
    )


@given(terms, terms, st.sampled_from(["<", "<=", ">", ">="]), st.lists(st.integers(-50, 50), min_size=3, max_size=3))
def test_a_rule_is_kept_where_its_sums_compare_so(
    left: list[Term], right: list[Term], sign: str, at: list[int]
) -> None:
    values = dict(zip(KEYS, (tenths / 10 for tenths in at), strict=True))
    one, other = worth(left, values), worth(right, values)
    kept = {"<": one < other, "<=": one <= other, ">": one > other, ">=": one >= other}[sign]
    assert parse_rule(f"{written(left)} {sign}{written(right)}").keeps(values) == kept


def test_decimals_are_compared_as_decimals() -> None:
    """0.1 + 0.2 is 0.30000000000000004 in doubles."""
    values = {"loss.alpha": 0.1, "loss.beta": 0.2}
    assert parse_rule("loss.alpha + loss.beta <= 0.3").keeps(values)
    assert not parse_rule("loss.alpha + loss.beta < 0.3").keeps(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss.alpha",
        "loss.alpha <",
        "< loss.alpha",
        "loss.alpha < 1 < loss.beta",
        "loss.alpha == 1",
        "loss.alpha * loss.beta < 1",
        "2 * 3 < loss.alpha",
        "loss.alpha loss.beta < 1",
        "loss.alpha + < 1",
        "- - loss.alpha < 1",
        "(loss.alpha) < 1",
        "loss.alpha / 2 < 1",
        "2loss.alpha < 1",
        "1e9999 < loss.alpha",
        "__import__('os').system('true') < 1",
        "loss.alpha < 1; import os",
        "ａ < 1",
    ],
)
def test_what_is_no_linear_comparison_is_refused(text: str) -> None:
    with pytest.raises(RuleError, match="must compare two sums of keys and numbers"):
        parse_rule(text)


@given(st.text("la.b <=>+-*0123e(", max_size=30))
def test_no_text_is_more_than_refused(text: str) -> None:
    with suppress(RuleError):
        parse_rule(text)


@pytest.mark.parametrize(
    ("rules", "first", "line", "said"),
    [
        ("loss.switch_epoch < optim.decay", "", 3, "search.rules[0]: must be a known key (nearest: optim.decay_epoch)"),
        (
            "loss.alpha < 1, loss.ramp < 1",
            "",
            3,
            "search.rules[1]: every key of a rule must hold numbers, but got loss.",
        ),
        ("model.hidden < 1", "", 3, "search.rules[0]: every key of a rule must hold numbers, but got model.hidden: "),
        ("loss.alpha = 1", "", 3, "search.rules[0]: must compare two sums of keys and numbers by <, <=, > or >="),
        (
            "optim.decay_epoch < loss.switch_epoch - 10",
            "",
            3,
            "search.rules: must leave points of the domains that keep all rules, but got none among 10,000 random ones",
        ),
        (
            "loss.switch_epoch < optim.decay_epoch",
            "{loss.switch_epoch: 5}, {loss.switch_epoch: 40, optim.decay_epoch: 40}",
            4,
            "search.first[1]: must keep the rule `loss.switch_epoch < optim.decay_epoch`, but got {loss.",
        ),
        ("loss.alpha < 0.5", "{loss.alpha: 0.75}", 4, "search.first[0]: must keep the rule `loss.alpha < 0.5`"),
        ("5", "", 3, "search.rules: must be a list, each text, but got [5]"),
        (", ".join(["loss.alpha < 1"] * 101), "", 3, "search.rules: must be at most 100 rules, but got 101"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(write: Write, rules: str, first: str, line: int, said: str) -> None:
    file = write(GOOD.format(rules=rules, first=first))
    with pytest.raises(SpecError) as caught:
        load_study(file)
    assert str(caught.value).startswith(f"{file}:{line}: {said}")


def test_a_fixed_key_counts_with_its_value_and_a_default_with_what_it_hangs_on(write: Write) -> None:
    """The epochs are fixed; eps is the recipe's 1e-4 or the patent's 1e-8."""
    file = write(
        GOOD.format(rules="loss.switch_epoch + 50 <= training.epochs, 1000 * optim.eps >= loss.alpha", first="")
    )
    study = load_study(file, ["trial.method={choice: [pl_gan, patent]}"]).study
    point: dict[str, Scalar] = {
        "method": "pl_gan",
        "loss.ramp": "one",
        "loss.alpha": 0.05,
        "loss.switch_epoch": 10,
        "optim.decay_epoch": 30,
    }
    assert study.holds(point)
    assert study.broken_rule({**point, "loss.switch_epoch": 11}) == "loss.switch_epoch + 50 <= training.epochs"
    assert study.broken_rule({**point, "method": "patent"}) == "1000 * optim.eps >= loss.alpha"
    assert not study.holds({**point, "method": "patent"})
    assert study.broken_rule({"loss.alpha": 1.0}) is None  # the method is not known yet
    assert load_study(file, ["trial.loss.switch_epoch=5"]).study.broken_rule({}) is None
