"""The configurations of an evaluation: the best of a search, the patent's settings, and its comparisons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Final

from plgan_tune.analysis.seeds import reference_of
from plgan_tune.config.defaults import METHOD, with_defaults
from plgan_tune.config.methods import METHODS
from plgan_tune.config.own import OWN
from plgan_tune.config.study import StudySpec, flatten, set_paths
from plgan_tune.config.trial import Kind, Method, TrialSpec
from plgan_tune.records import TrialRow
from plgan_tune.study.race import race_of
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
"""Settings that the patent prints (table 2, paragraph 0060), and alpha and beta, which get equal weights."""

SCALED: Final = ("loss.switch_epoch", "optim.decay_epoch")
"""Keys that count epochs and are scaled to the length of the study's training."""

COMPARED: Final[tuple[Method, ...]] = ("regular_gan", "feature_wise_gan", "supervised")
"""The patent's comparisons (figures 7 to 9), as changes of its settings."""

GENERATORS: Final[tuple[Method, ...]] = ("gran", "wirgan", "gp_wirgan")
"""The comparisons of generators that draw in steps, each with its own settings (Feng et al. 2020, tables 3 to 10)."""

STEPS: Final = (1, 3, 5)
"""T, in how many steps they draw."""

RECURRENT: Final[Kind] = "recurrent"


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration that is trained with every seed.

    Attributes:
        name: a trial_id of the search, `patent`, a method, or one of `COMPARED` or of `GENERATORS` with its T.
        trial: the specification; its seeds are replaced.
    """

    name: str
    trial: TrialSpec


def best_configurations(study: StudySpec, trials: Sequence[TrialRow], top: int) -> list[Configuration]:
    """Return the `top` best configurations of the search, the best first; see `rank`."""
    ranked = [row for row in rank(trials, race_of(study), study.metric) if study.holds(row.params)]
    return [Configuration(row.trial_id, study.trial(row.params)) for row in ranked[:top]]


def patent_configuration(study: StudySpec) -> Configuration:
    """Return the patent's settings on this study's data and networks.

    Every searched key, and every key of `TABLE_2`, takes the default of the study's kind of network, which is the
    patent's value: table 2 for MNIST (mlp) or CIFAR-10 (conv). The switch epoch and the decay are scaled if the study
    trains for fewer or more epochs than the patent. Terms of the user's own file are left out, unless it builds the
    networks. All other keys keep the study's values, so that differences are due to what a search can change.

    The patent has settings for labelled images alone. Of a study without labels, these are the settings of its method,
    after which the configuration is then named.
    """
    method = METHODS[study.template.get("method", METHOD)]
    replaced = {*TABLE_2, *flatten(method.changes)}
    given = flatten(study.template)
    if given.get("model.kind") != "own":
        given = {path: value for path, value in given.items() if not path.startswith(OWN)}
    kept = {path: value for path, value in given.items() if path not in replaced}
    plain = with_defaults(set_paths({}, {**kept, "method": method.root}), study.edition)
    trial = TrialSpec.model_validate(_of_length(plain, study.any_trial().training.epochs))
    return Configuration(reference_of(study), trial)


def _of_length(trial: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return the trial at another length, with its method's epochs of `SCALED` in the same proportion."""
    printed = with_defaults({"method": trial["method"], "model": {"kind": trial["model"]["kind"]}})
    share = epochs / printed["training"]["epochs"]
    scaled = {key: max(1, round(flatten(printed)[key] * share)) for key in SCALED}
    return set_paths(trial, {**scaled, "training.epochs": epochs})


def method_configurations(patent: Configuration) -> list[Configuration]:
    """Return the patent's comparisons."""
    return [Configuration(name, changed(patent.trial, flatten(METHODS[name].changes))) for name in COMPARED]


def generator_configurations(reference: Configuration, edition: int) -> list[Configuration]:
    """Return the comparisons of a study without labels: `GENERATORS` at T of `STEPS`.

    Each has its own settings, and nothing of the study's but the data, the networks' width, the length, and how weights
    are averaged for measuring.

    Args:
        reference: the study's method with its own settings.
        edition: the study's edition of defaults.
    """
    of = reference.trial

    def trial(method: Method, steps: int) -> TrialSpec:
        given = {
            "method": method,
            "data": of.data.model_dump(mode="json"),
            "model": {"kind": RECURRENT, "width": of.model.width, "steps": steps},
            "optim": {"average_decay": of.optim.average_decay},
            "training": {name: getattr(of.training, name) for name in ("precision", "checkpoint_every")},
        }
        return TrialSpec.model_validate(_of_length(with_defaults(given, edition), of.training.epochs))

    return [Configuration(f"{method}-t{steps}", trial(method, steps)) for method in GENERATORS for steps in STEPS]


def same(one: TrialSpec, other: TrialSpec) -> bool:
    """Return whether two configurations train alike, whatever the names of their methods and their seeds."""
    return with_seed(changed(one, {"method": other.method}), 0) == with_seed(other, 0)


def with_seed(trial: TrialSpec, seed: int, *, refit: bool = False) -> TrialSpec:
    """Return the configuration with another seed for weights, noise, and the draw of labelled and validation images."""
    return changed(trial, {"seed": seed, "data.split_seed": seed, "data.refit": refit})


def fresh_seeds(study: StudySpec, trials: Sequence[TrialRow], number: int) -> list[int]:
    """Return the first seeds from 1 on that neither the search nor its trials used: those selected the best trials."""
    split_seed = study.template["data"]["split_seed"]
    own = {split_seed, study.template.get("seed"), *(row.seed for row in trials)}
    own |= {split_seed + row.replicate for row in trials if row.replicate is not None}
    return list(islice((seed for seed in count(1) if seed not in own), number))


def is_generative(trial: TrialSpec) -> bool:
    """Return whether the generator is trained."""
    return trial.loss.alpha > 0 or trial.loss.beta > 0


def changed(trial: TrialSpec, values: Mapping[str, Any]) -> TrialSpec:
    """Return the trial with the values at these dotted paths replaced."""
    return TrialSpec.model_validate(set_paths(trial.model_dump(mode="json"), values))
