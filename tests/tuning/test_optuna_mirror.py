"""What optuna-dashboard is given to open."""

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from plgan_tune.config.load import study_from_mapping
from plgan_tune.records import EpochRow, TrialStatus
from plgan_tune.study.history import History
from plgan_tune.tuning.optuna_mirror import OptunaMirror
from tests.factories import START, make_epoch, make_metrics, make_trial

SPEC = study_from_mapping(
    {
        "study": "mirrored",
        "trial": {
            "data": {"source": "digits", "labels": 20, "validation": 100},
            "loss": {"alpha": {"uniform": [0, 1]}},
            "training": {"epochs": 3},
        },
    }
)


def opened(path: Path) -> list[FrozenTrial]:
    return study_at(path).trials


def study_at(path: Path) -> optuna.Study:
    """Under the name of the study's folder."""
    return optuna.load_study(study_name=path.parent.name, storage=JournalStorage(JournalFileBackend(str(path))))


def test_a_dashboard_shows_an_ordered_option_by_its_name(tmp_path: Path) -> None:
    ramp = {"choice": ["zero", "clamp", "one"], "ordered": True}
    mapping = SPEC.as_mapping()
    spec = study_from_mapping({**mapping, "trial": {**mapping["trial"], "loss": {"ramp": ramp}}})
    path = tmp_path / "optuna.log"
    with OptunaMirror(path, spec, History()) as mirror:
        mirror.trial(make_trial(0, TrialStatus.RUNNING, {"loss.ramp": "clamp"}))
    assert [trial.params for trial in opened(path)] == [{"loss.ramp": "clamp"}]


def test_a_dashboard_finds_every_trial_with_its_curve(tmp_path: Path) -> None:
    path = tmp_path / "optuna.log"
    with OptunaMirror(path, SPEC, History()) as mirror:
        mirror.trial(make_trial(0, TrialStatus.RUNNING))
        mirror.trial(make_trial(1, TrialStatus.RUNNING, {"loss.alpha": 0.25}))
        mirror.epoch(make_epoch(0, "t0", 1, 0.4))
        mirror.epoch(make_epoch(0, "t0", 2, 0.3))
        mirror.epoch(make_epoch(0, "t1", 1, 0.6))
        mirror.trial(make_trial(0, TrialStatus.COMPLETED, error=0.3))
        mirror.trial(make_trial(1, TrialStatus.STOPPED, {"loss.alpha": 0.25}, 0.6))
        mirror.trial(make_trial(2, TrialStatus.RUNNING, {"loss.alpha": 0.75}))
    found = opened(path)
    assert [one.state.name for one in found] == ["COMPLETE", "PRUNED", "RUNNING"]
    assert [one.params for one in found] == [{"loss.alpha": alpha} for alpha in (0.5, 0.25, 0.75)]
    assert found[0].value == 0.3
    assert found[0].intermediate_values == {1: 0.4, 2: 0.3}
    assert [one.user_attrs["trial_id"] for one in found] == ["t0", "t1", "t2"]


def test_the_lock_of_a_driver_that_was_killed_is_not_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Optuna says after 10 s that it waits."""
    path = tmp_path / "optuna.log"
    (tmp_path / "optuna.log.lock").symlink_to(path)
    with OptunaMirror(path, SPEC, History()) as mirror:
        mirror.trial(make_trial(0, TrialStatus.RUNNING))
    assert "acquire the lock" not in capfd.readouterr().err
    assert len(opened(path)) == 1


def test_a_metric_whose_highest_value_is_the_best_is_maximised_in_its_own_unit(tmp_path: Path) -> None:
    mapping, path = SPEC.as_mapping(), tmp_path / "optuna.log"
    search = {**mapping["search"], "metric": "val_coverage", "mode": None}
    with OptunaMirror(path, study_from_mapping({**mapping, "search": search}), History()) as mirror:
        mirror.trial(make_trial(0, TrialStatus.RUNNING))
        mirror.epoch(EpochRow(0, "t0", 1, make_metrics(1, val_coverage=0.8), START))
        mirror.trial(make_trial(0, TrialStatus.COMPLETED, error=0.9))
    ((found,), direction) = opened(path), study_at(path).direction
    assert (found.value, found.intermediate_values, direction.name) == (0.9, {1: 0.8}, "MAXIMIZE")


def test_it_is_written_anew_from_the_history(tmp_path: Path) -> None:
    path = tmp_path / "optuna.log"
    path.write_text("of an earlier start\n")
    ended, left = make_trial(0, TrialStatus.COMPLETED, error=0.3), make_trial(1, TrialStatus.RUNNING)
    outside = make_trial(2, TrialStatus.STOPPED, {"loss.alpha": 2.0})
    history = History((ended, left, outside), curves={"t0": {1: 0.4, 3: 0.3}, "t1": {1: 0.5}})
    with OptunaMirror(path, SPEC, history) as mirror:
        mirror.trial(replace(left, attempt=2))
        mirror.epoch(make_epoch(0, "t1", 2, 0.2))
        mirror.trial(replace(left, status=TrialStatus.COMPLETED, value_last=0.2))
    found = opened(path)
    assert [(one.state.name, one.value) for one in found] == [("COMPLETE", 0.3), ("COMPLETE", 0.2)]
    assert [one.intermediate_values for one in found] == [{1: 0.4, 3: 0.3}, {1: 0.5, 2: 0.2}]


def test_where_it_cannot_be_written_the_rows_still_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with OptunaMirror(tmp_path / "nowhere" / "optuna.log", SPEC, History()) as mirror:
        for number in range(5):
            mirror.trial(make_trial(number, TrialStatus.RUNNING))
    assert caplog.text.count("is no longer updated") == 1
