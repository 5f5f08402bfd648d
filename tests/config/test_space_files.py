from pathlib import Path

import pytest

from plgan_tune.config.advice import advice
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.trial import TrialSpec
from plgan_tune.config.yaml import dump_yaml

SPACES = sorted((Path(__file__).resolve().parents[2] / "search_spaces").glob("*.yaml"))
SEARCHED = [
    "loss.alpha",
    "loss.beta",
    "loss.switch_epoch",
    "optim.lr_discriminator",
    "optim.lr_generator",
    "optim.decay_epoch",
]
"""The keys of the spaces of PL-GAN."""

SEARCHED_OTHERWISE = {
    "mnist_dcgan_ssl": [
        "model.discriminator_norm",
        "loss.beta",
        "loss.smoothing",
        "loss.supervised_scale",
        "optim.lr_discriminator",
        "optim.lr_generator",
    ],
    "digits_tricks": [
        *SEARCHED,
        "model.minibatch_kernels",
        "model.generator_norm",
        "model.fake_logit",
        "loss.supervised",
        "loss.smoothing",
        "loss.history",
        "loss.self_scale",
        "loss.self_images",
    ],
    "digits_gan": [
        "model.width",
        "model.steps",
        "loss.gradient_penalty",
        "optim.lr_discriminator",
        "optim.lr_generator",
        "training.discriminator_steps",
    ],
    "mnist_wirgan": [
        "model.steps",
        "optim.lr_discriminator",
        "optim.lr_generator",
        "optim.clip",
        "training.discriminator_steps",
    ],
}
"""The keys of the other spaces."""


OTHER_METHODS = {"mnist_dcgan_ssl": "dcgan_ssl", "digits_gan": "gp_wirgan", "mnist_wirgan": "wirgan"}


def test_the_shipped_spaces_are_found() -> None:
    semi_supervised = ["cifar10", "digits", "digits_tricks", "fashion_mnist", "mnist", "mnist_dcgan_ssl"]
    names = sorted([*semi_supervised, "digits_gan", "mnist_wirgan"])
    assert [path.stem for path in SPACES] == names


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_space_loads_without_notes_or_advice(path: Path) -> None:
    loaded = load_study(path)
    assert loaded.notes == ()
    assert advice(loaded.study) == []
    assert loaded.study.study == path.stem
    assert loaded.study.template["method"] == OTHER_METHODS.get(path.stem, "pl_gan")
    assert sorted(loaded.study.domains) == sorted(SEARCHED_OTHERWISE.get(path.stem, SEARCHED))
    assert len(loaded.study.search.first) == 1


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_space_loads_again_after_dumping(path: Path, tmp_path: Path) -> None:
    study = load_study(path).study
    copy = tmp_path / "study.yaml"
    copy.write_text(dump_yaml(study.as_mapping()), encoding="utf-8")
    assert load_study(copy).study == study


@pytest.mark.parametrize(
    ("name", "labels", "epochs"),
    [
        ("digits", 20, 60),
        ("digits_tricks", 20, 60),
        ("mnist", 100, 300),
        ("fashion_mnist", 100, 300),
        ("cifar10", 4000, 600),
        ("mnist_dcgan_ssl", 100, 50),
        ("digits_gan", 0, 24),
        ("mnist_wirgan", 0, 20),
    ],
)
def test_labels_and_epochs_of_the_shipped_spaces(name: str, labels: int, epochs: int) -> None:
    (path,) = (path for path in SPACES if path.stem == name)
    template = load_study(path).study.template
    assert template["data"]["labels"] == labels
    assert template["training"]["epochs"] == epochs


def test_the_patents_settings_come_first_on_mnist() -> None:
    (path,) = (path for path in SPACES if path.stem == "mnist")
    study = load_study(path).study
    trial = study.trial(study.search.first[0])
    assert (trial.loss.switch_epoch, trial.optim.decay_epoch, trial.training.epochs) == (60, 250, 300)
    assert trial.optim.lr_discriminator == trial.optim.lr_generator == 0.003


def test_the_printed_settings_come_first_for_a_dcgan_that_classifies() -> None:
    """The first point is the method with its own defaults, but for the width."""
    (path,) = (path for path in SPACES if path.stem == "mnist_dcgan_ssl")
    study = load_study(path).study
    trial = study.trial(study.search.first[0])
    given = {"method": "dcgan_ssl", "data": trial.data.model_dump(), "model": {"width": 0.25}}
    assert trial == TrialSpec.model_validate(with_defaults(given))


@pytest.mark.parametrize("name", ["digits_gan", "mnist_wirgan"])
def test_the_printed_settings_come_first_for_a_generator(name: str) -> None:
    study = load_study(default_space().with_name(f"{name}.yaml")).study
    trial = study.trial(study.search.first[0])
    training = {"epochs": trial.training.epochs}
    given = {"method": trial.method, "data": trial.data.model_dump(), "model": {"width": 0.25}, "training": training}
    assert trial == TrialSpec.model_validate(with_defaults(given))


def test_the_tricks_begin_with_the_default_search_s_first_point() -> None:
    """Every technique is off in it, but for historical averaging, which is as weak as its domain allows."""
    default = load_study(default_space()).study
    tricks = load_study(default_space().with_name("digits_tricks.yaml")).study
    plain, first = (study.trial(study.search.first[0]) for study in (default, tricks))
    assert first.loss.history == 1e-6
    assert first.model_copy(update={"loss": first.loss.model_copy(update={"history": 0.0})}) == plain


def test_the_default_space_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert load_study(default_space()).study.study == "digits"
