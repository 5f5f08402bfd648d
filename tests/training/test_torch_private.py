"""What breaks where torch renames a name that it makes no promise of: each is called as the engine calls it."""

import pytest
import torch
import torch.distributed as dist

from plgan_tune.training.torch_private import abort_ranks, add_to_all, copy_all, lerp_all, step_adam


def test_the_fused_kernel_of_adam_makes_adam_s_first_step() -> None:
    """torch._fused_adam_: every step of training."""
    weights, gradients = [torch.ones(3)], [torch.tensor([1.0, -2.0, 0.5])]
    means, squares = [torch.zeros(3)], [torch.zeros(3)]
    step_adam(weights, gradients, means, squares, torch.tensor(1.0), rate=0.1, beta1=0.5, beta2=0.999, eps=1e-12)
    torch.testing.assert_close(weights[0], torch.tensor([0.9, 1.1, 0.9]))  # corrected, its size is the rate
    torch.testing.assert_close(means[0], gradients[0] / 2)
    torch.testing.assert_close(squares[0], gradients[0].square() / 1000)


def test_all_tensors_are_added_to_in_place() -> None:
    """torch._foreach_add_: Adam's epsilon within the root."""
    tensors = [torch.zeros(2), torch.ones(2, 2)]
    add_to_all(tensors, 0.5)
    assert torch.equal(tensors[0], torch.full((2,), 0.5))
    assert torch.equal(tensors[1], torch.full((2, 2), 1.5))


@pytest.mark.parametrize("weight", [0.25, torch.tensor(0.25)], ids=["number", "tensor"])
def test_all_tensors_move_towards_their_ends(weight: float | torch.Tensor) -> None:
    """torch._foreach_lerp_: the average of D's weights after every step."""
    tensors, ends = [torch.zeros(2), torch.ones(3)], [torch.ones(2), torch.zeros(3)]
    lerp_all(tensors, ends, weight)
    assert torch.equal(tensors[0], torch.full((2,), 0.25))
    assert torch.equal(tensors[1], torch.full((3,), 0.75))


def test_all_tensors_are_copied_to() -> None:
    """torch._foreach_copy_: gradients that all ranks have summed, and a trial that takes over another's tensors."""
    tensors, sources = [torch.zeros(2), torch.zeros(3)], [torch.ones(2), torch.arange(3.0)]
    copy_all(tensors, sources)
    assert all(map(torch.equal, tensors, sources))


def test_the_group_of_ranks_can_be_aborted() -> None:
    """torch.distributed's default group: a rank that fails on a GPU must not wait for those that wait for it."""
    group = getattr(dist.distributed_c10d, "_get_default_group", None)
    assert callable(group)
    assert hasattr(dist.ProcessGroup, "abort")
    assert callable(abort_ranks)
