"""A study's own file, as analysis, a resume, a warm start and an evaluation read it."""

import re
from pathlib import Path

import pytest

from plgan_tune.config.load import study_from_mapping
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.study_file import STUDY_FILE, StudyFile, read_study_file

STUDY = {
    "study": "small",
    "trial": {"data": {"source": "digits", "labels": 20, "validation": 200}, "loss": {"alpha": {"uniform": [0, 1]}}},
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = StudyFile(study_from_mapping(STUDY), ({"started_at": "2026-01-01T00:00:00+00:00", "torch": "2.15"},))
    file.write(Location.at(tmp_path))
    assert read_study_file(Location.at(tmp_path)) == file


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("study: small", "study: [small"), ":2: must be well-formed"),
        (
            ("trials: 50", "trials: ten"),
            r":4: search\.trials: must be a whole number >= 1 and <= 1000000, but got 'ten'",
        ),
        (("made_with: []", "made_with: 5"), r":\d+: made_with: must be a list of mappings, but got 5"),
        (("made_with: []", "made_with: [5]"), r":\d+: made_with: must be a list of mappings, but got \[5\]"),
        (None, ": must be a mapping"),
    ],
)
def test_what_is_broken_is_said_with_its_line(tmp_path: Path, change: tuple[str, str] | None, says: str) -> None:
    StudyFile(study_from_mapping(STUDY)).write(Location.at(tmp_path))
    file = tmp_path / STUDY_FILE
    before = file.read_text()
    after = before.replace(*change) if change else ""
    assert after != before
    file.write_text(after)
    with pytest.raises(StoreError) as refused:
        read_study_file(Location.at(tmp_path))
    assert re.search(rf"{re.escape(str(file))}{says}", str(refused.value)), refused.value


def test_what_is_no_study_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, says in (
        (tmp_path / "file", "a study is a folder, but {} is a file"),
        (tmp_path / "nowhere", "a study is a folder, but there is no {}"),
        (tmp_path, "a study's folder holds study.yaml, but {} does not"),
    ):
        with pytest.raises(StoreError) as refused:
            read_study_file(Location.at(place))
        assert str(refused.value) == says.format(place)
