"""The evaluation of a study without labels, whose generators are measured."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from plgan_tune.analysis.query import query
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.seeds import DISTANCE, ERROR, TRANSPORT, beside_published, outcome_of, outcome_of_study
from plgan_tune.analysis.study import read_study
from plgan_tune.backends.judging import decoded
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec, flatten
from plgan_tune.data.dataset import load_dataset, load_test
from plgan_tune.evaluation import fought
from plgan_tune.evaluation.arena import fight, fighter
from plgan_tune.evaluation.configurations import generator_configurations, patent_configuration, same
from plgan_tune.evaluation.plan import plan_evaluation
from plgan_tune.evaluation.quality import Yardstick, training_images
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.read import evaluation_rows, read_evaluations
from plgan_tune.store.schemas import battles_schema
from plgan_tune.trained import read_checkpoint
from plgan_tune.training.judge import encode_judge, train_judge
from plgan_tune.training.measures import frechet_distance, moments
from tests.evaluation.test_evaluate import evaluated, table
from tests.factories import START, make_trial

COMPLETED = TrialStatus.COMPLETED
CPU = torch.device("cpu")
NAMES = [f"{method}-t{steps}" for method in ("gran", "wirgan", "gp_wirgan") for steps in (1, 3, 5)]


def gan_study(**method: Any) -> StudySpec:
    """A search of GP-WIRGAN's learning rate, small and short."""
    trial = {
        "method": "gp_wirgan",
        "data": {"source": "digits", "labels": 0, "validation": 100, "limit": 300},
        "model": {"width": 0.1, "steps": 1},
        "optim": {"lr_generator": {"log_uniform": [1e-5, 1e-2]}, "average_decay": 0.5},
        "training": {"epochs": 2},
    }
    search = {"trials": 2, "concurrent": 1, "metric": "val_distance"}
    return study_from_mapping({"study": "gan", "search": search, "trial": {**trial, **method}})


def trials() -> list[TrialRow]:
    of: dict[str, Any] = {"epochs": 2, "best_epoch": 2, "split_hash": "0", "ended_at": START}
    return [
        make_trial(n, COMPLETED, {"optim.lr_generator": rate}, distance, **of, seq=2 * n + 2, trial_id=f"t{n:04d}")
        for n, (rate, distance) in enumerate([(1e-4, 90.0), (1e-3, 40.0)])
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, write_search: Callable[..., Path]) -> tuple[Path, Any]:
    """The search evaluated with two seeds. Tests only look at it."""
    folder = write_search(tmp_path_factory.mktemp("gan") / "study", gan_study(), trials())
    return folder, evaluated(folder, "--top", "1", "--seeds", "2")


def test_what_is_trained_is_the_best_and_the_method_s_own_settings() -> None:
    study = gan_study()
    plan = plan_evaluation(Location.at("x"), study, trials(), top=1, seeds=1, methods=True, refit=False)
    others = [name for name in NAMES if name != "gp_wirgan-t1"]
    assert [one.name for one in plan.configurations] == ["t0001", "gp_wirgan", *others]
    assert plan.notes == ("gp_wirgan-t1 has the settings of gp_wirgan: see the row gp_wirgan",)
    assert (plan.reference, plan.generators) == ("gp_wirgan", True)
    own = flatten(plan.configurations[1].trial.model_dump(mode="json"))
    fixed = {"model.width": 0.1, "model.steps": 1, "optim.average_decay": 0.5, "training.epochs": 2}
    assert {key: own[key] for key in fixed} == fixed
    assert own["optim.lr_generator"] == 1e-4


def test_the_comparisons_share_data_width_and_length_and_have_settings_of_their_own() -> None:
    reference = patent_configuration(gan_study(model={"width": 0.1, "steps": 3}))
    found = {one.name: one.trial for one in generator_configurations(reference, 1)}
    assert list(found) == NAMES
    for name, trial in found.items():
        assert (trial.method, trial.model.steps) == (name[:-3], int(name[-1]))
        assert trial.data == reference.trial.data
        assert (trial.model.width, trial.training.epochs, trial.optim.average_decay) == (0.1, 2, 0.5)
    assert [trial.loss.game for trial in found.values()] == ["logistic"] * 3 + ["wasserstein"] * 6
    assert found["gran-t3"].model.canvas == "sum"
    assert [name for name in NAMES if same(found[name], reference.trial)] == ["gp_wirgan-t3"]
    wgan = patent_configuration(gan_study(method="wgan", model={"width": 0.1}))
    assert same(found["wirgan-t1"], wgan.trial)  # WIRGAN that draws once is WGAN


def test_a_row_a_configuration_and_seed(done: tuple[Path, Any]) -> None:
    folder, result = done
    assert result.exit_code == 0, result.output
    rows = table(folder)
    assert sorted(rows.trial_id) == ["gp_wirgan-s1", "gp_wirgan-s2", "t0001-s1", "t0001-s2"]
    assert rows[["test_error", "test_error_raw"]].isna().all(axis=None)
    measured = ["test_distance", "test_distance_raw", "test_coverage", "test_transport", "classifier_score", "doubt"]
    assert rows[[*measured, "val_distance_last", "seconds_per_step"]].notna().all(axis=None)
    assert (rows.test_distance > 3 * rows.test_distance_real).all()  # two epochs make no digits
    assert rows.test_coverage_real.between(0.8, 1).all()
    assert (rows.doubt_real < rows.doubt).all()
    assert rows[[name for name in rows.columns if name.endswith("_real")]].nunique().eq(1).all()
    assert "study: distance from the test images" in result.output.splitlines()
    assert "difference from the settings of gp_wirgan, seed by seed" in result.output


def test_every_pair_battles_over_the_seeds(done: tuple[Path, Any]) -> None:
    said = done[1].output.splitlines()
    assert "battles: each one's D on the other's images (GAM)" in said
    (line,) = [line for line in said if line.startswith("t0001 : gp_wirgan")]
    assert line.split()[3] == "2"
    assert not any("\N{HORIZONTAL ELLIPSIS}" in cell for cell in said)


def test_a_trained_gan_battles_itself_to_a_draw_whatever_constant_its_critic_adds(done: tuple[Path, Any]) -> None:
    data = load_dataset(gan_study().any_trial().data)
    test, _ = load_test(gan_study().any_trial().data)
    one, other = (read_checkpoint(done[0] / "seeds" / "checkpoints" / name) for name in ("t0001-s1", "gp_wirgan-s1"))
    moved = dict(one.content, averaged=dict(one.content["averaged"]))
    (bias,) = [name for name in moved["averaged"] if name.endswith("out.bias")]
    moved["averaged"][bias] = moved["averaged"][bias] + 4
    fighters = {
        name: fighter(checkpoint, None, training_images(data), test, CPU)
        for name, checkpoint in {"a": one, "b": other, "a again": one, "a moved": replace(one, content=moved)}.items()
    }
    found = {(a, b): fight(fighters[a], fighters[b], CPU) for a in fighters for b in fighters}
    assert found["a", "a again"].r_sample == found["a", "a again"].r_test == 1
    assert found["a", "a moved"].verdict == "not told apart"
    assert found["b", "a moved"].r_sample == pytest.approx(found["b", "a again"].r_sample, rel=0.02)  # rounding of ties
    assert found["b", "a"].r_sample == pytest.approx(1 / found["a", "b"].r_sample)


def battles(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "battles")


def test_battles_are_kept_a_row_a_pair_and_seed(done: tuple[Path, Any]) -> None:
    rows = battles(done[0])
    assert list(rows.columns) == battles_schema().names
    assert rows[["first", "second", "seed"]].to_numpy().tolist() == [["t0001", "gp_wirgan", seed] for seed in (1, 2)]
    data, (test, _) = load_dataset(gan_study().any_trial().data), load_test(gan_study().any_trial().data)
    checkpoints = [read_checkpoint(done[0] / "seeds" / "checkpoints" / name) for name in ("t0001-s2", "gp_wirgan-s2")]
    one, other = (fighter(checkpoint, None, training_images(data), test, CPU) for checkpoint in checkpoints)
    found, row = fight(one, other, CPU), rows.iloc[1]
    assert (row.r_test, row.r_sample, row.r_sample_low) == (found.r_test, found.r_sample, found.low)
    assert (row.threshold_first, row.threshold_second) == (one.calibration.threshold, other.calibration.threshold)
    assert query(read_study(done[0]), "SELECT count(*) AS n FROM battles") == (["n"], [(2,)])


def test_a_kept_battle_is_printed_without_being_fought(
    done: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(done[0], tmp_path / "study"))
    monkeypatch.setattr(fought, "fight", None)
    again = evaluated(folder, "--top", "1", "--seeds", "2")
    assert again.exit_code == 0, again.output
    assert [line for line in again.output.splitlines() if " : " in line] == [
        line for line in done[1].output.splitlines() if " : " in line
    ]
    pd.testing.assert_frame_equal(battles(folder), battles(done[0]))


def test_battles_of_a_training_that_was_done_again_are_fought_again(done: tuple[Path, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done[0], tmp_path / "study"))
    shutil.rmtree(folder / "seeds")
    assert evaluated(folder, "--top", "1", "--seeds", "1").exit_code == 0
    rows = battles(folder)
    assert rows.seed.tolist() == [1]
    assert (rows.fought_at > battles(done[0]).fought_at.max()).all()


def test_the_judge_is_the_search_s_or_trained_in_its_place(done: tuple[Path, Any], tmp_path: Path) -> None:
    """This search is of a version without one; the next has another's, which its trials and rows are measured with."""
    assert not (done[0] / "judge.pt").exists()
    content = (done[0] / "seeds" / "judge.pt").read_bytes()
    folder = Path(shutil.copytree(done[0], tmp_path / "study"))
    shutil.rmtree(folder / "seeds")
    judge = decoded(Location.at("x"), content)
    other = replace(judge, floor=judge.floor + 1)
    (folder / "judge.pt").write_bytes(encode_judge(other))
    assert evaluated(folder, "--top", "1", "--seeds", "1").exit_code == 0
    assert (folder / "seeds" / "judge.pt").read_bytes() == (folder / "judge.pt").read_bytes() != content


def test_the_same_command_again_measures_nothing_anew(done: tuple[Path, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done[0], tmp_path / "study"))
    result = evaluated(folder, "--top", "1", "--seeds", "2")
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(table(folder), table(done[0]))


def test_an_evaluation_of_an_earlier_version_is_read(done: tuple[Path, Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done[0], tmp_path / "study"))
    file = folder / "evaluations" / "evaluations.parquet"
    held = pq.read_table(file)
    names = held.schema.names
    pq.write_table(held.select(names[: names.index("test_distance")]), file, write_page_checksum=True)
    rows = evaluation_rows(read_evaluations(Location.at(folder), metric="val_distance"), "val_distance")
    assert len(rows) == 4
    assert {row.test_distance for row in rows} == {None}


def test_the_report_shows_distances_and_their_differences(done: tuple[Path, Any]) -> None:
    study = read_study(done[0])
    rows = beside_published(study)
    assert rows is not None
    means = table(done[0]).groupby("configuration").test_distance.mean()
    assert rows.set_index("name").error.to_dict() == pytest.approx(means.to_dict())
    page = report_html(study, seeds=rows, outcome=outcome_of_study(study))
    assert "Test distances of configurations" in page
    assert "Look at the difference from the settings of gp_wirgan in the table" in page
    assert f"<td>{rows.error[0]:.2f}</td>" in page


def test_a_yardstick_measures_training_images_and_itself() -> None:
    study = gan_study()
    data, (test, _) = load_dataset(study.any_trial().data), load_test(study.any_trial().data)
    judge = train_judge(data)
    yardstick = Yardstick.of(test, judge, CPU)
    assert judge is not None
    assert yardstick.compared == len(test) == 360
    own = yardstick.measure(test)
    assert own.distance == pytest.approx(0, abs=1e-9)
    assert own.coverage == 1
    assert own.transport == 0
    real = yardstick.measure(training_images(data)[:360])
    features = [judge.features(images) for images in (test, data.images[data.split.pool])]
    assert real.distance == pytest.approx(frechet_distance(*map(moments, features)))  # all 200, for they are fewer
    assert real.transport < 0.05
    without = Yardstick.of(test, None, CPU).measure(training_images(data)[:360])
    assert without == (None, None, None, None, None, real.transport)


def test_what_is_tested_is_the_error_the_distance_or_that_of_pixels() -> None:
    rows = pd.DataFrame({"test_error": [0.1], "test_distance": [None], "test_transport": [None]})
    assert outcome_of(rows) == ERROR
    assert outcome_of(rows.assign(test_distance=2.0, test_transport=0.1)) == DISTANCE
    assert outcome_of(rows.assign(test_transport=0.1)) == TRANSPORT
