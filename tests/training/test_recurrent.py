"""A generator that draws in steps, in training."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.evaluation.generation import generated
from plgan_tune.gan.explain import explain
from plgan_tune.training.checkpoint import decode_checkpoint, encode_checkpoint
from plgan_tune.training.loop import epochs
from plgan_tune.training.samples import sample_grid
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]

FAST = {"lr_discriminator": 1e-3, "lr_generator": 1e-3}


@pytest.fixture(scope="module")
def data(make_data: MakeData) -> Dataset:
    return make_data(pool=60, size=8)


@pytest.mark.parametrize(("norm", "steps"), [("batch", 3), ("none", 1)])
def test_it_trains_and_makes_images(
    norm: str, steps: int, make_trial: MakeTrial, data: Dataset, begin: Begin, tensors_of: TensorsOf
) -> None:
    """The classes differ in brightness: any D tells them apart. A D without norm needs larger weights than 0.02."""
    model = {"width": 0.1, "discriminator_norm": norm, "steps": steps, "initial_spread": "xavier"}
    state = begin(make_trial("recurrent", model=model, optim=FAST, training={"epochs": 10}), data)
    start = tensors_of(state)
    rows = list(epochs(state, data))
    assert rows[-1].val_error is not None
    assert rows[-1].val_error < 0.2
    moved = {name for name, held in tensors_of(state).items() if not torch.equal(held, start[name])}
    trained = {f"{net}.{name}" for net in "DG" for name, _ in getattr(state, net).network.named_parameters()}
    assert trained <= moved
    assert sample_grid(state).startswith(b"\x89PNG")
    images = generated(decode_checkpoint(encode_checkpoint(state, rows), "x"), state.device, 100)
    assert (images.shape, images.dtype) == ((100, 1, 8, 8), torch.uint8)


def test_keys_without_effect_have_none(
    make_trial: MakeTrial, data: Dataset, begin: Begin, tensors_of: TensorsOf
) -> None:
    """As `train --explain` says of one step, and of networks without weight norm."""

    def trained(**keys: Any) -> dict[str, Tensor]:
        trial = make_trial("recurrent", model={"steps": 1, **keys}, training={"epochs": 1})
        assert {f"model.{key}" for key in others} <= {line.name for line in explain(trial).idle}
        state = begin(trial, data)
        list(epochs(state, data))
        return tensors_of(state)

    others: dict[str, Any] = {
        "canvas": "sum",
        "latent_each_step": False,
        "weight_norm_init": "xavier",
        "train_hidden_gain": True,
        "generator_weight_norm_init": "one",
    }
    plain = trained()
    for key, value in others.items():
        found = trained(**{key: value})
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in plain.items()), key
