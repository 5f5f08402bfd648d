"""The ranks of one trial: which rows each owns, and the only collectives.

Every rank runs the same program on its own rows of the global batch; what is summed here is what makes the numbers
independent of how many they are.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among a trial's ranks. `Ranks()` is a trial of one rank, which needs no process group."""

    index: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """This rank's images of a global batch of `batch`; shards differ by at most one image."""
        return slice(batch * self.index // self.count, batch * (self.index + 1) // self.count)

    def row_indices(self, batch: int, parts: int, device: torch.device) -> Tensor | None:
        """Own rows in a pass over `parts` global batches laid end to end; None where that is all of them."""
        if self.count == 1:
            return None
        own = torch.arange(batch, device=device)[self.rows(batch)]
        return torch.cat([own + part * batch for part in range(parts)])

    def all_sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, differentiable: the gradient of a sum is the sum of the ranks' gradients."""
        if self.count == 1:
            return tensor
        summed: Tensor = _AllSum.apply(tensor)  # type: ignore[no-untyped-call]
        return summed

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replaces each gradient by its sum over ranks, all in one collective."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        parts = flat.split([g.numel() for g in gradients])
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:  # noqa: ARG004
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]  # noqa: ARG004
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed
