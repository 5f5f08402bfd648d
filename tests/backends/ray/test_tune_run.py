"""What is taken from Tune's trials, which it keeps to a study's end."""

from typing import Any

from ray.tune.experiment import Trial

from plgan_tune.backends.ray.tune_run import TrimResults
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
