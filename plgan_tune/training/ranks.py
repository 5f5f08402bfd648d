"""The ranks of one trial: which rows each owns, and the only collectives.

Every rank runs the same program on its own rows of the global batch. The sums here make the results independent of the
number of ranks (docs/engine.md).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from plgan_tune.config.errors import RuleError
from plgan_tune.gan.passes import gather
from plgan_tune.training.torch_private import copy_all

T = TypeVar("T")


class RankLostError(Exception):
    """A collective did not complete: another rank died, or did not reach it in time."""


class RankFailedError(Exception):
    """Another rank raised in a block that all ranks leave together (`Ranks.sync_errors`)."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among a trial's ranks. `ALONE` is a trial of one rank, which needs no process group.

    Every method that sums, copies or agrees is a collective: all ranks must call it, in the same order; it raises
    `RankLostError` if one of them does not.
    """

    index: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """Return this rank's images of a global batch of `batch`; shards differ by at most one image."""
        return slice(batch * self.index // self.count, batch * (self.index + 1) // self.count)

    def row_indices(self, batch: int, parts: int, device: torch.device) -> Tensor | None:
        """Return this rank's rows in a pass over `parts` concatenated global batches; None if it has all of them."""
        if self.count == 1:
            return None
        own = torch.arange(batch, device=device)[self.rows(batch)]
        return torch.cat([own + part * batch for part in range(parts)])

    def all_sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over ranks, differentiable: the gradient of a sum is the sum of the ranks' gradients."""
        if self.count == 1:
            return tensor
        summed: Tensor = _AllSum.apply(tensor)
        return summed

    def gather(self, own: Tensor, batch: int) -> Tensor:
        """Return the rows of all ranks, (parts, batch, ...), of which `own` are this rank's; differentiable."""
        return own if self.count == 1 else gather(own, self.rows(batch), batch, self.all_sum)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over ranks, all in one collective."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        _unflatten(_summed(_flatten(gradients)), gradients)

    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by rank 0's, all in one collective, which carries them in the widest of their types."""
        if self.count == 1:
            return
        flat = _flatten(tensors)
        with _collective():
            dist.broadcast(flat, src=0)
        _unflatten(flat, tensors)

    def run_on_rank0(self, make: Callable[[], T]) -> T:
        """Call `make` on rank 0 only and return its result, which must pickle, on every rank.

        Raises:
            Exception: on rank 0, what `make` raised.
            RankFailedError: on the other ranks, if `make` raised.
        """
        if self.count == 1:
            return make()
        box: list[Any] = [None]
        with self.sync_errors():
            if self.index == 0:
                box[0] = make()
        with _collective():
            dist.broadcast_object_list(box, src=0)
        made: T = box[0]
        return made

    def any_true(self, value: bool) -> bool:
        """Return whether `value` is true on any rank."""
        return any(self._from_all(value))

    @contextmanager
    def sync_errors(self) -> Iterator[None]:
        """Make all ranks leave a block together: if one raises in it, every rank raises at its end.

        No rank then waits for one that has failed, and each can report why. The block must not contain a collective.

        Raises:
            Exception: what this rank raised.
            RankFailedError: if only others raised, with the message of the first of them.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        told = self._from_all(None if failure is None else f"{type(failure).__name__}: {failure}")
        if failure is not None:
            raise failure
        for index, message in enumerate(told):
            if message is not None:
                raise RankFailedError(f"rank {index} of {self.count}: {message}")

    def _from_all(self, value: T) -> list[T]:
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with _collective():
            dist.all_gather_object(values, value)
        return values


ALONE: Final = Ranks()


def check_ranks(count: int, batch_size: int) -> None:
    """Check the number of ranks before they are started.

    Raises:
        RuleError: if a rank would get no image of a batch.
    """
    if count > batch_size:
        raise RuleError(
            "`ranks <= training.batch_size` must hold, as every rank needs an image of each batch",
            f"(ranks={count}, training.batch_size={batch_size})",
        )


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(tensor.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _summed(gradient.clone(memory_format=torch.contiguous_format))


def _summed(tensor: Tensor) -> Tensor:
    """Sum `tensor` over ranks in place and return it."""
    with _collective():
        dist.all_reduce(tensor)
    return tensor


@contextmanager
def _collective() -> Iterator[None]:
    """Translate errors of gloo and NCCL, which name sockets and buffers, into their meaning for a trial."""
    try:
        yield
    except RuntimeError as error:  # also the base class of torch's distributed errors
        what = re.sub(
            r"^\[\S*\] |(\n|\. This is typically).*", "", str(error), flags=re.DOTALL
        )  # gloo's file and advice
        raise RankLostError(
            f"rank {dist.get_rank()} of {dist.get_world_size()} got no answer from another rank, which has died or "
            f"hangs; the cause is that rank's own error, if it printed one ({what})"
        ) from error


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def _unflatten(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    views = [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]
    copy_all(tensors, views)
