"""The rules of a study's folder."""

from pathlib import Path

import pytest

from plgan_tune.store.location import Location
from plgan_tune.study.errors import StudyError
from plgan_tune.study.folder import study_location


def test_a_folder_with_a_study_is_taken(tmp_path: Path) -> None:
    assert study_location(tmp_path, "mine", "other", resume=False) == Location.at(tmp_path).join("mine")
    assert study_location(tmp_path, None, "other", resume=False) == Location.at(tmp_path).join("other")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study.yaml").write_text("study: mine")
    with pytest.raises(StudyError, match="already exists; add --resume"):
        study_location(tmp_path, "mine", "other", resume=False)
    assert study_location(tmp_path, "mine", "other", resume=True).name == "mine"


def test_a_folder_of_somebody_else_is_not_gone_on_with(tmp_path: Path) -> None:
    """Nor is anything of it removed: it may hold a folder of checkpoints, too."""
    theirs = tmp_path / "mine" / "checkpoints" / "my_model" / "weights.ckpt"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("years of work")
    with pytest.raises(StudyError, match=r"has no study\.yaml and holds checkpoints"):
        study_location(tmp_path, "mine", "other", resume=True)
    assert theirs.read_text() == "years of work"


@pytest.mark.parametrize("there", [[], ["_lock.json", "_live-0"]])
def test_what_a_start_that_wrote_nothing_has_left_may_be_begun_in(tmp_path: Path, there: list[str]) -> None:
    """A batch system asks for a resume from the first start on."""
    (tmp_path / "mine").mkdir()
    for name in there:
        (tmp_path / "mine" / name).touch()
    assert study_location(tmp_path, "mine", "other", resume=True).name == "mine"


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "-x", 201 * "a"])
def test_a_name_is_a_folder_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="--name must be at most 200 letters"):
        study_location(tmp_path, name, "other", resume=True)


def test_results_must_go_somewhere() -> None:
    with pytest.raises(StudyError, match="--results must be a folder"):
        study_location("", "mine", "other", resume=False)
