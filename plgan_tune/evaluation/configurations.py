"""What an evaluation trains: the best of a search, the patent's own settings, its comparisons, and the judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Final

from plgan_tune.analysis.seeds import JUDGE, PATENT
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.study import StudySpec, flatten, set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.check import DataSummary
from plgan_tune.records import TrialRow
from plgan_tune.study.ranking import rank

TABLE_2: Final = (
    "loss.alpha",
    "loss.beta",
    "loss.switch_epoch",
    "loss.ramp",
    "optim.lr_discriminator",
    "optim.lr_generator",
    "optim.decay_epoch",
)
"""What the patent prints of its own experiments (table 2, paragraph 0060), and equal weights for alpha and beta."""

SCALED: Final = ("loss.switch_epoch", "optim.decay_epoch")
"""Epochs of a training of as many epochs as the patent's."""

SUPERVISED: Final[Mapping[str, Any]] = {"loss.alpha": 0.0, "loss.beta": 0.0, "loss.unsupervised_scale": 0.0}
"""D's loss is C_sup alone; G is not trained. D has no layer that mixes a batch's images: the fakes change nothing."""

METHODS: Final[Mapping[str, Mapping[str, Any]]] = {
    "regular_gan": {"loss.alpha": 1.0, "loss.beta": 0.0, "loss.ramp": "zero"},
    "feature_wise_gan": {"loss.alpha": 0.0, "loss.beta": 1.0},
    "supervised": SUPERVISED,
}
"""The patent's comparisons (figures 7 to 9), as changes of its own settings."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is trained with every seed.

    Attributes:
        name: a trial_id of the search, `patent`, one of `METHODS`, or `judge`.
        trial: its seeds are replaced.
    """

    name: str
    trial: TrialSpec


def best_configurations(study: StudySpec, trials: Sequence[TrialRow], top: int) -> list[Configuration]:
    """Those of the completed trials whose error at the last epoch was lowest, the best first."""
    ranked = [row for row in rank(trials) if study.holds(row.params)]
    return [Configuration(row.trial_id, study.trial(row.params)) for row in ranked[:top]]


def patent_configuration(study: StudySpec) -> Configuration:
    """The patent's own settings on this study's data and networks.

    Every key that is searched, and those of `TABLE_2` in any case, is the default of the study's kind of network, which
    is the patent's: table 2 for MNIST (mlp) or CIFAR-10 (conv). The switch epoch and the decay are scaled where the
    study trains for fewer or more epochs than the patent. What else the study fixes stays, so that differences are due
    to what a search can change.
    """
    kept = {path: value for path, value in flatten(study.template).items() if path not in TABLE_2}
    plain = with_defaults(set_paths({}, kept), study.edition)
    epochs = study.any_trial().training.epochs
    printed = with_defaults({"profile": plain["profile"], "model": {"kind": plain["model"]["kind"]}})
    share = epochs / printed["training"]["epochs"]
    scaled = {key: max(1, round(flatten(printed)[key] * share)) for key in SCALED}
    return Configuration(PATENT, TrialSpec.model_validate(set_paths(plain, {**scaled, "training.epochs": epochs})))


def method_configurations(patent: Configuration) -> list[Configuration]:
    """The patent's comparisons."""
    return [Configuration(name, changed(patent.trial, changes)) for name, changes in METHODS.items()]


def judge_configuration(patent: Configuration, data: DataSummary) -> Configuration:
    """The classifier that judges generated images: supervised only, on all labels that the classes have alike."""
    spec, classes = patent.trial.data, len(data.classes)
    labels = classes * (min(data.images_per_class) - spec.validation // classes)
    return Configuration(
        JUDGE, changed(patent.trial, {**SUPERVISED, "data.labels": labels, "data.labels_in_pool": True})
    )


def with_seed(trial: TrialSpec, seed: int, *, refit: bool = False) -> TrialSpec:
    """The configuration with other weights and noise, and with labelled and validation images drawn anew."""
    return changed(trial, {"seed": seed, "data.split_seed": seed, "data.refit": refit})


def fresh_seeds(study: StudySpec, trials: Sequence[TrialRow], number: int) -> list[int]:
    """The first seeds from 1 on that are not the search's or its trials' own, by which its best were chosen."""
    own = {study.template["data"]["split_seed"], study.template.get("seed"), *(row.seed for row in trials)}
    return list(islice((seed for seed in count(1) if seed not in own), number))


def is_generative(trial: TrialSpec) -> bool:
    """Whether the generator is trained."""
    return trial.loss.alpha > 0 or trial.loss.beta > 0


def changed(trial: TrialSpec, values: Mapping[str, Any]) -> TrialSpec:
    """The trial with the values at these dotted paths."""
    return TrialSpec.model_validate(set_paths(trial.model_dump(mode="json"), values))
