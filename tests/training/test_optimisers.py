"""Our Adam against torch's, bit for bit, and our RMSprop to rounding."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from plgan_tune.config.trial import OptimSpec, TrialSpec
from plgan_tune.training.optimisers import Adam, Optimiser, RMSprop, optimiser_for

RATES = (0.003, 0.001, 0.0)


@pytest.fixture
def optim(make_trial: Callable[..., TrialSpec]) -> OptimSpec:
    return make_trial("mlp").optim


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    one = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 4)).to(memory_format=torch.channels_last)
    return one, deepcopy(one)


def of_torch(network: nn.Module, optim: OptimSpec) -> torch.optim.Adam:
    return torch.optim.Adam(
        network.parameters(), betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True, lr=RATES[0]
    )


def descend(network: nn.Module, optimiser: Optimiser | torch.optim.Optimizer, images: Tensor) -> None:
    optimiser.zero_grad()
    network(images).square().mean().backward()
    optimiser.step()


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [1e-4, 1e-8])
def test_it_descends_as_torch_s_does(device: str, dtype: torch.dtype, eps: float, optim: OptimSpec) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    optim = optim.model_copy(update={"eps": eps})
    mine, theirs = (network.to(device, dtype) for network in networks())
    ours, torchs = Adam(mine.parameters(), optim), of_torch(theirs, optim)
    for rate in RATES:
        images = torch.randn(16, 3, 8, 8, dtype=dtype, device=device)
        ours.rate.set_(rate)
        torchs.param_groups[0]["lr"] = rate
        descend(mine, ours, images)
        descend(theirs, torchs, images)
        assert all(map(torch.equal, mine.parameters(), theirs.parameters()))
    for moments, wanted in zip(ours.state_dict()["state"].values(), torchs.state_dict()["state"].values(), strict=True):
        assert moments.keys() == wanted.keys()
        assert all(torch.equal(moments[name], wanted[name]) for name in wanted)


def test_an_epsilon_within_the_root_is_added_to_the_mean_square(optim: OptimSpec) -> None:
    """Against Adam written out, with gradients of the epsilon's own size."""
    optim = optim.model_copy(update={"eps": 1e-30, "eps_root": 1e-8})
    mine, theirs = (network.double() for network in networks())
    adam = Adam(mine.parameters(), optim)
    means, squares = ([torch.zeros_like(p) for p in theirs.parameters()] for _ in range(2))
    for step in range(1, 6):
        images = 1e-2 * torch.randn(16, 3, 8, 8, dtype=torch.float64)
        adam.rate.set_(0.01)
        descend(mine, adam, images)
        for parameter in theirs.parameters():
            parameter.grad = None
        theirs(images).square().mean().backward()
        with torch.no_grad():
            for parameter, mean, square in zip(theirs.parameters(), means, squares, strict=True):
                assert parameter.grad is not None
                mean.lerp_(parameter.grad, 1 - optim.beta1)
                square.lerp_(parameter.grad.square(), 1 - optim.beta2)
                root = (square / (1 - optim.beta2**step) + optim.eps_root).sqrt()
                parameter.sub_(0.01 * mean / (1 - optim.beta1**step) / root)
        assert all(map(torch.allclose, mine.parameters(), theirs.parameters()))


@pytest.mark.parametrize("left_by", [of_torch, lambda network, optim: Adam(network.parameters(), optim)])
def test_it_goes_on_from_moments_that_another_left(
    left_by: Callable[[nn.Module, OptimSpec], Adam | torch.optim.Adam], optim: OptimSpec
) -> None:
    """Checkpoints of before were torch's."""
    network, _ = networks()
    before = left_by(network, optim)
    if isinstance(before, Adam):
        before.rate.set_(RATES[0])
    descend(network, before, images := torch.randn(16, 3, 8, 8))
    copy = deepcopy(network)
    after = Adam(copy.parameters(), optim)
    after.rate.set_(RATES[0])
    after.load_state_dict(before.state_dict())
    descend(network, before, images)
    descend(copy, after, images)
    assert all(map(torch.equal, network.parameters(), copy.parameters()))


def test_moments_of_another_network_are_refused(optim: OptimSpec) -> None:
    network, _ = networks()
    with pytest.raises(ValueError, match="moments of 0 parameters, but this network has 4"):
        Adam(network.parameters(), optim).load_state_dict({"state": {}})


def test_a_parameter_that_no_gradient_reaches_is_an_error(optim: OptimSpec) -> None:
    network, _ = networks()
    adam = Adam(network.parameters(), optim)
    network[0](torch.randn(1, 3, 8, 8)).sum().backward()  # type: ignore[index]
    with pytest.raises(RuntimeError, match="2 parameters have no gradient"):
        adam.step()


RMSPROP = {"kind": "rmsprop", "beta1": 0.0, "beta2": 0.99, "eps": 1e-8}


def test_rmsprop_is_torch_s(make_trial: Callable[..., TrialSpec]) -> None:
    """Its checkpoint, too: either goes on from what the other left."""
    optim = make_trial("mlp", optim=RMSPROP).optim
    mine, theirs = (network.double() for network in networks())
    ours = optimiser_for(mine.parameters(), optim)
    assert isinstance(ours, RMSprop)
    torchs = torch.optim.RMSprop(theirs.parameters(), lr=RATES[0], alpha=optim.beta2, eps=optim.eps)
    for rate in RATES:
        images = torch.randn(16, 3, 8, 8, dtype=torch.float64)
        ours.rate.set_(rate)
        torchs.param_groups[0]["lr"] = rate
        descend(mine, ours, images)
        descend(theirs, torchs, images)
        for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    after = RMSprop(theirs.parameters(), optim)
    after.load_state_dict(torchs.state_dict())
    for held, restored in zip(ours.tensors(), after.tensors(), strict=True):
        torch.testing.assert_close(held, restored, rtol=1e-12, atol=1e-20)
