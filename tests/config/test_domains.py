from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.domains import (
    NAMES,
    Choice,
    Domain,
    Int,
    LogInt,
    LogUniform,
    Uniform,
    domain_as_mapping,
    parse_domain,
)
from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import decode, encode
from plgan_tune.config.yaml import dump_yaml, read_yaml

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
ABOVE_ZERO = st.floats(min_value=1e-300, allow_infinity=False)
OPTIONS = st.none() | st.booleans() | st.integers(2) | st.text("abc", min_size=1) | st.lists(st.integers(), max_size=3)


COARSE = st.integers(-64, 64).map(lambda eighths: eighths / 8)
STEPS = st.integers(1, 16).map(lambda eighths: eighths / 8)
"""Their multiples are exact, so that a test may add them up."""


def _ends(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(numbers, min_size=2, max_size=2).map(sorted)


DOMAINS: st.SearchStrategy[Domain] = st.one_of(
    _ends(NUMBERS).map(lambda ends: Uniform(*ends)),
    _ends(ABOVE_ZERO).map(lambda ends: LogUniform(*ends)),
    _ends(st.integers(-(2**63), 2**63 - 1)).map(lambda ends: Int(*ends)),
    _ends(st.integers(1, 2**63 - 1)).map(lambda ends: LogInt(*ends)),
    st.lists(OPTIONS, min_size=1, max_size=5, unique_by=repr).map(lambda options: Choice(tuple(options))),
    st.builds(lambda low, step, steps: Uniform(low, low + step * steps, step), COARSE, STEPS, st.integers(0, 99)),
    st.builds(
        lambda low, step, steps: Int(low, low + step * steps, step),
        st.integers(-(2**40), 2**40),
        st.integers(1, 2**10),
        st.integers(0, 2**20),
    ),
    st.lists(OPTIONS.filter(lambda option: not isinstance(option, int)), min_size=1, max_size=5, unique_by=repr).map(
        lambda options: Choice(tuple(options), ordered=True)
    ),
)


@given(DOMAINS)
def test_a_domain_reads_as_it_was_written(domain: Domain) -> None:
    document = read_yaml(dump_yaml({"key": domain_as_mapping(domain)}))
    assert parse_domain(document.value["key"]) == domain


@given(DOMAINS)
def test_a_domain_contains_its_corners(domain: Domain) -> None:
    assert all(domain.contains(corner) for corner in domain.corners())


@given(DOMAINS, st.floats(0, 1, exclude_max=True))
def test_what_a_domain_draws_lies_in_it(domain: Domain, share: float) -> None:
    assert domain.contains(domain.at(share))


@given(DOMAINS)
def test_the_first_and_the_last_value_are_the_corners(domain: Domain) -> None:
    count = domain.count()
    if count is not None:
        assert [domain.nth(0), domain.nth(count - 1)] == [domain.corners()[0], domain.corners()[-1]]


@given(DOMAINS)
def test_encoded_values_decode(domain: Domain) -> None:
    assert all(decode(domain, encode(domain, corner)) == corner for corner in domain.corners())


@given(
    low=st.integers(-500, 500), step=st.integers(1, 99), steps=st.integers(0, 99), tenths=st.sampled_from([1, 10, 1000])
)
def test_multiples_of_a_step_are_what_a_user_would_write(low: int, step: int, steps: int, tenths: int) -> None:
    """0.3, and not the 0.30000000000000004 that three times 0.1 come to."""
    domain = Uniform(low / tenths, (low + step * steps) / tenths, step / tenths)
    written = [(low + step * place) / tenths for place in range(steps + 1)]
    assert [domain.nth(place) for place in range(steps + 1)] == written
    assert [domain.nearest(domain.low + place * step / tenths) for place in range(steps + 1)] == written
    assert all(map(domain.contains, written))
    assert not any(domain.contains(value + step / tenths / 4) for value in written)


@given(low=st.integers(-50, 50), step=st.integers(1, 9), steps=st.integers(0, 9), value=st.integers(-200, 200))
def test_whole_multiples_are_a_range(low: int, step: int, steps: int, value: int) -> None:
    high = low + step * steps
    assert Int(low, high, step).contains(value) == (value in range(low, high + 1, step))


@given(low=st.integers(-50, 50), width=st.integers(0, 50), value=st.integers(-200, 200))
def test_contains_is_the_interval(low: int, width: int, value: int) -> None:
    inside = low <= value <= low + width
    assert Int(low, low + width).contains(value) == inside
    assert Uniform(low, low + width).contains(value) == inside


@pytest.mark.parametrize("value", [True, "1", None, float("nan"), [1], 10**400])
def test_ranges_hold_numbers_only(value: object) -> None:
    assert not Uniform(0, 2).contains(value)
    assert not LogUniform(1, 2).contains(value)
    assert not Int(0, 2).contains(value)
    assert not LogInt(1, 2).contains(value)


def test_a_range_of_whole_numbers_holds_no_real_number() -> None:
    assert not Int(0, 2).contains(1.0)


def test_true_is_not_one() -> None:
    assert not Choice((1, 2)).contains(True)
    assert Choice((1, True)).contains(True)


@pytest.mark.parametrize(
    ("mapping", "rule", "value"),
    [
        ({"uniform": [2, 1]}, "`low <= high` must hold", "(low=2, high=1)"),
        ({"log_int": [5, 1]}, "`low <= high` must hold", "(low=5, high=1)"),
        ({"log_uniform": [0, 1]}, "`low > 0` must hold for a logarithm", "(low=0, high=1)"),
        ({"log_int": [-1, 1]}, "`low > 0` must hold for a logarithm", "(low=-1, high=1)"),
        ({"int": [1, 2.5]}, "both ends must be whole numbers", "(low=1, high=2.5)"),
        ({"int": [False, True]}, "both ends must be whole numbers", "(low=false, high=true)"),
        ({"uniform": [0, "1"]}, "both ends must be finite numbers", "(low=0, high='1')"),
        ({"uniform": [0, float("inf")]}, "both ends must be finite numbers", "(low=0, high=.inf)"),
        ({"uniform": [0, 10**400]}, "both ends must be finite numbers", "(low=0, high=a whole number of"),
        ({"uniform": [1]}, "uniform takes [low, high]", "[1]"),
        ({"uniform": 3}, "uniform takes [low, high]", "3"),
        ({"choice": []}, "a choice needs at least one option", "[]"),
        ({"choice": [1, 2, 1]}, "options must differ", "1 twice in [1, 2, 1]"),
        ({"choice": "ab"}, "choice takes a list of options", "'ab'"),
        ({"uniform": [0, 1], "step": 0.3}, "`high` must be `low` and a whole number of steps; the nearest", "(low=0,"),
        ({"uniform": [0, 1], "step": 0}, "`step` must be a finite number > 0", "(low=0, high=1, step=0)"),
        ({"uniform": [0, 1], "step": None}, "`step` must be a finite number > 0", "null"),
        ({"uniform": [0, 1e9], "step": 1}, "`step` must be at least a millionth of the larger end", "(low=0"),
        ({"int": [0, 5], "step": 2}, "`high` must be `low` and a whole number of steps; the nearest are 4 and 6", "("),
        ({"int": [0, 5], "step": 0.5}, "`step` must be a whole number > 0", "(low=0, high=5, step=0.5)"),
        ({"log_int": [1, 9], "step": 2}, "log_int takes nothing beside it", "'step'"),
        ({"uniform": [0, 1], "ordered": True}, "uniform takes step beside it", "'ordered'"),
        ({"choice": [1, 3, 2], "ordered": True}, "numbers that are `ordered` must rise or fall", "[1, 3, 2]"),
        ({"choice": [1, 2], "ordered": "yes"}, "`ordered` must be true or false", "'yes'"),
        ({"normal": [0, 1]}, "a domain is one of uniform, log_uniform, int, log_int, choice", "'normal'"),
        ({"int": [0, 1], "choice": [0]}, "a domain has exactly one name", "{int: [0, 1], choice: [0]}"),
        ({}, "a domain has exactly one name", "{}"),
    ],
)
def test_a_refused_domain_names_rule_and_value(mapping: dict[str, Any], rule: str, value: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse_domain(mapping)
    assert caught.value.rule.startswith(rule)
    assert caught.value.value.startswith(value)
    assert str(caught.value) == f"{caught.value.rule}, but got {caught.value.value}"


def test_every_name_is_a_domain() -> None:
    assert [next(iter(domain_as_mapping(parse_domain({name: [1, 2]})))) for name in NAMES] == list(NAMES)
