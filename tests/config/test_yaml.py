from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plgan_tune.config.yaml import dump_yaml, read_yaml

TEXT = st.text(st.characters(exclude_categories=("C", "Z")), max_size=12) | st.sampled_from(
    [
        "1e-4",
        "off",
        "no",
        "null",
        "~",
        "",
        "true",
        "3",
        "0x1f",
        "2026-11-21",
        "<<",
        "=",
        "a: b",
        "# c",
        "&x",
        "!y",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, VALUES, max_size=5))
@example({"key": ["?0"]})
def test_what_is_dumped_reads_the_same(mapping: dict[str, Any]) -> None:
    document = read_yaml(dump_yaml(mapping))
    assert document.findings == ()
    assert document.value == mapping
    assert list(document.value) == list(mapping)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("3.0e-4", 3e-4),
        ("1e4", 1e4),
        ("-1", -1),
        ("0o17", 15),
        ("off", "off"),
        ("no", "no"),
        ("yes", "yes"),
        ("true", True),
        ("null", None),
        ("", None),
        ("12:30:45", "12:30:45"),
        ("2026-11-21", "2026-11-21"),
        ("'1'", "1"),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    document = read_yaml(f"key: {text}")
    assert document.findings == ()
    assert document.value == {"key": value}
    assert type(document.value["key"]) is type(value)


def test_lists_and_domains_stand_on_one_line() -> None:
    mapping = {"model": {"hidden": [100, 50]}, "loss": {"alpha": {"uniform": [0.05, 1.0]}, "ramp": "clamp"}}
    assert dump_yaml(mapping) == (
        "model:\n  hidden: [100, 50]\nloss:\n  alpha: {uniform: [0.05, 1.0]}\n  ramp: clamp\n"
    )


def test_one_list_at_two_keys_is_written_out_twice() -> None:
    shared = [1, 2]
    assert dump_yaml({"a": shared, "b": shared}) == "a: [1, 2]\nb: [1, 2]\n"


def test_every_key_knows_its_line() -> None:
    document = read_yaml("# c\na:\n  b: 1\n\n  c: [1,\n    2]\nd: 3\n")
    assert document.lines[("a",)] == 2
    assert document.lines[("a", "b")] == 3
    assert document.lines[("a", "c", 1)] == 6
    assert document.lines[("d",)] == 7


@pytest.mark.parametrize(
    ("text", "line", "rule"),
    [
        ("a: [1\nb: 2", 2, "well-formed"),
        ("a: b: c", 1, "well-formed"),
        ("a: 'x", 1, "well-formed"),
        ("a: 1\n---\nb: 2", 2, "one document"),
        ("%YAML 1.1\n---\na: off", 2, "1.2"),
        ("a:\n  !!python/object/apply:os.system [ls]", 2, "no tag"),
        ("a: !!str 3", 1, "no tag"),
        ("a: !x 3", 1, "no tag"),
        ("a: ! 3", 1, "no tag"),
        ("a: &x 1\nb: *x", 2, "no alias"),
        ("a: 1\nb: 2\na: 3", 3, "line 1 has it already"),
        ("x: {a: 1, a: 3}", 1, "line 1 has it already"),
        ("1: a", 1, "key must be text"),
        ("[a]: 1", 1, "key must be text"),
        ("? {a: 1}\n: 2", 1, "key must be text"),
        ("a: " + "[" * 100, 1, "nested deeper"),
        ("a: " + "9" * 5000, 1, "number"),
    ],
)
def test_refused_yaml_names_line_and_rule(text: str, line: int, rule: str) -> None:
    (finding,) = read_yaml(text).findings
    assert finding.line == line
    assert rule in finding.rule


def test_a_billion_laughs_are_refused_at_once() -> None:
    doubling = "\n".join(f"k{n}: &k{n} [*k{n - 1}, *k{n - 1}]" for n in range(1, 40))
    document = read_yaml(f"k0: &k0 ha\n{doubling}\n")
    assert len(document.findings) == 78
    assert {finding.rule for finding in document.findings} == {"no alias is allowed: write the value out"}


def test_control_characters_are_refused() -> None:
    (finding,) = read_yaml("a: \x01").findings
    assert "well-formed" in finding.rule
