"""Pulls beside the losses against NumPy, and what historical averaging does to a game that runs in circles."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from plgan_tune.config.trial import LossSpec, TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training.pulls import History, WeightDecay
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
Losses = Callable[..., LossSpec]


@pytest.fixture
def loss(make_trial: MakeTrial) -> Losses:
    return lambda **keys: make_trial(loss=keys).loss


def parameters() -> list[nn.Parameter]:
    rng = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(3, 2), (3,), (2, 1, 3, 3)]
    found = [nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64)) for shape in shapes]
    for parameter in found:
        parameter.grad = torch.randn(parameter.shape, generator=rng, dtype=torch.float64)
    return found


def gradients(held: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in held if parameter.grad is not None]


def test_history_pulls_towards_the_mean_of_what_was(loss: Losses) -> None:
    held = parameters()
    past: list[list[NDArray[np.float64]]] = [[] for _ in held]
    history = History(held)
    history.before_epoch(loss(history=0.3))
    for step in range(6):
        before = gradients(held)
        history.add_gradients()
        for parameter, old, new, values in zip(held, before, gradients(held), past, strict=True):
            now = parameter.detach().numpy().copy()
            expected = 0.6 * (now - np.mean(values, axis=0)) if values else np.zeros_like(now)
            np.testing.assert_allclose(new - old, expected, rtol=1e-12, atol=1e-13)
            values.append(now)
            parameter.data += torch.sin(torch.arange(now.size).view(now.shape) + step)


def test_its_first_step_adds_exactly_0(loss: Losses) -> None:
    held = parameters()
    history, before = History(held), gradients(held)
    history.before_epoch(loss(history=1e6))
    history.add_gradients()
    assert all(map(torch.equal, before, gradients(held)))


def test_weight_decay_pulls_weights_towards_0_and_leaves_biases(loss: Losses) -> None:
    held = parameters()
    decay, before = WeightDecay(held), gradients(held)
    decay.before_epoch(loss(weight_decay=0.25))
    decay.add_gradients()
    found = [new - old for old, new in zip(before, gradients(held), strict=True)]
    torch.testing.assert_close(found, [0.25 * held[0].data, torch.zeros(3).double(), 0.25 * held[2].data])


def test_a_strength_of_0_has_no_pull(
    make_trial: MakeTrial, make_data: Callable[..., Dataset], begin: Callable[[TrialSpec, Dataset], TrainState]
) -> None:
    off = begin(make_trial(loss={"history": 0.0, "weight_decay": 0.0}), make_data())
    assert (off.D.pulls, off.G.pulls) == ((), ())
    on = begin(make_trial(loss={"history": 0.1, "weight_decay": 0.1}), make_data())
    assert [type(pull) for pull in on.D.pulls] == [History, WeightDecay]
    assert [type(pull) for pull in on.G.pulls] == [History]


@pytest.mark.parametrize(("strength", "least", "most"), [(0.0, 100, 1000), (0.05, 0.0, 0.02), (0.2, 0.0, 0.03)])
def test_a_game_in_circles_comes_to_rest(loss: Losses, strength: float, least: float, most: float) -> None:
    """min over x, max over y of (x - 1)(y - 1), both at once: plain descent spirals away from (1, 1)."""
    x, y = players = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    histories = [History([player]) for player in players]
    for history in histories:
        history.before_epoch(loss(history=strength))
    for _ in range(1000):
        x.grad, y.grad = (y - 1).detach(), (1 - x).detach()
        for history in histories:
            history.add_gradients()
        for player, gradient in zip(players, gradients(players), strict=True):
            player.data -= 0.1 * gradient
    assert least <= torch.hypot(x - 1, y - 1).item() <= most
