"""torch's private names: each is used only here, and `tests/training/test_torch_private.py` calls each.

If torch renames one, that test fails first and says what the name is for.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


def step_adam(
    parameters: list[Tensor],
    gradients: list[Tensor],
    means: list[Tensor],
    squares: list[Tensor],
    steps: Tensor,
    *,
    rate: float | Tensor,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Take one step of Adam on all parameters with torch's fused kernel, as `torch.optim.Adam(fused=True)` does.

    Args:
        parameters: changed in place.
        gradients: one per parameter.
        means: of the gradients, changed in place.
        squares: means of the squared gradients, changed in place.
        steps: this step's number, from 1; shape ().
        rate: the learning rate.
        beta1: decay of `means`.
        beta2: decay of `squares`.
        eps: added to the root of the corrected `squares`.
    """
    torch._fused_adam_(
        parameters,
        gradients,
        means,
        squares,
        [],
        [steps] * len(gradients),
        lr=rate,
        beta1=beta1,
        beta2=beta2,
        eps=eps,
        weight_decay=0.0,
        amsgrad=False,
        maximize=False,
    )


def step_rmsprop(
    parameters: list[Tensor],
    gradients: list[Tensor],
    squares: list[Tensor],
    *,
    rate: float | Tensor,
    beta2: float,
    eps: float,
) -> None:
    """Take one step of RMSprop on all parameters, a launch for each operation.

    Args:
        parameters: changed in place.
        gradients: one per parameter.
        squares: means of the squared gradients, changed in place.
        rate: the learning rate; a tensor of shape () keeps its address, so that a CUDA graph reads it at each replay.
        beta2: decay of `squares`.
        eps: added to the root of `squares`.
    """
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
    roots = torch._foreach_sqrt(squares)
    torch._foreach_add_(roots, eps)
    steps = torch._foreach_div(gradients, roots)
    torch._foreach_mul_(steps, rate)
    torch._foreach_sub_(parameters, steps)


def add_to_all(tensors: list[Tensor], number: float) -> None:
    """Add a number to every element of every tensor, in place and in one launch."""
    torch._foreach_add_(tensors, number)


def clip_all(tensors: Sequence[Tensor], bound: float | Tensor) -> None:
    """Clip every element of every tensor to [-bound, bound], in place and in two launches.

    Args:
        tensors: changed in place.
        bound: a float, or a tensor of shape () that keeps its address, so that a CUDA graph reads it at each replay.
    """
    held = list(tensors)
    if isinstance(bound, Tensor):
        torch._foreach_clamp_max_(held, [bound.expand_as(tensor) for tensor in held])
        torch._foreach_clamp_min_(held, [-bound.expand_as(tensor) for tensor in held])
    else:
        torch._foreach_clamp_max_(held, bound)
        torch._foreach_clamp_min_(held, -bound)


def lerp_all(tensors: Sequence[Tensor], ends: Sequence[Tensor], weight: float | Tensor) -> None:
    """Move each tensor towards its end by the fraction `weight`, in place and in one launch.

    Args:
        tensors: changed in place.
        ends: of the same shapes.
        weight: a float, or a tensor of shape () that keeps its address, so that a CUDA graph reads it at each replay.
    """
    if isinstance(weight, Tensor):
        torch._foreach_lerp_(tuple(tensors), tuple(ends), [weight.expand_as(end) for end in ends])
    else:
        torch._foreach_lerp_(tuple(tensors), tuple(ends), weight)


def copy_all(tensors: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its tensor, in one launch."""
    torch._foreach_copy_(list(tensors), list(sources))


def abort_ranks() -> None:
    """Abort the collectives of this process's group, which may wait for dead ranks."""
    dist.distributed_c10d._get_default_group().abort()
