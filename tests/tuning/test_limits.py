"""Limits that end a search before its trials: by the log alone, so that a resume under the same ones trains nothing."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from plgan_tune.backends import in_process
from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.config.load import load_study
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.search import app
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.history import OUTSIDE
from plgan_tune.study.patience import Patience
from plgan_tune.study.state import Ending
from tests.factories import Search, make_trial, small

FIRST: Sequence[Any] = [
    {"loss.alpha": alpha, "loss.ramp": "one", "optim.lr_discriminator": 0.003} for alpha in (0.2, 0.9, 0.6)
]


def rows(folder: Path, name: str) -> pd.DataFrame:
    """Without what says when, and which attempt."""
    frame = pd.read_parquet(folder / name)
    when = ["seconds", "images_per_second", "reported_at", "started_at", "ended_at", "attempt"]
    kept = frame.drop(columns=[column for column in when if column in frame])
    return kept.sort_values("number" if name == "trials" else "seq", ignore_index=True)


# A budget of epochs


def test_a_search_ends_when_its_epochs_are_logged_and_a_larger_budget_comes_to_the_same(
    search: Search, tmp_path: Path
) -> None:
    """In the middle of a trial, at a trial's end, and before the last epoch of all."""
    whole = search(small(trials=3, first=FIRST), "whole")
    in_all = len(rows(tmp_path / "whole", "epochs"))
    for budget in (2, 4, in_all - 1):
        result = search(small(trials=3, first=FIRST, epochs=budget), "cut", resume=True)
        assert result.ending is Ending.OUT_OF_EPOCHS
        assert len(rows(tmp_path / "cut", "epochs")) == budget
    assert whole.ending is search(small(trials=3, first=FIRST, epochs=in_all), "cut", resume=True).ending is Ending.DONE
    for name in ("trials", "epochs", "decisions"):
        pd.testing.assert_frame_equal(rows(tmp_path / "whole", name), rows(tmp_path / "cut", name), check_exact=True)


def test_a_resume_within_the_same_budget_trains_nothing(search: Search, tmp_path: Path) -> None:
    spec = small(trials=3, first=FIRST, epochs=5)
    search(spec)
    before = rows(tmp_path / "study", "epochs")
    again = search(spec, resume=True)
    assert again.ending is Ending.OUT_OF_EPOCHS
    assert [row.status for row in again.state.rows()] == [TrialStatus.COMPLETED]
    pd.testing.assert_frame_equal(rows(tmp_path / "study", "epochs"), before)


def test_the_command_that_continues_a_search_out_of_epochs_continues_it(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(dump_yaml(small(trials=2, epochs=3).as_mapping()))
    words = ["--in-process", "--space", str(file), "--results", str(tmp_path), "--name", "study"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 1  # no trial has completed
    assert "study: out of epochs" in said.output
    assert "--set search.epochs=6" in said.output
    plan = " ".join(CliRunner().invoke(app, [*words, "--resume", "--dry-run"]).output.split())
    assert "epochs at most 3, at least 3; the search ends at 3, of which 3 are logged" in plan
    assert CliRunner().invoke(app, [*words, "--resume", "--set", "search.epochs=6"]).exit_code == 0
    assert len(rows(tmp_path / "study", "epochs")) == 6


@pytest.mark.parametrize(("budget", "most"), [(None, 24), (30, 24), (5, 5)])
def test_a_dry_run_knows_the_budget(tmp_path: Path, budget: int | None, most: int) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(dump_yaml(small(epochs=budget, trial_hours=0.5).as_mapping()))
    assert load_study(file).study.search.epochs == budget
    said = " ".join(CliRunner().invoke(app, ["--space", str(file), "--dry-run"]).output.split())
    assert f"epochs at most {most}, at least {min(most, 9)}" in said
    assert "trials 6, each of at most 4 epochs and about 0.5 hours of training" in said


# A trial's hours


class Slow(TrialWorker):
    """Whose second trial takes half an hour an epoch."""

    def begin(self, assignment: Assignment) -> None:
        super().begin(assignment)
        self._slow = assignment.number == 1

    def step(self) -> EpochReport:
        report = super().step()
        if report.metrics is None:
            return report
        return replace(report, metrics=replace(report.metrics, seconds=1800.0 if self._slow else 1.0))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "TrialWorker", Slow)


@pytest.mark.usefixtures("slow")
def test_a_trial_that_trains_for_too_long_is_stopped_and_saves_nothing(search: Search, tmp_path: Path) -> None:
    result = search(small(trials=3, first=FIRST, early_stopping="none", trial_hours=1))
    trials = rows(tmp_path / "study", "trials")
    assert list(trials["status"]) == ["completed", "stopped", "completed"]
    assert list(trials["epochs"]) == [4, 2, 4]
    assert trials.loc[1, "error"] == "it has trained for search.trial_hours"
    assert result.state.epochs_saved() == 0
    assert result.ending is Ending.DONE
    assert search(small(trials=3, first=FIRST, early_stopping="none"), resume=True).ending is Ending.DONE
    pd.testing.assert_frame_equal(rows(tmp_path / "study", "trials"), trials)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("written", [True, False])
def test_the_log_says_that_a_trial_has_trained_for_too_long(search: Search, tmp_path: Path, written: bool) -> None:
    """Interrupted after an hour, before the trial is stopped; a resume with a limit of an hour ends it."""
    spec = partial(small, trials=3, first=FIRST, early_stopping="none")
    search(spec(trial_hours=1), "whole")
    search(spec(epochs=6), "cut")
    assert list(rows(tmp_path / "cut", "trials")["epochs"]) == [4, 2]
    search(spec(trial_hours=1 if written else 1.25), "cut", resume=True)
    trials, whole = (rows(tmp_path / name, "trials") for name in ("cut", "whole"))
    if written:
        pd.testing.assert_frame_equal(trials, whole)
    assert list(trials["epochs"]) == [4, 2 if written else 3, 4]


def test_without_a_limit_the_same_is_trained(search: Search, tmp_path: Path) -> None:
    search(small(trials=3, first=FIRST), "without")
    search(small(trials=3, first=FIRST, trial_hours=1000.0, epochs=1000, patience=1000), "with")
    for name in ("trials", "epochs", "decisions"):
        one, other = (rows(tmp_path / study, name) for study in ("without", "with"))
        pd.testing.assert_frame_equal(one, other)


# Patience


def test_a_search_that_no_longer_improves_ends_and_a_resume_agrees(search: Search, tmp_path: Path) -> None:
    """On 100 images no two of these errors differ by more than their noise, or a trial is better: the log decides."""
    spec = partial(small, trials=6, early_stopping="none")
    search(spec(), "whole")
    whole = rows(tmp_path / "whole", "trials")
    errors = list(whole["val_error_last"])
    for patience in (1, 2, 3):
        result = search(spec(patience=patience), f"study{patience}")
        expected = first_end(errors, patience)
        assert len(result.state.rows()) == expected
        assert result.ending is (Ending.STOPPED_IMPROVING if expected < 6 else Ending.DONE)
        again = search(spec(patience=patience), f"study{patience}", resume=True)
        assert (again.ending, len(again.state.rows())) == (result.ending, expected)
        trials = rows(tmp_path / f"study{patience}", "trials")
        pd.testing.assert_frame_equal(trials, whole.head(expected))
    assert first_end(errors, 1) < 6
    assert search(spec(patience=6), "study1", resume=True).ending is Ending.DONE


def first_end(errors: Sequence[float], patience: int, images: int = 100) -> int:
    """After how many trials a search of these errors ends, as a reader of the documentation works it out."""
    best, since = errors[0], 0
    for number, error in enumerate(errors[1:], start=2):
        noise = math.sqrt((best * (1 - best) + error * (1 - error)) / images)
        best, since = (error, 0) if best - error > noise else (best, since + 1)
        if since == patience:
            return number
    return len(errors)


@given(st.lists(st.tuples(st.sampled_from(TrialStatus), st.floats(0, 1)), max_size=30), st.randoms())
def test_patience_is_a_function_of_the_log(ends: list[tuple[TrialStatus, float]], draw: Random) -> None:
    """Taken one by one as trials end, or sorted from the table at a resume."""
    ended = [make_trial(n, status, error=error) for n, (status, error) in enumerate(ends) if status != "running"]
    for trials in (1, 2, 5):
        live, replayed = Patience(trials, 100), Patience(trials, 100)
        for row in ended:
            live.take(row)
        replayed.replay(draw.sample(ended, len(ended)))
        assert live.is_over() == replayed.is_over()


def completed(*errors: float) -> Iterator[TrialRow]:
    return (make_trial(n, TrialStatus.COMPLETED, error=error) for n, error in enumerate(errors))


def is_over(patience: int, rows: Iterable[TrialRow]) -> bool:
    found = Patience(patience, 100)
    found.replay(rows)
    return found.is_over()


def test_small_improvements_add_up_and_what_says_nothing_does_not_count() -> None:
    """On 100 images 0.5 and 0.4 differ by more than 0.07, their standard error; 0.5 and 0.45 do not."""
    assert is_over(2, completed(0.5, 0.45, 0.44))
    assert not is_over(2, completed(0.5, 0.45, 0.40))
    assert not is_over(1, completed(0.5))
    (best,) = completed(0.5)
    others = [make_trial(1, TrialStatus.FAILED), replace(make_trial(2, TrialStatus.STOPPED), error=OUTSIDE)]
    assert not is_over(1, [best, *others])
    for status in (TrialStatus.STOPPED, TrialStatus.DIVERGED):
        assert is_over(1, [best, make_trial(1, status)])
        assert not is_over(1, [make_trial(0, status), make_trial(1, status)])
