"""A study of an earlier version goes on as it began, whatever today's defaults are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from plgan_tune.config.defaults import latest_edition
from plgan_tune.config.load import load_study, study_from_mapping
from plgan_tune.config.trial import TrialSpec
from plgan_tune.search import app
from plgan_tune.store.location import Location
from plgan_tune.study.history import as_begun, brought_to_date, read_history
from plgan_tune.study.study_file import read_study_file
from plgan_tune.training.checkpoint import decode_checkpoint
from plgan_tune.tuning.sampler import OptunaSampler
from plgan_tune.tuning.warm_start import read_older

FIRST: Final = (0.4, 0.4, "data")
Start = Mapping[str, Any]


def start_of(trial: TrialSpec) -> tuple[Any, ...]:
    model = trial.model
    return model.initial_spread, model.generator_initial_spread, model.generator_weight_norm_init


def resume(results: Path, *words: str) -> Result:
    space = ["--space", str(results / "earlier.yaml"), "--results", str(results)]
    return CliRunner().invoke(app, ["--in-process", *space, "--name", "earlier", "--resume", *words])


def test_all_that_is_to_come_starts_as_all_that_was(earlier: Path, newer_edition: Start) -> None:
    location = Location.at(earlier / "earlier")
    asked = load_study(earlier / "earlier.yaml").study
    assert start_of(asked.any_trial()) == tuple(newer_edition.values())
    spec = as_begun(asked, location)
    sampler = OptunaSampler(spec, brought_to_date(read_history(location, spec), spec, ()))
    under_way, to_come = sampler.ask(), sampler.ask()
    assert under_way is not None
    assert to_come is not None
    assert [one.trial_id for one in (under_way, to_come)] == ["t0002", "t0003"]
    assert [start_of(one.trial) for one in (under_way, to_come)] == [FIRST] * 2


def test_a_study_that_is_not_there_yet_takes_today_s(earlier: Path, newer_edition: Start) -> None:
    asked = load_study(earlier / "earlier.yaml").study
    assert as_begun(asked, Location.at(earlier / "another")) == asked


def test_a_dry_run_shows_the_defaults_that_hold(earlier: Path, newer_edition: Start) -> None:
    result = resume(earlier, "--dry-run", "--set", "search.trials=6")
    assert result.exit_code == 0, result.output
    assert "edition: 1\n" in result.output
    assert "initial_spread: 0.4\n" in result.output
    assert "search.trials: 4 -> 6" in result.output
    assert "->" not in result.output.replace("search.trials: 4 -> 6", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("trial.model.initial_spread=0.125", "trial.model.initial_spread: 0.4 -> 0.125"),
        ("trial.model.generator_initial_spread={choice: [0.4, xavier]}", "trial.model.generator_initial_spread: 0.4"),
        ("edition={newest}", "edition: 1 -> {newest}"),
    ],
)
def test_another_start_that_is_asked_for_is_refused(
    earlier: Path, newer_edition: Start, change: str, said: str
) -> None:
    change, said = (text.replace("{newest}", str(latest_edition())) for text in (change, said))
    result = resume(earlier, "--dry-run", "--set", change)
    assert result.exit_code == 2, result.output
    assert "these keys must not change" in result.output
    assert said in " ".join(result.output.split())


def test_the_start_that_it_began_with_may_be_asked_for(earlier: Path, newer_edition: Start) -> None:
    given = ["--set", "trial.model.initial_spread=0.4", "--set", "edition=1"]
    result = resume(earlier, "--dry-run", *given)
    assert result.exit_code == 0, result.output


def test_a_warm_start_knows_how_its_trials_started(earlier: Path, newer_edition: Start) -> None:
    """A newer study that searches the spread is told it of trials whose file does not say it."""
    asked = load_study(earlier / "earlier.yaml").study.as_mapping()
    model = {**asked["trial"]["model"], "initial_spread": {"log_uniform": [0.05, 1.0]}}
    search = {**asked["search"], "warm_start": [str(earlier / "earlier")], "first": []}
    newer = study_from_mapping({**asked, "search": search, "trial": {**asked["trial"], "model": model}})
    (older,) = read_older(newer)
    assert [row.params["model.initial_spread"] for row in older.trials] == [0.4, 0.4]
    assert "model.generator_initial_spread 0.4" in older.note


def test_a_resume_ends_it(earlier: Path, newer_edition: Start) -> None:
    folder = earlier / "earlier"
    before = pd.read_parquet(folder / "epochs")
    result = resume(earlier, "--set", "search.keep_checkpoints=9")
    assert result.exit_code == 0, result.output
    trials = pd.read_parquet(folder / "trials")
    assert list(trials["status"]) == ["completed"] * 4
    assert list(trials["attempt"]) == [1, 1, 2, 1]
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "epochs").head(len(before))[list(before)], before)
    for trial_id in ("t0000", "t0002", "t0003"):  # of t0001 none was kept
        saved = sorted((folder / "checkpoints" / trial_id).glob("*.pt"))[-1]
        assert start_of(decode_checkpoint(saved.read_bytes(), saved.name).trial) == FIRST
    file = read_study_file(Location.at(folder))
    assert file.spec.edition == 1
    assert len(file.starts) == 2
    assert start_of(file.spec.any_trial()) == FIRST
