"""docs/space.md lists the keys, bounds and defaults as they are, and its examples load."""

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from pydantic import BaseModel

from plgan_tune.config.advice import advice, rungs
from plgan_tune.config.defaults import latest_edition, with_defaults
from plgan_tune.config.domains import NAMES, parse_domain
from plgan_tune.config.keys import KNOWN, Keys
from plgan_tune.config.load import default_space, load_study, study_from_mapping
from plgan_tune.config.study import (
    AshaSpec,
    CmaesSpec,
    ConfirmSpec,
    GpSpec,
    ResourcesSpec,
    SearchSpec,
    StudySpec,
    TpeSpec,
)
from plgan_tune.config.trial import Kind, Method
from plgan_tune.config.yaml import read_yaml

DOCUMENT: Final = (Path(__file__).resolve().parents[2] / "docs" / "space.md").read_text(encoding="utf-8")
SHAPES: Final = list(product(get_args(Method), get_args(Kind)))
REQUIRED: Final = "**required**"
NAMED: Final = {"study", "trial.data.source", "trial.data.labels", "trial.data.validation"}
SHORTEST: Final = {"study": "s", "trial": {"data": {"source": "digits", "labels": 20, "validation": 400}}}


def _section(heading: str) -> str:
    return DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def _reference() -> dict[str, list[str]]:
    """Key -> what may stand there, default and meaning, of the document's tables of keys in their order."""
    found: dict[str, list[str]] = {}
    for heading, body in re.findall(r"\n## (.+)\n((?:(?!\n## )[\s\S])*)", DOCUMENT):
        prefix = f"{heading.strip('`')}." if heading.startswith("`") and heading != "`--set`" else ""
        if "| key | may be | default | meaning |" in body:
            rows = {f"{prefix}{key.strip('`')}": cells for key, *cells in _rows(body)}
            assert not rows.keys() & found.keys()
            found |= rows
    return found


def _leaves(keys: Keys, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, node in keys.items():
        if isinstance(node, dict) and node:
            yield from _leaves(node, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "{}" if isinstance(node, dict) else node


def _short(allowed: str) -> str:
    """What the checks say may stand at a key, in the document's notation."""
    text = re.sub(r"a (whole|finite) number", lambda found: {"whole": "whole", "finite": "number"}[found[1]], allowed)
    text = re.sub(
        r"(whole|number) (>=?) (\S+) and (<=?) (\S+)",
        lambda found: f"{found[3]} {'<=' if found[2] == '>=' else '<'} {found[1]} {found[4]} {found[5]}",
        text,
    )
    text = re.sub(r"a list of (\d+), each (.+)", r"[\2] x \1", text)
    return re.sub(r"a list, each (?:a )?(.+)", r"[\1]", text).removeprefix("one of ")


def _at(mapping: Mapping[str, Any], path: str) -> Any:
    value: Any = mapping
    for key in path.split("."):
        value = value[key]
    return value


def _model_defaults(model: type[BaseModel], prefix: str) -> dict[str, Any]:
    return {
        f"{prefix}.{name}": REQUIRED if field.is_required() else field.default
        for name, field in model.model_fields.items()
    }


def _defaults(method: str, kind: str) -> dict[str, Any]:
    """The default of every key, as the code has it; `REQUIRED` where there is none."""
    trial = with_defaults({"method": method, "model": {"kind": kind}})
    fixed = {
        **_model_defaults(SearchSpec, "search"),
        **_model_defaults(ResourcesSpec, "resources"),
        **_model_defaults(TpeSpec, "search.sampler.tpe"),
        **_model_defaults(CmaesSpec, "search.sampler.cmaes"),
        **_model_defaults(GpSpec, "search.sampler.gp"),
        **_model_defaults(AshaSpec, "search.early_stopping.asha"),
        **_model_defaults(ConfirmSpec, "search.confirm"),
        "search.first": list(SearchSpec().first),
        "search.warm_start": list(SearchSpec().warm_start),
        "search.rules": list(SearchSpec().rules),
        "search.sampler.random": SearchSpec().sampler.random,
        "search.sampler.grid": SearchSpec().sampler.grid,
        "edition": latest_edition(),
        "trial.method": with_defaults({})["method"],
        "trial.model.kind": with_defaults({"method": method})["model"]["kind"],
        **dict.fromkeys(NAMED, REQUIRED),
    }
    return {
        path: fixed[path] if path in fixed else _at(trial, path.removeprefix("trial.")) for path, _ in _leaves(KNOWN)
    }


def _documented(cell: str, method: str, kind: str) -> Any:
    """The value of a cell such as "`0.5`; sgan, patent mlp `1.0`": of the last entry where all words of a part fit."""
    if cell == REQUIRED:
        return REQUIRED
    value = None
    for entry in cell.split("; "):
        match = re.fullmatch(r"([a-z_, ]*)`(.+)`", entry)
        assert match, cell
        parts = [set(part.split()) for part in match[1].split(",")]
        assert all(part <= {*get_args(Method), *get_args(Kind)} for part in parts), cell
        if any(part <= {method, kind} for part in parts):
            value = read_yaml(match[2]).value
    return value


def _fences(language: str) -> list[str]:
    return re.findall(rf"\n```{language}\n(.*?)\n```\n", DOCUMENT, flags=re.DOTALL)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
        for key, value in over.items()
    }
    return {**under, **both}


def _laid_over_the_shortest(yaml: str) -> StudySpec:
    document = read_yaml(yaml)
    assert document.findings == ()
    return study_from_mapping(_merged(SHORTEST, document.value))


def test_the_tables_list_exactly_the_keys_in_their_order() -> None:
    assert list(_reference()) == [path for path, _ in _leaves(KNOWN)]


def test_a_table_says_what_may_stand_at_each_key() -> None:
    documented = {path: cells[0] for path, cells in _reference().items()}
    assert documented == {path: _short(allowed) for path, allowed in _leaves(KNOWN)}


@pytest.mark.parametrize(("method", "kind"), SHAPES)
def test_a_table_gives_each_key_its_default(method: str, kind: str) -> None:
    documented = {path: _documented(cells[1], method, kind) for path, cells in _reference().items()}
    expected = _defaults(method, kind)
    assert documented == expected
    assert {path: type(value) for path, value in documented.items()} == {
        path: type(value) for path, value in expected.items()
    }


def test_every_key_has_a_meaning() -> None:
    assert all(len(cells) == 3 and cells[2] for cells in _reference().values())


def test_the_named_keys_alone_are_required() -> None:
    assert study_from_mapping(SHORTEST).search == SearchSpec()
    documented = {path for path, cells in _reference().items() if cells[1] == REQUIRED}
    assert documented == NAMED | {"search.early_stopping.asha.grace_period"}


def _differing(method: str, kind: str) -> dict[str, tuple[Any, Any]]:
    """Key of a trial -> its default by pl_gan and by another method."""
    ours, theirs = _defaults("pl_gan", kind), _defaults(method, kind)
    return {path.removeprefix("trial."): (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]}


def test_patent_differs_in_exactly_the_listed_keys() -> None:
    listed: dict[tuple[str, str], tuple[Any, Any]] = {}
    for name, pl_gan, patent in _rows(_section("Methods").partition("differ in these keys")[2]):
        key, _, only = name.partition(" ")
        values = (read_yaml(pl_gan.strip("`")).value, read_yaml(patent.strip("`")).value)
        for kind in [only.strip("()")] if only else get_args(Kind):
            listed[key.strip("`"), kind] = values
    found = {(key, kind): both for kind in get_args(Kind) for key, both in _differing("patent", kind).items()}
    assert listed == found


def test_every_method_is_listed_with_what_it_changes() -> None:
    rows = _rows(_section("Methods").partition("differ in these keys")[0])
    assert [name.strip("`") for name, *_ in rows] == list(get_args(Method))
    for name, _, changes in rows[2:]:
        always, *others = re.split(r"; (\w+): ", changes)
        common, of_kind = _changes(always), dict(zip(others[::2], map(_changes, others[1::2]), strict=True))
        method = name.strip("`")
        for kind in get_args(Kind):  # one may have by itself what the method changes in the others
            values = {**common, **of_kind.get(kind, {})}
            defaults = _defaults(method, kind)
            assert values == {key: defaults[f"trial.{key}"] for key in values}
            assert {*_differing(method, kind)} <= values.keys()


def _changes(text: str) -> dict[str, Any]:
    """The values of "`loss.alpha: 1.0`, `loss.beta: 0.0`" by their keys."""
    listed = dict(found.split(": ") for found in re.findall(r"`(.+?)`", text))
    return {key: read_yaml(value).value for key, value in listed.items()}


def test_the_five_domains_are_listed_with_examples_that_load() -> None:
    rows = _rows(_section("Domains"))
    assert [name.strip("`") for name, *_ in rows] == list(NAMES)
    for name, example, _ in rows:
        path, _, domain = example.strip("`").partition(": ")
        section, _, leaf = path.partition(".")
        mapping = read_yaml(domain).value
        assert list(mapping) == [name.strip("`")]
        study = study_from_mapping(_merged(SHORTEST, {"trial": {section: {leaf: mapping}}}))
        assert study.domains == {path: parse_domain(mapping)}


@pytest.mark.parametrize("yaml", _fences("yaml"))
def test_an_example_is_a_space_file_or_a_part_of_one(yaml: str) -> None:
    study = _laid_over_the_shortest(yaml)
    assert study_from_mapping(study.as_mapping()) == study


def test_the_whole_examples_load_as_files(tmp_path: Path) -> None:
    whole = [yaml for yaml in _fences("yaml") if yaml.startswith("study:")]
    assert len(whole) == 2
    for number, yaml in enumerate(whole):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml, encoding="utf-8")
        loaded = load_study(path)
        assert loaded.notes == ()
        assert loaded.study.domains
        assert advice(loaded.study) == []


@pytest.mark.parametrize("yaml", [yaml for yaml in _fences("yaml") if "rungs at" in yaml])
def test_the_rungs_that_an_example_names_are_its_rungs(yaml: str) -> None:
    study = _laid_over_the_shortest(yaml)
    named = re.search(r"rungs at ([\d, and]+\d)", yaml)
    asha = study.search.early_stopping.asha
    assert named
    assert asha
    assert tuple(map(int, re.findall(r"\d+", named[1]))) == rungs(asha, study.any_trial().training.epochs)


def test_every_set_on_a_command_line_is_accepted_by_the_default_space() -> None:
    words = [shlex.split(line, comments=True) for fence in _fences("sh") for line in fence.splitlines()]
    overrides = [line[place + 1] for line in words for place, word in enumerate(line) if word == "--set"]
    assert len(overrides) == 6
    for override in overrides:
        load_study(default_space(), [override])


def test_links_inside_the_document_lead_somewhere() -> None:
    headings = re.findall(r"^## (.+)$", DOCUMENT, flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", DOCUMENT)
    assert links
    assert set(links) <= anchors
