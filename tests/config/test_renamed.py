"""What was `trial.profile` is `trial.method`: files, points and studies of earlier versions are read as before."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from plgan_tune.analyze import app as analyze
from plgan_tune.config.errors import SpecError
from plgan_tune.config.load import load_study, load_trial, study_from_mapping
from plgan_tune.config.renamed import with_new_names
from plgan_tune.config.study import StudySpec
from plgan_tune.search import app as search
from plgan_tune.store.location import Location
from plgan_tune.study.history import read_history
from plgan_tune.study.study_file import read_study_file

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def study_of(**trial: Any) -> StudySpec:
    data = {"source": "digits", "labels": 20, "validation": 400}
    return study_from_mapping({"study": "s", "trial": {**trial, "data": data}})


@pytest.mark.parametrize(
    ("profile", "method"),
    [("recipe", "pl_gan"), ("patent", "patent"), ({"choice": ["patent", "recipe"]}, {"choice": ["patent", "pl_gan"]})],
)
def test_a_profile_is_a_method(profile: Any, method: Any) -> None:
    old, new = study_of(profile=profile), study_of(method=method)
    assert old == new
    assert old.any_trial() == new.any_trial()


def test_a_point_to_try_first_is_renamed_and_a_note_says_so(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    text = (FIXTURES / "profile_searched.yaml").read_text()
    file.write_text(text.replace("search: {", "search: {first: [{profile: recipe, loss.alpha: 0.5}], "))
    loaded = load_study(file)
    assert loaded.study.search.first == ({"method": "pl_gan", "loss.alpha": 0.5},)
    assert loaded.notes == ("trial.profile of earlier versions is read as trial.method, and its recipe as pl_gan",)


def test_a_set_of_the_new_name_lies_over_the_old_one() -> None:
    assert load_study(FIXTURES / "earlier.yaml", ["trial.method=patent"]).study.any_trial().method == "patent"
    assert load_trial(FIXTURES / "first_release" / "best.yaml", ["trial.method=patent"]).method == "patent"


def test_a_set_of_the_old_name_says_the_new_one() -> None:
    with pytest.raises(SpecError, match=r"trial\.profile: must be called trial\.method, with pl_gan"):
        load_study(FIXTURES / "earlier.yaml", ["trial.profile=patent"])


@pytest.mark.parametrize("trial", [{"profile": "recip"}, {"profile": "patent", "method": "patent"}, {"profile": 3}])
def test_a_wrong_profile_and_both_names_are_refused(trial: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        study_of(**trial)


@pytest.mark.parametrize("file", [None, 3, [], {"trial": None}, {"trial": {"method": "patent"}}])
def test_any_other_content_is_left_alone(file: Any) -> None:
    assert with_new_names(file) == (file, ())


def test_a_study_that_searched_the_profile_is_read_resumed_and_analysed(tmp_path: Path) -> None:
    results = Path(shutil.copytree(FIXTURES, tmp_path / "results"))
    folder = results / "profile_searched"
    before, study = pd.read_parquet(folder / "trials"), Location.at(folder)
    expected = before.params_profile.replace("recipe", "pl_gan")
    assert set(expected) == {"pl_gan", "patent"}
    held = read_history(study, read_study_file(study).spec).ended
    assert [row.params["method"] for row in held] == list(expected)
    words = ["--space", f"{folder}.yaml", "--results", str(results), "--name", folder.name]
    resumed = CliRunner().invoke(search, [*words, "--in-process", "--resume", "--set", "search.trials=4"])
    assert resumed.exit_code == 0, resumed.output
    after = pd.read_parquet(folder / "trials")
    assert list(after.params_method[:3]) == list(expected)
    assert list(after.val_error_last[:3]) == list(before.val_error_last)
    looked = CliRunner().invoke(analyze, [str(folder)])
    assert looked.exit_code == 0, looked.output
