"""Optimisers, whose tensors are allocated before the first step and keep their addresses."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from plgan_tune.config.trial import OptimSpec
from plgan_tune.training.device_scalars import DeviceScalar
from plgan_tune.training.torch_private import add_to_all, step_adam, step_rmsprop


class Optimiser(Protocol):
    """Updates the parameters of a network from their gradients.

    Attributes:
        rate: the learning rate.
    """

    rate: DeviceScalar

    def zero_grad(self) -> None:
        """Drop all gradients."""

    def step(self) -> None:
        """Update the parameters from their gradients.

        Raises:
            RuntimeError: if a parameter has no gradient.
        """

    def tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes besides the parameters."""

    def state_dict(self) -> dict[str, Any]:
        """Return them in the layout of torch's optimiser of the same name."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load them from `state_dict`, of this class or of torch's.

        Raises:
            ValueError: if the number of parameters differs.
        """


def optimiser_for(parameters: Iterable[nn.Parameter], optim: OptimSpec) -> Optimiser:
    """Return a new optimiser of the kind that the trial names.

    Args:
        parameters: on one device and of one dtype; every backward pass must reach each of them.
        optim: which one, and its numbers.
    """
    return RMSprop(parameters, optim) if optim.kind == "rmsprop" else Adam(parameters, optim)


class Adam:
    """Adam (Kingma and Ba 2015, algorithm 1) over all of a network's parameters at once, with torch's fused kernel.

    `torch.optim.Adam(fused=True)` calls the same kernel, but it imports torch's compiler, which takes more than a
    second in every process (benchmarks/start.md), and it allocates its moments in the first step, where a CUDA graph
    must already find them.

    Args:
        parameters: on one device and of one dtype; every backward pass must reach each of them.
        optim: betas and eps.

    Attributes:
        rate: the learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optim: OptimSpec) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._optim = optim
        # An eps within the root equals eps added to each squared gradient: the mean square, corrected for its start at
        # 0, grows by exactly eps. The kernel multiplies what is added here by beta2, hence the division.
        self._root = optim.eps_root * (1 - optim.beta2) / optim.beta2 if optim.eps_root else 0.0
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        device = self._parameters[0].device
        self._steps = torch.zeros((), dtype=torch.float32, device=device)
        self.rate = DeviceScalar.on(device, torch.float32)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        _drop_gradients(self._parameters)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients; see `Optimiser.step`."""
        gradients = _gradients(self._parameters)
        self._steps += 1
        if self._root:
            add_to_all(self._squares, self._root)
        optim = self._optim
        step_adam(
            self._parameters,
            gradients,
            self._means,
            self._squares,
            self._steps,
            rate=self.rate.value,
            beta1=optim.beta1,
            beta2=optim.beta2,
            eps=optim.eps,
        )

    def tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes besides the parameters."""
        return [self._steps, *self._means, *self._squares]

    def state_dict(self) -> dict[str, Any]:
        """Return the moments in the layout of `torch.optim.Adam.state_dict()["state"]`."""
        moments = zip(self._means, self._squares, strict=True)
        return {
            "state": {
                number: {"step": self._steps, "exp_avg": mean, "exp_avg_sq": square}
                for number, (mean, square) in enumerate(moments)
            }
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load moments from this class's `state_dict` or from torch.optim's; see `Optimiser.load_state_dict`."""
        state = _of_each(saved, self._parameters)
        for number, (mean, square) in enumerate(zip(self._means, self._squares, strict=True)):
            mean.copy_(state[number]["exp_avg"])
            square.copy_(state[number]["exp_avg_sq"])
            self._steps.copy_(state[number]["step"])


class RMSprop:
    """RMSprop (Tieleman and Hinton 2012) as `torch.optim.RMSprop` has it: eps outside the root, no momentum.

    Args:
        parameters: see `optimiser_for`.
        optim: beta2, the decay of the mean squares, and eps.

    Attributes:
        rate: the learning rate.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], optim: OptimSpec) -> None:
        self._parameters: list[Tensor] = list(parameters)
        self._optim = optim
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self.rate = DeviceScalar.on(self._parameters[0].device, torch.float32)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        _drop_gradients(self._parameters)

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients; see `Optimiser.step`."""
        step_rmsprop(
            self._parameters,
            _gradients(self._parameters),
            self._squares,
            rate=self.rate.value,
            beta2=self._optim.beta2,
            eps=self._optim.eps,
        )

    def tensors(self) -> list[Tensor]:
        """Return all tensors that a step changes besides the parameters."""
        return list(self._squares)

    def state_dict(self) -> dict[str, Any]:
        """Return the mean squares in the layout of `torch.optim.RMSprop.state_dict()["state"]`."""
        return {"state": {number: {"square_avg": square} for number, square in enumerate(self._squares)}}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Load mean squares from this class's `state_dict` or from torch.optim's; see `Optimiser.load_state_dict`."""
        state = _of_each(saved, self._parameters)
        for number, square in enumerate(self._squares):
            square.copy_(state[number]["square_avg"])


def _drop_gradients(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _gradients(parameters: Sequence[Tensor]) -> list[Tensor]:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if len(gradients) < len(parameters):
        raise RuntimeError(f"{len(parameters) - len(gradients)} parameters have no gradient")
    return gradients


def _of_each(saved: Mapping[str, Any], parameters: Sequence[Tensor]) -> Mapping[int, Mapping[str, Tensor]]:
    state: Mapping[int, Mapping[str, Tensor]] = saved["state"]
    if len(state) != len(parameters):
        raise ValueError(f"moments of {len(state)} parameters, but this network has {len(parameters)}")
    return state
