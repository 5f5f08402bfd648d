"""A study that a search ends in seconds, and how tests run it."""

from collections.abc import Callable, Mapping
from typing import Any

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.tuning.driver import StudyResult

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
"""`run_study` of a specification, in the test's folder, named `study` or as the second argument says."""

UNTIMED = ["epoch", "val_error", "val_error_raw", "loss_supervised", "loss_feature"]
"""Columns that are the same in every run."""
