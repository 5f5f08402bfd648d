"""Defaults that all methods share, by kind of network, and how weights start in each edition."""

from collections.abc import Mapping
from typing import Any, Final

from plgan_tune.config.methods import METHODS
from plgan_tune.config.trial import Method

_DATA: dict[str, Any] = {
    "path": None,
    "size": None,
    "limit": None,
    "labels_in_pool": True,
    "split_seed": 0,
    "refit": False,
    "fit": "crop",
    "background": "white",
    "channels": "auto",
    "on_broken": "refuse",
    "duplicates": "note",
}

_COMMON: dict[str, dict[str, Any]] = {
    "model": {
        "width": 1.0,
        "hidden": None,
        "noise_input": 0.0,
        "noise_hidden": 0.0,
        "dropout": None,
        "latent": "uniform",
        "latent_size": 100,
        "feature_layer": -1,
        "fake_logit": "fixed",
        "discriminator_norm": "weight",
        "minibatch_kernels": 0,
        "minibatch_size": 5,
        "generator_norm": "batch",
        "zca": False,
        "steps": 1,
        "canvas": "last",
        "latent_each_step": False,
        "latent_layer": False,
        "head": None,
    },
    "loss": {
        "game": "logistic",
        "alpha": 0.5,
        "beta": 0.5,
        "ramp": "clamp",
        "feature_norm": "mean",
        "supervised": "softmax",
        "smoothing": 0.0,
        "history": 0.0,
        "weight_decay": 0.0,
        "supervised_scale": 1.0,
        "self_scale": 0.0,
        "self_threshold": 0.95,
        "self_images": "generated",
        "self_epoch": None,
        "gradient_penalty": 0.0,
    },
    "optim": {
        "kind": "adam",
        "min_factor": 0.0,
        "beta1": 0.5,
        "beta2": 0.999,
        "eps_root": 0.0,
        "average_decay": 0.9999,
        "clip": None,
    },
    "training": {
        "batch_size": 100,
        "discriminator_steps": 1,
        "generator_steps": 1,
        "precision": "auto",
        "checkpoint_every": None,
    },
    "own": {"file": None, "sha256": None},
}

_KIND: dict[str, dict[str, dict[str, Any]]] = {
    "mlp": {  # MNIST's column of patent table 2
        "model": {"noise_input": 0.3, "noise_hidden": 0.5},
        "loss": {"switch_epoch": 60},
        "optim": {"lr_discriminator": 0.003, "lr_generator": 0.003, "decay_epoch": 250},
        "training": {"epochs": 300},
    },
    "conv": {  # CIFAR-10's column of patent table 2
        "model": {"generator_weight_norm": True},
        "loss": {"switch_epoch": 100},
        "optim": {"lr_discriminator": 0.0003, "lr_generator": 0.0003, "decay_epoch": 450},
        "training": {"epochs": 600},
    },
    "dcgan": {  # LDOUBLEV/semi-supervised-GAN's networks, rate and length; T and the decay in table 2's proportions
        "model": {"generator_weight_norm": False, "discriminator_norm": "batch"},
        "loss": {"switch_epoch": 10},
        "optim": {"lr_discriminator": 0.0002, "lr_generator": 0.0002, "decay_epoch": 40},
        "training": {"epochs": 50},
    },
    "recurrent": {  # WIRGAN's generator at 3 steps, WGAN-GP's rate; length as docs/method.md says
        "model": {
            "generator_weight_norm": False,
            "discriminator_norm": "batch",
            "steps": 3,
            "latent_each_step": True,
        },
        "loss": {"switch_epoch": 20},
        "optim": {"lr_discriminator": 0.0001, "lr_generator": 0.0001, "decay_epoch": 80},
        "training": {"epochs": 100},
    },
    "own": {  # conv's rates and length
        "model": {"activation": "leaky_relu", "generator_weight_norm": True},
        "loss": {"switch_epoch": 100},
        "optim": {"lr_discriminator": 0.0003, "lr_generator": 0.0003, "decay_epoch": 450},
        "training": {"epochs": 600},
    },
}

Starts = Mapping[tuple[str, str], Mapping[str, Any]]
"""`model.weight_norm_init` and kind -> how weights start."""

_AS_DRAWN: dict[str, Any] = {
    "initial_spread": "xavier",
    "generator_initial_spread": "xavier",
    "generator_weight_norm_init": "xavier",
}

_RECURRENT: dict[str, Any] = {"initial_spread": 0.02, "generator_initial_spread": 0.02}  # WGAN's

_FIRST: Starts = {
    ("xavier", "mlp"): _AS_DRAWN,
    ("xavier", "conv"): _AS_DRAWN,
    ("xavier", "dcgan"): _AS_DRAWN,
    ("xavier", "recurrent"): {**_AS_DRAWN, **_RECURRENT},
    ("xavier", "own"): _AS_DRAWN,
    ("data", "mlp"): {  # measured (benchmarks/initial_weights.md)
        "initial_spread": 0.4,
        "generator_initial_spread": 0.4,
        "generator_weight_norm_init": "data",
    },
    ("data", "conv"): {  # improved-gan's
        "initial_spread": 0.05,
        "generator_initial_spread": 0.05,
        "generator_weight_norm_init": "data",
    },
    ("data", "dcgan"): {**_AS_DRAWN, "generator_weight_norm_init": "data"},
    ("data", "recurrent"): {**_RECURRENT, "generator_weight_norm_init": "data"},
    ("data", "own"): {**_AS_DRAWN, "generator_weight_norm_init": "data"},
}

EDITIONS: tuple[Starts, ...] = (_FIRST,)
"""How weights start in each edition; the last is the current one. An edition never changes, because studies,
checkpoints and configurations still use it. New numbers are a new edition, appended here (`edition.py`)."""

METHOD: Final[Method] = "pl_gan"
SEED = 0


def latest_edition() -> int:
    """Return the number of the current edition, counted from 1."""
    return len(EDITIONS)


def start_of(model: Mapping[str, Any], edition: int) -> Mapping[str, Any]:
    """Return how the weights of a model start, given its `kind` and `weight_norm_init`."""
    # Any other value, of any type, is refused elsewhere.
    scale = "data" if model["weight_norm_init"] == "data" else "xavier"
    return EDITIONS[edition - 1][scale, model["kind"]]


def with_defaults(trial: Mapping[str, Any], edition: int | None = None) -> dict[str, Any]:
    """Return the trial mapping with every missing key filled in, in the order of the method's key list.

    Args:
        trial: A mapping without domains. `method` and `model.kind`, if given, must be valid names.
        edition: The edition of the defaults; None is the current one.
    """
    method = trial.get("method", METHOD)
    kind = (trial.get("model") or {}).get("kind", METHODS[method].kind)
    layers: list[Mapping[str, Any]] = [
        {"data": _DATA},
        _COMMON,
        _KIND[kind],
        *METHODS[method].layers(kind),
        trial,
    ]
    merged: dict[str, Any] = {"method": method, "seed": SEED}
    for section in ("data", "model", "loss", "optim", "training", "own"):
        merged[section] = {}
        for layer in layers:
            merged[section].update(layer.get(section) or {})
    model = {"kind": kind, **merged["model"]}
    merged["model"] = {**start_of(model, latest_edition() if edition is None else edition), **model}
    return {**merged, **{key: value for key, value in trial.items() if key not in merged or key == "seed"}}
