"""One of the two players: its network, and what updates it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from torch import Tensor, nn

from plgan_tune.config.trial import LossSpec, OptimSpec
from plgan_tune.gan.pairs.base import Discriminator, Generator
from plgan_tune.training.adam import Adam
from plgan_tune.training.pulls import Pull

Network = TypeVar("Network", Discriminator, Generator)


@dataclass(frozen=True, slots=True)
class Player(Generic[Network]):
    """D or G in training.

    Attributes:
        network: its weights keep their addresses.
        trained: the parameters that its step updates.
        adam: its optimiser.
        pulls: what is added to the gradients of its loss.
    """

    network: Network
    trained: list[nn.Parameter]
    adam: Adam
    pulls: tuple[Pull, ...]

    @classmethod
    def start(cls, network: Network, optim: OptimSpec, *pulls: Callable[[Sequence[nn.Parameter]], Pull]) -> Self:
        """Return a player whose optimiser has not moved yet, with these pulls on its trained parameters."""
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return cls(network, trained, Adam(trained, optim), tuple(pull(trained) for pull in pulls))

    def before_epoch(self, rate: float, loss: LossSpec) -> None:
        """Set the numbers that are constant within an epoch."""
        self.adam.rate.set_(rate)
        for pull in self.pulls:
            pull.before_epoch(loss)

    def tensors(self) -> list[Tensor]:
        """Return weights and buffers, and what the pulls remember of them."""
        return [*self.network.state_dict().values(), *self.remembered()]

    def remembered(self) -> list[Tensor]:
        """Return the tensors of the pulls."""
        return [tensor for pull in self.pulls for tensor in pull.tensors()]

    def memory(self) -> list[Tensor]:
        """Return all tensors that training changes: `tensors()` and those of the optimiser."""
        return [*self.tensors(), *self.adam.tensors()]
