"""Both pairs: their shapes (patent tables 4 and 5), what is trained, noise, features, initialisation."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.trial import GeneratorNorm, Kind, ModelSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.layers import BatchNorm, WeightNorm, Whitening
from plgan_tune.gan.pairs.base import Discriminator, Generator, ImageShape, Pair, draw_latent, scaled
from plgan_tune.gan.pairs.build import build
from plgan_tune.gan.pairs.conv import ConvDiscriminator, ConvGenerator
from plgan_tune.gan.pairs.mlp import MlpDiscriminator, MlpGenerator
from plgan_tune.gan.passes import Pass

MakeModel = Callable[..., ModelSpec]
MakePair = Callable[..., Pair]
OverRanks = Callable[[nn.Module, list[Tensor]], list[Tensor]]
Shape = tuple[int, ...]

METHODS = ["patent", "pl_gan"]
FAMILIES: list[Kind] = ["mlp", "conv"]
RANGE: dict[str, tuple[float, float]] = {"mlp": (0.0, 1.0), "conv": (-1.0, 1.0)}


def noise(seed: int, batch: int, dtype: torch.dtype = torch.float32) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), batch, dtype=dtype)


def latent(model: ModelSpec, batch: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return draw_latent(noise(7, batch, dtype), model)


def pictures(kind: str, batch: int, channels: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    low, high = RANGE[kind]
    images = noise(8, batch, dtype).uniform((channels, size, size))
    return low + (high - low) * images


def shapes(modules: Iterable[nn.Module], name: str) -> list[Shape]:
    return [tuple(getattr(module, name).shape) for module in modules]


def record_outputs(net: nn.Module, kinds: tuple[type[nn.Module], ...]) -> list[Tensor]:
    """The outputs of the layers of these kinds, in the order of the calls to come."""
    seen: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, kinds):
            module.register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    return seen


def record_inputs(net: nn.Module) -> list[Tensor]:
    """The inputs of the weight-normalised layers, in the order of the calls to come."""
    seen: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, WeightNorm):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    return seen


def batch_shapes(tensors: list[Tensor]) -> list[Shape]:
    return [tuple(tensor.shape[1:]) for tensor in tensors]


# Shapes.

MLP_UNITS = {"patent": [784, 1000, 500, 250, 250], "pl_gan": [784, 1000, 500, 250, 250, 250]}


@pytest.mark.parametrize("method", METHODS)
def test_mlp_pair_has_the_layers_of_table_4(method: str, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model(method, "mlp")
    D, G = make_pair(model, 1, 28)
    units = MLP_UNITS[method]
    dense = [module for module in D.modules() if isinstance(module, WeightNorm)]
    assert shapes(dense, "v") == [*zip(units[1:], units, strict=False), (10, 250)]
    assert shapes(dense, "g") == shapes(dense, "b") == [(n,) for n in [*units[1:], 10]]
    assert len(list(D.parameters())) == 3 * len(dense)

    in_g = {tuple(parameter.shape) for parameter in G.parameters()}
    assert in_g == {(500, 100), (500,), (500, 500), (784, 500), (784,)}
    assert shapes((m for m in G.modules() if isinstance(m, BatchNorm)), "shift") == [(500,), (500,)]

    made, judged = record_outputs(G, (BatchNorm,)), record_outputs(D, (WeightNorm,))
    images = G(latent(model, 3))
    logits, features = D(images)
    assert images.shape == (3, 1, 28, 28)
    assert batch_shapes(made) == [(500,), (500,)]
    assert batch_shapes(judged) == [(n,) for n in [*units[1:], 10]]
    assert (logits.shape, features.shape) == ((3, 10), (3, 250))


@pytest.mark.parametrize("method", METHODS)
def test_conv_pair_has_the_layers_of_table_5(method: str, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model(method, "conv")
    D, G = make_pair(model, 3, 32)
    layers = [module for module in D.modules() if isinstance(module, WeightNorm)]
    assert shapes(layers, "v") == [
        (96, 3, 3, 3),
        (96, 96, 3, 3),
        (96, 96, 3, 3),
        (192, 96, 3, 3),
        (192, 192, 3, 3),
        (192, 192, 3, 3),
        (192, 192, 3, 3),
        (192, 192, 1, 1),
        (192, 192, 1, 1),
        (10, 192),
    ]
    assert len(list(D.parameters())) == 3 * len(layers)
    in_g = sorted(tuple(parameter.shape) for parameter in G.parameters())
    assert in_g == sorted(
        [(8192, 100), (8192,), (512, 256, 5, 5), (256,), (256, 128, 5, 5), (128,), (128, 3, 5, 5), (3,), (3,)]
    )

    made, judged = record_outputs(G, (BatchNorm, WeightNorm)), record_outputs(D, (WeightNorm,))
    images = G(latent(model, 2))
    logits, features = D(images)
    assert batch_shapes(made) == [(8192,), (256, 8, 8), (128, 16, 16), (3, 32, 32)]
    assert images.shape == (2, 3, 32, 32)
    assert batch_shapes(judged) == [
        *[(96, 32, 32)] * 2,
        (96, 16, 16),
        *[(192, 16, 16)] * 2,
        (192, 8, 8),
        *[(192, 6, 6)] * 3,
        (10,),
    ]
    assert (logits.shape, features.shape) == ((2, 10), (2, 192))


@pytest.mark.parametrize(
    ("kind", "size", "channels"),
    [
        ("mlp", 8, 1),
        ("mlp", 17, 3),
        ("mlp", 33, 1),
        *[("conv", size, 3) for size in (16, 17, 33, 48)],
        ("conv", 28, 1),
    ],
)
def test_other_sizes_and_channels(
    kind: Kind, size: int, channels: int, make_model: MakeModel, make_pair: MakePair
) -> None:
    model = make_model("pl_gan", kind, width=0.05)
    D, G = make_pair(model, channels, size)
    images = G(latent(model, 3))
    assert images.shape == (3, channels, size, size)
    assert D(images).logits.shape == (3, 10)
    if kind == "conv":
        start = -(-size // 8)
        (layer,) = [module for module in G.modules() if isinstance(module, nn.Linear)]
        assert layer.out_features == scaled(512, 0.05) * start**2


def test_conv_pair_refuses_images_below_16(make_model: MakeModel, make_pair: MakePair) -> None:
    with pytest.raises(ValueError, match=r"at least 16 x 16 \(use mlp\), but got 15 x 15"):
        make_pair(make_model("pl_gan", "conv"), 3, 15)


def test_zca_refuses_images_above_48(make_model: MakeModel, make_pair: MakePair) -> None:
    make_pair(make_model("patent", "conv", width=0.02), 3, 48)
    make_pair(make_model("patent", "conv", width=0.02, zca=False), 3, 49)
    refusal = r"at most 48 x 48 \(set it to false, or trial\.data\.size smaller\), but got 49 x 49"
    with pytest.raises(ValueError, match=refusal):
        make_pair(make_model("patent", "conv", width=0.02), 3, 49)


@pytest.mark.parametrize(
    ("kind", "width", "hidden_d", "hidden_g"),
    [
        ("mlp", 0.5, [500, 250, 125, 125, 125], [250, 250]),
        ("mlp", 2.0, [2000, 1000, 500, 500, 500], [1000, 1000]),
        ("mlp", 1e-4, [1] * 5, [1, 1]),
        ("conv", 0.25, [24] * 3 + [48] * 6, [128 * 4, 64, 32]),
        ("conv", 1e-4, [1] * 9, [4, 1, 1]),
    ],
)
def test_width_scales_every_hidden_layer_and_nothing_else(
    *,
    kind: Kind,
    width: float,
    hidden_d: list[int],
    hidden_g: list[int],
    make_model: MakeModel,
    make_pair: MakePair,
) -> None:
    model = make_model("pl_gan", kind, width=width)
    D, G = make_pair(model, 3, 16)
    assert [len(module.b) for module in D.modules() if isinstance(module, WeightNorm)] == [*hidden_d, 10]
    assert [len(module.shift) for module in G.modules() if isinstance(module, BatchNorm)] == hidden_g
    assert G(latent(model, 2)).shape == (2, 3, 16, 16)


@given(st.integers(1, 2000), st.floats(1e-6, 16))
def test_scaled_units_are_the_nearest_number_from_1_up(units: int, width: float) -> None:
    assert scaled(units, width) >= 1
    assert scaled(units, width) == 1 or abs(scaled(units, width) - units * width) <= 0.5
    assert scaled(units, 1.0) == units


def test_number_of_classes(make_model: MakeModel) -> None:
    seeds = (torch.Generator().manual_seed(0), torch.Generator().manual_seed(0))
    for kind in FAMILIES:
        D, _ = build(make_model("pl_gan", kind, width=0.05), ImageShape(1, 16), 37, seeds)
        assert D(pictures(kind, 2, 1, 16)).logits.shape == (2, 37)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_learned_fake_logit_is_one_output_more_that_is_taken_off(
    kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    """The gradients of its N + 1 outputs sum to 0, whatever the loss: only their differences matter."""
    D, _ = make_pair(make_model("pl_gan", kind, width=0.05, fake_logit="learned"), 3, 16, torch.float64)
    outputs: list[Tensor] = []
    D.out.register_forward_hook(lambda layer, given, found: outputs.append(found))
    logits = D(pictures(kind, 4, 3, 16).double()).logits
    (found,) = outputs
    assert (found.shape, logits.shape) == ((4, 11), (4, 10))
    assert torch.equal(logits, found[:, :10] - found[:, 10:])
    (gradient,) = torch.autograd.grad(logits.sin().sum(), found)
    torch.testing.assert_close(gradient.sum(dim=1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_learned_fake_logit_that_says_0_is_the_fixed_one(
    kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    fixed, learned = (
        make_pair(make_model("pl_gan", kind, width=0.05, fake_logit=logit), 3, 16).discriminator
        for logit in ("fixed", "learned")
    )
    learned.load_state_dict(
        {
            name: torch.cat([held, torch.ones_like(held[:1]) if name == "out.v" else torch.zeros_like(held[:1])])
            if name.startswith("out.")
            else held
            for name, held in fixed.state_dict().items()
        }
    )
    images = pictures(kind, 4, 3, 16)
    torch.testing.assert_close(learned(images).logits, fixed(images).logits)
    assert torch.equal(learned(images).features, fixed(images).features)


# Minibatch discrimination.


def with_minibatch(model: ModelSpec, kernels: int = 3, *, images: Tensor | None = None) -> Pair:
    """The networks of `make_pair` for colour images of 16 x 16 pixels, in float64, with 6 images for a batch."""
    seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    reference = torch.randint(0, 256, (6, 3, 16, 16), generator=torch.Generator().manual_seed(3)).to(torch.uint8)
    model = model.model_copy(update={"minibatch_kernels": kernels})
    D, G = build(model, ImageShape(3, 16), 10, seeds, reference_images=reference if images is None else images)
    return Pair(D.to(torch.float64), G.to(torch.float64))


@pytest.mark.parametrize("kind", FAMILIES)
def test_d_s_output_reads_the_last_activation_and_how_close_it_is_to_its_batch(
    kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    """With its noise; V_feature compares what it does without minibatch discrimination."""
    model = make_model("pl_gan", kind, width=0.1)
    plain, D = make_pair(model, 3, 16, torch.float64).discriminator, with_minibatch(model).discriminator
    assert D.minibatch is not None
    images = pictures(kind, 6, 3, 16, torch.float64)
    read, was_read = record_inputs(D), record_inputs(plain)
    found, expected = (each(images, Pass(noise(0, 6, torch.float64))) for each in (D, plain))
    closeness = D.minibatch(was_read[-1], Pass(), 6)
    torch.testing.assert_close(read[-1], torch.cat([was_read[-1], closeness], dim=1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.features, expected.features, rtol=1e-12, atol=1e-12)
    alone = D.features(images, Pass(noise(0, 6, torch.float64)))
    assert torch.equal(alone, found.features)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_image_is_classified_alone_as_in_a_batch(kind: Kind, make_model: MakeModel) -> None:
    """By its closeness to the reference, at today's weights and without noise."""
    D = with_minibatch(make_model("pl_gan", kind, width=0.1)).discriminator
    assert D.minibatch is not None
    assert D.reference is not None
    images = pictures(kind, 5, 3, 16, torch.float64)
    D.calibrate(images, noise(4, 5, torch.float64))
    read = record_inputs(D)
    logits = D(images).logits
    for row in range(5):
        torch.testing.assert_close(D(images[row : row + 1]).logits[0], logits[row], rtol=1e-12, atol=1e-12)
    D(D.traits.pixels.from_uint8(D.reference, torch.float64))
    assert isinstance(D.out, WeightNorm)
    (last, *_), kernels = [x for x in read if x.shape[1] == D.out.v.shape[1]], 3
    others = read[-1][:, :-kernels]
    expected = D.minibatch.against(last[:, :-kernels], others)
    torch.testing.assert_close(last[:, -kernels:], expected, rtol=1e-12, atol=1e-12)
    D.reference.zero_()
    assert not torch.isclose(D(images).logits, logits).any()


@pytest.mark.parametrize("kind", FAMILIES)
def test_with_minibatch_discrimination_outputs_are_calibrated_as_without(kind: Kind, make_model: MakeModel) -> None:
    D = with_minibatch(make_model("pl_gan", kind, width=0.25)).discriminator
    images = pictures(kind, 24, 3, 16, torch.float64)
    D.calibrate(images, noise(4, 24, torch.float64))
    outputs, read = record_outputs(D, (WeightNorm,)), record_inputs(D)
    D(images, Pass(noise(4, 24, torch.float64)))
    assert_deviations(outputs, [*[1.0] * len(outputs[:-1]), 0.1 if kind == "conv" else 1.0])
    np.testing.assert_allclose(read[-1][:, -3:].mean(dim=0), 0, atol=1e-10)


@pytest.mark.parametrize("kind", FAMILIES)
def test_without_kernels_there_is_nothing_of_minibatch_discrimination(
    kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    """And its layer draws after the hidden ones, which are the same with it."""
    model = make_model("pl_gan", kind, width=0.1)
    plain = make_pair(model, 3, 16, torch.float64).discriminator.state_dict()
    other = model.model_copy(update={"minibatch_size": 9})
    assert all(
        map(torch.equal, make_pair(other, 3, 16, torch.float64).discriminator.state_dict().values(), plain.values())
    )
    held = with_minibatch(model).discriminator.state_dict()
    assert held.keys() - plain.keys() == {"reference", "minibatch.theta", "minibatch.s", "minibatch.bias"}
    assert all(torch.equal(held[name], tensor) for name, tensor in plain.items() if not name.startswith("out."))


# What is trained, and what is normalised.


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_the_recipe_freezes_hidden_gains_of_d_alone(
    method: str, kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    D, G = make_pair(make_model(method, kind, width=0.05), 3, 16)
    frozen = {name for name, parameter in D.named_parameters() if not parameter.requires_grad}
    layers = 9 if kind == "conv" else len(MLP_UNITS["pl_gan"]) - 1
    assert frozen == ({f"hidden.{index}.g" for index in range(layers)} if method == "pl_gan" else set())
    assert all(parameter.requires_grad for parameter in G.parameters())


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("trained", [True, False])
def test_train_hidden_gain_is_a_key_of_its_own(
    trained: bool, kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    D, _ = make_pair(make_model("patent", kind, width=0.05, train_hidden_gain=trained), 3, 16)
    gains = [module.g.requires_grad for module in D.modules() if isinstance(module, WeightNorm)]
    assert gains == [trained] * (len(gains) - 1) + [True]


@pytest.mark.parametrize(
    ("method", "kind", "has"),
    [("patent", "mlp", 0), ("pl_gan", "mlp", 1), ("patent", "conv", 1), ("pl_gan", "conv", 1)],
)
def test_weight_norm_of_g_is_on_its_output_alone(
    method: str, kind: Kind, has: int, make_model: MakeModel, make_pair: MakePair
) -> None:
    G = make_pair(make_model(method, kind, width=0.05), 3, 16).generator
    assert sum(isinstance(module, WeightNorm) for module in G.modules()) == has
    assert isinstance(G.out, WeightNorm) == bool(has)


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_trained_parameter_gets_a_gradient(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model("pl_gan", kind, width=0.1)
    D, G = make_pair(model, 3, 16)
    logits, features = D(G(latent(model, 6)), Pass(noise(0, 6)))
    (logits.square().sum() + features.square().sum()).backward()
    for net in (D, G):
        for name, parameter in net.named_parameters():
            assert (parameter.grad is not None and bool(parameter.grad.any())) == parameter.requires_grad, name


# Forward passes written out from METHOD.md.


@pytest.mark.parametrize("method", METHODS)
def test_mlp_pair_computes_its_formula(method: str, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model(method, "mlp", width=0.02)
    D, G = make_pair(model, 1, 8, torch.float64)
    randomise(D, G)
    z = latent(model, 6, torch.float64)
    made = G(z).detach()
    p = {name: value.detach().numpy() for name, value in G.named_parameters()}
    x = z.numpy()
    for index in range(2):
        x = x @ p[f"dense.{index}.weight"].T
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-6) + p[f"norm.{index}.shift"]
        x = np.log(1 + np.exp(x))
    if method == "pl_gan":
        v = p["out.v"]
        x = x @ (p["out.g"][:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)).T + p["out.b"]
    else:
        x = x @ p["out.weight"].T + p["out.bias"]
    np.testing.assert_allclose(made.flatten(1), 1 / (1 + np.exp(-x)), rtol=1e-11)

    logits, features = (t.detach() for t in D(made))
    x = made.flatten(1).numpy()
    slope = 0.2 if method == "patent" else 0.0
    hidden = 4 if method == "patent" else 5
    q = {name: value.detach().numpy() for name, value in D.named_parameters()}
    for layer in [*(f"hidden.{index}" for index in range(hidden)), "out"]:
        previous, v = x, q[f"{layer}.v"]
        x = x @ (q[f"{layer}.g"][:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)).T + q[f"{layer}.b"]
        if layer != "out":
            x = np.where(x > 0, x, slope * x)
    np.testing.assert_allclose(logits, x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(features, previous, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("size", [16, 17])
def test_conv_pair_computes_its_formula(size: int, make_model: MakeModel, make_pair: MakePair) -> None:
    """Linear maps are torch's here; `test_layers` checks them against their definitions."""
    model = make_model("patent", "conv", width=0.05)
    D, G = make_pair(model, 3, size, torch.float64)
    randomise(D, G)

    def weights(q: dict[str, Tensor], layer: str, unit: int) -> Tensor:
        v = q[f"{layer}.v"]
        units = v.transpose(0, unit)
        norms = units.square().flatten(1).sum(dim=1).sqrt().view(-1, *[1] * (v.ndim - 1))
        return (q[f"{layer}.g"].view_as(norms) * units / norms).transpose(0, unit)

    def normed(x: Tensor, shift: Tensor) -> Tensor:
        over = [0, *range(2, x.ndim)]
        centred = x - x.mean(over, keepdim=True)
        spread = (centred.square().mean(over, keepdim=True) + 1e-6).sqrt()
        return (centred / spread + shift.view(1, -1, *[1] * (x.ndim - 2))).clamp_min(0)

    z = latent(model, 6, torch.float64)
    made = G(z).detach()
    p = {name: value.detach() for name, value in G.named_parameters()}
    start = -(-size // 8)
    x = normed(z @ p["dense.weight"].T, p["dense_norm.shift"]).reshape(6, scaled(512, 0.05), start, start)
    for index in range(2):
        x = F.conv_transpose2d(x, p[f"weights.{index}"], stride=2, padding=2, output_padding=1)
        x = normed(x, p[f"norm.{index}.shift"])
    x = F.conv_transpose2d(x, weights(p, "out", 1), p["out.b"], stride=2, padding=2, output_padding=1).tanh()
    torch.testing.assert_close(made, x[:, :, :size, :size], rtol=1e-10, atol=1e-12)

    logits, features = (t.detach() for t in D(made))
    q = {name: value.detach() for name, value in D.named_parameters()}
    x = made
    for index in range(9):
        layer = f"hidden.{index}"
        stride, padding = 2 if index in (2, 5) else 1, 1 if index < 6 else 0
        x = F.conv2d(x, weights(q, layer, 0), q[f"{layer}.b"], stride=stride, padding=padding)
        x = torch.where(x > 0, x, 0.2 * x)
    pooled = x.mean((2, 3))
    torch.testing.assert_close(features, pooled, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(logits, pooled @ weights(q, "out", 0).T + q["out.b"], rtol=1e-10, atol=1e-12)


def randomise(*nets: nn.Module) -> None:
    """Moves every parameter away from its initial value, where gains equal norms and biases are 0."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for net in nets:
            for parameter in net.parameters():
                parameter.add_(torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator), alpha=0.3)


# Ranges, features, noise.


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_g_fills_the_range_of_its_output(method: str, kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model(method, kind, width=0.1)
    G = make_pair(model, 3, 16).generator
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name in ("out.g", "out.weight"):
                parameter.mul_(100)
    images = G(latent(model, 20))
    low, high = RANGE[kind]
    assert images.min() >= low
    assert images.max() <= high
    np.testing.assert_allclose([images.min().item(), images.max().item()], [low, high], atol=1e-3)


@pytest.mark.parametrize("network", [MlpDiscriminator, MlpGenerator, ConvDiscriminator, ConvGenerator])
def test_pixels_cover_the_range_of_g(network: type[Discriminator | Generator]) -> None:
    traits = network.traits
    pixels = torch.arange(256, dtype=torch.uint8)
    low, high = RANGE["conv" if traits.convolutional else "mlp"]
    fraction = np.arange(256) / 255
    held = traits.pixels.from_uint8(pixels, torch.float64)
    np.testing.assert_allclose(held, low + (high - low) * fraction, atol=1e-15)
    np.testing.assert_allclose(traits.pixels.to_unit(held), fraction, atol=1e-15)
    assert traits.pixels.from_uint8(pixels, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_latent_vectors(distribution: str, make_model: MakeModel) -> None:
    z = draw_latent(noise(0, 500), make_model("pl_gan", "mlp", latent=distribution, latent_size=80))
    assert z.shape == (500, 80)
    expected = [0.5, 12**-0.5] if distribution == "uniform" else [0, 1]
    np.testing.assert_allclose([z.mean(), z.std()], expected, atol=0.02)
    assert (z.min() >= 0) == (distribution == "uniform")


MLP_FEATURES = {-1: 250, 0: 1000, 1: 500, -2: 250, -5: 1000, 4: 250}
CONV_FEATURES = {-1: 10, 9: 10, 8: 10 * 2 * 2, 5: 10 * 4 * 4, 0: 5 * 16 * 16, -10: 5 * 16 * 16}


@pytest.mark.parametrize(
    ("kind", "layer", "count"),
    [
        *[("mlp", *item) for item in MLP_FEATURES.items()],
        *[("conv", *item) for item in CONV_FEATURES.items()],
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_features_are_the_chosen_activation_before_its_noise(
    *, training: bool, kind: Kind, layer: int, count: int, make_model: MakeModel, make_pair: MakePair
) -> None:
    model = make_model("pl_gan", kind, feature_layer=layer, width=1.0 if kind == "mlp" else 0.05)
    D = make_pair(model, 1, 16).discriminator
    before = record_outputs(D, (WeightNorm,))
    features = D(pictures(kind, 3, 1, 16), Pass(noise(0, 3) if training else None)).features
    assert features.shape == (3, count)
    index = layer % (10 if kind == "conv" else 5)
    slope = 0.2 if kind == "conv" else 0.0
    chosen = F.leaky_relu(before[min(index, 8)], slope)
    expected = chosen.mean((2, 3)) if (kind, index) == ("conv", 9) else chosen.flatten(1)
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("kind", FAMILIES)
def test_noise_and_dropout_are_off_in_evaluation_and_drawn_in_training(
    kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    D = make_pair(make_model("pl_gan", kind, width=0.1), 3, 16).discriminator
    images = pictures(kind, 5, 3, 16)
    still, training = D(images).logits, D(images, Pass(noise(0, 5))).logits
    assert torch.equal(D(images).logits, still)
    assert torch.equal(D(images, Pass(noise(0, 5))).logits, training)
    assert not torch.allclose(training, still)
    assert not torch.allclose(D(images, Pass(noise(1, 5))).logits, training)


@pytest.mark.parametrize("method", METHODS)
def test_mlp_noise_has_its_deviations(method: str, make_model: MakeModel, make_pair: MakePair) -> None:
    """0.3 on the input, 0.5 after every hidden activation; the classes' layer adds none."""
    D = make_pair(make_model(method, "mlp"), 1, 16).discriminator
    inputs, outputs = record_inputs(D), record_outputs(D, (WeightNorm,))
    images = pictures("mlp", 200, 1, 16)
    logits = D(images, Pass(noise(0, 200))).logits
    slope = 0.2 if method == "patent" else 0.0
    clean = [images.flatten(1), *(F.leaky_relu(output, slope) for output in outputs[:-1])]
    added = [got - before for got, before in zip(inputs, clean, strict=True)]
    deviations = [0.3, *[0.5] * (len(added) - 1)]
    np.testing.assert_allclose([part.std().item() for part in added], deviations, rtol=0.02)
    np.testing.assert_allclose([part.mean().item() for part in added], 0, atol=0.01)
    assert torch.equal(logits, outputs[-1])


@pytest.mark.parametrize(("method", "rates"), [("patent", [0.2, 0.2, 0.2]), ("pl_gan", [0.2, 0.5, 0.5])])
def test_conv_dropout_stands_before_each_block_with_its_rate(
    method: str, rates: list[float], make_model: MakeModel, make_pair: MakePair
) -> None:
    D = make_pair(make_model(method, "conv", width=0.2, zca=False), 3, 16).discriminator
    inputs, outputs = record_inputs(D), record_outputs(D, (WeightNorm,))
    images = pictures("conv", 40, 3, 16)
    D(images, Pass(noise(0, 40)))
    clean = [images, *(F.leaky_relu(output, 0.2) for output in outputs[:-1])]
    for index in range(9):
        rate = rates[index // 3] if index % 3 == 0 else 0.0
        kept = inputs[index] != 0
        assert kept.float().mean().item() == pytest.approx(1 - rate, abs=0.02)
        torch.testing.assert_close(inputs[index], kept * clean[index] / (1 - rate))


@pytest.mark.parametrize("kind", FAMILIES)
def test_whitening_comes_before_everything_else(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model("pl_gan", kind, width=0.1)
    plain = make_pair(model, 3, 16).discriminator
    generator = torch.Generator().manual_seed(0)
    whitening = Whitening(torch.randn(768, generator=generator), torch.randn(768, 768, generator=generator) / 28)
    seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    whitened = build(model, ImageShape(3, 16), 10, seeds, whitening).discriminator
    images = pictures(kind, 4, 3, 16)
    for seed in (None, 0):
        passes = [Pass(None if seed is None else noise(seed, 4)) for _ in range(2)]
        torch.testing.assert_close(whitened(images, passes[0]).logits, plain(whitening(images), passes[1]).logits)


@pytest.mark.parametrize("kind", FAMILIES)
def test_g_samples_by_the_batchs_own_statistics(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    """No state is kept: sampling, in evaluation too, gives what training gives, and knows the batch."""
    model = make_model("pl_gan", kind, width=0.1)
    G = make_pair(model, 3, 16).generator
    z = latent(model, 8)
    images = G(z)
    G(z + 3)
    assert torch.equal(G.eval()(z), images)
    assert not torch.allclose(G(z[:4]), images[:4])
    assert not list(G.buffers())


# Virtual batch norm.


def with_norm(
    kind: Kind, norm: GeneratorNorm, make_model: MakeModel, width: float = 0.1
) -> tuple[Generator, ModelSpec]:
    """For colour images of 16 x 16 pixels, in float64, with 8 z for the reference."""
    model = make_model("pl_gan", kind, width=width, generator_norm=norm)
    seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    reference = draw_latent(noise(3, 8), model) if norm == "virtual" else None
    return build(model, ImageShape(3, 16), 10, seeds, reference_latent=reference).generator.to(torch.float64), model


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("norm", ["virtual", "none"])
def test_an_image_generated_alone_is_the_one_of_a_batch(kind: Kind, norm: GeneratorNorm, make_model: MakeModel) -> None:
    G, model = with_norm(kind, norm, make_model)
    z = latent(model, 100, torch.float64)
    images = G(z)
    assert images.shape == (100, 3, 16, 16)
    for row in range(0, 100, 7):
        torch.testing.assert_close(G(z[row : row + 1])[0], images[row], rtol=1e-12, atol=1e-12)
    if norm == "virtual":
        assert G.reference is not None
        G.reference += 0.5
        assert not torch.allclose(G(z), images)
    assert {name for name, _ in G.named_buffers()} == ({"reference"} if norm == "virtual" else set())


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("norm", ["virtual", "none"])
def test_g_starts_with_the_weights_of_batch_norm(
    kind: Kind, norm: GeneratorNorm, make_model: MakeModel, make_pair: MakePair
) -> None:
    G, _ = with_norm(kind, norm, make_model)
    plain = make_pair(make_model("pl_gan", kind, width=0.1), 3, 16, torch.float64).generator
    there, here = dict(plain.named_parameters()), dict(G.named_parameters())
    assert there.keys() == here.keys()
    assert all(torch.equal(there[name], here[name]) for name in there)


@pytest.mark.parametrize("kind", FAMILIES)
def test_ranks_with_virtual_batch_norm_generate_as_one_without_a_sum(kind: Kind, make_model: MakeModel) -> None:
    G, model = with_norm(kind, "virtual", make_model, width=0.05)
    z, weights = latent(model, 6, torch.float64), pictures("mlp", 6, 3, 16, torch.float64)
    sums: list[Tensor] = []

    def all_sum(part: Tensor) -> Tensor:
        sums.append(part)
        return part

    def results(images: Tensor, of: Tensor) -> list[Tensor]:
        return [images, *torch.autograd.grad((images * of).sum(), list(G.parameters()))]

    (images, *whole) = results(G(z), weights)
    ranks = [
        results(G(z[own], Pass(all_sum=all_sum, gather=all_sum)), weights[own]) for own in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(torch.cat([rank[0] for rank in ranks]), images, rtol=1e-10, atol=1e-12)
    for of_one, *of_many in zip(whole, *(rank[1:] for rank in ranks), strict=True):
        torch.testing.assert_close(of_many[0] + of_many[1], of_one, rtol=1e-10, atol=1e-12)
    assert sums == []


@pytest.mark.parametrize("kind", FAMILIES)
def test_with_virtual_batch_norm_g_s_outputs_are_calibrated_as_without(kind: Kind, make_model: MakeModel) -> None:
    G, model = with_norm(kind, "virtual", make_model, width=0.25)
    z = latent(model, 100, torch.float64)
    G.calibrate(z)
    outputs = record_outputs(G, (WeightNorm,))
    G(z)
    assert_deviations(outputs, [0.1 if kind == "conv" else 1.0])


# Initialisation.


def assert_deviations(outputs: list[Tensor], deviations: list[float]) -> None:
    for output, deviation in zip(outputs, deviations, strict=True):
        units = output.transpose(0, 1).flatten(1).numpy()
        np.testing.assert_allclose(units.mean(axis=1), 0, atol=1e-10)
        np.testing.assert_allclose(units.std(axis=1), deviation, rtol=1e-9)


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("width", [0.25, 1.0])
def test_data_dependent_initialisation_of_d(
    kind: Kind, width: float, make_model: MakeModel, make_pair: MakePair
) -> None:
    """Every pre-activation of the batch, under the same noise, has mean 0, deviation 1 (conv output 0.1)."""
    model = make_model("pl_gan", kind, width=width)
    batch = 24 if kind == "conv" else 200
    D = make_pair(model, 3, 16, torch.float64).discriminator
    images = pictures(kind, batch, 3, 16, torch.float64)
    D.calibrate(images, noise(4, batch, torch.float64))
    outputs = record_outputs(D, (WeightNorm,))
    D(images, Pass(noise(4, batch, torch.float64)))
    hidden = [1.0] * len(outputs[:-1])
    assert_deviations(outputs, [*hidden, 0.1 if kind == "conv" else 1.0])


@pytest.mark.parametrize("kind", FAMILIES)
def test_data_dependent_initialisation_of_g(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model("pl_gan", kind, width=0.25)
    G = make_pair(model, 3, 16, torch.float64).generator
    before = {name: value.clone() for name, value in G.state_dict().items()}
    z = latent(model, 100, torch.float64)
    G.calibrate(z)
    outputs = record_outputs(G, (WeightNorm,))
    G(z)
    assert_deviations(outputs, [0.1 if kind == "conv" else 1.0])
    changed = {name for name, value in G.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"out.g", "out.b"}


def test_calibration_is_of_what_d_sees_after_whitening(make_model: MakeModel) -> None:
    model = make_model("patent", "conv", width=0.1, weight_norm_init="data")
    whitening = Whitening(torch.full((768,), 3.0), 5 * torch.eye(768))
    seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    D = build(model, ImageShape(3, 16), 10, seeds, whitening).discriminator.to(torch.float64)
    images = pictures("conv", 20, 3, 16, torch.float64)
    D.calibrate(images, noise(4, 20, torch.float64))
    outputs = record_outputs(D, (WeightNorm,))
    D(images, Pass(noise(4, 20, torch.float64)))
    assert_deviations(outputs, [*[1.0] * 9, 0.1])


@pytest.mark.parametrize("kind", FAMILIES)
def test_patent_draws_by_xavier_with_gain_the_norm(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    D, G = make_pair(make_model("patent", kind, width=0.5), 3, 16)
    for module in [*D.modules(), *G.modules()]:
        if isinstance(module, WeightNorm):
            units = module.v.transpose(0, module.v.shape.index(len(module.g))).detach().flatten(1)
            torch.testing.assert_close(module.g.detach(), units.norm(dim=1))
            assert not module.b.detach().any()
    for module in D.modules():
        if isinstance(module, WeightNorm):
            area = int(np.prod(module.v.shape[2:]))
            bound = np.sqrt(6 / (area * (module.v.shape[0] + module.v.shape[1])))
            assert bound * 0.95 < module.v.detach().abs().max() <= bound


def weights_of(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters() if p.ndim > 1])


@pytest.mark.parametrize(("kind", "spread"), [("mlp", 0.4), ("conv", 0.05)])
def test_recipe_draws_all_weights_from_one_normal(
    kind: Kind, spread: float, make_model: MakeModel, make_pair: MakePair
) -> None:
    for network in make_pair(make_model("pl_gan", kind, width=0.5), 3, 16):
        weights = weights_of(network)
        np.testing.assert_allclose([weights.mean() / spread, weights.std() / spread], [0, 1], atol=0.01)
        assert weights.abs().max() > 3.5 * spread


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_each_network_starts_from_its_own_spread(
    method: str, kind: Kind, make_model: MakeModel, make_pair: MakePair
) -> None:
    """The draws are the same, so that a deviation only scales them, and D's says nothing of G."""

    def starts(**spreads: float | str) -> tuple[Tensor, Tensor]:
        D, G = make_pair(make_model(method, kind, width=0.25, **spreads), 3, 16)
        return weights_of(D), weights_of(G)

    d, g = starts(initial_spread=0.5, generator_initial_spread=0.25)
    torch.testing.assert_close([d.std(), g.std()], [torch.tensor(0.5), torch.tensor(0.25)], rtol=0.02, atol=0)
    torch.testing.assert_close(starts(initial_spread=0.25, generator_initial_spread=0.5), (d / 2, g * 2))
    xavier = starts(initial_spread="xavier", generator_initial_spread="xavier")
    for mixed, (expected_d, expected_g) in (
        (starts(initial_spread=0.5, generator_initial_spread="xavier"), (d, xavier[1])),
        (starts(initial_spread="xavier", generator_initial_spread=0.25), (xavier[0], g)),
    ):
        assert torch.equal(mixed[0], expected_d)
        assert torch.equal(mixed[1], expected_g)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_generator_s_scale_may_start_at_one(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    model = make_model("pl_gan", kind, width=0.25, generator_weight_norm_init="xavier")
    plain = make_pair(model, 3, 16)
    D, G = make_pair(model.model_copy(update={"generator_weight_norm_init": "one"}), 3, 16)
    state = G.state_dict()
    assert torch.equal(state["out.g"], torch.ones_like(state["out.g"]))
    assert not state["out.b"].any()
    changed = {name for name, value in plain.generator.state_dict().items() if not torch.equal(value, state[name])}
    assert changed == {"out.g"}
    before = plain.discriminator.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in D.state_dict().items())


def test_a_generator_without_weight_norm_has_no_scale_to_start(make_model: MakeModel, make_pair: MakePair) -> None:
    starts = [
        make_pair(
            make_model("patent", "mlp", width=0.05, generator_weight_norm_init=start), 1, 8
        ).generator.state_dict()
        for start in ("xavier", "one")
    ]
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_weights_are_a_function_of_their_generators_alone(method: str, kind: Kind, make_model: MakeModel) -> None:
    model = make_model(method, kind, width=0.1)

    def weights(for_d: int, for_g: int) -> tuple[list[Tensor], list[Tensor]]:
        seeds = (torch.Generator().manual_seed(for_d), torch.Generator().manual_seed(for_g))
        D, G = build(model, ImageShape(3, 16), 10, seeds)
        return list(D.state_dict().values()), list(G.state_dict().values())

    def same(left: list[Tensor], right: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))

    untouched = torch.get_rng_state()
    d, g = weights(1, 2)
    assert torch.equal(torch.get_rng_state(), untouched)
    other_d, same_g = weights(3, 2)
    assert same(g, same_g)
    assert not same(d, other_d)
    assert same(d, weights(1, 4)[0])


# Ranks.


@pytest.mark.parametrize("kind", FAMILIES)
def test_ranks_generate_as_one(kind: Kind, make_model: MakeModel, make_pair: MakePair, over_ranks: OverRanks) -> None:
    model = make_model("pl_gan", kind, width=0.05)
    G = make_pair(model, 3, 16, torch.float64).generator
    z = latent(model, 6, torch.float64)
    weights = pictures("mlp", 6, 3, 16, torch.float64)

    def results(images: Tensor) -> list[Tensor]:
        return [images, *torch.autograd.grad((images * weights).sum(), list(G.parameters()))]

    split = results(torch.cat(over_ranks(G, [z[:2], z[2:]])))
    for of_one, of_many in zip(results(G(z)), split, strict=True):
        torch.testing.assert_close(of_many, of_one, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", FAMILIES)
def test_d_on_a_ranks_rows_is_those_rows_of_d(kind: Kind, make_model: MakeModel, make_pair: MakePair) -> None:
    D = make_pair(make_model("pl_gan", kind, width=0.1), 3, 16, torch.float64).discriminator
    images, rows = pictures(kind, 6, 3, 16, torch.float64), torch.tensor([1, 2, 5])
    whole = D(images, Pass(noise(0, 6, torch.float64)))
    own = D(images[rows], Pass(Draws(torch.Generator().manual_seed(0), 6, rows, torch.float64)))
    torch.testing.assert_close(own.logits, whole.logits[rows], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(own.features, whole.features[rows], rtol=1e-12, atol=1e-12)
