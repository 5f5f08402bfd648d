"""The judge of a study: trained once, written, named by its hash, and the same for all who resume."""

import hashlib
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from rich.console import Console

from plgan_tune.analysis.findings import findings
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import read_study
from plgan_tune.config.errors import RuleError
from plgan_tune.console.format import percent
from plgan_tune.console.judge import judge_in_words, note_on_judge
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.judge_facts import JudgeFacts
from plgan_tune.study.study_file import read_study_file
from plgan_tune.training import judge as module
from tests.factories import Search, small

GENERATED = ["val_distance", "val_distance_raw", "val_coverage", "val_score", "val_transport"]


def said_by(search: Search, **options: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=300)
    search(small(**options.pop("spec")), console=console, **options)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def epochs(study: Path) -> pd.DataFrame:
    rows = pd.read_parquet(study / "epochs")
    return rows[rows["trial_id"] == "t0000"].sort_values("epoch", ignore_index=True)


def test_a_study_has_one_judge_that_a_resume_keeps(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    study = tmp_path / "study"
    said = said_by(search, spec={"trials": 1})
    content = (study / "judge.pt").read_bytes()
    facts = read_study_file(Location.at(study)).judge
    assert facts is not None
    assert facts.sha256 == hashlib.sha256(content).hexdigest()
    assert facts.labels == 300
    assert f"judge of generated images: {judge_in_words(facts)}" in said
    assert epochs(study)[GENERATED].notna().all(axis=None)

    seen = read_study(study)
    assert seen.judge == facts
    assert note_on_judge(facts) in findings(seen)  # of so few images, it errs on 11 %
    page = report_html(seen).replace("\N{NO-BREAK SPACE}", " ")
    assert f"to a judge that knows 300 labels and errs on {percent(facts.error)}" in page

    monkeypatch.setattr(module, "train_judge", lambda data: pytest.fail("trained again"))
    again = said_by(search, spec={"trials": 2}, resume=True)
    assert f"judge of generated images: {judge_in_words(facts)}" in again
    assert not any("judge is new" in line for line in again)
    assert (study / "judge.pt").read_bytes() == content
    search(small(trials=2), name="other")  # of the same data: from the cache
    assert (tmp_path / "other" / "judge.pt").read_bytes() == content
    columns = ["epoch", "val_error", *GENERATED]
    pd.testing.assert_frame_equal(epochs(study)[columns], epochs(tmp_path / "other")[columns])


def test_data_without_labels_have_none_and_no_metric_of_it(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plgan_tune.backends.judging.judge_of", lambda spec, data: None)
    said = said_by(search, spec={"trials": 1})
    assert "no judge of generated images: fewer than two classes have labels besides validation" in said
    rows = epochs(tmp_path / "study")
    assert rows[GENERATED[:-1]].isna().all(axis=None)
    assert rows["val_transport"].between(0, 1).all()
    with pytest.raises(RuleError, match=r"search\.metric must be one without a judge, such as val_transport, unless"):
        search(small(trials=1, metric="val_distance"), name="refused")
    assert not (tmp_path / "refused").exists()


def test_a_study_of_an_earlier_version_gets_one_with_a_note(search: Search, tmp_path: Path) -> None:
    study = tmp_path / "study"
    search(small(trials=1))
    content = yaml.safe_load((study / "study.yaml").read_text())
    del content["made_with"][0]["judge"]
    (study / "study.yaml").write_text(yaml.safe_dump(content))
    (study / "judge.pt").rename(tmp_path / "judge.pt")
    said = said_by(search, spec={"trials": 2}, resume=True)
    assert "note: the judge is new: val_distance of earlier epochs is missing, or by another" in said
    assert (study / "judge.pt").read_bytes() == (tmp_path / "judge.pt").read_bytes()
    assert "judge" in yaml.safe_load((study / "study.yaml").read_text())["made_with"][1]


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        (lambda held: held[:-1], r"judge\.pt is damaged or no judge: .*; put a copy back, or remove the file from"),
        (None, r"judge\.pt must be the judge of this study, of sha256 [0-9a-f]{64}, but it has [0-9a-f]{64}; put a"),
    ],
)
def test_another_file_in_its_place_is_refused(search: Search, tmp_path: Path, change: Any, refusal: str) -> None:
    search(small(trials=1))
    file = tmp_path / "study" / "judge.pt"
    if change is None:
        other = module.decode_judge(file.read_bytes(), "x")
        other.network.get_parameter("out.bias").data += 1
        file.write_bytes(module.encode_judge(other))
    else:
        file.write_bytes(change(file.read_bytes()))
    with pytest.raises(StoreError, match=refusal):
        search(small(trials=2), resume=True)


def test_a_study_yaml_with_a_broken_judge_is_refused(search: Search, tmp_path: Path) -> None:
    search(small(trials=1))
    file = tmp_path / "study" / "study.yaml"
    text = file.read_text()
    for one, other, refusal in (
        ("floor: ", "roof: ", "judge of a start must be a mapping of sha256, labels, error, floor, but got"),
        ("labels: 300", "labels: many", "judge of a start labels must be a number, but got"),
    ):
        assert one in text
        file.write_text(text.replace(one, other))
        with pytest.raises(StoreError, match=refusal):
            read_study_file(Location.at(file.parent))


def test_a_judge_that_errs_often_is_noted() -> None:
    assert note_on_judge(JudgeFacts("", 10, 0.1, 1.0)) is None
    note = note_on_judge(JudgeFacts("", 10, 0.101, 1.0))
    assert note is not None
    assert note.startswith("the judge errs on 10.10 % of the validation images: val_distance,")
