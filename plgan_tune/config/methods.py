"""The methods: published systems as rows of defaults. No other module depends on a method's name.

A method chooses defaults and nothing else; every decision that it takes is a key of the trial.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from plgan_tune.config.trial import Kind, Method, OwnKind

Defaults = Mapping[str, Mapping[str, Any]]
"""Section of a trial -> key -> value."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method.

    Attributes:
        root: the method itself, or the one that it is a variant of.
        common: its defaults, for every kind of networks.
        of_kind: those of one kind.
        changes: what it changes in the method that it is a variant of.
        kind: the kind of networks if a file names none.
    """

    root: Method
    common: Defaults
    of_kind: Mapping[Kind, Defaults]
    changes: Defaults = field(default_factory=dict)
    kind: Kind = "mlp"

    def variant(self, changes: Defaults, kind: Kind = "mlp") -> "Row":
        """Return the method that differs from this one in these defaults."""
        return replace(self, changes=changes, kind=kind)

    def layers(self, kind: Kind | OwnKind) -> tuple[Defaults, Defaults, Defaults]:
        """Return its defaults for one kind of networks, none for a user's own; a later layer counts more."""
        return self.common, {} if kind == "own" else self.of_kind[kind], self.changes


# What openai/improved-gan, the patent's evident ancestor, needs to reach about 0.9 % on MNIST with 100 labels.
PL_GAN: Final = Row(
    "pl_gan",
    common={
        "model": {"weight_norm_init": "data", "train_hidden_gain": False},
        "loss": {"unsupervised_scale": 0.5},
        "optim": {"eps": 1e-4},
    },
    of_kind={
        "mlp": {"model": {"hidden": [1000, 500, 250, 250, 250], "activation": "relu", "generator_weight_norm": True}},
        "conv": {
            "model": {"dropout": [0.2, 0.5, 0.5], "activation": "leaky_relu"},
            "loss": {"feature_norm": "l1"},
        },
        "dcgan": {"model": {"activation": "leaky_relu"}},
        "recurrent": {"model": {"activation": "leaky_relu"}},
    },
)

# CN108665058B as printed, with misprints corrected.
PATENT: Final = Row(
    "patent",
    common={
        "model": {"activation": "leaky_relu", "weight_norm_init": "xavier", "train_hidden_gain": True},
        "loss": {"unsupervised_scale": 1.0},
        "optim": {"eps": 1e-8},
    },
    of_kind={
        "mlp": {"model": {"hidden": [1000, 500, 250, 250], "generator_weight_norm": False}},
        "conv": {"model": {"dropout": [0.2, 0.2, 0.2], "zca": True}},
        "dcgan": {},
        "recurrent": {},
    },
)


def _merged(*defaults: Defaults) -> Defaults:
    """Return the defaults together; a later one counts more."""
    sections = dict.fromkeys(section for one in defaults for section in one)
    return {
        section: {key: value for one in defaults for key, value in one.get(section, {}).items()} for section in sections
    }


_UNSUPERVISED: Final[Defaults] = {
    "model": {"latent": "normal", "latent_size": 128},
    "loss": {"alpha": 1.0, "beta": 0.0, "ramp": "zero", "unsupervised_scale": 1.0, "supervised_scale": 0.0},
    "optim": {"min_factor": 1.0, "eps": 1e-8},
}


def _generator(root: Method, common: Defaults, models: Mapping[Kind, Mapping[str, Any]]) -> Row:
    """Return a method that trains a generator without labels.

    Args:
        root: its name.
        common: its defaults, beside those of all such methods.
        models: its defaults of `trial.model` by kind; those of `recurrent` are of the networks that it is known for.
    """
    of_kind = {kind: _merged(given, {"model": models.get(kind, {})}) for kind, given in PL_GAN.of_kind.items()}
    return Row(root, _merged(PL_GAN.common, _UNSUPERVISED, common), of_kind, kind="recurrent")


# Arjovsky et al. 2017, algorithm 1: the weights of the critic are clipped.
_CLIPPED: Final[Defaults] = {
    "loss": {"game": "wasserstein"},
    "optim": {
        **{"kind": "rmsprop", "lr_discriminator": 5e-5, "lr_generator": 5e-5, "beta1": 0.0, "beta2": 0.99},
        "clip": 0.01,
    },
    "training": {"batch_size": 64, "discriminator_steps": 5},
}

# Gulrajani et al. 2017, algorithm 1: the critic's slope is drawn to 1.
_PENALISED: Final[Defaults] = {
    "loss": {"game": "wasserstein", "gradient_penalty": 10.0},
    "optim": {"lr_discriminator": 1e-4, "lr_generator": 1e-4, "beta1": 0.5, "beta2": 0.9},
    "training": {"batch_size": 64, "discriminator_steps": 5},
}
_ALONE: Final[Mapping[str, Any]] = {"discriminator_norm": "none"}
_AS_PENALISED: Final[Mapping[str, Any]] = {**_ALONE, "initial_spread": "he", "generator_initial_spread": "he"}

METHODS: Final[Mapping[Method, Row]] = {
    "pl_gan": PL_GAN,
    "patent": PATENT,
    # Goodfellow et al. 2014 with the non-saturating loss (patent eq. 4); figures 7 to 9 compare with it.
    "regular_gan": PL_GAN.variant({"loss": {"alpha": 1.0, "beta": 0.0, "ramp": "zero"}}),
    # Feature matching alone (Salimans et al. 2016); figures 7 to 9 compare with it.
    "feature_wise_gan": PL_GAN.variant({"loss": {"alpha": 0.0, "beta": 1.0}}),
    # Goodfellow et al. 2014 with the minimax loss (patent eq. 3).
    "saturating_gan": PL_GAN.variant({"loss": {"alpha": 1.0, "beta": 0.0, "ramp": "one"}}),
    # N + 1 classes (Odena 2016), with unlabelled images among the real ones (Salimans et al. 2016, section 5).
    "sgan": PL_GAN.variant(
        {
            "model": {"fake_logit": "learned"},
            "loss": {"alpha": 1.0, "beta": 0.0, "ramp": "zero", "supervised": "joint", "unsupervised_scale": 1.0},
        }
    ),
    # A DCGAN (Radford et al. 2016) that classifies, as LDOUBLEV/semi-supervised-GAN trains it; what of that contradicts
    # itself there is left out (docs/method.md).
    "dcgan_ssl": PL_GAN.variant(
        {
            "model": {"latent": "normal", "latent_size": 128},
            "loss": {
                "alpha": 1.0,
                "beta": 0.01,
                "ramp": "zero",
                "unsupervised_scale": 1.0,
                "smoothing": 0.1,
                "weight_decay": 1e-4,
                "supervised_scale": 10.0,
            },
            "optim": {"lr_discriminator": 2e-4, "lr_generator": 2e-4, "min_factor": 1.0, "eps": 1e-8},
            "training": {"epochs": 50, "batch_size": 50},
        },
        kind="dcgan",
    ),
    # D learns the classes that its own average is sure of (Lee 2013, with the threshold of Sohn et al. 2020), of
    # generated images.
    "self_training": PL_GAN.variant({"loss": {"self_scale": 0.5}}),
    # D's loss is only C_sup; G is not trained. No layer of D mixes labelled and other images: fakes have no effect.
    # An evaluation changes a study's own settings to these, so the 0 of `self_scale` is written out.
    "supervised": PL_GAN.variant({"loss": {"alpha": 0.0, "beta": 0.0, "unsupervised_scale": 0.0, "self_scale": 0.0}}),
    # Im et al. 2016 (arXiv:1602.05110), as jiwoongim/GRAN trains it; its Adam has no momentum from the second step on.
    "gran": _generator(
        "gran",
        {
            "model": {"latent_size": 100},
            "loss": {"weight_decay": 5e-6},
            "optim": {"lr_discriminator": 4e-5, "lr_generator": 1e-4, "beta1": 0.0, "beta2": 0.999},
        },
        {"recurrent": {"canvas": "sum", "latent_each_step": False, "latent_layer": True, "head": 100}},
    ),
    # The same generator under the critic's game; WIRGAN and GP-WIRGAN (Feng et al. 2020) draw in several steps.
    "wgan": _generator("wgan", _CLIPPED, {"recurrent": {"steps": 1}}),
    "wirgan": _generator("wirgan", _CLIPPED, {}),
    "wgan_gp": _generator("wgan_gp", _PENALISED, {"dcgan": _ALONE, "recurrent": {**_AS_PENALISED, "steps": 1}}),
    "gp_wirgan": _generator("gp_wirgan", _PENALISED, {"dcgan": _ALONE, "recurrent": _AS_PENALISED}),
}
