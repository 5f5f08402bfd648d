"""The methods as rows: what a method's name resolves to."""

from typing import get_args

import pytest

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.study import flatten
from plgan_tune.config.trial import Kind, TrialSpec

KINDS = get_args(Kind)


def resolved(method: str, kind: str) -> dict[str, object]:
    data = {"source": "digits", "labels": 20, "validation": 100}
    trial = TrialSpec.model_validate(with_defaults({"method": method, "data": data, "model": {"kind": kind}}))
    return flatten(trial.model_dump())


@pytest.mark.parametrize("kind", KINDS)
def test_sgan_is_regular_gan_over_one_more_class_with_a_full_game(kind: str) -> None:
    """It is regular GAN in all else: V_log alone, not saturating."""
    ours, theirs = resolved("regular_gan", kind), resolved("sgan", kind)
    assert {key: theirs[key] for key in ours if ours[key] != theirs[key]} == {
        "method": "sgan",
        "model.fake_logit": "learned",
        "loss.supervised": "joint",
        "loss.unsupervised_scale": 1.0,
    }
    assert (theirs["loss.alpha"], theirs["loss.beta"], theirs["loss.ramp"]) == (1.0, 0.0, "zero")


@pytest.mark.parametrize("kind", KINDS)
def test_self_training_is_pl_gan_that_teaches_itself_from_the_switch_on(kind: str) -> None:
    ours, theirs = resolved("pl_gan", kind), resolved("self_training", kind)
    differing = {key: theirs[key] for key in ours if ours[key] != theirs[key]}
    assert differing == {"method": "self_training", "loss.self_scale": 0.5}
    data = {"source": "digits", "labels": 20, "validation": 100}
    given = {"method": "self_training", "data": data, "model": {"kind": kind}}
    loss = TrialSpec.model_validate(with_defaults(given)).loss
    assert (loss.self_threshold, loss.self_images, loss.self_start) == (0.95, "generated", loss.switch_epoch)
    given["loss"] = {"switch_epoch": 7, "self_epoch": 0}
    assert TrialSpec.model_validate(with_defaults(given)).loss.self_start == 0
