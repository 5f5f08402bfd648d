"""One of the two players: its network, and what updates it."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor, nn

from plgan_tune.config.trial import OptimSpec
from plgan_tune.gan.pairs.base import Discriminator, Generator
from plgan_tune.training.adam import Adam

Network = TypeVar("Network", Discriminator, Generator)


@dataclass(frozen=True, slots=True)
class Player(Generic[Network]):
    """D or G in training.

    Attributes:
        network: its weights keep their addresses.
        trained: the parameters that its step updates.
        adam: its optimiser.
    """

    network: Network
    trained: list[nn.Parameter]
    adam: Adam

    @classmethod
    def start(cls, network: Network, optim: OptimSpec) -> "Player[Network]":
        """Return a player whose optimiser has not moved yet."""
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return cls(network, trained, Adam(trained, optim))

    def memory(self) -> list[Tensor]:
        """Return all tensors that training changes: weights, buffers, and those of the optimiser."""
        return [*self.network.state_dict().values(), *self.adam.tensors()]
