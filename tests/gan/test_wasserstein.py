"""The critic's game and the gradient penalty, against critics whose slope is known and against finite differences."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import ModelSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.games import Wasserstein, gradient_penalty, realness
from plgan_tune.gan.layers import Dense
from plgan_tune.gan.pairs.base import Discriminator, ImageShape
from plgan_tune.gan.pairs.build import build
from plgan_tune.gan.passes import Pass

FLOAT64 = torch.float64


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_images(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=rng(seed), dtype=FLOAT64)


def test_a_linear_critic_is_moved_by_the_difference_of_the_means() -> None:
    game, slope = Wasserstein(), torch.randn(12, 1, generator=rng(), dtype=FLOAT64, requires_grad=True)
    real, fake = some_images(7, 12), some_images(7, 12, seed=2)
    loss = game.on_real(real @ slope).mean() + game.on_fake(fake @ slope).mean()
    (gradient,) = torch.autograd.grad(loss, slope)
    torch.testing.assert_close(gradient[:, 0], fake.mean(dim=0) - real.mean(dim=0))
    assert game.for_generator(fake @ slope).mean().item() == pytest.approx(-(fake @ slope).mean().item())


def test_a_constant_moves_no_critic() -> None:
    """One logit is r itself, to the bit: the last bias has gradient 0, and no other gradient depends on it."""
    game, logits = Wasserstein(), torch.randn(9, 1, generator=rng(), dtype=torch.float32)
    assert torch.equal(realness(logits), logits[:, 0])
    bias = torch.full((1,), 5.0, requires_grad=True)
    loss = game.on_real(logits + bias).sum() / 9 + game.on_fake(logits.flip(0) + bias).sum() / 9
    assert torch.autograd.grad(loss, bias)[0].item() == 0.0


def test_the_threshold_of_a_critic_lies_in_the_middle_of_both_kinds() -> None:
    assert Wasserstein().threshold(torch.tensor([3.0, 5.0]), torch.tensor([-1.0, 1.0])).item() == 2.0


def test_the_penalty_of_a_linear_critic() -> None:
    """(|a| - 1)^2 of every image and 2 (|a| - 1) a / |a|; the norm is over all channels and places."""
    slope = torch.randn(2 * 3 * 3, generator=rng(), dtype=FLOAT64, requires_grad=True)
    images = some_images(5, 2, 3, 3).requires_grad_()
    penalty = gradient_penalty(images, images.flatten(1) @ slope)
    size = slope.norm()
    torch.testing.assert_close(penalty, ((size - 1) ** 2).expand(5))
    (gradient,) = torch.autograd.grad(penalty.mean(), slope)
    torch.testing.assert_close(gradient, 2 * (size - 1) * slope / size)


def test_a_critic_without_a_slope_stays_finite() -> None:
    slope = torch.zeros(4, dtype=FLOAT64, requires_grad=True)
    images = some_images(3, 1, 2, 2).requires_grad_()
    penalty = gradient_penalty(images, images.flatten(1) @ slope)
    assert penalty.tolist() == [1.0, 1.0, 1.0]
    assert torch.autograd.grad(penalty.sum(), slope)[0].tolist() == [0.0] * 4


@pytest.mark.parametrize("trained", [True, False])
def test_the_fused_layer_has_the_second_derivative_of_the_plain_one(trained: bool) -> None:
    """Of its inputs, directions, gains and biases, each by finite differences."""
    layer = Dense(4, 3, 0.5, rng()).double().requires_grad_(trained)
    x = torch.randn(5, 4, generator=rng(1), dtype=FLOAT64, requires_grad=True)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def apply(x: Tensor, *weights: Tensor) -> Tensor:
        names = dict(zip(("v", "g", "b"), weights, strict=False))
        return torch.tanh(torch.func.functional_call(layer, names, (x,)))

    assert torch.autograd.gradcheck(apply, (x, *parameters))
    assert torch.autograd.gradgradcheck(apply, (x, *parameters))


KINDS: list[tuple[str, dict[str, Any], int]] = [
    ("mlp", {"hidden": [40, 30], "width": 0.2}, 4),
    ("mlp", {"hidden": [40, 30], "width": 0.2, "train_hidden_gain": True, "activation": "leaky_relu"}, 4),
    ("conv", {"width": 0.05}, 16),
    ("dcgan", {"width": 0.05, "discriminator_norm": "weight"}, 17),
    ("dcgan", {"width": 0.05, "discriminator_norm": "none"}, 17),
]


def discriminator(kind: str, model: dict[str, Any], size: int) -> Discriminator:
    spec = ModelSpec.model_validate(with_defaults({"model": {"kind": kind, **model}})["model"])
    D = build(spec, ImageShape(2, size), 3, (rng(), rng(1))).discriminator.double()
    D.calibrate(some_images(20, 2, size, size), Draws(rng(), 20, dtype=FLOAT64))  # kinks of relu are then far away
    return D


@pytest.mark.parametrize(("kind", "model", "size"), KINDS)
def test_the_gradient_of_the_penalty_by_finite_differences(kind: str, model: dict[str, Any], size: int) -> None:
    """In every trained tensor, with the noise of training, along one direction each."""
    D, images = discriminator(kind, model, size), some_images(4, 2, size, size)
    trained = [weight for weight in D.parameters() if weight.requires_grad]

    def penalty() -> Tensor:
        x = images.clone().requires_grad_()
        return gradient_penalty(x, realness(D(x, Pass(Draws(rng(2), 4, dtype=FLOAT64))).logits)).sum()

    gradients = torch.autograd.grad(penalty(), trained, allow_unused=True, materialize_grads=True)
    for weight, gradient in zip(trained, gradients, strict=True):
        way = torch.randn(weight.shape, generator=rng(3), dtype=FLOAT64)
        expected = slope_along(penalty, weight, way)
        assert (gradient * way).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert sum(gradient.abs().sum().item() for gradient in gradients) > 0


def slope_along(function: Callable[[], Tensor], weight: nn.Parameter, way: Tensor, step: float = 1e-6) -> float:
    """The central difference of a function of a weight."""
    with torch.no_grad():
        weight.add_(step * way)
    above = function().item()
    with torch.no_grad():
        weight.sub_(2 * step * way)
    below = function().item()
    with torch.no_grad():
        weight.add_(step * way)
    return (above - below) / (2 * step)


@pytest.mark.parametrize(("kind", "model", "size"), KINDS)
def test_an_image_s_penalty_is_its_own(kind: str, model: dict[str, Any], size: int) -> None:
    """Without noise, other images in the batch, and their order, do not change it."""
    D, images = discriminator(kind, model, size), some_images(4, 2, size, size)

    def penalties(images: Tensor) -> Tensor:
        x = images.clone().requires_grad_()
        return gradient_penalty(x, realness(D(x).logits)).detach()

    together = penalties(images)
    torch.testing.assert_close(penalties(images.flip(0)), together.flip(0), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(penalties(images[:1]), together[:1], rtol=1e-10, atol=1e-12)
