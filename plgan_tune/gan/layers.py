"""Layers: weight norm with its two initialisations, layers that look at a batch over all ranks, noise, whitening."""

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from plgan_tune.config.trial import GeneratorNorm, Spread
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.passes import EVALUATION, AllSum, Pass


class WeightNorm(nn.Module):
    """y = g v·x / |v| + b (Salimans and Kingma 2016), with one g and b per output unit.

    The unit's scale g / |v| multiplies the output instead of the weights: the same result, and cheaper, because an
    output has fewer elements than a weight matrix.

    Args:
        v: direction weights; the norm is over every dimension but `unit_dim`.
        unit_dim: the dimension of `v` that counts output units.
    """

    def __init__(self, v: Tensor, unit_dim: int) -> None:
        super().__init__()
        self.v = nn.Parameter(v)
        self._dims = [dim for dim in range(v.ndim) if dim != unit_dim]
        self.g = nn.Parameter(torch.linalg.vector_norm(v, dim=self._dims))
        self.b = nn.Parameter(torch.zeros_like(self.g))

    def project(self, x: Tensor) -> Tensor:
        """Return v·x without scale and bias; units in dimension 1."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return y, units in dimension 1."""
        scale = self.g / torch.linalg.vector_norm(self.v, dim=self._dims)
        return torch.addcmul(_per_unit(self.b, x), self.project(x), _per_unit(scale, x))

    @torch.no_grad()
    def calibrate(self, x: Tensor, deviation: float) -> Tensor:
        """Set g and b so that the output over this batch has mean 0 and `deviation`; return that output."""
        raw = self.project(x) / _per_unit(torch.linalg.vector_norm(self.v, dim=self._dims), x)
        over = [dim for dim in range(raw.ndim) if dim != 1]
        spread = raw.std(dim=over, correction=0).clamp_min(1e-6)
        self.g.copy_(deviation / spread)
        self.b.copy_(-raw.mean(dim=over) * self.g)
        return self(x)  # type: ignore[no-any-return]


def _per_unit(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def _per_place(values: Tensor, x: Tensor) -> Tensor:
    return values.view(*values.shape, *[1] * (x.ndim - 2))


class Dense(WeightNorm):
    """(B, inputs) -> (B, units)."""

    def __init__(self, inputs: int, units: int, spread: Spread, rng: torch.Generator) -> None:
        super().__init__(draw_weights((units, inputs), inputs, units, spread, rng), unit_dim=0)

    def project(self, x: Tensor) -> Tensor:
        """Return v·x, shape (B, units)."""
        return F.linear(x, self.v)

    def forward(self, x: Tensor) -> Tensor:
        """Return y, shape (B, units)."""
        y: Tensor = _NormedLinear.apply(x, self.v, self.g, self.b)
        return y


class _NormedLinear(torch.autograd.Function):
    """y = g v·x / |v| + b as one operation: with autograd, |v| alone costs six more passes over the weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, v: Tensor, g: Tensor, b: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(v, dim=1)
        raw = F.linear(x, v)
        scale = g / size
        ctx.save_for_backward(x, v, g, size, scale, raw)
        return torch.addcmul(b, raw, scale)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        x, v, g, size, scale, raw = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is differentiated in turn: what was saved has no graph
            size, raw = torch.linalg.vector_norm(v, dim=1), F.linear(x, v)
            scale = g / size
        scaled = dy * scale
        dx = scaled @ v if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return dx, None, None, None
        dg = (dy * raw).sum(dim=0) / size
        dv = (scaled.T @ x.to(dy.dtype)).addcmul_(v, (-dg * scale / size).unsqueeze(1))
        return dx, dv, dg, dy.sum(dim=0)


class Conv(WeightNorm):
    """(B, inputs, H, W) -> (B, units, H', W')."""

    def __init__(
        self,
        inputs: int,
        units: int,
        kernel: int,
        spread: Spread,
        rng: torch.Generator,
        *,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        area = kernel * kernel
        v = draw_weights((units, inputs, kernel, kernel), inputs * area, units * area, spread, rng)
        super().__init__(v, unit_dim=0)
        self._stride = stride
        self._padding = padding

    def project(self, x: Tensor) -> Tensor:
        """Return the convolution without scale and bias, shape (B, units, H', W')."""
        return F.conv2d(x, self.v, stride=self._stride, padding=self._padding)


class ConvTransposed(WeightNorm):
    """5x5 transposed convolution of stride 2: (B, inputs, H, W) -> (B, units, 2H, 2W)."""

    def __init__(self, inputs: int, units: int, spread: Spread, rng: torch.Generator) -> None:
        super().__init__(draw_weights((inputs, units, 5, 5), inputs * 25, units * 25, spread, rng), unit_dim=1)

    def project(self, x: Tensor) -> Tensor:
        """Return the convolution without scale and bias, shape (B, units, 2H, 2W)."""
        return double(x, self.v)


def draw_weights(shape: tuple[int, ...], fan_in: int, fan_out: int, spread: Spread, rng: torch.Generator) -> Tensor:
    """Draw initial weights on the CPU in float32, whatever the device and precision of the training."""
    weights = torch.empty(shape, dtype=torch.float32)
    if isinstance(spread, float):
        return weights.normal_(0.0, spread, generator=rng)
    bound = ((12.0 if spread == "he" else 6.0) / (fan_in + fan_out)) ** 0.5
    return weights.uniform_(-bound, bound, generator=rng)


def double(x: Tensor, weight: Tensor) -> Tensor:
    """Apply a 5x5 transposed convolution of stride 2; the output is exactly twice as high and wide."""
    return F.conv_transpose2d(x, weight, stride=2, padding=2, output_padding=1)


class BatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-6) + shift, without gain, always with the batch's own statistics.

    There are no running statistics: the generator samples as it trains. With several ranks the statistics are those of
    the global batch.
    """

    gain: nn.Parameter | None
    EPS = 1e-6  # improved-gan's

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gain = None
        self.shift = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor, seen: Pass = EVALUATION) -> Tensor:
        """Normalise x (B, units, ...) as one batch."""
        all_sum = seen.all_sum
        if all_sum is None:
            return F.batch_norm(x, None, None, self.gain, self.shift, training=True, eps=self.EPS)
        over = [dim for dim in range(x.ndim) if dim != 1]
        wide = x.to(self.shift.dtype)  # bf16 has no 257; F.batch_norm also takes its statistics in full precision
        sums = all_sum(torch.cat([wide.sum(over), wide.new_full((1,), float(x.numel() // x.shape[1]))]))
        count = sums[-1]
        centred = wide - _per_unit(sums[:-1] / count, x)
        variance = all_sum(centred.square().sum(over)) / count
        scale = torch.rsqrt(variance + self.EPS)
        if self.gain is not None:
            scale = self.gain * scale
        normed = centred * _per_unit(scale, x) + _per_unit(self.shift, x)
        return normed.to(x.dtype)


class GainedBatchNorm(BatchNorm):
    """gain (x - mean) / sqrt(variance + 1e-5) + shift (Ioffe and Szegedy 2015), of the batch as `BatchNorm` has it."""

    EPS = 1e-5  # igul222/improved_wgan_training's

    def __init__(self, units: int) -> None:
        super().__init__(units)
        self.gain = nn.Parameter(torch.ones(units))


class DiscriminatorBatchNorm(nn.Module):
    """gain (x - mean) / sqrt(variance + 1e-5) + shift (Ioffe and Szegedy 2015).

    In training each part of a pass has the statistics of its own global batch. In evaluation they are fixed by
    `settle`, so that an image's result depends on no other image.
    """

    mean: Tensor
    variance: Tensor
    EPS = 1e-5  # LDOUBLEV/semi-supervised-GAN's

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(units))
        self.shift = nn.Parameter(torch.zeros(units))
        self.register_buffer("mean", torch.zeros(units))
        self.register_buffer("variance", torch.ones(units))

    def forward(self, x: Tensor, seen: Pass = EVALUATION) -> Tensor:
        """Normalise x (parts * B, units, ...)."""
        if seen.draws is None:
            return F.batch_norm(x, self.mean, self.variance, self.gain, self.shift, training=False, eps=self.EPS)
        if seen.all_sum is not None:
            return self._over_ranks(x, seen.parts, seen.all_sum)
        parts = [
            F.batch_norm(part, None, None, self.gain, self.shift, training=True, eps=self.EPS)
            for part in x.chunk(seen.parts)
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @torch.no_grad()
    def settle(self, x: Tensor) -> Tensor:
        """Take the statistics of x as those of evaluation; return x normalised by them."""
        over = [dim for dim in range(x.ndim) if dim != 1]
        variance, mean = torch.var_mean(x.to(self.mean.dtype), over, correction=0)
        self.mean.copy_(mean)
        self.variance.copy_(variance)
        return self(x)  # type: ignore[no-any-return]

    def _over_ranks(self, x: Tensor, parts: int, all_sum: AllSum) -> Tensor:
        """Normalise this rank's rows of each part: two sums over ranks, with all parts in each."""
        # bf16 has no 257, see BatchNorm.
        wide = x.to(self.shift.dtype).unflatten(0, (parts, -1))  # type: ignore[no-untyped-call]
        over = [dim for dim in range(wide.ndim) if dim not in (0, 2)]
        own = wide.numel() // (parts * wide.shape[2])
        sums = all_sum(torch.cat([wide.sum(over).flatten(), wide.new_full((1,), float(own))]))
        count = sums[-1]

        def for_each(statistic: Tensor) -> Tensor:
            return statistic.view(parts, 1, -1, *[1] * (x.ndim - 2))

        centred = wide - for_each(sums[:-1] / count)
        variance = all_sum(centred.square().sum(over)) / count
        normed = (centred * for_each(torch.rsqrt(variance + self.EPS))).flatten(0, 1)
        return torch.addcmul(_per_unit(self.shift, x), normed, _per_unit(self.gain, x)).to(x.dtype)


class NoNorm(nn.Module):
    """Stands where another network has a normalisation, and changes nothing."""

    def forward(self, x: Tensor, seen: Pass = EVALUATION) -> Tensor:  # noqa: ARG002
        """Return x."""
        return x

    def settle(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


class VirtualBatchNorm(nn.Module):
    """(x - mean) / sqrt(variance + 1e-6) + shift, by a reference batch and x alone (Salimans et al. 2016, section 3.5).

    The reference comes first in the pass and is normalised as by `BatchNorm`. Each other example is normalised by the
    n + 1 examples that it and the reference make, so it depends on no other, and needs no sum over ranks. Gradients
    reach the reference too.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor, seen: Pass) -> Tensor:
        """Normalise x (n + B, units, ...), of which the first n = `seen.reference` are the reference."""
        n, places = seen.reference, list(range(2, x.ndim))
        wide = x.to(self.shift.dtype)
        reference, own = torch.split(wide, [n, wide.shape[0] - n])
        variance, mean = torch.var_mean(reference, dim=[0, *places], correction=0)
        if places:
            of_own, mean_of_own = torch.var_mean(own, dim=places, correction=0)
        else:
            of_own, mean_of_own = torch.zeros_like(own), own
        moved, pooled = pool_moments(mean_of_own - mean, variance, of_own, 1 / (n + 1))
        # One row of numbers an example; the reference has its own moments.
        means = torch.cat([mean.expand(n, -1), mean + moved])
        scales = torch.rsqrt(torch.cat([variance.expand(n, -1), pooled]) + BatchNorm.EPS)
        normed = torch.addcmul(_per_unit(self.shift, x), wide - _per_place(means, x), _per_place(scales, x))
        return normed.to(x.dtype)


def pool_moments(distance: Tensor, variance: Tensor, of_own: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return how far an example moves the reference's mean, and the variance of both together.

    Variances about each one's own mean only add up; in E x^2 - (E x)^2, float32 would cancel.

    Args:
        distance: the example's mean less the reference's, (B, units).
        variance: of the reference, (units,).
        of_own: variance of the example over its places, (B, units).
        share: the example's weight, 1 / (n + 1) beside n others.
    """
    return share * distance, (1 - share) * variance + share * of_own + share * (1 - share) * distance.square()


class Shift(nn.Module):
    """x + shift: what is left of a normalisation that is left out."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(units))

    def forward(self, x: Tensor, seen: Pass = EVALUATION) -> Tensor:  # noqa: ARG002
        """Shift x (B, units, ...)."""
        return x + _per_unit(self.shift, x)


GENERATOR_NORMS: Final[Mapping[GeneratorNorm, Callable[[int], nn.Module]]] = {
    "batch": BatchNorm,
    "virtual": VirtualBatchNorm,
    "none": Shift,
}
"""Normalisation of G's hidden layers by its name: made for a number of units, called with x and the pass."""


class MinibatchDiscrimination(nn.Module):
    """How close an image lies to the others of its batch, by several measures (Salimans et al. 2016, section 3.2).

    o_k(i) = sum over j != i of exp(-|M_k(i) - M_k(j)|_1) + bias_k, where M(i) = x_i T has `kernels` rows of `size`
    numbers. A batch of one image repeated has the largest o. Each column of T is theta exp(s) / |theta|, as in
    improved-gan, and theta is drawn from N(0, 0.05).

    Args:
        inputs: numbers of an image, x.
        kernels: the number of measures.
        size: numbers that each compares.
        rng: draws theta.
    """

    def __init__(self, inputs: int, kernels: int, size: int, rng: torch.Generator) -> None:
        super().__init__()
        units = kernels * size
        self.theta = nn.Parameter(draw_weights((units, inputs), inputs, units, 0.05, rng))
        self.s = nn.Parameter(torch.zeros(units))
        self.bias = nn.Parameter(torch.zeros(kernels))
        self._kernels = kernels

    def forward(self, x: Tensor, seen: Pass, batch: int) -> Tensor:
        """Return o of each image among those of its part, (rows, inputs) -> (rows, kernels).

        Args:
            x: this rank's rows of all parts.
            seen: the pass.
            batch: the images of a training batch. A part of another size is counted as if it had as many.
        """
        M = self._projected(x).view(seen.parts, -1, len(self.s))
        own, rows = self._by_kernel(M), M.shape[1]
        near: Tensor
        if seen.gather is None:
            near = _Closeness.apply(torch.cdist(own, own.detach(), p=1))
        else:
            everyone = self._by_kernel(seen.gather(M))
            rows = everyone.shape[2]
            near = torch.cdist(own, everyone, p=1).neg().exp().sum(dim=3)
        others: Tensor = near - 1.0  # without the image itself, at distance 0
        return others.transpose(1, 2).flatten(0, 1) * _share(batch, rows) + self.bias

    def against(self, x: Tensor, others: Tensor) -> Tensor:
        """Return o of each image among `others` in place of its batch: (rows, inputs), (b, inputs) -> (rows, kernels).

        It counts as if one of them were itself, so that o is as large as in training.
        """
        size = len(self.s) // self._kernels
        ours, theirs = (self._projected(images).view(-1, self._kernels, size) for images in (x, others))
        # One of the `size` numbers after the other: ONNX has no cdist.
        pairs = zip(ours.unbind(dim=2), theirs.permute(2, 1, 0), strict=True)
        distances: Tensor = reduce(add, ((one.unsqueeze(2) - other).abs() for one, other in pairs))
        count = others.shape[0]
        return distances.neg().exp().sum(dim=2) * ((count - 1) / count) + self.bias

    @torch.no_grad()
    def calibrate(self, x: Tensor, batch: int) -> Tensor:
        """Set s and the bias from a batch: half the mean distance to the nearest image 1, mean of o 0; return o.

        Args:
            x: the batch, (n, inputs).
            batch: as in `forward`.
        """
        rows = self._by_kernel(self._projected(x).unsqueeze(0))[0]
        distances = torch.cdist(rows, rows, p=1)
        distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        half = distances.amin(dim=2).mean(dim=1).div(2).clamp(1e-6, 1e6)
        self.s.sub_(half.log().repeat_interleave(len(self.s) // self._kernels))
        near: Tensor = distances.div_(-half.view(-1, 1, 1)).exp_().sum(dim=2).T * _share(batch, len(x))
        self.bias.copy_(-near.mean(dim=0))
        return near + self.bias

    def _projected(self, x: Tensor) -> Tensor:
        """Return M, (rows, kernels * size)."""
        # Differences of close numbers follow, for which bf16 is too coarse.
        with torch.autocast(x.device.type, enabled=False):
            scale: Tensor = self.s.exp() / torch.linalg.vector_norm(self.theta, dim=1)
            return F.linear(x.to(self.theta.dtype), self.theta) * scale

    def _by_kernel(self, M: Tensor) -> Tensor:
        """(parts, rows, kernels * size) -> (parts, kernels, rows, size)."""
        rows: Tensor = M.view(*M.shape[:2], self._kernels, -1)
        return rows.transpose(1, 2).contiguous()


class _Closeness(torch.autograd.Function):
    """sum over j of exp(-d(i, j)), with all of the gradient for i, if d is the distance of i to a constant j.

    The distance is also that of j to i. So i moves the i-th sum by d(i, j), and the j-th by d(j, i): added up here,
    they take half as long as gradients for both sides of the distance.
    """

    @staticmethod
    def forward(ctx: Any, distances: Tensor) -> Tensor:
        near = distances.neg().exp_()
        ctx.save_for_backward(near)
        return near.sum(dim=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (near,) = ctx.saved_tensors
        less = -gradient
        return (less.unsqueeze(-1) + less.unsqueeze(-2)).mul_(near)


def _share(batch: int, rows: int) -> float:
    """Return how many others an image of a batch has for each that it has among `rows`."""
    return (batch - 1) / max(rows - 1, 1)


class Whitening(nn.Module):
    """A fixed ZCA map, D's first operation for real and generated images alike."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    def forward(self, images: Tensor) -> Tensor:
        """Return whitened images of the same shape."""
        # The matrix's entries are large and cancel: bf16 would add noise of a fifth of the image.
        with torch.autocast(images.device.type, enabled=False):
            return ((images.to(self.matrix.dtype).flatten(1) - self.mean) @ self.matrix).view_as(images)


def add_noise(x: Tensor, deviation: float, noise: Iterator[Tensor] | None) -> Tensor:
    """Add `deviation` times the next of `noise`, N(0, 1) of x's shape; in evaluation (noise None) return x."""
    if noise is None or deviation == 0:
        return x
    return torch.add(x, next(noise), alpha=deviation)


def drop_out(x: Tensor, rate: float, draws: Draws | None) -> Tensor:
    """Apply inverted dropout in training; return x in evaluation (draws None)."""
    if draws is None or rate == 0:
        return x
    return x * (draws.keep(x.shape[1:], 1 - rate) / (1 - rate))
