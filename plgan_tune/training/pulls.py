"""What pulls the weights beside the losses: towards their own past, and towards 0.

A pull is a function of the weights alone, which are the same on every rank. It is therefore added to gradients that are
already summed over ranks, and outside the graph.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from plgan_tune.config.trial import LossSpec
from plgan_tune.training.device_scalars import DeviceScalar


class Pull(Protocol):
    """Adds to the gradients of a player's parameters."""

    def before_epoch(self, loss: LossSpec) -> None:
        """Set the strength."""

    def add_gradients(self) -> None:
        """Add the pull's gradient; every parameter must have one already."""

    def tensors(self) -> list[Tensor]:
        """Return all tensors that `add_gradients` changes besides the gradients."""


class History:
    """Historical averaging (Salimans et al. 2016, section 3.3): h |th - m|^2, where m is the mean of the past th.

    m counts as a constant, so the gradient is 2 h (th - m). The paper's sum may include the present th; the difference
    vanishes as 1 / t.

    Args:
        parameters: th, on one device and of one dtype.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._means = [parameter.detach().clone() for parameter in parameters]
        self._past = torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)
        self._strength = DeviceScalar.on(parameters[0].device, parameters[0].dtype)

    def before_epoch(self, loss: LossSpec) -> None:
        """Set h."""
        self._strength.set_(loss.history)

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add 2 h (th - m); then th belongs to the past."""
        self._past += 1
        for parameter, mean in zip(self._parameters, self._means, strict=True):
            distance = parameter - mean
            mean.add_(distance / self._past)
            _gradient(parameter).add_(distance * (2 * self._strength.value))

    def tensors(self) -> list[Tensor]:
        """Return the number of past values, and their means."""
        return [self._past, *self._means]


class WeightDecay:
    """wd / 2 |W|^2 over the weights, without biases and gains.

    Args:
        parameters: of which those with two or more dimensions are weights.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._weights = [parameter for parameter in parameters if parameter.ndim > 1]
        self._strength = DeviceScalar.on(parameters[0].device, parameters[0].dtype)

    def before_epoch(self, loss: LossSpec) -> None:
        """Set wd."""
        self._strength.set_(loss.weight_decay)

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add wd W."""
        for weight in self._weights:
            _gradient(weight).add_(weight * self._strength.value)

    def tensors(self) -> list[Tensor]:
        """Return nothing: it has no memory."""
        return []


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
