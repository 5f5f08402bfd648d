"""Adam with moments that are allocated before the first step and keep their addresses."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from plgan_tune.config.trial import OptimSpec
from plgan_tune.training.device_scalars import DeviceScalar
from plgan_tune.training.torch_private import add_to_all, step_adam


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
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters from their gradients.

        Raises:
            RuntimeError: if a parameter has no gradient.
        """
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        if len(gradients) < len(self._parameters):
            raise RuntimeError(f"{len(self._parameters) - len(gradients)} parameters have no gradient")
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
        """Load moments from this class's `state_dict` or from torch.optim's.

        Raises:
            ValueError: if the number of parameters differs.
        """
        state = saved["state"]
        if len(state) != len(self._parameters):
            raise ValueError(f"moments of {len(state)} parameters, but this network has {len(self._parameters)}")
        for number, (mean, square) in enumerate(zip(self._means, self._squares, strict=True)):
            mean.copy_(state[number]["exp_avg"])
            square.copy_(state[number]["exp_avg_sq"])
            self._steps.copy_(state[number]["step"])
