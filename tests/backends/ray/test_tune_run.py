"""What is taken from Tune's trials, which it keeps to a study's end, and when its time is over."""

from typing import Any

import pytest
from ray.tune.experiment import Trial

from plgan_tune.backends.ray import tune_run
from plgan_tune.backends.ray.tune_run import LogLimit, TimeLimit, TrimResults
from tests.factories import make_metrics, make_report


def test_a_trial_keeps_nothing_that_grows() -> None:
    trial, forgetting = Trial("trainable", stub=True), TrimResults()
    held: dict[str, Any] = {"report": make_report(make_metrics(1)), "training_iteration": 1, "config": {}}
    forgetting.on_trial_result(iteration=1, trials=[trial], trial=trial, result=held)
    trial.update_last_result(held)
    assert {"report", "config"}.isdisjoint(trial.last_result)
    assert set(trial.metric_analysis) <= {"training_iteration"}
    forgetting.on_trial_complete(iteration=1, trials=[trial], trial=trial)
    assert trial.metric_analysis == trial.metric_n_steps == {}
    assert set(trial.last_result) <= {"trial_id"}


class Coordinator:
    over = False

    def is_over(self) -> bool:
        return self.over


def test_the_log_ends_a_search() -> None:
    coordinator = Coordinator()
    limit = LogLimit(coordinator)  # type: ignore[arg-type]
    assert not limit.stop_all()
    coordinator.over = True
    assert limit.stop_all()
    assert not limit("t0000", {})


def test_a_limit_counts_from_when_it_is_first_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    since_boot = 1000.0
    monkeypatch.setattr(tune_run, "seconds_awake_or_asleep", lambda: since_boot)
    limit = TimeLimit(hours=2)
    since_boot += 8000
    assert not limit.stop_all()
    since_boot += 7199
    assert not limit.stop_all()
    since_boot += 1
    assert limit.stop_all()
    assert not TimeLimit(hours=None).stop_all()
