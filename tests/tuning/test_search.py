"""The search at its user's seams: the function, the files it leaves, the command."""

import io
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray
import torch
from rich.console import Console
from typer.testing import CliRunner, Result

from plgan_tune import search as search_command
from plgan_tune.data.dataset import Dataset
from plgan_tune.data.errors import DataError
from plgan_tune.records import TrialStatus
from plgan_tune.search import app
from plgan_tune.spec.errors import RuleError
from plgan_tune.spec.load import load_study, load_trial, study_from_mapping
from plgan_tune.spec.study import StudySpec
from plgan_tune.spec.trial import DataSpec
from plgan_tune.spec.yaml import dump_yaml
from plgan_tune.store.location import Location
from plgan_tune.store.lock import StudyLock
from plgan_tune.train import train
from plgan_tune.tuning import driver, tuner
from plgan_tune.tuning.cluster import ClusterError
from plgan_tune.tuning.driver import StudyResult, run_study
from plgan_tune.tuning.errors import StudyError
from plgan_tune.tuning.gang import Gang, RankActor
from plgan_tune.tuning.history import HistoryError
from plgan_tune.tuning.plan import Plan
from plgan_tune.tuning.trainable import PlganTrainable

pytestmark = pytest.mark.ray

SMALL: Mapping[str, Any] = {
    "study": "small",
    "search": {
        "trials": 6,
        "concurrent": 1,
        "sampler": {"tpe": {"startup_trials": 2}},
        "early_stopping": {"asha": {"grace_period": 1, "reduction_factor": 2}},
        "first": [{"loss.alpha": 0.5}],
    },
    "trial": {
        "data": {"source": "digits", "labels": 20, "validation": 100, "limit": 400},
        "model": {"kind": "mlp", "width": 0.05},
        "loss": {"alpha": {"uniform": [0.1, 1.0]}, "ramp": {"choice": ["clamp", "one"]}},
        "optim": {"lr_discriminator": {"log_uniform": [1e-4, 1e-2]}},
        "training": {"epochs": 4},
    },
}


def small(
    loss: Mapping[str, Any] = SMALL["trial"]["loss"],
    training: Mapping[str, Any] = SMALL["trial"]["training"],
    ranks: int = 1,
    **search: Any,
) -> StudySpec:
    trial = {**SMALL["trial"], "loss": loss, "training": training}
    changed = {"search": {**SMALL["search"], **search}, "resources": {"ranks": ranks}, "trial": trial}
    return study_from_mapping({**SMALL, **changed})


Search = Callable[..., StudyResult]


@pytest.fixture
def search(embedded_ray: None, tmp_path: Path) -> Search:
    def run(spec: StudySpec, name: str = "study", **options: Any) -> StudyResult:
        return run_study(spec, results=tmp_path, name=name, **options)

    return run


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
    assert best.val_error_last == completed["val_error_last"].min()
    assert trials["split_hash"].nunique() == 1
    assert load_study(folder / "study.yaml").study == small()
    assert load_trial(folder / "best.yaml") == result.best


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many as a trial of one CPU has: a sum's order, and so its last digit, depends on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_train_repeats_the_best_trial_exactly(search: Search, tmp_path: Path) -> None:
    result = search(small(early_stopping="none", trials=2))
    rows = train(load_trial(tmp_path / "study" / "best.yaml"), tmp_path / "again")
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


def test_a_diverging_trial_does_not_end_the_search(search: Search, tmp_path: Path) -> None:
    search(small({"unsupervised_scale": {"choice": [3e38, 0.5]}}, trials=3, first=[{"loss.unsupervised_scale": 3e38}]))
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    first = trials.iloc[0]
    assert first["status"] == TrialStatus.DIVERGED
    assert "epoch 1" in first["error"]
    assert "loss_unsupervised" in first["error"]
    assert len(trials) == 3


class Breaking(PlganTrainable):
    """A Trainable whose second trial breaks before its third epoch is reported, in as many attempts as `BREAKS`."""

    BREAKS = 1
    DIES = False

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config
        super().setup(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._config = new_config
        return super().reset_config(new_config)

    def step(self) -> dict[str, Any]:
        result = super().step()
        if self._config["number"] == 1 and result.get("epoch") == 3 and self._config["attempt"] <= self.BREAKS:
            if self.DIES:
                os._exit(1)
            raise RuntimeError("planted")
        return result


class Dying(Breaking):
    DIES = True


class AlwaysBreaking(Breaking):
    BREAKS = 99


UNTIMED = ["epoch", "val_error", "val_error_raw", "loss_supervised", "loss_feature"]


@pytest.mark.parametrize("trainable", [Breaking, Dying])
def test_a_broken_attempt_goes_on_from_its_checkpoint(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trainable: type[Breaking]
) -> None:
    spec = small(early_stopping="none", trials=2, training={"epochs": 4, "checkpoint_every": 2})
    search(spec, "whole")
    monkeypatch.setattr(tuner, "PlganTrainable", trainable)
    search(spec, "broken")
    trials = pd.read_parquet(tmp_path / "broken" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED] * 2
    assert list(trials["attempt"]) == [1, 2]
    whole, broken = (
        pd.read_parquet(tmp_path / name / "epochs").query("trial_id == 't0001'") for name in ("whole", "broken")
    )
    assert list(broken["attempt"]) == [1, 1, 2, 2]
    pd.testing.assert_frame_equal(whole[UNTIMED].reset_index(drop=True), broken[UNTIMED].reset_index(drop=True))


def test_a_trial_that_always_breaks_fails_and_the_search_goes_on(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "PlganTrainable", AlwaysBreaking)
    search(small(early_stopping="none", trials=3, max_failures=1))
    trials = pd.read_parquet(tmp_path / "study" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED, TrialStatus.FAILED, TrialStatus.COMPLETED]
    assert "planted" in str(trials.loc[1, "error"])
    assert trials.loc[1, "attempt"] == 3  # the third only says that the second was the last


def test_only_the_best_keep_their_checkpoints(search: Search, tmp_path: Path) -> None:
    search(small(keep_checkpoints=1, trials=5))
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    best = trials[trials["status"] == TrialStatus.COMPLETED].sort_values(["val_error_last", "number"]).iloc[0]
    kept = list((tmp_path / "study" / "checkpoints").iterdir())
    assert [folder.name for folder in kept] == [best["trial_id"]]
    assert (tmp_path / "study" / "samples.png").read_bytes() == (kept[0] / "samples.png").read_bytes()


def test_two_ranks_report_the_epochs_of_one(search: Search, tmp_path: Path) -> None:
    for ranks in (1, 2):
        training = {"epochs": 3, "precision": "float64"}
        search(small(early_stopping="none", trials=2, training=training, ranks=ranks), f"ranks-{ranks}")
    one, two = (pd.read_parquet(tmp_path / f"ranks-{ranks}" / "epochs")[UNTIMED] for ranks in (1, 2))
    pd.testing.assert_frame_equal(one, two, rtol=0, atol=1e-6)


class LosingARank(PlganTrainable):
    """A Trainable whose rank 1 fails in its third epoch, in as many attempts as `BREAKS`, while rank 0 waits for it."""

    BREAKS = 1

    def _take_up(self, config: dict[str, Any]) -> None:
        super()._take_up(config)
        self._epoch, self._attempt = config["logged"], config["attempt"]

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        if isinstance(self._rank, Gang) and self._epoch == 3 and self._attempt <= self.BREAKS:
            ray.get(self._rank._actors[1].__ray_call__.remote(self.plant))
        return super().step()

    @staticmethod
    def plant(actor: RankActor) -> None:
        def die() -> None:
            os._exit(1)

        assert actor._rank is not None
        actor._rank.step = die  # type: ignore[method-assign,assignment]


class RaisingInARank(LosingARank):
    BREAKS = 99

    @staticmethod
    def plant(actor: RankActor) -> None:
        def step() -> None:
            raise RuntimeError("planted in rank 1")

        assert actor._rank is not None
        actor._rank.step = step  # type: ignore[method-assign,assignment]


TWO_RANKS: Mapping[str, Any] = {"ranks": 2, "early_stopping": "none", "trials": 1}


@pytest.mark.slow
def test_a_rank_that_dies_costs_an_attempt_and_the_new_gang_goes_on(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = small(training={"epochs": 4, "checkpoint_every": 1}, **TWO_RANKS)
    search(spec, "whole")
    monkeypatch.setattr(tuner, "PlganTrainable", LosingARank)
    search(spec, "broken")
    whole, broken = (pd.read_parquet(tmp_path / name / "epochs") for name in ("whole", "broken"))
    assert list(broken["attempt"]) == [1, 1, 2, 2]
    pd.testing.assert_frame_equal(whole[UNTIMED], broken[UNTIMED])
    assert set(pd.read_parquet(tmp_path / "broken" / "trials")["status"]) == {TrialStatus.COMPLETED}


@pytest.mark.slow
def test_the_first_failure_of_a_gang_is_what_the_trial_says(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuner, "PlganTrainable", RaisingInARank)
    began = time.monotonic()
    search(small(max_failures=0, **TWO_RANKS))
    assert time.monotonic() - began < 120  # no rank waits out a collective's ten minutes
    (row,) = pd.read_parquet(tmp_path / "study" / "trials").itertuples()
    assert row.status == TrialStatus.FAILED
    assert "planted in rank 1" in str(row.error)


def test_more_ranks_than_images_in_a_batch_are_refused_before_any_trial(search: Search, tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"ranks=3, training.batch_size=2"):
        search(small(training={"epochs": 1, "batch_size": 2}, ranks=3))
    assert list(tmp_path.iterdir()) == []


def test_a_gang_that_the_cluster_cannot_hold_is_refused_with_the_numbers(search: Search) -> None:
    with pytest.raises(ClusterError, match=r"3 x \(1 CPU\).*2 CPU"):
        search(small(ranks=3))


def test_resume_adds_trials_and_keeps_the_old(search: Search, tmp_path: Path) -> None:
    search(small(trials=3))
    before = pd.read_parquet(tmp_path / "study" / "trials")
    said = io.StringIO()
    search(small(trials=5), resume=True, console=Console(file=said))
    assert [line for line in said.getvalue().splitlines() if line.startswith("note")] == [
        "note: not as at the last start: search.trials: 3 -> 5"
    ]
    after = pd.read_parquet(tmp_path / "study" / "trials")
    pd.testing.assert_frame_equal(after.iloc[:3].reset_index(drop=True), before)
    assert list(after["number"]) == list(range(5))
    assert after["params_lr_discriminator"].nunique() == 5
    assert pd.read_parquet(tmp_path / "study" / "epochs")["seq"].is_unique


def test_resume_refuses_another_study(search: Search) -> None:
    search(small(trials=1))
    with pytest.raises(HistoryError, match=r"trial.loss.beta: 0.5 -> 0.25"):
        search(small(trials=1, loss={**SMALL["trial"]["loss"], "beta": 0.25}), resume=True)


def test_a_time_limit_ends_the_search(search: Search, tmp_path: Path) -> None:
    result = search(small(trials=500, hours=25 / 3600, early_stopping="none"))
    trials = pd.read_parquet(tmp_path / "study" / "trials")
    assert 0 < len(trials) < 500
    assert not result.interrupted
    assert TrialStatus.RUNNING not in set(trials["status"])


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


def invoke(*words: str) -> Result:
    return CliRunner().invoke(app, [*words])


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


def test_the_command_leaves_a_report(embedded_ray: None, tmp_path: Path) -> None:
    result = invoke(*two_trials(tmp_path), "--results", str(tmp_path), "--name", "mine")
    assert result.exit_code == 0, result.output
    assert f"See it all in a browser:\n  {tmp_path}/mine/report.html\n" in result.output
    assert "<title>mine · plgan-tune</title>" in (tmp_path / "mine" / "report.html").read_text()


def test_a_report_that_cannot_be_drawn_costs_a_search_nothing(
    embedded_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("of the picture")

    monkeypatch.setattr(search_command, "write_report", broken)
    result = invoke(*two_trials(tmp_path), "--results", str(tmp_path), "--name", "mine")
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


def test_what_is_refused_after_the_name_was_taken_gives_it_back(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def broken(spec: DataSpec) -> Dataset:
        seen.append((tmp_path / "study" / "study.yaml").exists())
        raise DataError("train.parquet, row 7: truncated")

    monkeypatch.setattr(driver, "load_dataset", broken)
    with pytest.raises(DataError):
        search(small())
    assert seen == [True]
    assert not (tmp_path / "study").exists()


def test_a_second_search_of_a_study_is_refused(tmp_path: Path) -> None:
    with StudyLock(Location.at(tmp_path / "mine")):
        result = invoke("--results", str(tmp_path), "--name", "mine", "--resume")
    assert result.exit_code == 2
    assert "another search is writing here, process" in result.output
    assert not (tmp_path / "mine" / "study.yaml").exists()


def test_ctrl_c_before_the_first_trial_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(spec: DataSpec) -> Dataset:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver, "load_dataset", interrupted)
    words = ["--set", "trial.loss.ramp={choice: [clamp, one]}", "--results", str(tmp_path), "--name", "mine"]
    result = invoke(*words)
    assert result.exit_code == 130
    (line,) = [line for line in result.output.splitlines() if line.endswith("--resume")]
    assert shlex.split(line)[3:] == [*words, "--resume"]


def test_ctrl_c_in_a_dry_run_has_nothing_to_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(spec: StudySpec) -> Plan:
        raise KeyboardInterrupt

    monkeypatch.setattr(search_command, "plan_study", interrupted)
    result = invoke("--dry-run", "--results", str(tmp_path))
    assert (result.exit_code, result.output) == (130, "")


def test_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    result = invoke("--dry-run", "--set", "search.trials=30", "--results", str(tmp_path))
    assert result.exit_code == 0
    for text in ("trials: 30", "at most 1,800", "at least 350", "10, 30", "1,437 with a label"):
        assert text in result.output
    assert not list(tmp_path.iterdir())
