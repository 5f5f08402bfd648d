"""Weight and batch normalisation, noise and whitening, against their formulas in NumPy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.data.zca import fit_zca
from plgan_tune.gan import layers as layers_module
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.layers import (
    BatchNorm,
    Conv,
    ConvTransposed,
    Dense,
    DiscriminatorBatchNorm,
    GainedBatchNorm,
    MinibatchDiscrimination,
    Shift,
    VirtualBatchNorm,
    WeightNorm,
    Whitening,
    add_noise,
    draw_weights,
    drop_out,
    pool_moments,
)
from plgan_tune.gan.passes import AllSum, Pass

Array = NDArray[np.float64]
SIX = ["dense", "strided", "padded", "valid", "1x1", "transposed"]


def make_layer(name: str, seed: int = 0) -> tuple[WeightNorm, Tensor]:
    """A layer in float64 with g and b away from their initial values, and an input for it."""
    generator = torch.Generator().manual_seed(seed)
    layers: dict[str, Callable[[], WeightNorm]] = {
        "dense": lambda: Dense(7, 5, 0.1, generator),
        "strided": lambda: Conv(3, 5, 3, 0.05, generator, stride=2, padding=1),
        "padded": lambda: Conv(3, 5, 3, 0.05, generator, padding=1),
        "valid": lambda: Conv(3, 5, 3, 0.05, generator),
        "1x1": lambda: Conv(3, 5, 1, 0.05, generator),
        "transposed": lambda: ConvTransposed(3, 5, 0.05, generator),
    }
    layer = layers[name]().to(torch.float64)
    with torch.no_grad():
        layer.g.uniform_(-2, 2, generator=generator)
        layer.b.normal_(generator=generator)
    shape = (4, 7) if name == "dense" else (4, 3, 5, 6)
    return layer, torch.randn(shape, dtype=torch.float64, generator=generator)


# Linear maps from their definitions.


def reference_conv(x: Array, w: Array, stride: int, padding: int) -> Array:
    """Cross-correlation: (B, I, H, W), (O, I, k, k) -> (B, O, H', W')."""
    x = np.pad(x, [(0, 0), (0, 0), (padding, padding), (padding, padding)])
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))[:, :, ::stride, ::stride]
    return np.asarray(np.einsum("bihwkl,oikl->bohw", windows, w))


def reference_transposed(x: Array, w: Array) -> Array:
    """The gradient of a 5x5 convolution, stride 2, padding 2, of an image twice as large; w (I, O, 5, 5)."""
    batch, _, height, width = x.shape
    full = np.zeros((batch, w.shape[1], 2 * height + 4, 2 * width + 4))
    for row in range(height):
        for column in range(width):
            patch = np.einsum("bi,iokl->bokl", x[:, :, row, column], w)
            full[:, :, 2 * row : 2 * row + 5, 2 * column : 2 * column + 5] += patch
    return full[:, :, 2:-2, 2:-2]


def reference(name: str, layer: WeightNorm, x: Tensor) -> Array:
    """y = (g v / |v|) x + b, weights formed first, as Salimans and Kingma print it."""
    v, g, b, images = (t.detach().numpy() for t in (layer.v, layer.g, layer.b, x))
    if name == "dense":
        return np.asarray(images @ (g[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True)).T + b)
    if name == "transposed":
        w = g[None, :, None, None] * v / np.sqrt(np.sum(v**2, axis=(0, 2, 3), keepdims=True))
        return np.asarray(reference_transposed(images, w) + b[:, None, None])
    w = g[:, None, None, None] * v / np.sqrt(np.sum(v**2, axis=(1, 2, 3), keepdims=True))
    stride, padding = {"strided": (2, 1), "padded": (1, 1), "valid": (1, 0), "1x1": (1, 0)}[name]
    return np.asarray(reference_conv(images, w, stride, padding) + b[:, None, None])


@pytest.mark.parametrize("name", SIX)
def test_weight_norm_is_its_formula(name: str) -> None:
    layer, x = make_layer(name)
    np.testing.assert_allclose(layer(x).detach(), reference(name, layer, x), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", SIX)
@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=5))
@settings(max_examples=20)
def test_the_size_of_v_does_not_matter(name: str, sizes: list[float]) -> None:
    layer, x = make_layer(name)
    before = layer(x)
    with torch.no_grad():
        sizes_ = torch.tensor(sizes, dtype=torch.float64)
        layer.v.mul_(sizes_[None, :, None, None] if name == "transposed" else sizes_.view(5, *[1] * (layer.v.ndim - 1)))
    torch.testing.assert_close(layer(x), before, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SIX)
def test_gradient_of_v_is_orthogonal_to_v(name: str) -> None:
    """Salimans and Kingma 2016, section 2.2: the output does not change along v, unit by unit."""
    layer, x = make_layer(name)
    (gradient,) = torch.autograd.grad(layer(x).pow(3).sum(), layer.v)
    over = [dim for dim in range(layer.v.ndim) if dim != (1 if name == "transposed" else 0)]
    along = (gradient * layer.v).sum(dim=over)
    size = torch.linalg.vector_norm(gradient, dim=over) * torch.linalg.vector_norm(layer.v, dim=over)
    assert (size > 0).all()
    assert (along.abs() / size).max() < 1e-12


@pytest.mark.parametrize("name", ["dense", "strided", "transposed"])
def test_gradients_of_weight_norm_agree_with_finite_differences(name: str) -> None:
    layer, x = make_layer(name)
    values = (layer.v.detach(), layer.g.detach(), layer.b.detach(), x[:2])

    def call(v: Tensor, g: Tensor, b: Tensor, images: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(layer, {"v": v, "g": g, "b": b}, (images,))
        return output.square().sum()

    assert torch.autograd.gradcheck(call, tuple(value.clone().requires_grad_() for value in values))


@pytest.mark.parametrize("name", ["dense", "conv", "transposed"])
def test_initial_gain_is_the_norm_of_v(name: str) -> None:
    """So a fresh layer is the plain layer with weights v and no bias."""
    generator = torch.Generator().manual_seed(3)
    layers: dict[str, Callable[[], WeightNorm]] = {
        "dense": lambda: Dense(7, 5, "xavier", generator),
        "conv": lambda: Conv(3, 5, 3, "xavier", generator),
        "transposed": lambda: ConvTransposed(3, 5, "xavier", generator),
    }
    layer = layers[name]()
    v = layer.v.detach().to(torch.float64).numpy()
    units = np.moveaxis(v, 1 if name == "transposed" else 0, 0).reshape(5, -1)
    np.testing.assert_allclose(layer.g.detach(), np.linalg.norm(units, axis=1), rtol=1e-6)
    assert not layer.b.detach().any()


@pytest.mark.parametrize("name", SIX)
@pytest.mark.parametrize("deviation", [1.0, 0.1])
def test_calibration_centres_and_scales_every_unit(name: str, deviation: float) -> None:
    layer, x = make_layer(name)
    direction = layer.v.detach().clone()
    answered = layer.calibrate(3 * x + 2, deviation)
    output = layer(3 * x + 2).detach().transpose(0, 1).reshape(5, -1).numpy()
    np.testing.assert_allclose(output.mean(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(output.std(axis=1), deviation, rtol=1e-12)
    assert torch.equal(answered, layer(3 * x + 2))
    assert torch.equal(layer.v, direction)


def test_calibration_survives_a_unit_that_never_changes() -> None:
    layer, _ = make_layer("dense")
    assert layer.calibrate(torch.ones(8, 7, dtype=torch.float64), 1.0).isfinite().all()


def test_xavier_is_glorot_and_bengios_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    bound = np.sqrt(6 / (300 + 200))
    weights = draw_weights((200, 300), 300, 200, "xavier", generator)
    assert weights.abs().max() <= bound
    np.testing.assert_allclose([weights.mean(), weights.std()], [0, bound / np.sqrt(3)], atol=1e-3)


def test_convolutions_count_their_kernel_in_the_fans() -> None:
    generator = torch.Generator().manual_seed(0)
    largest = [
        Conv(20, 30, 3, "xavier", generator).v.abs().max().item(),
        ConvTransposed(20, 30, "xavier", generator).v.abs().max().item(),
    ]
    np.testing.assert_allclose(largest, [np.sqrt(6 / (9 * 50)), np.sqrt(6 / (25 * 50))], rtol=2e-3)


# Batch normalisation.


def reference_batch_norm(x: Array, shift: Array, gain: float | Array = 1.0, eps: float = 1e-6) -> Array:
    """Ioffe and Szegedy 2015, by default with gain 1 and improved-gan's 1e-6, variance over the batch and the map."""
    over = (0, *range(2, x.ndim))
    mean = x.mean(axis=over, keepdims=True)
    variance = np.mean((x - mean) ** 2, axis=over, keepdims=True)
    shift, gain = (np.reshape(values, (1, -1, *[1] * (x.ndim - 2))) for values in (shift, gain))
    return np.asarray(gain * (x - mean) / np.sqrt(variance + eps) + shift)


def make_norm(units: int, kind: type[BatchNorm] = BatchNorm) -> BatchNorm:
    norm = kind(units).to(torch.float64)
    with torch.no_grad():
        norm.shift.copy_(torch.linspace(-1, 1, units))
        if norm.gain is not None:
            norm.gain.copy_(torch.linspace(0.5, 2, units))
    return norm


OverRanks = Callable[[nn.Module, list[Tensor]], list[Tensor]]


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4, 5)])
def test_batch_norm_is_its_formula(shape: tuple[int, ...]) -> None:
    x = 5 + 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm = make_norm(3)
    expected = reference_batch_norm(x.numpy(), norm.shift.detach().numpy())
    np.testing.assert_allclose(norm(x).detach(), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(norm.eval()(x).detach(), expected, rtol=1e-12, atol=1e-12)
    assert [name for name, _ in norm.named_parameters()] == ["shift"]
    assert not list(norm.buffers())


@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4, 5)])
def test_batch_norm_with_a_gain_is_its_formula(shape: tuple[int, ...]) -> None:
    x = 5 + 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    norm = make_norm(3, GainedBatchNorm)
    gain, shift = (norm.get_parameter(name).detach().numpy() for name in ("gain", "shift"))
    np.testing.assert_allclose(norm(x).detach(), reference_batch_norm(x.numpy(), shift, gain, 1e-5), 1e-12, 1e-12)
    assert norm.state_dict().keys() == {"gain", "shift"}
    fresh = GainedBatchNorm(3)
    assert (fresh.get_parameter("gain").tolist(), fresh.shift.tolist()) == ([1.0] * 3, [0.0] * 3)


@pytest.mark.parametrize("kind", [BatchNorm, GainedBatchNorm])
@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4, 5)])
@pytest.mark.parametrize("cuts", [[4, 4], [3, 5], [1, 7], [2, 5, 1], [8]])
def test_ranks_normalise_as_one(
    shape: tuple[int, ...], cuts: list[int], kind: type[BatchNorm], over_ranks: OverRanks
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 5 + 2 * torch.randn(shape, dtype=torch.float64, generator=generator)
    weights = torch.randn(shape, dtype=torch.float64, generator=generator)
    norm = make_norm(3, kind)

    def results(together: Callable[[Tensor], Tensor]) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        output = together(leaf)
        loss = (output.sigmoid() * weights).sum()
        return [output, *torch.autograd.grad(loss, (leaf, *norm.parameters()))]

    whole = results(norm)
    split = results(lambda leaf: torch.cat(over_ranks(norm, list(torch.split(leaf, cuts)))))
    for of_one, of_many in zip(whole, split, strict=True):
        torch.testing.assert_close(of_many, of_one, rtol=1e-12, atol=1e-12)


def test_ranks_count_images_exactly_in_half_precision(over_ranks: OverRanks) -> None:
    """bf16 holds no 257: the sums are taken in the parameters' type, as the one-rank path does."""
    x = torch.randn(514, 2, generator=torch.Generator().manual_seed(0)).add(3).to(torch.bfloat16)
    norm = BatchNorm(2)
    expected = reference_batch_norm(x.to(torch.float64).numpy(), np.zeros(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        split = torch.cat(over_ranks(norm, list(torch.split(x, 257))))
        whole = norm(x)
    assert split.dtype == whole.dtype
    for got in (whole, split):
        np.testing.assert_allclose(got.detach().to(torch.float64), expected, rtol=2**-8, atol=1e-4)


# Virtual batch normalisation.

VIRTUAL = Pass(reference=6)
"""The first 6 rows are the reference."""


def make_virtual() -> VirtualBatchNorm:
    norm = VirtualBatchNorm(3).to(torch.float64)
    norm.load_state_dict(make_norm(3).state_dict())
    return norm


def spread_rows(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return 5 + 2 * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


PLACES = pytest.mark.parametrize("places", [(), (4, 5)])


@PLACES
def test_virtual_batch_norm_is_batch_norm_of_the_reference_and_the_example(places: tuple[int, ...]) -> None:
    """Of n + 1 examples, one after the other; the reference itself is normalised by itself."""
    norm, x = make_virtual(), spread_rows((10, 3, *places))
    shift, reference = norm.shift.detach().numpy(), x[:6].numpy()
    found = norm(x, VIRTUAL).detach()
    np.testing.assert_allclose(found[:6], reference_batch_norm(reference, shift), rtol=1e-12, atol=1e-12)
    for row in range(6, 10):
        together = np.concatenate([reference, x[row : row + 1].numpy()])
        np.testing.assert_allclose(found[row], reference_batch_norm(together, shift)[6], rtol=1e-12, atol=1e-12)
    assert [name for name, _ in norm.named_parameters()] == ["shift"]


@PLACES
def test_an_example_of_no_weight_leaves_batch_norm_of_the_reference(
    places: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_weight(distance: Tensor, variance: Tensor, of_own: Tensor, share: float) -> tuple[Tensor, Tensor]:
        assert share == 1 / 7
        return pool_moments(distance, variance, of_own, 0.0)

    monkeypatch.setattr(layers_module, "pool_moments", without_weight)
    reference = spread_rows((6, 3, *places))
    found = make_virtual()(torch.cat([reference, reference]), VIRTUAL)
    expected = make_norm(3)(reference)
    torch.testing.assert_close(found, torch.cat([expected, expected]), rtol=1e-12, atol=1e-12)


@PLACES
def test_gradients_of_virtual_batch_norm_agree_with_finite_differences(places: tuple[int, ...]) -> None:
    norm = make_virtual()
    x, shift = spread_rows((9, 3, *(2 for _ in places))), norm.shift.detach().clone()

    def call(x: Tensor, shift: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(norm, {"shift": shift}, (x, VIRTUAL))
        return output[6:].pow(3)

    leaves = (x.requires_grad_(), shift.requires_grad_())
    assert torch.autograd.gradcheck(call, leaves)
    (gradient, _) = torch.autograd.grad(call(*leaves).sum(), leaves)
    assert (gradient[:6] != 0).all()  # the reference's too


@PLACES
def test_virtual_batch_norm_is_exact_in_float32_far_from_0(places: tuple[int, ...]) -> None:
    """Mean 50, deviation 3."""
    generator = torch.Generator().manual_seed(0)
    x = 50 + 3 * torch.randn((106, 3, *places), generator=generator)
    norm = VirtualBatchNorm(3)
    exact = norm.to(torch.float64)(x.double(), Pass(reference=100))
    found = norm.to(torch.float32)(x, Pass(reference=100))
    assert (found - exact).abs().max() < 1e-5


@PLACES
def test_moments_are_pooled_without_cancelling(places: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 50 + 3 * torch.randn((150, 3, *places), generator=generator)
    dims, share = list(range(2, x.ndim)), 1 / 101

    def pooled(x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x[:100], dim=[0, *dims], correction=0)
        means = x[100:].mean(dim=dims) if dims else x[100:]
        of_own = x[100:].var(dim=dims, correction=0) if dims else torch.zeros_like(means)
        return pool_moments(means - mean, variance, of_own, share)[1]

    def of_squares(x: Tensor) -> Tensor:
        """E x^2 - (E x)^2 over the 101."""
        first, second = (
            (1 - share) * values[:100].mean(dim=[0, *dims])
            + share * (values[100:].mean(dim=dims) if dims else values[100:])
            for values in (x, x.square())
        )
        return second - first.square()

    exact = pooled(x.double())
    torch.testing.assert_close(of_squares(x.double()), exact, rtol=1e-11, atol=0)
    stable, unstable = (((found(x) - exact) / exact).abs().max().item() for found in (pooled, of_squares))
    assert stable < 1e-6
    assert unstable > 1e-5


@PLACES
def test_without_a_norm_there_is_a_shift(places: tuple[int, ...]) -> None:
    layer, x = Shift(3), torch.randn((4, 3, *places), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        layer.shift.copy_(torch.tensor([1.0, 2.0, 3.0]))
    expected = x + torch.tensor([1.0, 2.0, 3.0]).view(3, *[1] * len(places))
    assert torch.equal(layer(x), expected)


def test_virtual_batch_norm_takes_its_moments_in_full_precision() -> None:
    x = torch.randn(600, 2, generator=torch.Generator().manual_seed(0)).add(3).to(torch.bfloat16)
    norm = VirtualBatchNorm(2)
    found = norm(x, Pass(reference=500))
    assert found.dtype == torch.bfloat16
    exact = norm.to(torch.float64)(x.double(), Pass(reference=500))
    np.testing.assert_allclose(found.detach().double(), exact.detach(), rtol=2**-8, atol=1e-4)


# Minibatch discrimination.


def make_minibatch(inputs: int = 7, kernels: int = 4, size: int = 3) -> MinibatchDiscrimination:
    """In float64, with s and the bias away from their initial values."""
    generator = torch.Generator().manual_seed(0)
    layer = MinibatchDiscrimination(inputs, kernels, size, generator).to(torch.float64)
    with torch.no_grad():
        layer.s.normal_(generator=generator)
        layer.bias.normal_(generator=generator)
    return layer


def rows(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def reference_closeness(layer: MinibatchDiscrimination, x: Tensor, others: Tensor, *, itself: bool) -> Array:
    """The sum of exp(-L1 distance of M) over the others, one pair after the other; `itself`: i is among them."""
    theta, s = layer.theta.detach().numpy(), layer.s.detach().numpy()
    T = (theta * (np.exp(s) / np.linalg.norm(theta, axis=1))[:, None]).T
    kernels = len(layer.bias)
    ours, theirs = ((part.detach().numpy() @ T).reshape(len(part), kernels, -1) for part in (x, others))
    found = np.zeros((len(x), kernels))
    for i, j in np.ndindex(len(x), len(others)):
        if not (itself and i == j):
            found[i] += np.exp(-np.abs(ours[i] - theirs[j]).sum(axis=1))
    return found


def test_minibatch_discrimination_is_its_formula_in_each_part() -> None:
    layer, x = make_minibatch(), rows(15)
    found = (layer(x, Pass(parts=3), 5) - layer.bias).detach()
    expected = [reference_closeness(layer, part, part, itself=True) for part in x.chunk(3)]
    np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-12, atol=1e-12)


def test_a_batch_of_another_size_counts_as_one_of_the_usual_size() -> None:
    layer, x = make_minibatch(), rows(9)
    found = (layer(x, Pass(), 5) - layer.bias).detach()
    expected = reference_closeness(layer, x, x, itself=True) * (4 / 8)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(layer(x[:1], Pass(), 5)[0], layer.bias)  # no others: nothing is near


def test_the_closeness_of_a_collapsed_batch_is_the_largest() -> None:
    layer = make_minibatch()
    with torch.no_grad():
        layer.bias.zero_()
    same = rows(1).expand(6, -1)
    largest = torch.full((6, 4), 5.0, dtype=torch.float64)
    torch.testing.assert_close(layer(same, Pass(), 6), largest, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.against(same, same), largest, rtol=1e-12, atol=1e-12)
    assert (layer(rows(6), Pass(), 6) < 5.0 - 1e-3).all()


def test_permuting_a_part_permutes_its_closeness() -> None:
    layer, x = make_minibatch(), rows(10)
    order = torch.tensor([3, 0, 4, 2, 1, 5, 6, 7, 8, 9])
    torch.testing.assert_close(layer(x[order], Pass(parts=2), 5), layer(x, Pass(parts=2), 5)[order])


def test_other_fakes_leave_the_closeness_of_labelled_images_bit_for_bit() -> None:
    layer, x = make_minibatch(), rows(15)
    other = torch.cat([x[:10], rows(5, seed=2)])
    before, after = layer(x, Pass(parts=3), 5), layer(other, Pass(parts=3), 5)
    assert torch.equal(before[:10], after[:10])
    assert (before[10:] != after[10:]).any(dim=1).all()


def test_gradients_of_minibatch_discrimination_agree_with_finite_differences() -> None:
    layer = make_minibatch()
    values = (layer.theta.detach(), layer.s.detach(), layer.bias.detach(), rows(8))

    def call(theta: Tensor, s: Tensor, bias: Tensor, x: Tensor) -> Tensor:
        weights = {"theta": theta, "s": s, "bias": bias}
        output: Tensor = torch.func.functional_call(layer, weights, (x, Pass(parts=2), 4))
        return output.square()

    assert torch.autograd.gradcheck(call, tuple(value.clone().requires_grad_() for value in values))


def test_rows_that_were_gathered_have_the_gradients_of_rows_that_were_there() -> None:
    """A rank takes its rows' distances to everyone's, and needs the gradient for both."""
    layer, weights = make_minibatch(), torch.linspace(-1, 1, 40, dtype=torch.float64).view(10, 4)

    def results(seen: Pass) -> list[Tensor]:
        x = rows(10).requires_grad_()
        output = layer(x, seen, 5)
        return [output, *torch.autograd.grad((output * weights).sum(), (x, *layer.parameters()))]

    for here, gathered in zip(
        results(Pass(parts=2)), results(Pass(parts=2, gather=lambda own: own * 1.0)), strict=True
    ):
        torch.testing.assert_close(gathered, here, rtol=1e-12, atol=1e-12)


def test_against_a_reference_an_image_is_alone() -> None:
    layer, x, others = make_minibatch(), rows(6), rows(5, seed=2)
    found = layer.against(x, others)
    expected = reference_closeness(layer, x, others, itself=False) * (4 / 5)
    np.testing.assert_allclose((found - layer.bias).detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.against(x[2:3], others), found[2:3], rtol=1e-12, atol=1e-12)


def test_calibration_puts_the_nearest_at_2_and_centres_the_closeness() -> None:
    """improved-gan's: half the mean distance to the nearest of the batch is 1."""
    layer, x = make_minibatch(), 30 * rows(40)
    answered = layer.calibrate(x, 10)
    with torch.no_grad():
        M = layer._projected(x).view(40, 4, 3)
        distances = (M.unsqueeze(1) - M.unsqueeze(0)).abs().sum(dim=3) + 1e6 * torch.eye(40).unsqueeze(2)
        torch.testing.assert_close(distances.amin(dim=1).mean(dim=0), torch.full((4,), 2.0, dtype=torch.float64))
        found = layer(x, Pass(), 10)
    np.testing.assert_allclose(found.mean(dim=0), 0, atol=1e-12)
    torch.testing.assert_close(answered, found)
    assert found.std() > 0.01


@pytest.mark.parametrize("x", [torch.ones(8, 7, dtype=torch.float64), rows(1)])
def test_calibration_survives_images_that_are_all_alike(x: Tensor) -> None:
    layer = make_minibatch()
    assert layer.calibrate(x, 5).isfinite().all()
    assert all(parameter.isfinite().all() for parameter in layer.parameters())


def test_closeness_keeps_its_precision_under_autocast() -> None:
    layer = MinibatchDiscrimination(7, 4, 3, torch.Generator().manual_seed(0))
    x = 50 + rows(6).float()
    exact = layer(x, Pass(), 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(layer(x, Pass(), 6), exact)


# The discriminator's batch normalisation.


def make_discriminator_norm() -> DiscriminatorBatchNorm:
    norm = DiscriminatorBatchNorm(3).to(torch.float64)
    with torch.no_grad():
        norm.gain.copy_(torch.linspace(0.5, 2, 3))
        norm.shift.copy_(torch.linspace(-1, 1, 3))
    return norm


def training(batch: int, parts: int = 1, all_sum: AllSum | None = None) -> Pass:
    return Pass(Draws(torch.Generator().manual_seed(0), batch), parts, all_sum)


def maps(batch: int, seed: int = 0, shape: tuple[int, ...] = (3, 4, 5)) -> Tensor:
    return 5 + 2 * torch.randn(batch, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_each_part_is_normalised_as_torch_does(parts: int) -> None:
    norm = make_discriminator_norm()
    x = torch.cat([(1 + part) * maps(8, part) for part in range(parts)])
    wanted = [
        F.batch_norm(part, None, None, norm.gain, norm.shift, training=True, eps=1e-5) for part in torch.split(x, 8)
    ]
    torch.testing.assert_close(norm(x, training(8 * parts, parts)), torch.cat(wanted), rtol=1e-12, atol=1e-12)


def test_evaluation_is_torch_s_with_the_settled_statistics() -> None:
    norm, x, y = make_discriminator_norm(), maps(8), maps(5, seed=1)
    torch.testing.assert_close(norm.settle(x), norm(x, training(8)), rtol=1e-12, atol=1e-12)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    wanted = F.batch_norm(y, mean, variance, norm.gain, norm.shift, eps=1e-5)
    torch.testing.assert_close(norm(y), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("cuts", [[4, 4], [3, 5], [1, 7], [2, 5, 1]])
def test_ranks_normalise_parts_as_one(parts: int, cuts: list[int], over_ranks: OverRanks) -> None:
    """In values and gradients, with two sums over ranks."""
    norm = make_discriminator_norm()
    batches = torch.stack([(1 + part) * maps(8, part) for part in range(parts)])
    weights = torch.randn(batches.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    asked = []

    class AsTraining(nn.Module):
        def forward(self, x: Tensor, seen: Pass) -> Tensor:
            def counted(part: Tensor) -> Tensor:
                asked.append(part.shape)
                assert seen.all_sum is not None
                return seen.all_sum(part)

            output: Tensor = norm(x, training(len(x), parts, counted))
            return output

    def results(together: Callable[[Tensor], Tensor]) -> list[Tensor]:
        leaf = batches.clone().requires_grad_()
        output = together(leaf)
        return [output, *torch.autograd.grad((output.sigmoid() * weights).sum(), (leaf, norm.gain, norm.shift))]

    def of_ranks(leaf: Tensor) -> Tensor:
        own = [shard.flatten(0, 1) for shard in torch.split(leaf, cuts, dim=1)]
        shards = over_ranks(AsTraining(), own)
        return torch.cat([shard.unflatten(0, (parts, -1)) for shard in shards], dim=1)  # type: ignore[no-untyped-call]

    whole = results(lambda leaf: norm(leaf.flatten(0, 1), training(8 * parts, parts)).view_as(leaf))
    for of_one, of_many in zip(whole, results(of_ranks), strict=True):
        torch.testing.assert_close(of_many, of_one, rtol=1e-11, atol=1e-12)
    assert set(asked) == {(3 * parts + 1,), (parts, 3)}


def test_batch_norm_in_half_precision_has_statistics_in_full(over_ranks: OverRanks) -> None:
    x = torch.randn(514, 2, generator=torch.Generator().manual_seed(0)).add(3).to(torch.bfloat16)
    norm = DiscriminatorBatchNorm(2)

    class AsTraining(nn.Module):
        def forward(self, x: Tensor, seen: Pass) -> Tensor:
            output: Tensor = norm(x, training(len(x), all_sum=seen.all_sum))
            return output

    with torch.autocast("cpu", dtype=torch.bfloat16):
        split = torch.cat(over_ranks(AsTraining(), list(torch.split(x, 257))))
        whole, settled = norm(x, training(514)), norm.settle(x)
    assert split.dtype == whole.dtype == settled.dtype == torch.bfloat16
    wide = x.to(torch.float64)
    expected = (wide - wide.mean(dim=0)) / (wide.var(dim=0, correction=0) + 1e-5).sqrt()
    for got in (whole, split, settled):
        np.testing.assert_allclose(got.detach().to(torch.float64), expected, rtol=2**-7, atol=1e-4)
    np.testing.assert_allclose(norm.mean, wide.mean(dim=0), rtol=1e-6)


# Noise, dropout, whitening.


def test_noise_has_the_deviation_asked_for_and_none_in_evaluation() -> None:
    x = torch.full((100, 400), 2.0)
    noisy = add_noise(x, 0.3, iter(Draws(torch.Generator().manual_seed(0), 100).normals([400])))
    np.testing.assert_allclose([noisy.mean(), noisy.std()], [2, 0.3], atol=0.005)
    assert torch.equal(add_noise(x, 0.3, None), x)


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_keeps_the_expectation_and_none_drops_in_evaluation(rate: float) -> None:
    x = torch.full((100, 400), 2.0)
    dropped = drop_out(x, rate, Draws(torch.Generator().manual_seed(0), 100))
    np.testing.assert_allclose(np.unique(dropped.numpy()), [0.0, 2 / (1 - rate)], rtol=1e-6)
    np.testing.assert_allclose([(dropped == 0).float().mean(), dropped.mean()], [rate, 2], atol=0.03)
    assert torch.equal(drop_out(x, rate, None), x)


def test_whitening_is_a_fixed_linear_map_of_the_centred_image() -> None:
    generator = torch.Generator().manual_seed(0)
    images, mean, matrix = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(5, 3, 2, 2), (12,), (12, 12)]
    )
    whitening = Whitening(mean, matrix)
    expected = np.stack([(image.numpy().reshape(-1) - mean.numpy()) @ matrix.numpy() for image in images])
    np.testing.assert_allclose(whitening(images), expected.reshape(5, 3, 2, 2), rtol=1e-12, atol=1e-12)
    assert not list(whitening.parameters())
    assert set(whitening.state_dict()) == {"mean", "matrix"}


def test_the_reference_convolution_is_torchs() -> None:
    """Guards the guard: three sizes, two strides."""
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w = torch.randn(4, 3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for stride, padding in [(1, 0), (1, 1), (2, 1)]:
        expected = F.conv2d(x, w, stride=stride, padding=padding)
        np.testing.assert_allclose(reference_conv(x.numpy(), w.numpy(), stride, padding), expected, atol=1e-12)


def test_whitening_keeps_its_precision_under_autocast() -> None:
    """Its entries are large and cancel, as those of natural images: in bf16 a fifth of the result would be noise."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(400, 64, generator=generator)
    images = steps.cumsum(dim=1) / 8
    whitening = Whitening(*fit_zca(images))
    exact = whitening(images.view(-1, 1, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(whitening(images.view(-1, 1, 8, 8)), exact)
