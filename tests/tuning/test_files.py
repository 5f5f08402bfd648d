"""The rules of a study's folder."""

from pathlib import Path

import pytest

from plgan_tune.store.location import Location
from plgan_tune.tuning.driver import study_location
from plgan_tune.tuning.plan import StudyError


def test_a_folder_with_anything_but_a_study_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text("study: mine")
    assert study_location(tmp_path, "mine", resume=False) == Location.at(tmp_path).join("mine")
    (tmp_path / "mine" / "epochs").mkdir()
    with pytest.raises(StudyError, match="already exists; add --resume"):
        study_location(tmp_path, "mine", resume=False)
    assert study_location(tmp_path, "mine", resume=True).name == "mine"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "-x"])
def test_a_name_is_a_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="--name must be letters"):
        study_location(tmp_path, name, resume=False)
