"""A DCGAN in training: what settles, what is labelled, what decays; with each norm of D."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from plgan_tune.config.trial import DiscriminatorNorm, TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.explain import explain
from plgan_tune.records import EpochMetrics
from plgan_tune.training import state as state_module
from plgan_tune.training.checkpoint import decode_checkpoint, encode_checkpoint
from plgan_tune.training.loop import epochs, run
from plgan_tune.training.pulls import WeightDecay
from plgan_tune.training.state import TrainState
from plgan_tune.training.step_runner import StepRunner

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
Timeless = Callable[[EpochMetrics], dict[str, float]]


@pytest.fixture(scope="module")
def data(make_data: MakeData) -> Dataset:
    return make_data(pool=60, size=20)


@pytest.mark.parametrize("norm", get_args(DiscriminatorNorm))
def test_each_norm_trains(norm: str, make_trial: MakeTrial, data: Dataset, begin: Begin) -> None:
    """The classes differ in brightness: any of them tells them apart."""
    model = {"discriminator_norm": norm, "width": 0.1}
    optim = {"lr_discriminator": 3e-3, "lr_generator": 3e-3}
    trial = make_trial("dcgan", "dcgan_ssl", model=model, optim=optim, training={"epochs": 8})
    state = begin(trial, data)
    start = {name: held.clone() for name, held in state.D.network.named_parameters()}
    *_, last = epochs(state, data)
    assert last.val_error is not None
    assert last.val_error < 0.2
    moved = {name for name, held in state.D.network.named_parameters() if not torch.equal(held, start[name])}
    assert moved == {name for name, held in state.D.network.named_parameters() if held.requires_grad}


def statistics(state: TrainState) -> dict[str, dict[str, Tensor]]:
    nets = {"raw": state.D.network, "averaged": state.averaged}
    return {name: {key: held.clone() for key, held in net.named_buffers()} for name, net in nets.items()}


def test_both_networks_are_settled_before_they_are_validated(
    make_trial: MakeTrial, data: Dataset, begin: Begin
) -> None:
    """On all 60 images of the pool, for there are no 1,000: those of the first layer are the convolution's."""
    state = begin(make_trial("dcgan", "dcgan_ssl", training={"precision": "float64"}), data)
    pool = data.images[data.split.pool].double() / 127.5 - 1
    for row in epochs(state, data):
        found = statistics(state)
        for name, network, error in (
            ("raw", state.D.network, row.val_error_raw),
            ("averaged", state.averaged, row.val_error),
        ):
            with torch.no_grad():
                first = network.hidden[0](pool)  # type: ignore[index, operator]
            torch.testing.assert_close(found[name]["norm.0.mean"], first.mean((0, 2, 3)))
            torch.testing.assert_close(found[name]["norm.0.variance"], first.var((0, 2, 3), correction=0))
            held_out = data.split.validation
            logits = network(data.images[held_out].double() / 127.5 - 1).logits
            assert (logits.argmax(dim=1) != data.labels[held_out]).double().mean() == error
        assert not torch.equal(found["raw"]["norm.3.mean"], found["averaged"]["norm.3.mean"])


def test_the_images_to_settle_on_are_drawn_once_for_a_trial(
    make_trial: MakeTrial, data: Dataset, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "SETTLING_IMAGES", 20)

    def settled(seed: int, epoch: int) -> Tensor:
        state = begin(make_trial("dcgan", "dcgan_ssl"), data)
        state.trial, state.epoch = state.trial.model_copy(update={"seed": seed}), epoch
        state.settle(data)
        return state.averaged.get_buffer("norm.0.mean")

    assert torch.equal(settled(0, 0), settled(0, 5))
    assert not torch.equal(settled(0, 0), settled(1, 0))


def test_settling_moves_nothing_that_trains(
    make_trial: MakeTrial, data: Dataset, begin: Begin, timeless: Timeless, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the errors is as if it never settled."""
    trial = make_trial("dcgan", "dcgan_ssl", training={"epochs": 3})
    settled = [timeless(row) for row in epochs(begin(trial, data), data)]
    monkeypatch.setattr(TrainState, "settle", lambda state, data: None)
    unsettled = [timeless(row) for row in epochs(begin(trial, data), data)]
    judged = {"val_error", "val_error_raw", "error_gap"}
    for one, other in zip(settled, unsettled, strict=True):
        assert {key for key in one if one[key] != other[key]} <= judged


def test_a_checkpoint_holds_the_settled_statistics(make_trial: MakeTrial, data: Dataset, begin: Begin) -> None:
    state = begin(make_trial("dcgan", "dcgan_ssl", training={"epochs": 1}), data)
    content = decode_checkpoint(encode_checkpoint(state, list(epochs(state, data))), "x").content
    for name, key in (("raw", "discriminator"), ("averaged", "averaged")):
        assert all(torch.equal(held, content[key][buffer]) for buffer, held in statistics(state)[name].items())


def test_no_more_images_are_labelled_than_the_trial_says(
    make_trial: MakeTrial, data: Dataset, begin: Begin, labelled_rows: set[int]
) -> None:
    """The program that the method is from draws them anew in every epoch."""
    trial = make_trial("dcgan", "dcgan_ssl", training={"epochs": 4})
    list(run(StepRunner(begin(trial, data), data)))
    assert len(labelled_rows) == trial.data.labels
    assert labelled_rows == set(data.split.labelled.tolist())


@pytest.mark.parametrize("norm", get_args(DiscriminatorNorm))
def test_decay_pulls_the_weights_and_neither_biases_nor_gains_nor_shifts(
    norm: str, make_trial: MakeTrial, data: Dataset, begin: Begin
) -> None:
    state = begin(make_trial("dcgan", "dcgan_ssl", model={"discriminator_norm": norm}), data)
    state.before_epoch(0.0, 0.1, 0.1)
    network = state.D.network
    for parameter in network.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(0))
        parameter.grad = torch.zeros_like(parameter)
    (decay,) = state.D.pulls
    assert isinstance(decay, WeightDecay)
    decay.add_gradients()
    pulled = {name for name, held in network.named_parameters() if held.grad is not None and held.grad.any()}
    weight = "v" if norm == "weight" else "weight"
    assert pulled == {*(f"hidden.{layer}.{weight}" for layer in range(4)), f"out.{weight}"}
    for name in pulled:
        torch.testing.assert_close(network.get_parameter(name).grad, 1e-4 * network.get_parameter(name).detach())


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_keys_of_weight_norm_are_idle_without_it(
    norm: str, make_trial: MakeTrial, data: Dataset, begin: Begin, tensors_of: Callable[[TrainState], dict[str, Tensor]]
) -> None:
    """As `train --explain` says."""

    def trained(**model: object) -> dict[str, Tensor]:
        trial = make_trial("dcgan", "dcgan_ssl", model={"discriminator_norm": norm, **model}, training={"epochs": 1})
        idle = {line.name for line in explain(trial).idle}
        assert {"model.weight_norm_init", "model.train_hidden_gain", "model.generator_weight_norm_init"} <= idle
        state = begin(trial, data)
        list(epochs(state, data))
        return tensors_of(state)

    plain = trained()
    for other in ({"weight_norm_init": "xavier"}, {"train_hidden_gain": True}, {"generator_weight_norm_init": "one"}):
        found = trained(**other)
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in plain.items()), other
