"""An evaluation at its user's seams: the command, the tables that it leaves, the checkpoints."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner, Result

from plgan_tune import evaluate as evaluate_command
from plgan_tune.backends import in_process
from plgan_tune.backends.in_process import InProcess
from plgan_tune.backends.judging import keep_judge
from plgan_tune.classifier import load_classifier
from plgan_tune.config.study import SearchSpec, StudySpec
from plgan_tune.data.check import check_data
from plgan_tune.data.dataset import load_dataset, load_test
from plgan_tune.evaluate import app
from plgan_tune.evaluation.generation import Fidelity, Scores
from plgan_tune.evaluation.plan import TYPES, plan_evaluation
from plgan_tune.evaluation.train import train_fixed
from plgan_tune.gan.pairs.mlp import TRAITS
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.location import ALONE, Location, StoreError
from plgan_tune.store.lock import StudyLock
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import EVALUATIONS, evaluation_rows, read_evaluations, read_trials, trial_rows
from plgan_tune.store.schemas import evaluations_schema, evaluations_table
from plgan_tune.store.tables import write_table
from plgan_tune.study.study_file import read_study_file
from plgan_tune.training.evaluate import classify
from plgan_tune.training.judge import decode_judge, encode_judge
from plgan_tune.training.measures import classifier_score
from plgan_tune.training.precision import precision_policy_for
from tests.factories import Followed

CPU = torch.device("cpu")
TIMES = ["seconds", "images_per_second", "reported_at", "evaluated_at", "started_at", "ended_at", "node"]
"""Columns that no seed decides."""


def evaluated(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [str(folder), "--in-process", *words], env={"COLUMNS": "100"})


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "evaluations")


def after_an_epoch() -> Callable[[], bool]:
    """Whether a stop is asked for: not before the first epoch, then at once."""
    asked = count()
    return lambda: next(asked) > 0


def timeless(frame: pd.DataFrame, *keys: str) -> pd.DataFrame:
    kept = frame.drop(columns=[name for name in TIMES if name in frame])
    return kept.sort_values(list(keys), ignore_index=True)


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory,
    write_search: Callable[[Path, StudySpec, list[TrialRow]], Path],
    tiny: StudySpec,
    searched: list[TrialRow],
) -> Path:
    """A finished search that nobody has evaluated; tests copy it."""
    return write_search(tmp_path_factory.mktemp("finished") / "study", tiny, searched)


@pytest.fixture(scope="module")
def done(finished: Path) -> tuple[Path, Result]:
    """The search evaluated with two seeds, one configuration and the methods. Tests only look at it."""
    folder = Path(shutil.copytree(finished, finished.parent / "done"))
    return folder, evaluated(folder, "--top", "1", "--seeds", "2", "--methods")


@pytest.fixture
def fresh(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "study"))


def test_a_row_a_configuration_and_seed(done: tuple[Path, Result]) -> None:
    folder, result = done
    assert result.exit_code == 0, result.output
    rows = table(folder)
    assert list(rows.columns) == evaluations_schema().names
    configurations = ["t0001", "patent", "regular_gan", "feature_wise_gan", "supervised"]
    pairs = sorted((name, seed) for name in configurations for seed in (1, 2))
    assert sorted(zip(rows.configuration, rows.seed, strict=True)) == pairs
    assert set(rows.status) == {"completed"}
    assert set(rows.epochs) == {2}
    assert set(rows.test_images) == {360}
    assert rows.test_error.between(0, 1).all()


def test_the_metric_that_the_search_went_by_stands_beside_the_test_errors(
    tmp_path: Path,
    write_search: Callable[[Path, StudySpec, list[TrialRow]], Path],
    tiny: StudySpec,
    searched: list[TrialRow],
) -> None:
    """Test errors are measured whatever it was. The search has no judge, so the evaluation trains one."""
    spec = replace(tiny, search=SearchSpec(metric="val_coverage", concurrent=1, trials=4))
    folder = write_search(tmp_path / "study", spec, searched)
    result = evaluated(folder, "--top", "1", "--seeds", "1")
    assert result.exit_code == 0, result.output
    assert "val_coverage in the search, %" in result.output
    assert "val_error" not in result.output
    rows = table(folder)
    assert list(rows.columns) == evaluations_schema("val_coverage").names
    assert set(rows.configuration) == {"t0000", "patent"}  # t0000's coverage is the highest, 0.3
    assert rows.test_error.between(0, 1).all()
    assert rows.val_coverage_last.between(0, 1).all()
    assert "val_coverage_last" in pd.read_parquet(folder / "seeds" / "trials")


def test_seeds_are_paired_each_with_labels_of_its_own(done: tuple[Path, Result]) -> None:
    rows = table(done[0])
    assert rows.groupby("seed").split_hash.nunique().to_list() == [1, 1]
    assert rows.split_hash.nunique() == 2


def test_the_test_error_is_the_engine_s_own(done: tuple[Path, Result], tiny: StudySpec) -> None:
    """Of the kept checkpoint, by the function that measures val_error."""
    images, labels = load_test(tiny.any_trial().data)
    precision = precision_policy_for("auto", TRAITS, CPU)
    rows = table(done[0])
    for row in rows.itertuples():
        place = done[0] / "seeds" / "checkpoints" / str(row.trial_id)
        for weights, error in (("averaged", row.test_error), ("raw", row.test_error_raw)):
            classifier = load_classifier(place, "averaged" if weights == "averaged" else "raw")
            assert classify(classifier.discriminator, images, labels, precision).error == error
            assert classifier.error(images, labels) == error


def test_only_trained_generators_have_a_score(done: tuple[Path, Result]) -> None:
    rows = table(done[0]).set_index("configuration")
    scored = rows[rows.classifier_score.notna()]
    assert set(scored.index) == {"t0001", "patent", "regular_gan", "feature_wise_gan"}
    assert scored.classifier_score.between(1, 10).all()
    assert scored.classifier_score_real.nunique() == 1
    assert rows.fid.isna().all()


def test_what_is_said(done: tuple[Path, Result]) -> None:
    said = done[1].output
    (line,) = [line for line in said.splitlines() if line.startswith("patent")][:1]
    errors = table(done[0]).query("configuration == 'patent'").test_error
    assert line.split()[1:4] == ["2", f"{100 * errors.mean():.2f}", f"{100 * errors.std():.2f}"]
    assert f"{done[0].name}: error on the test images, %" in said.splitlines()
    assert "difference from the patent's settings" in said
    assert "trained on the labelled images; --refit adds the validation images" in said
    assert "No results are published for these data with 20 labels." in said
    assert "--refit" in said


def test_the_same_command_again_trains_nothing(done: tuple[Path, Result], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done[0], tmp_path / "again"))
    before = {path: path.stat().st_mtime_ns for path in (folder / "seeds" / "checkpoints").rglob("*.pt")}
    result = evaluated(folder, "--top", "1", "--seeds", "2", "--methods")
    assert result.exit_code == 0, result.output
    pd.testing.assert_frame_equal(table(folder), table(done[0]))
    assert {path: path.stat().st_mtime_ns for path in (folder / "seeds" / "checkpoints").rglob("*.pt")} == before
    assert result.output.partition("error on the test")[2] == done[1].output.partition("error on the test")[2].replace(
        str(done[0]), str(folder)
    )


def test_scores_of_a_network_that_is_given_later_are_added(
    done: tuple[Path, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, seen = Path(shutil.copytree(done[0], tmp_path / "again")), []

    def scores(self: Fidelity, images: torch.Tensor) -> Scores:
        seen.append(images.shape)
        return Scores(2.25, 0.125, 31.5)

    monkeypatch.setattr(evaluate_command, "check_weights", lambda weights: None)
    monkeypatch.setattr(Fidelity, "measure", scores)
    before = table(folder)
    result = evaluated(
        folder, "--top", "1", "--seeds", "2", "--methods", "--inception-weights", str(tmp_path / "w.pth")
    )
    assert result.exit_code == 0, result.output
    rows = table(folder)
    generated = rows.configuration.isin(["t0001", "patent", "regular_gan", "feature_wise_gan"])
    assert set(rows.inception_score[generated]) == {2.25}
    assert set(rows.inception_score_deviation[generated]) == {0.125}
    assert set(rows.fid[generated]) == {31.5}
    assert rows[["inception_score", "fid"]][~generated].isna().all(axis=None)
    assert len(seen) == generated.sum() == 8
    said = result.output.partition("error on the test")[2]
    assert "Inception score" in said
    assert "31.5" in said
    kept = ["configuration", "seed", "test_error", "classifier_score", "split_hash"]
    pd.testing.assert_frame_equal(rows[kept], before[kept])


WITHOUT_RAY = """
import runpy, sys
sys.modules["ray"] = sys.modules["optuna"] = None
runpy.run_module("plgan_tune.evaluate", run_name="__main__", alter_sys=True)
"""


def test_a_host_without_ray_and_optuna_evaluates_in_one_process(fresh: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_RAY, str(fresh), "--in-process", "--top", "1", "--seeds", "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(table(fresh).configuration) == {"t0001", "patent"}


def test_an_evaluation_that_another_has_followed_writes_nothing_more(
    fresh: Path, tiny: StudySpec, searched: list[TrialRow]
) -> None:
    data = check_data(tiny.any_trial().data)
    chosen = plan_evaluation(Location.at(fresh), tiny, searched, top=1, seeds=1, methods=False, refit=False)
    with pytest.raises(StoreError, match="taken over"):
        train_fixed(
            chosen.study,
            tiny,
            InProcess(stop_requested=after_an_epoch(), device=CPU),
            summary=data,
            console=Console(quiet=True),
            now=lambda: datetime.now(UTC),
            writer=Followed(),
        )
    assert not list((fresh / "seeds").glob("**/*.parquet"))


def test_resumed_is_uninterrupted(
    fresh: Path, done: tuple[Path, Result], tiny: StudySpec, searched: list[TrialRow]
) -> None:
    """Interrupted after every epoch and taken up again, it comes to the same epochs and errors."""
    data = check_data(tiny.any_trial().data)
    chosen = plan_evaluation(Location.at(fresh), tiny, searched, top=1, seeds=2, methods=False, refit=False)
    keep_judge(chosen.location, tiny.any_trial().data, load_dataset(tiny.any_trial().data))

    def ended() -> bool:
        return train_fixed(
            chosen.study,
            tiny,
            InProcess(stop_requested=after_an_epoch(), device=CPU),
            summary=data,
            console=Console(quiet=True),
            now=lambda: datetime.now(UTC),
            writer=ALONE,
        )

    starts = next(start for start in range(1, 99) if ended())
    assert starts == 2 * len(chosen.study.trials)  # of two epochs each
    result = evaluated(fresh, "--top", "1", "--seeds", "2")
    assert result.exit_code == 0, result.output
    rows, whole = table(fresh), table(done[0])
    pd.testing.assert_frame_equal(
        timeless(rows, "trial_id"), timeless(whole[whole.trial_id.isin(rows.trial_id)], "trial_id")
    )
    epochs, whole = (pd.read_parquet(folder / "seeds" / "epochs") for folder in (fresh, done[0]))
    assert set(epochs.attempt) == {1, 2}
    order = ["seq", "attempt"]
    pd.testing.assert_frame_equal(
        timeless(epochs.drop(columns=order), "trial_id", "epoch"),
        timeless(whole[whole.trial_id.isin(epochs.trial_id)].drop(columns=order), "trial_id", "epoch"),
    )


def test_ctrl_c_prints_the_command_that_goes_on(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--top", "1", "--seeds", "1", "--refit"]
    with monkeypatch.context() as patched:
        patched.setattr(in_process, "asked_to_stop", lambda on_first: nullcontext(after_an_epoch()))
        result = evaluated(fresh, *words)
    assert result.exit_code == 130
    assert not (fresh / "evaluations").exists()
    (command,) = [line for line in result.output.splitlines() if "plgan_tune.evaluate" in line]
    typed = shlex.split(command)
    assert typed[1:3] == ["-m", "plgan_tune.evaluate"]
    gone_on = CliRunner().invoke(app, typed[3:])
    assert gone_on.exit_code == 0, gone_on.output
    assert sorted(table(fresh).trial_id) == ["patent-s1-refit", "t0001-s1-refit"]
    assert pd.read_parquet(fresh / "seeds" / "trials").set_index("trial_id").attempt["t0001-s1-refit"] == 2


def test_a_trial_that_failed_is_tried_again_after_the_others(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--top", "1", "--seeds", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(in_process, "asked_to_stop", lambda on_first: nullcontext(after_an_epoch()))
        assert evaluated(fresh, *words).exit_code == 130
    seeds, columns = Location.at(fresh / "seeds"), {key: key for key in TYPES}
    (row,) = trial_rows(read_trials(seeds), columns)
    with StudyLog(seeds, columns, TYPES) as log:
        log.trial(replace(row, status=TrialStatus.FAILED, error="out of memory", ended_at=datetime.now(UTC)))
    assert evaluated(fresh, *words).exit_code == 0
    trials = pd.read_parquet(fresh / "seeds" / "trials").set_index("trial_id")
    assert set(trials.status) == set(table(fresh).status) == {"completed"}
    assert trials.attempt[row.trial_id] == 2
    assert pd.isna(trials.error[row.trial_id])
    epochs = pd.read_parquet(fresh / "seeds" / "epochs").sort_values("seq")
    assert epochs.trial_id.iloc[-1] == row.trial_id


def test_more_seeds_and_a_refit_add_rows(fresh: Path) -> None:
    for words in (("--seeds", "1"), ("--seeds", "2"), ("--seeds", "1", "--refit")):
        result = evaluated(fresh, "--top", "1", *words)
        assert result.exit_code == 0, result.output
    assert "trained on the labelled AND the validation images (--refit)" in result.output
    rows = table(fresh)
    assert sorted(rows.trial_id) == [
        "patent-s1",
        "patent-s1-refit",
        "patent-s2",
        "t0001-s1",
        "t0001-s1-refit",
        "t0001-s2",
    ]
    refit = rows[rows.refit]
    assert refit.val_error_last.isna().all()
    assert not set(refit.split_hash) & set(rows[~rows.refit].split_hash)


def test_what_is_trained_anew_is_measured_anew(done: tuple[Path, Result], tmp_path: Path) -> None:
    """As the refusal of a changed configuration advises: `seeds/` is removed, while the table lies outside of it."""
    folder = Path(shutil.copytree(done[0], tmp_path / "anew"))
    shutil.rmtree(folder / "seeds")
    result = evaluated(folder, "--top", "1", "--seeds", "1")
    assert result.exit_code == 0, result.output
    before, after = (table(place).set_index("trial_id") for place in (done[0], folder))
    assert sorted(after.index) == ["patent-s1", "t0001-s1"]  # no row is left of what nobody trained
    assert (after.evaluated_at > before.evaluated_at.max()).all()
    assert (after.seconds != before.seconds[after.index]).all()


def test_a_trial_without_its_last_checkpoint_is_named_and_the_others_measured(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that fails at a trial's end leaves it with the checkpoint of an earlier epoch, or none."""
    words = ["--top", "1", "--seeds", "2"]
    with monkeypatch.context() as patched:
        patched.setattr(in_process, "asked_to_stop", lambda on_first: nullcontext(after_an_epoch()))
        assert evaluated(fresh, *words).exit_code == 130
    assert evaluated(fresh, *words).exit_code == 0
    shutil.rmtree(fresh / "evaluations")
    (last,) = (fresh / "seeds" / "checkpoints" / "t0001-s1").glob("*-epoch-000002.pt")
    last.unlink()
    shutil.rmtree(fresh / "seeds" / "checkpoints" / "patent-s1")
    result = evaluated(fresh, *words)
    assert result.exit_code == 2
    assert "t0001-s1 is not measured: " in result.output
    assert "a checkpoint of epoch 2, the trial's last, but its newest is of epoch 1" in result.output
    assert "patent-s1 is not measured: there is no checkpoint in " in result.output
    rows = table(fresh)
    assert sorted(rows.trial_id) == ["patent-s2", "t0001-s2"]
    assert "error on the test images" in result.output


def test_scores_of_another_judge_are_measured_anew_and_what_is_known_of_fid_stays(
    done: tuple[Path, Result], tmp_path: Path
) -> None:
    """As an evaluation of an earlier version has them, whose judge was one of its trials."""
    folder, words = Path(shutil.copytree(done[0], tmp_path / "again")), ("--top", "1", "--seeds", "2", "--methods")
    earlier = evaluation_rows(read_evaluations(Location.at(folder)))
    changed = [
        replace(row, classifier_score=7.0, classifier_score_real=9.5, inception_score=2.0, fid=30.0)
        if row.classifier_score
        else row
        for row in earlier
    ]
    judge = replace(earlier[0], configuration="judge", trial_id="judge-s1", classifier_score=None)
    study_id = read_study_file(Location.at(folder)).study_id
    write_table(evaluations_table([*changed, judge]), Location.at(folder).join(*EVALUATIONS), study_id=study_id)
    result = evaluated(folder, *words)
    assert result.exit_code == 0, result.output
    rows, before = table(folder).set_index("trial_id"), table(done[0]).set_index("trial_id")
    assert "judge-s1" not in rows.index  # it has no trial in the log, as all that are measured have
    columns = ["test_error", "classifier_score", "classifier_score_real"]
    pd.testing.assert_frame_equal(rows.loc[before.index, columns], before[columns])
    assert (rows.fid.notna() == rows.classifier_score.notna()).all()


def test_the_search_s_judge_is_the_evaluation_s(done: tuple[Path, Result], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done[0], tmp_path / "again"))
    content = (folder / "seeds" / "judge.pt").read_bytes()
    judge = decode_judge(content, "x")
    images, labels = load_test(read_study_file(Location.at(folder)).spec.any_trial().data)
    probabilities = judge.probabilities(judge.features(images))
    assert set(table(folder).classifier_score_real.dropna()) == {classifier_score(probabilities)}
    error = (probabilities.argmax(dim=1) != labels).double().mean()
    assert f"learned from {judge.labels} labels; its test error is {100 * error:.2f} %." in done[1].output
    shutil.rmtree(folder / "seeds")
    judge.network.get_parameter("out.bias").data += 1
    (folder / "judge.pt").write_bytes(encode_judge(judge))
    assert evaluated(folder, "--top", "1", "--seeds", "1").exit_code == 0
    assert (folder / "seeds" / "judge.pt").read_bytes() == encode_judge(judge)


def test_a_configuration_that_has_changed_its_meaning_is_refused(fresh: Path) -> None:
    assert evaluated(fresh, "--top", "1", "--seeds", "1").exit_code == 0
    file = fresh / "seeds" / "evaluation.yaml"
    file.write_text(file.read_text().replace("width: 0.03", "width: 0.05"))
    result = evaluated(fresh, "--top", "1", "--seeds", "1")
    assert result.exit_code == 2
    assert "t0001 has changed: model.width: 0.05 -> 0.03" in result.output


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("configurations: [broken\n", "evaluation.yaml:2: must be well-formed YAML 1.2"),
        ("", "evaluation.yaml must be a mapping of what is evaluated, but got null"),
        ("#" * 2**19 + "\n", "evaluation.yaml: must be at most 512 KiB long"),
    ],
    ids=["malformed", "empty", "too long"],
)
def test_an_evaluation_file_that_cannot_be_read_is_named(fresh: Path, text: str, why: str) -> None:
    (fresh / "seeds").mkdir()
    (fresh / "seeds" / "evaluation.yaml").write_text(text)
    result = evaluated(fresh, "--top", "1", "--seeds", "1")
    assert result.exit_code == 2, result.output
    assert why in result.output


def test_two_at_a_time_are_refused(fresh: Path) -> None:
    with StudyLock(Location.at(fresh / "seeds")):
        result = evaluated(fresh)
    assert result.exit_code == 2
    assert "another" in result.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--address", "auto"], "--in-process trains without Ray, but got --address auto"),
        (["--inception-weights", "nowhere.pth"], "--inception-weights"),
        (["--data", "/elsewhere"], "path` must be null for `source: digits`, which is installed, but got '/elsewhere'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(fresh: Path, words: list[str], why: str) -> None:
    result = evaluated(fresh, *words)
    assert result.exit_code == 2
    assert why in result.output
    assert not (fresh / "seeds").exists()


@pytest.mark.parametrize("words", [["--data", "https://me:SECRET@host/x"], []])
def test_a_password_is_refused_and_not_shown(fresh: Path, words: list[str]) -> None:
    place = str(fresh) if words else "https://me:SECRET@host/x"
    result = CliRunner().invoke(app, [place, "--in-process", *words])
    assert result.exit_code == 2
    assert f"{'--data' if words else 'RESULTS'} must hold no password" in result.output
    assert "SECRET" not in result.output


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    result = evaluated(tmp_path)
    assert result.exit_code == 2
    assert f"a study's folder holds study.yaml, but {tmp_path} does not" in result.output
