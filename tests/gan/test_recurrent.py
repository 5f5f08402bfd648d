"""The pair whose generator draws in steps: its shapes, its formula, and what its steps share."""

from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import ModelSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.pairs.base import ImageShape, Pair, draw_latent
from plgan_tune.gan.pairs.build import build
from plgan_tune.gan.pairs.recurrent import RecurrentDiscriminator, RecurrentGenerator
from plgan_tune.gan.passes import Pass

MakeModel = Callable[..., ModelSpec]
Seeds = tuple[torch.Generator, torch.Generator]
Recurrent = tuple[RecurrentDiscriminator, RecurrentGenerator, ModelSpec]
Make = Callable[..., Recurrent]

BATCH = 6


def draws(seed: int, batch: int = BATCH, dtype: torch.dtype = torch.float64) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), batch, dtype=dtype)


def latent(model: ModelSpec, seed: int = 0, batch: int = BATCH) -> Tensor:
    return draw_latent(draws(seed, batch), model)


def pictures(seed: int, batch: int = BATCH, size: int = 8, channels: int = 1) -> Tensor:
    return 2 * draws(seed, batch).uniform((channels, size, size)) - 1


@pytest.fixture
def make(make_model: MakeModel) -> Make:
    """`make(size, channels, keys...)`: a small pair in float64, weights from fixed seeds, and its model."""

    def pair(size: int = 8, channels: int = 1, method: str = "pl_gan", **keys: Any) -> Recurrent:
        model = make_model(method, "recurrent", **{"width": 0.05, "latent": "normal", "latent_size": 9, **keys})
        seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
        reference = latent(model, 5, 4).float() if model.generator_norm == "virtual" else None
        shown = torch.randint(0, 256, (4, channels, size, size), generator=seeds[0]).to(torch.uint8)
        images = shown if model.minibatch_kernels else None
        seeds = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
        image = ImageShape(channels, size)
        built: Pair = build(model, image, 10, seeds, reference_images=images, reference_latent=reference)
        D, G = built.discriminator.to(torch.float64), built.generator.to(torch.float64)
        assert isinstance(D, RecurrentDiscriminator)
        assert isinstance(G, RecurrentGenerator)
        return D, G, model

    return pair


def stirred(net: torch.nn.Module) -> dict[str, Tensor]:
    """Move the net away from its start, where shifts are 0, gains 1 and drawings faint; return its parameters."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in net.parameters():
            if value.ndim == 1:
                value.uniform_(0.5, 1.5, generator=rng)
            else:
                value.normal_(0, 0.3, generator=rng)
    return {name: value.detach() for name, value in net.named_parameters()}


# Shapes.


@pytest.mark.parametrize(
    ("size", "sides", "units"),
    [
        (4, [2, 1], [16, 32]),
        (8, [4, 2], [16, 32]),
        (28, [14, 7], [16, 32]),
        (32, [16, 8, 4], [16, 32, 64]),
        (33, [17, 9, 5], [16, 32, 64]),
        (64, [32, 16, 8, 4], [16, 32, 64, 128]),
    ],
)
@pytest.mark.parametrize(("channels", "norm", "steps"), [(1, "batch", 1), (3, "none", 3)])
def test_shapes_and_numbers_of_parameters(
    size: int, sides: list[int], units: list[int], channels: int, norm: str, steps: int, make: Make
) -> None:
    """Table 2's 128 and 256, 128 to 512, 128 to 1024, here at an eighth of the width."""
    D, G, model = make(size, channels, width=0.125, discriminator_norm=norm, steps=steps, latent_size=100)
    seen: list[tuple[int, ...]] = []
    for layer in (*D.hidden, D.out):
        layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    images = G(latent(model))
    assert images.shape == (BATCH, channels, size, size)
    assert images.abs().max() < 1
    assert D(images).features.shape == (BATCH, units[-1] * sides[-1] ** 2)
    assert seen == [*((n, side, side) for n, side in zip(units, sides, strict=True)), (10,)]

    last = units[-1] * sides[-1] ** 2
    convolutions = 25 * sum(one * other for one, other in pairwise([channels, *units]))
    of_norms = 2 * sum(units[1:]) if norm == "batch" else sum(units[1:])
    assert sum(map(torch.numel, D.parameters())) == convolutions + units[0] + of_norms + 10 * last + 10
    of_f = 100 * last + convolutions + channels + 2 * (last + sum(units[:-1]))
    of_h = 16 * last  # h is an eighth of 128 numbers
    of_g = convolutions + 2 * sum(units) + last * 16
    assert sum(map(torch.numel, G.parameters())) == of_f + (of_g + of_h if steps > 1 else 0)


@pytest.mark.parametrize(("head", "units"), [(None, 0), (100, 5)])
@pytest.mark.parametrize("size", [8, 32])
def test_features_are_the_chosen_activation(head: int | None, units: int, size: int, make: Make) -> None:
    """Whose number the size of the images decides, and the head."""
    sides, maps = ([4, 2], [6, 13]) if size == 8 else ([16, 8, 4], [6, 13, 26])
    counts = [n * side**2 for n, side in zip(maps, sides, strict=True)] + ([units] if head else [])
    for layer, count in [*enumerate(counts), *enumerate(counts, -len(counts))]:
        D, _, _ = make(size, head=head, feature_layer=layer)
        assert D(pictures(0, size=size)).features.shape == (BATCH, count)
    for layer in (len(counts), -len(counts) - 1):
        rule = f"D has {len(counts)} hidden activations of images of {size} x {size}, so it must be in "
        with pytest.raises(RuleError, match=rf"{rule}\[-{len(counts)}, {len(counts) - 1}\], but got {layer}"):
            make(size, head=head, feature_layer=layer)


def test_images_below_4_x_4_are_refused(make: Make) -> None:
    with pytest.raises(RuleError, match=r"recurrent needs images of at least 4 x 4 \(use mlp\), but got 3 x 3"):
        make(3)


def test_a_latent_of_all_steps_is_one_draw(make: Make) -> None:
    _, _, three = make(steps=3)
    assert torch.equal(latent(three).flatten(1), draws(0).normal((27,)))
    for model in (make(steps=1)[2], make(steps=3, latent_each_step=False)[2]):
        assert torch.equal(latent(model).view(BATCH, -1), draws(0).normal((9,)))


# The formula.


def norm_of(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    over = [0, *range(2, x.ndim)]
    gain, shift = (p[f"{name}.{key}"].view(1, -1, *[1] * (x.ndim - 2)) for key in ("gain", "shift"))
    centred = x - x.mean(over, keepdim=True)
    return gain * centred / (centred.square().mean(over, keepdim=True) + 1e-5).sqrt() + shift


@pytest.mark.parametrize(
    ("size", "canvas", "each", "layer"), [(8, "last", True, False), (9, "sum", False, True), (32, "sum", True, True)]
)
def test_the_generator_is_its_formula(size: int, canvas: str, each: bool, layer: bool, make: Make) -> None:
    """Feng et al. 2020, eq. 9 to 11, and GRAN's sum. Linear maps are torch's here, padding and cuts are not."""
    _, G, model = make(size, 3, steps=3, canvas=canvas, latent_each_step=each, latent_layer=layer)
    p = stirred(G)
    count, start = (3, 4) if size == 32 else (2, -(-size // 4))

    def of_z(z: Tensor) -> Tensor:
        return norm_of(p, "latent.norm", z @ p["latent.dense.weight"].T).tanh() if layer else z

    def f(z: Tensor, h: Tensor) -> Tensor:
        both = torch.cat([p["dense.weight"], p["recall.weight"]], dim=1)
        x = norm_of(p, "norm.0", torch.cat([of_z(z), h], dim=1) @ both.T).clamp_min(0).view(BATCH, -1, start, start)
        for number in range(count - 1):
            x = F.conv_transpose2d(x, p[f"weights.{number}"], stride=2, padding=2, output_padding=1)
            x = norm_of(p, f"norm.{number + 1}", x).clamp_min(0)
        x = F.conv_transpose2d(x, p["out.weight"], p["out.bias"], stride=2, padding=2, output_padding=1)
        return x[:, :, :size, :size]

    def g(drawing: Tensor) -> Tensor:
        x = drawing
        for number in range(count):
            x = F.conv2d(F.pad(x, (2, 2, 2, 2)), p[f"look.hidden.{number}.weight"], stride=2)
            x = norm_of(p, f"look.norm.{number}", x).clamp_min(0)
        return x.flatten(1) @ p["look.out.weight"].T

    given = latent(model)
    h, drawn, expected = torch.zeros(BATCH, 6, dtype=torch.float64), [], []
    for t in range(3):
        drawing = f(given[:, t] if each else given, h)
        drawn.append(drawing.tanh() if canvas == "last" else drawing)
        expected.append(drawn[-1] if canvas == "last" else torch.stack(drawn).sum(dim=0).tanh())
        h = g(drawn[-1])
    canvases = G.canvases(given)
    assert (canvases[:, 0] - canvases[:, 2]).abs().max() > 0.1
    torch.testing.assert_close(canvases, torch.stack(expected, dim=1), rtol=1e-10, atol=1e-10)
    assert torch.equal(G(given), canvases[:, 2])


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("head", [None, 60])
def test_the_discriminator_is_its_formula(norm: str, activation: str, head: int | None, make: Make) -> None:
    D, _, _ = make(9, 3, discriminator_norm=norm, activation=activation, head=head)
    p, images = stirred(D), pictures(0, size=9, channels=3)
    x = images
    for layer in range(2):
        bias = p.get(f"hidden.{layer}.bias")
        assert (bias is None) is (norm == "batch" and layer == 1)
        x = F.conv2d(F.pad(x, (2, 2, 2, 2)), p[f"hidden.{layer}.weight"], bias, stride=2)
        x = norm_of(p, "norm.1", x) if norm == "batch" and layer else x
        x = torch.where(x > 0, x, (0.2 if activation == "leaky_relu" else 0.0) * x)
    x = x.flatten(1)
    if head:
        x = (x @ p["head.weight"].T + p["head.bias"]).tanh()
    found = D(images, Pass(draws(0)))
    torch.testing.assert_close(found.logits, x @ p["out.weight"].T + p["out.bias"], rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found.features, x, rtol=1e-11, atol=1e-11)


# What steps share.


@pytest.mark.parametrize("keys", [{}, {"generator_norm": "virtual", "canvas": "sum", "latent_layer": True}])
def test_generators_of_any_number_of_steps_begin_with_the_weights_that_they_share(
    keys: dict[str, Any], make: Make
) -> None:
    untouched = torch.get_rng_state()
    one, three, five = (make(steps=steps, **keys)[1].state_dict() for steps in (1, 3, 5))
    assert torch.equal(torch.get_rng_state(), untouched)
    assert {name.partition(".")[0] for name in three.keys() - one.keys()} == {"recall", "look"}
    assert one.keys() < three.keys() == five.keys()
    for name in one.keys() - {"reference"}:
        assert torch.equal(one[name], three[name])
    for name in three.keys() - {"reference"}:
        assert torch.equal(three[name], five[name])


def test_without_memory_the_last_canvas_is_that_of_one_step(make: Make) -> None:
    _, one, _ = make(steps=1)
    _, three, model = make(steps=3)
    three.get_parameter("recall.weight").data.zero_()
    z = latent(model)
    torch.testing.assert_close(three(z), one(z[:, 2:]), rtol=1e-12, atol=1e-12)


def test_without_memory_a_sum_is_the_tanh_of_the_sum_of_its_steps(make: Make) -> None:
    _, one, _ = make(steps=1)
    _, three, model = make(steps=3, canvas="sum")
    stirred(three)
    three.get_parameter("recall.weight").data.zero_()
    one.load_state_dict({name: three.state_dict()[name] for name in one.state_dict()})
    for net in (one, three):
        net.get_parameter("out.weight").data.mul_(0.1)  # a tanh of large numbers has no inverse
    z = latent(model)
    steps = [one(z[:, t : t + 1]).atanh() for t in range(3)]
    torch.testing.assert_close(three(z), torch.stack(steps).sum(dim=0).tanh(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("each", [True, False])
@pytest.mark.parametrize("canvas", ["last", "sum"])
@pytest.mark.parametrize("norm", ["batch", "virtual", "none"])
def test_the_first_steps_of_a_longer_drawing_are_those_of_a_shorter_one(
    norm: str,
    canvas: str,
    each: bool,
    make: Make,
) -> None:
    keys = {"canvas": canvas, "latent_each_step": each, "latent_layer": True, "generator_norm": norm}
    _, long, model = make(steps=5, **keys)
    stirred(long)
    z, held = latent(model), long.state_dict()
    canvases = long.canvases(z)
    assert canvases.shape == (BATCH, 5, 1, 8, 8)
    for t in range(1, 6):
        _, short, _ = make(steps=t, **keys)
        weights = {name: held[name] for name in short.state_dict()}
        if each and norm == "virtual":
            weights["reference"] = held["reference"][:, :t]
        short.load_state_dict(weights)
        # Rows that lie elsewhere in memory may be summed in another order.
        torch.testing.assert_close(short(z[:, :t] if each else z), canvases[:, t - 1], rtol=1e-12, atol=1e-12)


# What depends on what.


def test_every_trained_tensor_gets_a_gradient(make: Make) -> None:
    """With every switch of G, and beside them those of D: Adam refuses a parameter without one."""
    of_g = product([1, 3], ["last", "sum"], [True, False], [True, False], ["batch", "virtual", "none"])
    of_d = [(norm, head) for norm in ("batch", "none") for head in (None, 40)] * 12
    for (steps, canvas, each, layer, norm), (norm_d, head) in zip(of_g, of_d, strict=True):
        keys = {"steps": steps, "canvas": canvas, "latent_each_step": each, "latent_layer": layer}
        D, G, model = make(generator_norm=norm, discriminator_norm=norm_d, head=head, width=0.03, **keys)
        stirred(D)
        stirred(G)
        logits, features = D(G(latent(model)), Pass(draws(0)))
        (logits.square().sum() + features.square().sum()).backward()
        for net in (D, G):
            for name, parameter in net.named_parameters():
                assert parameter.requires_grad
                assert parameter.grad is not None, (name, model)
                assert parameter.grad.abs().max() > 1e-9, (name, model)


@pytest.mark.parametrize("keys", [{}, {"head": 40, "minibatch_kernels": 3}, {"discriminator_norm": "none"}])
def test_an_image_is_judged_alone_as_in_any_batch(keys: dict[str, Any], make: Make) -> None:
    D, _, _ = make(**keys)
    stirred(D)
    D.settle(pictures(3, 40))
    images = pictures(4, 9)
    together, alone = D(images), [D(images[row : row + 1]) for row in range(9)]
    torch.testing.assert_close(torch.cat([each.logits for each in alone]), together.logits, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(torch.cat([each.features for each in alone]), together.features, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("canvas", ["last", "sum"])
def test_with_virtual_batch_norm_an_image_depends_on_its_z_alone(canvas: str, make: Make) -> None:
    """Through all steps, in which the reference draws too."""
    _, G, model = make(steps=3, canvas=canvas, generator_norm="virtual", latent_layer=True)
    stirred(G)
    z = latent(model)
    canvases = G.canvases(z)
    assert canvases.shape == (BATCH, 3, 1, 8, 8)
    assert torch.equal(G(z), canvases[:, -1])
    for row in range(BATCH):
        torch.testing.assert_close(G.canvases(z[row : row + 1])[0], canvases[row], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("head", [None, 40])
def test_without_norm_d_can_be_differentiated_twice(head: int | None, make: Make) -> None:
    """The gradient of a penalty on its gradient, against finite differences."""
    D, _, _ = make(discriminator_norm="none", head=head, width=0.03)
    stirred(D)
    images = pictures(0, 3).requires_grad_()

    def penalty() -> Tensor:
        (slope,) = torch.autograd.grad(D(images).logits.logsumexp(dim=1).sum(), images, create_graph=True)
        found: Tensor = (torch.linalg.vector_norm(slope.flatten(1), dim=1) - 1).square().mean()
        return found

    weights = [parameter for parameter in D.parameters() if parameter.ndim > 1]
    gradients = torch.autograd.grad(penalty(), weights)
    rng = torch.Generator().manual_seed(7)
    for weight, gradient in zip(weights, gradients, strict=True):
        way = torch.randn(weight.shape, dtype=torch.float64, generator=rng)
        slopes = []
        for sign in (1, -1):
            weight.data.add_(way, alpha=sign * 1e-6)
            slopes.append(penalty().item())
            weight.data.sub_(way, alpha=sign * 1e-6)
        assert (slopes[0] - slopes[1]) / 2e-6 == pytest.approx((gradient * way).sum().item(), rel=1e-5, abs=1e-8)
