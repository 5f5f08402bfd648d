"""The methods as rows: what a method's name resolves to."""

from typing import get_args

import pytest

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.load import study_from_mapping
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


DATA = {"source": "digits", "labels": 20, "validation": 100}


def test_a_method_chooses_the_kind_of_networks_unless_the_file_does() -> None:
    assert with_defaults({"method": "dcgan_ssl"})["model"]["kind"] == "dcgan"
    assert with_defaults({"method": "dcgan_ssl", "model": {"kind": "mlp"}})["model"]["kind"] == "mlp"
    assert with_defaults({"method": "sgan"})["model"]["kind"] == with_defaults({})["model"]["kind"] == "mlp"


def test_a_study_of_a_method_has_its_kind() -> None:
    study = study_from_mapping(
        {"study": "s", "trial": {"method": "dcgan_ssl", "data": DATA, "loss": {"beta": {"uniform": [0.0, 1.0]}}}}
    )
    assert study.template["model"]["kind"] == "dcgan"
    assert study.any_trial().model.discriminator_norm == "batch"
    assert study_from_mapping(study.as_mapping()) == study


def test_a_searched_method_brings_its_kind_with_it() -> None:
    search = {"method": {"choice": ["pl_gan", "dcgan_ssl"]}, "training": {"epochs": 5}}
    study = study_from_mapping({"study": "s", "trial": {"data": DATA, **search}})
    assert "kind" not in study.template["model"]
    kinds = {method: study.trial({"method": method}).model.kind for method in ("pl_gan", "dcgan_ssl")}
    assert kinds == {"pl_gan": "mlp", "dcgan_ssl": "dcgan"}


def test_dcgan_ssl_is_what_was_printed() -> None:
    """LDOUBLEV/semi-supervised-GAN, as far as it does not contradict itself."""
    found = resolved("dcgan_ssl", "dcgan")
    printed = {
        "model.discriminator_norm": "batch",
        "model.activation": "leaky_relu",
        "model.latent": "normal",
        "model.latent_size": 128,
        "loss.alpha": 1.0,
        "loss.beta": 0.01,
        "loss.ramp": "zero",
        "loss.smoothing": 0.1,
        "loss.supervised_scale": 10.0,
        "loss.unsupervised_scale": 1.0,
        "loss.weight_decay": 1e-4,
        "optim.lr_discriminator": 2e-4,
        "optim.lr_generator": 2e-4,
        "optim.beta1": 0.5,
        "optim.beta2": 0.999,
        "optim.eps": 1e-8,
        "optim.min_factor": 1.0,
        "training.batch_size": 50,
        "training.epochs": 50,
    }
    assert {key: found[key] for key in printed} == printed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("one", "several"), [("wgan", "wirgan"), ("wgan_gp", "gp_wirgan")])
def test_a_generator_of_one_step_is_that_of_the_plain_critic(one: str, several: str, kind: str) -> None:
    """The same trial, but for its method's name: WIRGAN at T = 1 is WGAN."""
    steps = {"steps": 1} if kind == "recurrent" else {}
    given = {"data": DATA | {"labels": 0}, "model": {"kind": kind, **steps}}
    first, second = (
        TrialSpec.model_validate(with_defaults({"method": method, **given})).model_dump() for method in (one, several)
    )
    assert first | {"method": ""} == second | {"method": ""}


@pytest.mark.parametrize("method", ["gran", "wgan", "wirgan", "wgan_gp", "gp_wirgan"])
def test_a_generator_s_method_needs_no_label_but_takes_some(method: str) -> None:
    """With labels, a weight of C_sup makes a classifier of it."""
    for labels, loss in ((0, {}), (20, {}), (20, {"supervised_scale": 1.0})):
        given = {"method": method, "data": DATA | {"labels": labels}, "loss": loss}
        trial = TrialSpec.model_validate(with_defaults(given))
        assert (trial.model.kind, trial.loss.alpha, trial.loss.beta) == ("recurrent", 1.0, 0.0)
