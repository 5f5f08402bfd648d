"""What is too large is refused in plain words, and no refusal keeps its user waiting."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from plgan_tune.config.domains import MOST_OPTIONS, Choice
from plgan_tune.config.errors import SHOWN_PROBLEMS, RuleError, SpecError, lies_under, show
from plgan_tune.config.load import load_study, load_trial
from plgan_tune.config.study import set_paths
from plgan_tune.config.yaml import LONGEST, read_yaml
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.study_file import read_study_file

Write = Callable[[str], Path]

DATA: Mapping[str, Any] = {"source": "digits", "labels": 20, "validation": 400}
GOOD = "study: s\ntrial:\n  data: {source: digits, labels: 20, validation: 400}\n"


def problem(file: Path, *overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        load_study(file, overrides)
    (only,) = caught.value.problems
    return str(only)


# Counts


@pytest.mark.parametrize("value", [10**12, 10**21, 10**400], ids=["trillion", "more than 64 bits", "no float"])
@pytest.mark.parametrize(
    ("key", "most"),
    [
        ("search.trials", 1_000_000),
        ("search.hours", 100_000),
        ("search.epochs", 1_000_000_000),
        ("search.patience", 1_000_000_000),
        ("search.trial_hours", 100_000),
        ("search.concurrent", 1_000_000_000),
        ("search.max_failures", 1_000_000_000),
        ("search.keep_checkpoints", 1_000_000_000),
        ("search.sampler.tpe.startup_trials", 1_000_000_000),
        ("search.early_stopping.asha.grace_period", 1_000_000_000),
        ("search.early_stopping.asha.reduction_factor", 1_000_000_000),
        ("search.early_stopping.asha.min_competitors", 1_000_000_000),
        ("search.early_stopping.asha.smoothing", 1_000_000_000),
        ("resources.ranks", 10_000),
        ("trial.data.size", 4096),
        ("trial.data.limit", 1_000_000_000),
        ("trial.model.latent_size", 1_000_000),
        ("trial.loss.switch_epoch", 1_000_000_000),
        ("trial.optim.decay_epoch", 1_000_000_000),
        ("trial.training.epochs", 1_000_000),
        ("trial.training.batch_size", 1_000_000),
        ("trial.training.discriminator_steps", 1_000_000),
        ("trial.training.generator_steps", 1_000_000),
        ("trial.loss.self_epoch", 1_000_000_000),
        ("trial.training.checkpoint_every", 1_000_000_000),
    ],
)
def test_a_count_has_an_end(write: Write, key: str, most: int, value: int) -> None:
    file = write(GOOD)
    needed = ["search.early_stopping.asha.grace_period=1"] if ".asha." in key else []
    load_study(file, [*needed, f"{key}={most}"])
    assert f"--set: {key}: must be " in (said := problem(file, *needed, f"{key}={value}"))
    assert f"<= {most}" in said
    assert len(said) < 300


def test_a_domain_ends_where_its_key_does(write: Write) -> None:
    said = problem(write(GOOD), f"trial.training.batch_size={{log_int: [10, {10**12}]}}")
    assert "for every value of the domain: must be a whole number >= 2 and <= 1000000, but got 1000000000000" in said


@pytest.mark.parametrize("option", ["--top", "--seeds"])
def test_the_options_of_commands_have_an_end(option: str, tmp_path: Path) -> None:
    from plgan_tune.analyze import app as analyze  # noqa: PLC0415 - seconds, as the next
    from plgan_tune.evaluate import app as evaluate  # noqa: PLC0415

    for app in [evaluate, *([analyze] if option == "--top" else [])]:
        said = CliRunner(env={"TERM": "dumb"}).invoke(app, [str(tmp_path), option, str(10**12)])
        assert said.exit_code == 2
        assert f"Invalid value for '{option}'" in said.output


# Files


def test_a_file_that_is_too_long_is_refused_before_it_is_read_whole(write: Write) -> None:
    long = write(GOOD + "#" * LONGEST)
    assert problem(long) == f"{long}: must be at most 512 KiB long, but got 512 KiB or more"
    assert problem(Path("/dev/zero")) == "/dev/zero: must be at most 512 KiB long, but got 512 KiB or more"
    with pytest.raises(SpecError, match="must be at most 512 KiB long"):
        load_trial(long)
    room = LONGEST - len(GOOD)
    assert load_study(write(GOOD + "#" * room)).study.study == "s"


def test_a_study_file_that_is_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(GOOD + "#" * LONGEST)
    with pytest.raises(StoreError, match=r"study\.yaml: must be at most 512 KiB long"):
        read_study_file(Location.at(tmp_path))


@pytest.mark.parametrize(
    ("text", "rule", "line"),
    [
        ("".join(f"k{number}: 1\n" for number in range(50_000)), "a mapping of more than 1,000 keys", 1001),
        ("a: 1\n" * 50_000, "a mapping of more than 1,000 keys", 1001),
        ("a:\n" + "- 1\n" * 50_000, "a list of more than 10,000 items", 10_002),
        ("a: [" + "1, " * 50_000 + "]", "a list of more than 10,000 items", 1),
        ("a: " + "[" * 400_000, "nested deeper than 32 levels", 1),
        ("- " * 200_000, "nested deeper than 32 levels", 1),
        ("{a: " * 100_000, "nested deeper than 32 levels", 1),
    ],
    ids=["keys", "one key", "items", "items on a line", "lists", "lists in blocks", "mappings"],
)
def test_what_is_too_wide_or_deep_ends_the_reading(text: str, rule: str, line: int) -> None:
    document = read_yaml(text)
    assert document.unread == ((),)
    assert rule in document.findings[-1].rule
    assert document.findings[-1].line == line
    assert len(document.findings) <= 1000


def test_wide_files_within_the_bounds_are_read() -> None:
    keys = {f"k{number}": number for number in range(1000)}
    text = "".join(f"{key}: {value}\n" for key, value in keys.items())
    assert read_yaml(text).value == keys
    assert read_yaml("[" + "1, " * 10_000 + "]").value == [1] * 10_000


def test_too_many_overrides_are_counted(write: Write) -> None:
    said = problem(write(GOOD), *["search.trials=3"] * 1001)
    assert said == "--set: may be given at most 1000 times, but got 1,001"
    assert load_study(write(GOOD), ["search.trials=3"] * 1000).study.search.trials == 3


# Choices and lists


def test_a_choice_has_an_end() -> None:
    assert Choice(tuple(range(MOST_OPTIONS))).contains(MOST_OPTIONS - 1)
    with pytest.raises(RuleError, match=r"a choice has at most 1,000 options, but got 1,001: \[0, 1, 2, "):
        Choice(tuple(range(MOST_OPTIONS + 1)))


def test_a_list_has_an_end(write: Write) -> None:
    for value in ("[{}]", "{{choice: [[5], [{}]]}}"):
        longest, longer = (value.format(", ".join(["5"] * items)) for items in (100, 101))
        load_study(write(GOOD), [f"trial.model.hidden={longest}"])
        said = problem(write(GOOD), f"trial.model.hidden={longer}")
        assert "--set: trial.model.hidden: a list has at most 100 items, but got 101: [5, 5, " in said


def test_one_wrong_item_of_a_list_is_enough(write: Write) -> None:
    said = problem(write(GOOD), "trial.model.hidden=[x, y, 0, -1]")
    assert "must be null or a list, each a whole number >= 1 and <= 1000000, but got ['x', 'y', 0, -1]" in said


def test_choices_of_the_model_that_make_too_many_pairs_are_refused(write: Write) -> None:
    units = ", ".join(map(str, range(1, 400)))
    model = [f"trial.model.{key}={{choice: [{units}]}}" for key in ("latent_size", "noise_input")]
    said = problem(write(GOOD), *model)
    assert "all choices together must give at most 50,000 configurations to check" in said
    assert "but got 160,000 configurations" in said


# Problems


def test_of_very_many_problems_the_first_are_told(write: Write) -> None:
    wrong = "".join(f"  k{number}: 1\n" for number in range(500))
    with pytest.raises(SpecError) as caught:
        load_study(write(f"{GOOD}search:\n{wrong}"))
    assert len(caught.value.problems) == 500
    lines = str(caught.value).splitlines()
    assert len(lines) == SHOWN_PROBLEMS + 1
    assert lines[-1] == "and 400 more problems"


@pytest.mark.parametrize(
    ("path", "parents", "lies"),
    [
        (("a", "b"), {("a",)}, True),
        (("a", "b"), {("a", "b")}, True),
        (("a",), {("a", "b")}, False),
        (("ab",), {("a",)}, False),
        (("a", 0), {("a", 1)}, False),
        ((), {()}, True),
        (("a",), {()}, True),
        (("a",), set(), False),
    ],
)
def test_a_path_lies_under_its_parents(path: tuple[str | int, ...], parents: set[Any], lies: bool) -> None:
    assert lies_under(path, parents) == lies


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([1, [True, None], {"a": "x", "b": 0.5}], "[1, [true, null], {a: 'x', b: 0.5}]"),
        ([], "[]"),
        ({}, "{}"),
        ("x" * 98, f"'{'x' * 98}'"),
        ("x" * 99, f"'{'x' * 96}..."),
        (list(range(10**6)), "[" + ", ".join(map(str, range(27))) + "..."),
    ],
)
def test_a_value_is_shown_as_long_as_a_reader_wants(value: object, shown: str) -> None:
    assert show(value) == shown


def test_setting_a_path_leaves_the_mapping_as_it_was() -> None:
    before = {"a": {"b": 1}, "c": [1]}
    assert set_paths(before, {"a.b": 2, "d.e": 3}) == {"a": {"b": 2}, "c": [1], "d": {"e": 3}}
    assert before == {"a": {"b": 1}, "c": [1]}


# Work

HOSTILE = """
import json, sys
from pathlib import Path
from plgan_tune.config.errors import SpecError
from plgan_tune.config.load import load_study, study_from_mapping

def ask(name, make):
    try:
        make()
        print(json.dumps([name, 0, ""]), flush=True)
    except SpecError as error:
        print(json.dumps([name, len(error.problems), str(error)[:300]]), flush=True)

def mapping(**trial):
    return lambda: study_from_mapping({"study": "s", "trial": {"data": DATA, **trial}})

def file(text):
    def make():
        path = Path(sys.argv[1])
        path.write_text("study: s\\ntrial:\\n  data: {source: digits, labels: 20, validation: 400}\\n" + text)
        load_study(path)
    return make

DATA = {"source": "digits", "labels": 20, "validation": 400}
many = range(1, 60_001)
ask("options", mapping(loss={"switch_epoch": {"choice": list(many)}}))
ask("wrong options", mapping(loss={"alpha": {"choice": [-value for value in many]}}))
ask("items", mapping(model={"hidden": ["x"] * 60_000}))
wide = {"choice": [value / 1001 for value in range(1, 1001)]}
ask("pairs", mapping(model={key: wide for key in ("width", "noise_input", "noise_hidden", "latent_size", "dropout")}))
ask("overrides", lambda: load_study(default, [f"search.k{value}=1" for value in range(400_000)]))
ask("keys", file("".join(f"k{value}: 1\\n" for value in range(45_000))))
ask("aliases", file("x: [" + "*a, " * 90_000 + "]\\n"))
points = "".join(f"  - {{k{value}: *a}}\\n" for value in range(9_000))
ask("points", file("search:\\n  first:\\n" + points))
"""
"""The code of before took from five minutes to hours for each of the first five, and tens of seconds for the others."""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What each of them came to: how many problems, and the first of them."""
    script = HOSTILE.replace("default,", "sys.argv[2],")
    file = tmp_path_factory.mktemp("hostile") / "space.yaml"
    good = file.with_name("good.yaml")
    good.write_text(GOOD)
    root = str(Path(__file__).resolve().parents[2])
    said = subprocess.run(
        [sys.executable, "-c", script, str(file), str(good)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": root},
        timeout=170,
    )
    return {name: (count, text) for name, count, text in map(json.loads, said.stdout.splitlines())}


@pytest.mark.parametrize(
    ("name", "problems", "text"),
    [
        ("options", 1, "a choice has at most 1,000 options, but got 60,000: [1, 2, 3,"),
        ("wrong options", 1, "a choice has at most 1,000 options, but got 60,000: [-1, -2, -3,"),
        ("items", 1, "a list has at most 100 items, but got 60,000: ['x', 'x',"),
        ("pairs", 1, "configurations to check"),
        ("overrides", 1, "may be given at most 1000 times, but got 400,000"),
        ("keys", 1, "a mapping of more than 1,000 keys"),
        ("aliases", 10_001, "no alias is allowed"),
        ("points", 9_000, "no alias is allowed"),
    ],
)
def test_a_refusal_is_no_more_work_than_reading(
    refused: dict[str, tuple[int, str]], name: str, problems: int, text: str
) -> None:
    assert refused[name][0] == problems
    assert text in refused[name][1]
