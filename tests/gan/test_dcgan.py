"""The pair of a DCGAN that classifies: its shapes, its formula, and what its batch norm sees."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import DiscriminatorNorm, ModelSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.layers import DiscriminatorBatchNorm, WeightNorm
from plgan_tune.gan.pairs.base import Pair, draw_latent
from plgan_tune.gan.pairs.dcgan import DcganDiscriminator
from plgan_tune.gan.passes import Pass

MakeModel = Callable[..., ModelSpec]
MakePair = Callable[..., Pair]
Shape = tuple[int, ...]

NORMS = get_args(DiscriminatorNorm)


def draws(seed: int, batch: int, dtype: torch.dtype = torch.float64) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), batch, dtype=dtype)


def pictures(seed: int, batch: int, size: int = 20, channels: int = 1) -> Tensor:
    return 2 * draws(seed, batch).uniform((channels, size, size)) - 1


@pytest.fixture
def D(  # noqa: N802 - as formulas name it
    make_model: MakeModel, make_pair: MakePair
) -> DcganDiscriminator:
    """With batch norm, in float64, gains and shifts away from their start; 10, 16 or so units a layer."""
    D = make_pair(make_model("dcgan_ssl", "dcgan", width=0.1), 1, 20, torch.float64).discriminator
    assert isinstance(D, DcganDiscriminator)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for module in D.norm:
            assert isinstance(module, DiscriminatorBatchNorm)
            module.gain.uniform_(0.5, 2, generator=rng)
            module.shift.normal_(generator=rng)
    return D


# Shapes.


def shapes_of(net: nn.Module, kinds: Any, *given: Tensor) -> list[Shape]:
    """The shapes of what the layers of these kinds give, in the order of their calls."""
    seen: list[Shape] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
        for module in net.modules()
        if isinstance(module, kinds)
    ]
    net(*given)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize(
    ("size", "maps", "start"),
    [(20, [10, 5, 3, 1], 2), (28, [14, 7, 5, 2], 2), (32, [16, 8, 6, 2], 2), (40, [20, 10, 8, 3], 3)],
)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("norm", NORMS)
def test_shapes_and_numbers_of_parameters(
    size: int, maps: list[int], start: int, channels: int, norm: str, make_model: MakeModel, make_pair: MakePair
) -> None:
    model = make_model("dcgan_ssl", "dcgan", discriminator_norm=norm)
    D, G = make_pair(model, channels, size)
    units = [64, 128, 256, 256]
    images = G(draw_latent(draws(0, 2, torch.float32), model))
    assert images.shape == (2, channels, size, size)
    assert images.abs().max() <= 1
    layers = WeightNorm if norm == "weight" else (nn.Conv2d, nn.Linear)
    found = shapes_of(D, layers, images)
    assert found == [*((n, side, side) for n, side in zip(units, maps, strict=True)), (10,)]
    assert D(images).features.shape == (2, 256 * maps[-1] ** 2)

    products = 25 * channels * 64 + 9 * (64 * 128 + 128 * 256 + 256 * 256) + 256 * maps[-1] ** 2 * 10
    # A bias, a gain and a shift, or g and b for each unit; g of the output too.
    a_unit = {"none": 1, "batch": 2, "weight": 2}[norm]
    of_d = sum(parameter.numel() for parameter in D.parameters())
    assert of_d == products + a_unit * sum(units) + (20 if norm == "weight" else 10)

    convolutions = 25 * (64 * 256 + 256 * 128 + 128 * 64 + 64 * channels)
    of_g = sum(parameter.numel() for parameter in G.parameters())
    assert of_g == 128 * 64 * start**2 + convolutions + (64 + 256 + 128 + 64) + channels


def test_images_of_16_x_16_are_refused_and_the_next_larger_are_not(make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model("dcgan_ssl", "dcgan", width=0.1)
    with pytest.raises(RuleError, match=r"dcgan needs images of at least 17 x 17 \(use mlp\), but got 16 x 16"):
        make_pair(model, 1, 16)
    D, G = make_pair(model, 1, 17)
    assert D(G(draw_latent(draws(0, 2, torch.float32), model))).logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("layer", "count"), [(-1, 26), (3, 26), (0, 6 * 100), (-4, 6 * 100), (1, 13 * 25), (2, 26 * 9)]
)
def test_features_are_the_chosen_activation(layer: int, count: int, make_model: MakeModel, make_pair: MakePair) -> None:
    D = make_pair(make_model("dcgan_ssl", "dcgan", width=0.1, feature_layer=layer), 1, 20, torch.float64).discriminator
    assert D(pictures(0, 3)).features.shape == (3, count)


@pytest.mark.parametrize("weight_norm", [True, False])
def test_weights_are_drawn_by_their_own_generators_alone(
    weight_norm: bool, make_model: MakeModel, make_pair: MakePair
) -> None:
    model = make_model("dcgan_ssl", "dcgan", width=0.1, generator_weight_norm=weight_norm)
    untouched = torch.get_rng_state()
    one, other = (make_pair(model, 1, 20) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), untouched)
    for net, again in zip(one, other, strict=True):
        assert all(map(torch.equal, net.parameters(), again.parameters()))
    weights = one.discriminator.get_parameter("hidden.1.weight")
    bound = (6 / (9 * (6 + 13))) ** 0.5
    assert weights.abs().max() <= bound
    np.testing.assert_allclose(weights.std().item(), bound / 3**0.5, rtol=0.05)


# The formula.


@pytest.mark.parametrize("size", [28, 32])
@pytest.mark.parametrize("weight_norm", [True, False])
def test_the_generator_is_its_formula(size: int, weight_norm: bool, make_model: MakeModel, make_pair: MakePair) -> None:
    """Linear maps and the scaling are torch's here."""
    model = make_model("dcgan_ssl", "dcgan", width=0.1, generator_weight_norm=weight_norm)
    G = make_pair(model, 3, size, torch.float64).generator
    p = {name: value.detach() for name, value in G.named_parameters()}
    rng = torch.Generator().manual_seed(1)
    for value in p.values():
        if value.ndim == 1:
            value.normal_(generator=rng)

    def normed(x: Tensor, shift: Tensor) -> Tensor:
        centred = x - x.mean((0, 2, 3), keepdim=True)
        return centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-6).sqrt() + shift.view(1, -1, 1, 1)

    z = draw_latent(draws(0, 5), model)
    x = normed((z @ p["dense.weight"].T).view(5, 6, 2, 2), p["norm.0.shift"]).clamp_min(0)
    for layer in range(3):
        x = F.conv_transpose2d(x, p[f"weights.{layer}"], stride=2, padding=2, output_padding=1)
        x = normed(x, p[f"norm.{layer + 1}.shift"]).clamp_min(0)
    if weight_norm:
        v = p["out.v"]
        weight, bias = v * (p["out.g"] / v.square().sum((0, 2, 3)).sqrt()).view(1, -1, 1, 1), p["out.b"]
    else:
        weight, bias = p["out.weight"], p["out.bias"]
    x = F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)
    assert x.shape[2:] == (32, 32)
    expected = (x if size == 32 else F.interpolate(x, (28, 28), mode="bilinear")).tanh()
    torch.testing.assert_close(G(z), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_discriminator_is_its_formula(
    norm: str, activation: str, make_model: MakeModel, make_pair: MakePair
) -> None:
    model = make_model("dcgan_ssl", "dcgan", width=0.1, discriminator_norm=norm, activation=activation)
    D = make_pair(model, 3, 28, torch.float64).discriminator
    p = {name: value.detach() for name, value in D.named_parameters()}
    rng = torch.Generator().manual_seed(1)
    for value in p.values():
        if value.ndim == 1:
            value.uniform_(0.5, 1.5, generator=rng)
    images = pictures(0, 6, 28, 3)
    x = images
    for layer, (stride, padding) in enumerate([(2, 2), (2, 1), (1, 0), (2, 0)]):
        if norm == "weight":
            v = p[f"hidden.{layer}.v"]
            weight = v * (p[f"hidden.{layer}.g"] / v.square().sum((1, 2, 3)).sqrt()).view(-1, 1, 1, 1)
            x = F.conv2d(x, weight, p[f"hidden.{layer}.b"], stride, padding)
        else:
            x = F.conv2d(x, p[f"hidden.{layer}.weight"], p.get(f"hidden.{layer}.bias"), stride, padding)
        if norm == "batch":
            gain, shift = p[f"norm.{layer}.gain"], p[f"norm.{layer}.shift"]
            x = F.batch_norm(x, None, None, gain, shift, training=True, eps=1e-5)
        x = torch.where(x > 0, x, (0.2 if activation == "leaky_relu" else 0.0) * x)
    x = x.flatten(1)
    if norm == "weight":
        v = p["out.v"]
        logits = x @ (v * (p["out.g"] / v.square().sum(1).sqrt()).view(-1, 1)).T + p["out.b"]
    else:
        logits = x @ p["out.weight"].T + p["out.bias"]
    found = D(images, Pass(draws(0, 6)))
    torch.testing.assert_close(found.logits, logits, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found.features, x, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("norm", NORMS)
def test_which_layers_have_weight_norm_and_what_is_trained(
    norm: str, make_model: MakeModel, make_pair: MakePair
) -> None:
    for trained in (True, False):
        model = make_model("dcgan_ssl", "dcgan", width=0.1, discriminator_norm=norm, train_hidden_gain=trained)
        D, G = make_pair(model, 1, 20)
        assert sum(isinstance(module, WeightNorm) for module in D.modules()) == (5 if norm == "weight" else 0)
        frozen = {name for name, parameter in D.named_parameters() if not parameter.requires_grad}
        assert frozen == ({f"hidden.{n}.g" for n in range(4)} if norm == "weight" and not trained else set())
        logits, features = D(G(draw_latent(draws(0, 6, torch.float32), model)), Pass(draws(0, 6, torch.float32)))
        (logits.square().sum() + features.square().sum()).backward()
        for net in (D, G):
            for name, parameter in net.named_parameters():
                assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, name


# What batch norm sees.


def test_a_part_never_sees_another(D: DcganDiscriminator) -> None:
    labelled, unlabelled, fakes, others = (pictures(seed, 5) for seed in range(4))

    def logits(*parts: Tensor) -> Tensor:
        found: Tensor = D(torch.cat(parts), Pass(draws(0, 15), parts=3)).logits
        return found

    before, after = logits(labelled, unlabelled, fakes), logits(labelled, unlabelled, others)
    assert torch.equal(after[:10], before[:10])
    assert not torch.equal(after[10:], before[10:])
    mixed = D(torch.cat([labelled, unlabelled, fakes]), Pass(draws(0, 15))).logits
    assert (mixed - before).abs().max() > 1e-3  # as one part they would see each other


def test_a_pass_over_parts_is_a_pass_over_each(D: DcganDiscriminator) -> None:
    """In values and in gradients."""
    parts = [pictures(seed, 5) for seed in range(3)]
    together = D(torch.cat(parts), Pass(draws(0, 15), parts=3))
    alone = [D(part, Pass(draws(0, 5))) for part in parts]
    for one, others in (
        (together.logits, [each.logits for each in alone]),
        (together.features, [each.features for each in alone]),
    ):
        torch.testing.assert_close(one, torch.cat(others), rtol=1e-12, atol=1e-12)
    weights = list(D.parameters())
    of_one = torch.autograd.grad(together.logits.sin().sum(), weights)
    of_each = torch.autograd.grad(torch.stack([each.logits.sin().sum() for each in alone]).sum(), weights)
    torch.testing.assert_close(of_one, of_each, rtol=1e-10, atol=1e-12)


def test_settled_statistics_are_those_of_the_images(D: DcganDiscriminator) -> None:
    """So the images themselves are judged as in training, where they are a batch."""
    images = pictures(3, 40)
    inputs: list[Tensor] = []
    for norm in D.norm:
        norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach()))
    D.settle(images)
    inputs.clear()
    settled = D(images)
    for norm, x in zip(D.norm, inputs, strict=True):
        assert isinstance(norm, DiscriminatorBatchNorm)
        np.testing.assert_allclose(norm.mean, x.numpy().mean(axis=(0, 2, 3)), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(norm.variance, x.numpy().var(axis=(0, 2, 3)), rtol=1e-12)
    torch.testing.assert_close(settled.logits, D(images, Pass(draws(0, 40))).logits, rtol=1e-12, atol=1e-12)


def test_a_settled_image_is_judged_alone_as_in_any_batch(D: DcganDiscriminator) -> None:
    D.settle(pictures(3, 40))
    images = pictures(4, 9)
    together = D(images)
    alone = [D(images[row : row + 1]) for row in range(9)]
    torch.testing.assert_close(torch.cat([each.logits for each in alone]), together.logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.cat([each.features for each in alone]), together.features, rtol=1e-12, atol=1e-12)


def test_settling_changes_the_statistics_alone_and_not_those_of_training(D: DcganDiscriminator) -> None:
    images = pictures(4, 9)
    training, evaluation = D(images, Pass(draws(0, 9))).logits, D(images).logits
    before = {name: held.clone() for name, held in D.state_dict().items()}
    D.settle(pictures(3, 40))
    changed = {name for name, held in D.state_dict().items() if not torch.equal(held, before[name])}
    assert changed == {f"norm.{layer}.{name}" for layer in range(4) for name in ("mean", "variance")}
    assert changed == {name for name, _ in D.named_buffers()}
    assert torch.equal(D(images, Pass(draws(0, 9))).logits, training)
    assert not torch.allclose(D(images).logits, evaluation)


@pytest.mark.parametrize(
    ("kind", "model"),
    [("mlp", {}), ("conv", {}), ("dcgan", {"discriminator_norm": "weight"}), ("dcgan", {"discriminator_norm": "none"})],
)
def test_a_network_without_batch_norm_has_nothing_to_settle(
    kind: str, model: dict[str, object], make_model: MakeModel, make_pair: MakePair
) -> None:
    D = make_pair(make_model("pl_gan", kind, width=0.05, **model), 1, 20, torch.float64).discriminator
    images = pictures(0, 4)
    before = D(images).logits
    D.settle(pictures(1, 8))
    assert torch.equal(D(images).logits, before)
    assert not list(D.named_buffers())


def test_calibration_of_weight_norm_centres_and_scales_every_layer(make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model("dcgan_ssl", "dcgan", width=0.1, discriminator_norm="weight", weight_norm_init="data")
    D = make_pair(model, 1, 20, torch.float64).discriminator
    images, outputs = pictures(0, 60), list[Tensor]()
    D.calibrate(images, draws(0, 60))
    for module in D.modules():
        if isinstance(module, WeightNorm):
            module.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    D(images, Pass(draws(0, 60)))
    assert len(outputs) == 5
    for output, deviation in zip(outputs, [1.0] * 4 + [0.1], strict=True):
        units = output.transpose(0, 1).flatten(1)
        np.testing.assert_allclose(units.mean(dim=1), 0, atol=1e-12)
        np.testing.assert_allclose(units.std(dim=1, correction=0), deviation, rtol=1e-9)


def test_width_scales_every_hidden_layer_and_nothing_else(make_model: MakeModel, make_pair: MakePair) -> None:
    D, G = make_pair(make_model("dcgan_ssl", "dcgan", width=0.5), 3, 28)
    units = [3, 32, 64, 128, 128]
    assert [D.get_parameter(f"hidden.{n}.weight").shape[:2] for n in range(4)] == [
        (outputs, inputs) for inputs, outputs in pairwise(units)
    ]
    assert D.get_parameter("out.weight").shape == (10, 512)
    assert [G.get_parameter(f"norm.{n}.shift").numel() for n in range(4)] == [32, 128, 64, 32]
