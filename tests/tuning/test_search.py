"""The search at its user's seams: the function, the files it leaves, the command."""

import io
import shlex
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from plgan_tune import search as search_command
from plgan_tune.analyze import app as analyze
from plgan_tune.backends import in_process
from plgan_tune.backends.in_process import InProcess
from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.config.errors import RuleError
from plgan_tune.config.load import load_study, load_trial, load_trial_and_threads
from plgan_tune.config.trial import DataSpec
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.data.check import DataSummary, check_data
from plgan_tune.data.dataset import Dataset
from plgan_tune.data.decode import Progress
from plgan_tune.data.errors import DataError
from plgan_tune.records import TrialStatus
from plgan_tune.search import app
from plgan_tune.store.location import Location
from plgan_tune.store.lock import StudyLock, seconds_awake_or_asleep
from plgan_tune.store.schemas import STUDY_KEY
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.errors import StudyError
from plgan_tune.study.history import HistoryError
from plgan_tune.study.study_file import read_study_file
from plgan_tune.train import train
from plgan_tune.tuning import driver
from plgan_tune.tuning.driver import run_study
from plgan_tune.tuning.dry_run import Plan
from tests.factories import SMALL, Search, small


def test_leaves_what_the_readme_says(search: Search, tmp_path: Path) -> None:
    result = search(small())
    folder = tmp_path / "study"
    trials = pd.read_parquet(folder / "trials")
    epochs = pd.read_parquet(folder / "epochs")
    assert list(trials["number"]) == list(range(6))
    assert set(trials["status"]) == {TrialStatus.COMPLETED, TrialStatus.STOPPED}
    assert {"params_alpha", "params_ramp", "params_lr_discriminator"} <= set(trials.columns)
    assert trials.loc[0, "params_alpha"] == 0.5
    assert (trials["epochs"] == epochs.groupby("trial_id")["epoch"].max().loc[trials["trial_id"]].to_numpy()).all()
    assert not epochs.duplicated(["trial_id", "attempt", "epoch"]).any()
    assert list(epochs["seq"]) == list(range(len(epochs)))
    completed = trials[trials["status"] == TrialStatus.COMPLETED]
    best = result.state.best()
    assert best is not None
    assert best.value_last == completed["val_error_last"].min()
    assert trials["split_hash"].nunique() == 1
    assert load_study(folder / "study.yaml").study == small()
    assert load_trial(folder / "best.yaml") == result.best


def test_train_repeats_the_best_trial_exactly(search: Search, tmp_path: Path) -> None:
    result = search(small(early_stopping="none", trials=2))
    trial, threads = load_trial_and_threads(tmp_path / "study" / "best.yaml")
    assert threads == 1
    rows = train(trial, tmp_path / "again", threads=threads)
    best = result.state.best()
    assert best is not None
    logged = pd.read_parquet(tmp_path / "study" / "epochs").query(f"trial_id == '{best.trial_id}'")
    for name in ("val_error", "val_error_raw", "loss_supervised", "loss_feature"):
        assert list(logged[name]) == [getattr(row, name) for row in rows]


def test_same_seed_same_rows(search: Search, tmp_path: Path) -> None:
    search(small(), "one")
    search(small(), "two")
    timed = {"seconds", "images_per_second", "reported_at", "started_at", "ended_at", "node"}
    for table in ("trials", "epochs"):
        one, two = (
            pd.read_parquet(tmp_path / name / table).drop(columns=timed, errors="ignore") for name in ("one", "two")
        )
        pd.testing.assert_frame_equal(one, two)


def test_only_the_best_keep_their_checkpoints(search: Search, tmp_path: Path) -> None:
    search(small(keep_checkpoints=1, trials=5))
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    best = trials[trials["status"] == TrialStatus.COMPLETED].sort_values(["val_error_last", "number"]).iloc[0]
    kept = list((tmp_path / "study" / "checkpoints").iterdir())
    assert [folder.name for folder in kept] == [best["trial_id"]]
    assert (tmp_path / "study" / "samples.png").read_bytes() == (kept[0] / "samples.png").read_bytes()
    assert len(list(kept[0].glob("samples-epoch-*.png"))) == 4


def test_more_ranks_than_images_in_a_batch_are_refused_before_any_trial(search: Search, tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"ranks=3, training.batch_size=2"):
        search(small(training={"epochs": 1, "batch_size": 2}, ranks=3))
    assert list(tmp_path.iterdir()) == []


def study_ids(folder: Path) -> set[str | None]:
    """Of the tables in a study's folder."""
    files = [file for table in ("trials", "epochs", "decisions") for file in (folder / table).iterdir()]
    return {(pq.read_schema(file).metadata.get(STUDY_KEY) or b"").decode() or None for file in files}


def test_resume_adds_trials_and_keeps_the_old(search: Search, tmp_path: Path) -> None:
    search(small(trials=3))
    before = pd.read_parquet(tmp_path / "study" / "trials")
    said = io.StringIO()
    search(small(trials=5), resume=True, console=Console(file=said))
    assert [line for line in said.getvalue().splitlines() if line.startswith("note")] == [
        "note: changed since the last start: search.trials: 3 -> 5"
    ]
    after = pd.read_parquet(tmp_path / "study" / "trials")
    pd.testing.assert_frame_equal(after.iloc[:3].reset_index(drop=True), before)
    assert list(after["number"]) == list(range(5))
    assert after["params_lr_discriminator"].nunique() == 5
    assert pd.read_parquet(tmp_path / "study" / "epochs")["seq"].is_unique
    study_id = read_study_file(Location.at(tmp_path / "study")).study_id
    assert study_id
    assert study_ids(tmp_path / "study") == {study_id}


def test_resume_refuses_another_study(search: Search) -> None:
    search(small(trials=1))
    with pytest.raises(HistoryError, match=r"trial.loss.beta: 0.5 -> 0.25"):
        search(small(trials=1, loss={**SMALL["trial"]["loss"], "beta": 0.25}), resume=True)


def test_what_is_under_way_when_the_time_is_over_goes_on_with_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dawdling(TrialWorker):
        """Whose second trial takes two hours for its third epoch in its first attempt."""

        passed = 0.0

        def begin(self, assignment: Assignment) -> None:
            super().begin(assignment)
            self._dawdles = (assignment.trial_id, assignment.attempt) == ("t0001", 1)

        def step(self) -> EpochReport:
            report = super().step()
            if self._dawdles and report.metrics is not None and report.metrics.epoch == 3:
                Dawdling.passed = 7200.0
            return report

    monkeypatch.setattr(in_process, "TrialWorker", Dawdling)
    monkeypatch.setattr(in_process, "seconds_awake_or_asleep", lambda: seconds_awake_or_asleep() + Dawdling.passed)
    space = tmp_path / "space.yaml"
    space.write_text(dump_yaml(small(trials=2, early_stopping="none").as_mapping()))
    words = ["--space", str(space), "--set", "search.hours=1", "--results", str(tmp_path), "--name", "study"]
    limited = searched(*words)
    assert limited.exit_code == 0, limited.output
    assert "study: out of time, this run took" in limited.output
    left = pd.read_parquet(tmp_path / "study" / "trials").iloc[1]
    assert (left.status, left.attempt, left.epochs) == ("running", 1, 3)
    looked = CliRunner().invoke(analyze, [str(tmp_path / "study")])
    assert "1 unfinished" in looked.output
    assert "but 1 trial has not ended: search --resume continues it" in " ".join(looked.output.split())

    go_on = next(line for line in limited.output.splitlines() if line.endswith("--name study --resume"))
    resumed = invoke(*shlex.split(go_on)[3:])
    assert resumed.exit_code == 0, resumed.output
    assert "study: done, this run took" in resumed.output
    trials, epochs = (pd.read_parquet(tmp_path / "study" / table) for table in ("trials", "epochs"))
    assert list(trials["status"]) == ["completed"] * 2
    of_second = epochs.query("trial_id == 't0001'")
    assert list(of_second["attempt"]) == [1, 1, 1, 2]
    assert list(of_second["epoch"]) == [1, 2, 3, 4]


def test_plain_lines_where_there_is_no_terminal(search: Search, tmp_path: Path) -> None:
    with (tmp_path / "out.txt").open("w") as file:
        search(small(trials=2), console=Console(file=file))
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert any(line.startswith("[2/2] ") for line in lines)
    assert any(line.startswith("new best: ") for line in lines)


def test_a_taken_name_is_refused(search: Search) -> None:
    search(small(trials=1))
    with pytest.raises(StudyError, match="already exists; add --resume"):
        search(small(trials=1))


def test_a_name_that_another_search_takes_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look at the name and the lock lie minutes where the images are downloaded."""

    def slowly(spec: DataSpec) -> DataSummary:
        (tmp_path / "study").mkdir()
        (tmp_path / "study" / "study.yaml").write_text("another's")
        return check_data(spec)

    monkeypatch.setattr(driver, "check_data", slowly)
    with pytest.raises(StudyError, match="already exists; add --resume"):
        run_study(small(), backend=InProcess(), results=tmp_path, name="study")
    assert {file.name: file.read_text() for file in (tmp_path / "study").iterdir()} == {"study.yaml": "another's"}


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


def searched(*words: str) -> Result:
    return invoke("--in-process", *words)


SPACE = """
study: s
trial:
  data: {source: digits, labels: 20, validation: 100}
  loss: {alpha: {uniform: [0, 1]}}
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "trial.loss.alfa=1"], ["--set", "alfa", "nearest", "trial.loss.alpha"]),
        (["--set", "trial.loss.alpha={uniform: [2, 1]}"], ["trial.loss.alpha", "low <= high", "(low=2", "high=1"]),
        (["--set", "trial.data.labels=25"], ["labels", "25", "10"]),
        (["--set", "trial.data.labels=2000"], ["labels", "2000", "class"]),
        (["--set", "trial.data.source=parquet", "--set", "trial.data.path=/nowhere"], ["/nowhere"]),
        (["--set", "trial.data.source=imagenet"], ["source", "imagenet", "cifar10"]),
        (["--space", "/nowhere.yaml"], ["/nowhere.yaml", "exists"]),
        (["--results", "memory://x"], ["--results", "memory://"]),
        (["--results", "/proc/none"], ["/proc/none"]),
        (["--resume"], ["--resume", "--name"]),
        (["--resume", "--name", ""], ["--name", "letters"]),
        (["--dry-run", "--address", "ray://host:10001"], ["ray://host:10001", "ray job submit"]),
        (["--set", "search.early_stopping=foo"], ["early_stopping", "none", "asha"]),
        (
            ["--set", "trial.data.labels=25", "--set", "trial.data.validation=95"],
            ["space.yaml: `trial.data.validation`"],
        ),
        (["--name", "a/b"], ["--name", "'a/b'"]),
        (["--address", "ray://host:10001"], ["ray://host:10001", "ray job submit"]),
        (["--set", "trial.model.kind=conv"], ["space.yaml: trial.model.kind", "conv", "16 x 16", "8 x 8"]),
        (["--no-such-option"], ["no-such-option"]),
    ],
)
def test_bad_input_exits_2_and_says_what(tmp_path: Path, words: list[str], said: list[str]) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(SPACE)
    given = [] if "--space" in words else ["--space", str(space)]
    where = [] if "--results" in words else ["--results", str(tmp_path / "results")]
    result = invoke(*given, *where, *words)
    assert result.exit_code == 2, result.output
    for text in said:
        assert text in result.output
    assert not (tmp_path / "results").exists()


def test_the_command_leaves_a_report(tmp_path: Path) -> None:
    result = searched(*two_trials(tmp_path), "--results", str(tmp_path), "--name", "mine")
    assert result.exit_code == 0, result.output
    assert f"Open the report in a browser:\n  {tmp_path}/mine/report.html\n" in result.output
    assert "<title>mine · plgan-tune</title>" in (tmp_path / "mine" / "report.html").read_text()


def test_a_report_that_cannot_be_drawn_costs_a_search_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the picture")

    monkeypatch.setattr("plgan_tune.analysis.report.page.write_report", broken)
    result = searched(*two_trials(tmp_path), "--results", str(tmp_path), "--name", "mine")
    assert result.exit_code == 0, result.output
    assert "no report: ZeroDivisionError: of the picture\n" in result.output
    assert (tmp_path / "mine" / "best.yaml").exists()


def two_trials(folder: Path) -> list[str]:
    (folder / "space.yaml").write_text(dump_yaml(small(training={"epochs": 2}, trials=2).as_mapping()))
    return ["--space", str(folder / "space.yaml")]


def test_a_choice_of_lists_may_come_first(search: Search, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        SPACE
        + "  model: {hidden: {choice: [[8], [6, 5]]}}\n  training: {epochs: 1}\n"
        + "search: {trials: 1, first: [{model.hidden: [6, 5]}]}\n"
    )
    result = search(load_study(space).study)
    assert result.best is not None
    assert result.best.model.hidden == (6, 5)


@pytest.mark.parametrize(("call", "named"), [("load_dataset", False), ("keep_judge", True)])
def test_what_fails_before_the_first_row_gives_the_name_back(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, named: bool
) -> None:
    """The images are read before anything is written but the lock."""
    seen = []

    def broken(*_: object, **__: object) -> Dataset:
        seen.append((tmp_path / "study" / "study.yaml").exists())
        raise DataError("train.parquet, row 7: truncated")

    monkeypatch.setattr(driver, call, broken)
    with pytest.raises(DataError):
        search(small())
    assert seen == [named]
    assert not (tmp_path / "study").exists()


def test_a_second_search_of_a_study_is_refused(tmp_path: Path) -> None:
    with StudyLock(Location.at(tmp_path / "mine")):
        result = invoke("--results", str(tmp_path), "--name", "mine", "--resume")
    assert result.exit_code == 2
    assert "another search is writing here, process" in result.output
    assert not (tmp_path / "mine" / "study.yaml").exists()


def test_ctrl_c_before_the_first_trial_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(spec: DataSpec, progress: Progress) -> Dataset:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "load_dataset", interrupted)
    words = ["--set", "trial.loss.ramp={choice: [clamp, one]}", "--results", str(tmp_path), "--name", "mine"]
    result = invoke(*words)
    assert result.exit_code == 130
    (line,) = [line for line in result.output.splitlines() if line.endswith("--resume")]
    assert shlex.split(line)[3:] == [*words, "--resume"]


def test_ctrl_c_in_a_dry_run_has_nothing_to_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*study: object) -> Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_command, "plan_study", interrupted)
    result = invoke("--dry-run", "--results", str(tmp_path))
    assert (result.exit_code, result.output) == (130, "")


def test_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    result = invoke("--dry-run", "--set", "search.trials=30", "--results", str(tmp_path))
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    for text in (
        "trials: 30",
        "at most 1,800",
        "at least 350",
        "10, 30; the next, 90, is dropped",
        "1,437 with a label",
    ):
        assert text in said
    assert not list(tmp_path.iterdir())


def test_dry_run_counts_rungs_from_the_switch_where_the_study_does() -> None:
    """T is at least 3, so nobody is stopped before epoch 13: 29 trials of 13 epochs and one of 60."""
    result = invoke("--dry-run", "--set", "search.trials=30", "--set", "search.early_stopping.asha.align=switch")
    said = " ".join(result.output.split())
    for text in ("10, 30 epochs after a trial's own switch epoch", "at least 437"):
        assert text in said
