"""What is taken from Tune's trials, which it keeps to a study's end."""

from dataclasses import asdict, fields
from typing import Any

from ray.tune.experiment import Trial

from plgan_tune.backends.ray.tune_run import Forgetting
from plgan_tune.records import EpochMetrics


def result() -> dict[str, Any]:
    """Of a completed trial, as Tune hands it to callbacks."""
    metrics = EpochMetrics(1, *[0.5] * (len(fields(EpochMetrics)) - 1))
    return asdict(metrics) | {"status": "completed", "attempt": 1, "done": True, "training_iteration": 1, "config": {}}


def test_a_trial_keeps_what_its_end_is_told_by_and_then_nothing_that_grows() -> None:
    trial, forgetting, held = Trial("trainable", stub=True), Forgetting(), result()
    forgetting.on_trial_result(iteration=1, trials=[trial], trial=trial, result=held)
    trial.update_last_result(held)
    assert {"epoch", "val_error", "status"} <= trial.last_result.keys()
    assert "loss_feature" not in trial.last_result
    assert set(trial.metric_analysis) <= {"epoch", "val_error", "attempt", "done", "training_iteration"}
    forgetting.on_trial_complete(iteration=1, trials=[trial], trial=trial)
    assert trial.metric_analysis == trial.metric_n_steps == {}
    assert trial.last_result == {"status": "completed", "trial_id": trial.trial_id}
