"""A key that may be a number or text: its values come back from the log as they were suggested."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pytest
from optuna.trial import TrialState
from typer.testing import CliRunner

from plgan_tune.analysis.importance import Importances, importances
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import read_study
from plgan_tune.analyze import app as analyze
from plgan_tune.config.load import load_trial, study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.evaluation.configurations import best_configurations
from plgan_tune.records import TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.study.folder import write_study
from plgan_tune.study.history import brought_to_date, read_history
from plgan_tune.tuning.sampler import OptunaSampler
from plgan_tune.tuning.warm_start import read_older
from tests.factories import START, Search, make_epoch, make_trial

KEY: Final = "model.initial_spread"
OPTIONS: Final = (0.1, "xavier", 0.4)
TRIALS: Final = 24


def study(options: tuple[Any, ...] = OPTIONS, **search: Any) -> StudySpec:
    return study_from_mapping(
        {
            "study": "mixed",
            "search": {
                "trials": TRIALS + 3,
                "concurrent": 1,
                "confirm": None,
                "sampler": {"tpe": {"startup_trials": 4}},
                **search,
            },
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 100, "limit": 300},
                "model": {"width": 0.02, "initial_spread": {"choice": list(options)}},
                "loss": {"alpha": {"uniform": [0.1, 1.0]}},
                "training": {"epochs": 1},
            },
        }
    )


@pytest.fixture
def left(tmp_path: Path) -> Location:
    """What a search of a mixed choice left: completed trials, and one under way."""
    spec, location = study(), Location.at(tmp_path / "mixed")
    write_study(location, spec, START)
    sampler = OptunaSampler(spec)
    with StudyLog(location, spec.columns, spec.types) as log:
        log.open_tables()
        for number in range(TRIALS + 1):
            assignment = sampler.ask()
            assert assignment is not None
            point, error = assignment.point, 0.2 + 0.01 * number
            row = replace(make_trial(number, TrialStatus.COMPLETED, point, error), ended_at=START)
            log.trial(row if number < TRIALS else make_trial(number, TrialStatus.RUNNING, point))
            if number < TRIALS:
                log.epoch(make_epoch(number, row.trial_id, 1, error))
                sampler.report(assignment.trial_id, 1, error)
                sampler.tell(assignment.trial_id, row.status)
    return location


def test_a_resume_knows_every_trial(left: Location) -> None:
    spec = study()
    history = brought_to_date(read_history(left, spec), spec, ())
    values = [row.params[KEY] for row in history.trials]
    assert set(values) == set(OPTIONS)
    assert [row.status for row in history.trials] == [TrialStatus.COMPLETED] * TRIALS + [TrialStatus.RUNNING]
    sampler = OptunaSampler(spec, history)
    told = sampler.study.get_trials(states=[TrialState.COMPLETE])
    assert [trial.params[KEY] for trial in told] == values[:TRIALS]
    again = sampler.ask()
    assert again is not None
    assert (again.trial_id, again.point[KEY]) == (f"t{TRIALS:04d}", values[-1])
    assert again.trial.model.initial_spread == values[-1]


def test_a_resume_writes_the_log_as_it_was(left: Location) -> None:
    """What it takes up, and a row that it adds."""
    spec = study()
    before = pd.read_parquet(Path(left.path) / "trials")
    with StudyLog(left, spec.columns, spec.types) as log:
        for row in read_history(left, spec).trials:
            log.trial(row)
    pd.testing.assert_frame_equal(pd.read_parquet(Path(left.path) / "trials"), before)


def test_a_narrower_choice_keeps_what_lies_outside(left: Location) -> None:
    spec = study((0.4, "xavier"))
    trials = read_history(left, spec).trials
    inside = [row for row in trials if spec.holds(row.params)]
    assert {row.params[KEY] for row in inside} == {0.4, "xavier"}
    assert len(inside) < len(trials)


def test_analysis_knows_what_a_resume_has_dropped(left: Location) -> None:
    write_study(left, study(options=(0.4, "xavier")), START)
    found = read_study(left.path)
    dropped = found.trials[~found.inside]
    assert len(dropped)
    assert {found.params(row)[KEY] for row in dropped.to_dict("records")} == {0.1}


def test_a_warm_start_takes_every_finished_trial(left: Location) -> None:
    (older,) = read_older(study(warm_start=[left.url]))
    assert {row.params[KEY] for row in older.trials} == set(OPTIONS)
    assert f"took {TRIALS} of {TRIALS}" in older.note


def test_analysis_and_evaluation_know_every_trial(left: Location, tmp_path: Path) -> None:
    found = read_study(left.path)
    assert found.inside.all()
    points = [found.params(row) for row in found.trials.to_dict("records")]
    assert [point[KEY] for point in points] == [row.params[KEY] for row in read_history(left, found.spec).trials]
    matters = importances(found)
    assert isinstance(matters, Importances)
    report_html(found, matters)
    best = best_configurations(found.spec, read_history(left, found.spec).trials, TRIALS)
    assert {one.trial.model.initial_spread for one in best} == set(OPTIONS)
    number = next(place for place, point in enumerate(points) if point[KEY] == 0.1)
    file, trial_id = tmp_path / "trial.yaml", found.trials["trial_id"][number]
    result = CliRunner().invoke(analyze, [str(left.path), "--export", str(file), "--trial", trial_id])
    assert result.exit_code == 0, result.output
    assert load_trial(file).model.initial_spread == 0.1


def test_a_search_resumed_is_told_its_numbers(search: Search) -> None:
    points = [{KEY: value} for value in OPTIONS]
    first = search(study(trials=2, first=points), name="real")
    assert [first.state.trial(f"t{number:04d}").params[KEY] for number in range(2)] == [0.1, "xavier"]
    result = search(study(trials=3, first=points), name="real", resume=True)
    rows = [result.state.trial(f"t{number:04d}") for number in range(3)]
    assert [row.params[KEY] for row in rows] == list(OPTIONS)
    assert {row.status for row in rows} == {TrialStatus.COMPLETED}
    file = Path(result.location.path) / "best.yaml"
    best = result.state.best()
    assert best is not None
    assert load_trial(file).model.initial_spread == best.params[KEY]
    assert list(pd.read_parquet(file.parent / "trials")["params_initial_spread"]) == ["0.1", "xavier", "0.4"]
