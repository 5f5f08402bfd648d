"""One of the two players: its network, and what updates it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from plgan_tune.config.trial import LossSpec, OptimSpec
from plgan_tune.gan.pairs.base import Discriminator, Generator
from plgan_tune.training.device_scalars import DeviceScalar
from plgan_tune.training.optimisers import Optimiser, optimiser_for
from plgan_tune.training.pulls import Pull
from plgan_tune.training.torch_private import clip_all

Network = TypeVar("Network", Discriminator, Generator)


@dataclass(frozen=True, slots=True)
class Player(Generic[Network]):
    """D or G in training.

    Attributes:
        network: its weights keep their addresses.
        trained: the parameters that its step updates.
        optimiser: takes the steps.
        pulls: what is added to the gradients of its loss.
        bound: c, if each step ends in weights within [-c, c]; None if it does not.
    """

    network: Network
    trained: list[nn.Parameter]
    optimiser: Optimiser
    pulls: tuple[Pull, ...]
    bound: DeviceScalar | None = None

    @classmethod
    def start(
        cls,
        network: Network,
        optim: OptimSpec,
        *pulls: Callable[[Sequence[nn.Parameter]], Pull],
        bound: DeviceScalar | None = None,
    ) -> Self:
        """Return a player whose optimiser has not moved yet, with these pulls and bound on its trained parameters."""
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return cls(network, trained, optimiser_for(trained, optim), tuple(pull(trained) for pull in pulls), bound)

    def before_epoch(self, rate: float, loss: LossSpec) -> None:
        """Set the numbers that are constant within an epoch."""
        self.optimiser.rate.set_(rate)
        for pull in self.pulls:
            pull.before_epoch(loss)

    @torch.no_grad()
    def step(self) -> None:
        """Update the weights from their gradients, and keep them within the bound (Arjovsky et al. 2017, algorithm 1).

        Raises:
            RuntimeError: if a trained parameter has no gradient.
        """
        self.optimiser.step()
        if self.bound is not None:
            clip_all(self.trained, self.bound.value)

    def tensors(self) -> list[Tensor]:
        """Return weights and buffers, and what the pulls remember of them."""
        return [*self.network.state_dict().values(), *self.remembered()]

    def remembered(self) -> list[Tensor]:
        """Return the tensors of the pulls."""
        return [tensor for pull in self.pulls for tensor in pull.tensors()]

    def memory(self) -> list[Tensor]:
        """Return all tensors that training changes: `tensors()` and those of the optimiser."""
        return [*self.tensors(), *self.optimiser.tensors()]
