"""`trial.own` of a space file: its file is read and hashed, and never run."""

from pathlib import Path
from typing import Any

import pytest

from plgan_tune.analysis.study import read_study
from plgan_tune.config.domains import LogUniform
from plgan_tune.config.errors import SpecError
from plgan_tune.config.load import load_study, load_trial, study_from_mapping
from plgan_tune.config.own import sha256_of
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.store.location import Location
from plgan_tune.study.study_file import StudyFile

RAISES = b"raise SystemExit('the file was run')\n"
DATA = {"source": "digits", "labels": 20, "validation": 100}


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A space file beside a user's file that ends the process where it is run."""
    (tmp_path / "mine.py").write_bytes(RAISES)
    return write(tmp_path, {"file": "mine.py", "entropy": {"log_uniform": [1e-3, 1.0]}, "words": "some"})


def write(folder: Path, own: Any, **sections: Any) -> Path:
    file = folder / "space.yaml"
    file.write_text(dump_yaml({"study": "own", **sections, "trial": {"data": DATA, "own": own}}))
    return file


def problems(space: Path, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as refused:
        load_study(space, overrides)
    return [f"{problem.key}: {problem.rule}, but got {problem.value}" for problem in refused.value.problems]


def test_the_file_is_named_by_its_place_and_hash_and_its_keys_are_searched(space: Path) -> None:
    study = load_study(space).study
    assert study.domains == {"own.entropy": LogUniform(1e-3, 1.0)}
    assert study.columns == {"own.entropy": "params_entropy"}
    own = study.trial({"own.entropy": 0.25}).own
    assert (own.file, own.sha256) == (str(space.with_name("mine.py")), sha256_of(RAISES))
    assert own.values == {"entropy": 0.25, "words": "some"}
    assert study_from_mapping(study.as_mapping()) == study


def test_a_study_is_read_and_analysed_without_running_it(space: Path, tmp_path: Path) -> None:
    StudyFile(load_study(space).study).write(Location.at(tmp_path / "study"))
    assert list(read_study(str(tmp_path / "study")).spec.domains) == ["own.entropy"]


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    trial = study_from_mapping({"study": "s", "trial": {"data": DATA}}).any_trial()
    assert (trial.own.file, trial.own.sha256, trial.own.values) == (None, None, {})


def test_set_reaches_its_keys_and_its_file_is_where_it_is_typed(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.py").write_bytes(b"other")
    monkeypatch.chdir(tmp_path / "elsewhere")
    own = load_trial(space, ["trial.own.entropy=0.5", "trial.own.file=other.py", "trial.own.new=true"]).own
    assert own.values == {"entropy": 0.5, "words": "some", "new": True}
    assert own.sha256 == sha256_of(b"other")


def test_a_tilde_is_the_home_folder_in_the_file_and_in_set(
    space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "other.py").write_bytes(b"other")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_study(space, ["trial.own.file=~/other.py"]).study.template["own"]["sha256"] == sha256_of(b"other")
    written = load_study(write(tmp_path, {"file": "~/other.py"})).study
    assert written.template["own"]["file"] == str(tmp_path / "home" / "other.py")


def test_a_point_to_try_first_and_a_rule_may_name_its_keys(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(RAISES)
    own = {"file": "mine.py", "one": {"uniform": [0.0, 1.0]}, "other": {"uniform": [0.0, 1.0]}}
    search = {"first": [{"own.one": 0.25, "own.other": 0.5}], "rules": ["own.one < own.other"]}
    space = write(tmp_path, own, search=search)
    study = load_study(space).study
    assert study.holds({"own.one": 0.1, "own.other": 0.2})
    assert not study.holds({"own.one": 0.3, "own.other": 0.2})
    loaded = load_study(space, ["trial.own.other=0.75"])
    assert loaded.study.search.first == ({"own.one": 0.25},)
    assert loaded.notes == ("search.first[0] loses own.other, which --set has fixed",)
    assert list(load_study(write(tmp_path, dict(reversed(own.items())))).study.domains) == ["own.other", "own.one"]


@pytest.mark.parametrize(
    ("own", "problem"),
    [
        ({"file": "none.py"}, "own.file: must be a file that can be read, but got {folder}/none.py: No such file"),
        ({"file": "."}, "own.file: must be a file that can be read, but got {folder}: Is a directory"),
        ({"file": "~no_such/m.py"}, "own.file: must be a file that can be read, but got {folder}/~no_such/m.py: No"),
        ({"file": "a\0b"}, "own.file: must be a file that can be read, but got {folder}/a\\0b: embedded null"),
        ({"file": 3}, "own.file: must be null or text, but got 3"),
        ({"entropy": 1.0}, "own.file: must be given: the file that defines own.entropy, but got nothing"),
        ({"file": None, "a": {"int": [1, 2]}}, "own.file: must be given: the file that defines own.a, but got nothing"),
        ({"file": {"choice": ["mine.py"]}}, "own.file: no domain is allowed here: a study has one file, whose keys"),
        (
            {"file": "mine.py", "sha256": "abc"},
            "own.sha256: must be the hash of what {folder}/mine.py holds, '{sha256}', but got 'abc'",
        ),
        ({"file": "mine.py", "My key": 1}, "own.My key: must be a name of small letters, digits and '_', the first a"),
        ({"file": "mine.py", "a": [1]}, "own.a: must be a number, text, true or false, or a domain of these, but got"),
        ({"file": "mine.py", "a": None}, "own.a: must be a number, text, true or false, or a domain of these, but got"),
        (
            {"file": "mine.py", "a": {"choice": [[1], [2]]}},
            "own.a: must be a number, text, true or false, or a domain of these, but got [1]",
        ),
        ("mine.py", "own: must be a mapping of file, sha256, but got mine.py"),
    ],
)
def test_what_a_space_file_may_not_say(own: Any, problem: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(RAISES)
    told = problems(write(tmp_path, own))
    assert any(
        line.startswith(f"trial.{problem.format(folder=tmp_path, sha256=sha256_of(RAISES))}") for line in told
    ), told


def test_a_large_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"#" * (2**20 + 1))
    (told,) = problems(write(tmp_path, {"file": "mine.py"}))
    assert told.startswith("trial.own.file: must be a file of at most 1,024 KiB, but got ")
