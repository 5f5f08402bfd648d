"""`--resume` with other keys than before: what is carried over, what is only kept, and what is refused."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.samplers import TPESampler
from rich.console import Console
from typer.testing import CliRunner, Result

from plgan_tune import search as search_command
from plgan_tune.backends import in_process
from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import load_study
from plgan_tune.records import TrialStatus
from plgan_tune.search import app
from plgan_tune.store.location import Location
from plgan_tune.store.read import decision_rows, epoch_rows, read_decisions, read_epochs
from plgan_tune.study.early_stopping import build_rule, replayed
from plgan_tune.study.halving import NeverStop
from plgan_tune.study.state import Ending
from plgan_tune.tuning.driver import run_study
from plgan_tune.tuning.sampler import OptunaSampler
from tests.factories import interrupting

EPOCHS = 4
SPACE = f"""
study: small
search:
  confirm: null
  trials: 4
  concurrent: 1
  sampler: random
  early_stopping: {{asha: {{grace_period: 2, reduction_factor: 2}}}}
  first: [{{loss.alpha: 0.2}}, {{loss.alpha: 0.9}}, {{loss.alpha: 0.8}}, {{loss.alpha: 0.3}}]
trial:
  data: {{source: digits, labels: 20, validation: 100, limit: 400}}
  model: {{width: 0.05}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}}}
  training: {{epochs: {EPOCHS}}}
"""
INTERRUPTED = "t0002"


@contextmanager
def handling_usr1(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


interrupted_by_its_batch_system = interrupting(signal.SIGUSR1, INTERRUPTED, epoch=1)


@dataclass(frozen=True)
class Study:
    """A study's folder, and the command that goes on with it."""

    results: Path

    @property
    def folder(self) -> Path:
        return self.results / "mine"

    def search(self, *changes: str) -> Result:
        words = [word for change in changes for word in ("--set", change)]
        space = str(self.results / "space.yaml")
        return CliRunner().invoke(
            app,
            ["--in-process", "--space", space, "--results", str(self.results), "--name", "mine", "--resume", *words],
        )

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / name)

    def contents(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two trials that have completed, one that is under way, one to come."""
    study = Study(tmp_path_factory.mktemp("interrupted"))
    (study.results / "space.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(in_process, "TrialWorker", interrupted_by_its_batch_system)
        result = study.search()
    assert result.exit_code == 130, result.output
    assert list(study.table("trials")["status"]) == ["completed", "completed", "running"]
    assert list(study.table("trials")["epochs"]) == [EPOCHS, EPOCHS, 1]
    return study


def test_a_stop_that_ends_after_the_search_s_time_is_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials may take minutes to save, and the search's hours end meanwhile."""
    study = Study(tmp_path)
    (tmp_path / "space.yaml").write_text(SPACE)
    passed = timedelta()

    def stop_for_hours(*_: object) -> None:
        nonlocal passed
        signal.raise_signal(signal.SIGINT)
        passed = timedelta(hours=2)

    limited = load_study(tmp_path / "space.yaml", ["search.hours=1"]).study
    monkeypatch.setattr(in_process, "TrialWorker", interrupted_by_its_batch_system)
    with handling_usr1(stop_for_hours):
        result = run_study(
            limited, backend=InProcess(), results=tmp_path, name="mine", now=lambda: datetime.now(UTC) + passed
        )
    assert result.ending is Ending.INTERRUPTED
    assert list(study.table("trials")["status"]) == ["completed", "completed", "running"]


@pytest.fixture
def study(interrupted: Study, tmp_path: Path) -> Study:
    """A copy of it to go on with."""
    shutil.copytree(interrupted.results, tmp_path, dirs_exist_ok=True)
    return Study(tmp_path)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[OptunaSampler]:
    """The sampler of the search that follows."""
    made: list[OptunaSampler] = []

    def keeping(*given: Any) -> OptunaSampler:
        made.append(OptunaSampler(*given))
        return made[-1]

    monkeypatch.setattr(search_command, "run_study", partial(run_study, suggest=keeping))
    return made


def check_kept(before: Study, after: Study) -> None:
    """Every row of before is in its place, but for the trial that was under way."""
    for name in ("epochs", "decisions"):
        old, new = before.table(name), after.table(name)
        pd.testing.assert_frame_equal(new.head(len(old)).reset_index(drop=True), old)
    old, new = (study.table("trials").set_index("trial_id") for study in (before, after))
    ended = old[old["status"] != TrialStatus.RUNNING]
    pd.testing.assert_frame_equal(new.loc[ended.index], ended)
    assert list(after.table("epochs")["seq"]) == list(range(len(after.table("epochs"))))


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("search.early_stopping.asha.reduction_factor=4", "search.early_stopping.asha.reduction_factor: 2 -> 4"),
        ("search.early_stopping=none", "search.early_stopping.asha.grace_period: 2 -> null"),
    ],
)
def test_another_rule_judges_what_comes_and_leaves_what_was_decided(
    interrupted: Study, study: Study, change: str, note: str
) -> None:
    result = study.search("search.trials=6", change)
    assert result.exit_code == 0, result.output
    for text in ("search.trials: 4 -> 6", note):
        assert f"note: changed since the last start: {text}" in result.output
    check_kept(interrupted, study)
    trials = study.table("trials").set_index("trial_id")
    assert sorted(trials["number"]) == list(range(6))
    assert list(trials["attempt"]) == [2 if trial_id == INTERRUPTED else 1 for trial_id in trials.index]
    assert set(trials["status"]) <= {"completed", "stopped"}
    assert set(trials.loc[trials["status"] == "completed", "epochs"]) == {EPOCHS}

    location = Location.at(study.folder)
    spec = load_study(study.folder / "study.yaml").study
    epochs = epoch_rows(read_epochs(location))
    implied = replayed(
        [row.report() for row in epochs], build_rule(spec), {trial_id: {} for trial_id in trials.index}, EPOCHS
    )
    old = len(interrupted.table("decisions"))
    decisions = decision_rows(read_decisions(location))
    last = decisions[old - 1].seq
    assert decisions[old:] == [row for row in implied if row.seq > last]
    stopped = {row.trial_id for row in decisions if row.verdict == "stop"}
    assert stopped == set(trials.index[trials["status"] == "stopped"])
    assert (change == "search.early_stopping=none") == (decisions[old:] == [])


def test_what_had_begun_ends_where_fewer_trials_are_asked_for(interrupted: Study, study: Study) -> None:
    result = study.search("search.trials=1")
    assert result.exit_code == 0, result.output
    check_kept(interrupted, study)
    trials = study.table("trials")
    assert sorted(trials["number"]) == [0, 1, 2]
    assert TrialStatus.RUNNING not in set(trials["status"])


def test_another_sampler_is_told_the_trials_of_before_but_those_outside_a_narrower_domain(
    interrupted: Study, study: Study, told: list[OptunaSampler]
) -> None:
    """Of 0.2, 0.9 and 0.8, which was under way. Those outside are kept and named."""
    sampler = "search.sampler={tpe: {startup_trials: 1}}"
    result = study.search("search.trials=5", "search.first=[]", sampler, "trial.loss.alpha={uniform: [0.1, 0.5]}")
    assert result.exit_code == 0, result.output
    assert "note: outside the current domains, so kept but not passed to the sampler: t0001, t0002\n" in result.output
    for key in ("search.sampler", "search.first", "trial.loss.alpha.uniform"):
        assert f"note: changed since the last start: {key}" in result.output
    check_kept(interrupted, study)
    trials = study.table("trials").set_index("trial_id")
    assert list(trials["params_alpha"].head(3)) == [0.2, 0.9, 0.8]
    assert (trials["params_alpha"].iloc[3:] <= 0.5).all()
    assert trials.loc[INTERRUPTED, "status"] == TrialStatus.STOPPED
    assert "its point is outside the study's current domains" in str(trials.loc[INTERRUPTED, "error"])
    (asked,) = told
    assert isinstance(asked.study.sampler, TPESampler)
    inside = trials.loc[["t0000", "t0003", "t0004"]]
    assert [one.params["loss.alpha"] for one in asked.study.trials] == list(inside["params_alpha"])
    assert asked.study.trials[0].value == inside["val_error_last"].iloc[0]


def test_a_wider_domain_is_searched_whole_and_the_trials_of_before_are_told(
    interrupted: Study, study: Study, told: list[OptunaSampler]
) -> None:
    """Eight of the nine decades are new."""
    result = study.search("search.trials=6", "search.first=[]", "trial.loss.alpha={log_uniform: [1e-9, 1.0]}")
    assert result.exit_code == 0, result.output
    assert "not told" not in result.output
    assert "note: changed since the last start: trial.loss.alpha.log_uniform: null -> [1e-09, 1.0]\n" in result.output
    check_kept(interrupted, study)
    trials = study.table("trials")
    assert list(trials["params_alpha"].head(3)) == [0.2, 0.9, 0.8]
    assert (trials["params_alpha"].iloc[3:] < 0.1).any()
    assert set(trials["status"]) <= {"completed", "stopped"}
    (asked,) = told
    assert [one.params["loss.alpha"] for one in asked.study.trials] == list(trials["params_alpha"])
    assert [one.value for one in asked.study.trials[:2]] == list(trials["val_error_last"].head(2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("trial.data.split_seed=7", "trial.data.split_seed: 0 -> 7"),
        ("trial.model.width=0.1", "trial.model.width: 0.05 -> 0.1"),
        ("trial.training.epochs=5", f"trial.training.epochs: {EPOCHS} -> 5"),
        ("trial.loss.alpha=0.5", "trial.loss.alpha"),
    ],
)
def test_what_would_make_old_and_new_errors_incomparable_is_refused(study: Study, change: str, said: str) -> None:
    before = study.contents()
    result = study.search("search.trials=9", change)
    assert result.exit_code == 2, result.output
    assert "these keys must not change" in result.output
    assert said in result.output
    assert "search.trials:" not in result.output
    assert study.contents() == before


def test_a_resume_with_another_rule_is_said(tmp_path: Path) -> None:
    """Its decisions stay."""
    run = partial(run_study, backend=InProcess(), results=tmp_path, name="ruled")
    (tmp_path / "space.yaml").write_text(SPACE)
    study = load_study(tmp_path / "space.yaml").study
    run(study)
    before = pd.read_parquet(tmp_path / "ruled" / "decisions")
    for stop, said in ((build_rule, False), (lambda _: NeverStop(), True)):
        output = StringIO()
        run(study, resume=True, stop=stop, console=Console(file=output, width=200))
        assert ("the rule of this resume decides otherwise" in output.getvalue()) is said
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ruled" / "decisions"), before)
