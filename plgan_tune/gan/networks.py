"""The two pairs of networks: MLP (patent table 4) and convolutional (patent table 5), with improved-gan's variants.

A discriminator maps images and Draws (None in evaluation) to logits and features; a generator maps latent vectors to
images. Images are (B, channels, size, size), in [0, 1] for the MLP pair (sigmoid output) and in [-1, 1] for the
convolutional pair (tanh output).
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.errors import RuleError
from plgan_tune.config.trial import CONV_FEATURES, Kind, ModelSpec, Spread
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.layers import (
    AllSum,
    BatchNorm,
    Conv,
    ConvTransposed,
    Dense,
    WeightNorm,
    Whitening,
    add_noise,
    double,
    draw_weights,
    drop_out,
)

SMALLEST_CONV = 16
LARGEST_ZCA = 48
"""Height and width above which the covariance (6,912 squared for colour) costs more than it gains."""


class DiscriminatorOutput(NamedTuple):
    """D's output for a batch: logits (B, classes), features (B, F) of the chosen hidden layer, before its noise."""

    logits: Tensor
    features: Tensor


class ImageShape(NamedTuple):
    """The shape of a square image."""

    channels: int
    size: int

    @property
    def pixels(self) -> int:
        """Number of values of an image, over all channels."""
        return self.channels * self.size**2


Apply = Callable[[WeightNorm, Tensor, float], Tensor]
"""How a pass uses a layer: call it, or calibrate it to the given deviation first."""


def _call(layer: WeightNorm, x: Tensor, deviation: float) -> Tensor:  # noqa: ARG001
    return layer(x)  # type: ignore[no-any-return]


def _calibrate(layer: WeightNorm, x: Tensor, deviation: float) -> Tensor:
    return layer.calibrate(x, deviation)


class Discriminator(nn.Module):
    """Base of both families: calling, calibrating, and which gains are trained."""

    out: Dense
    whitening: Whitening | None

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.whitening = None
        self._slope = 0.2 if activation == "leaky_relu" else 0.0

    def forward(self, images: Tensor, draws: Draws | None = None) -> DiscriminatorOutput:
        """Classify images; `draws` supplies noise and dropout in training, None leaves both out."""
        return self._judge(self._whiten(images), draws, _call)

    @torch.no_grad()
    def calibrate(self, images: Tensor, draws: Draws) -> None:
        """Initialise from data: every pre-activation gets mean 0 and deviation 1 (conv output: 0.1)."""
        self._judge(self._whiten(images), draws, _calibrate)

    def freeze_hidden_gains(self) -> None:
        """Exclude g of every layer but the output from training."""
        for module in self.modules():
            if isinstance(module, WeightNorm) and module is not self.out:
                module.g.requires_grad_(False)

    def _whiten(self, images: Tensor) -> Tensor:
        return images if self.whitening is None else self.whitening(images)

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self._slope) if self._slope else F.relu(x)

    def _judge(self, images: Tensor, draws: Draws | None, apply: Apply) -> DiscriminatorOutput:
        raise NotImplementedError


class MlpDiscriminator(Discriminator):
    """Noise - [Dense - activation - noise] x hidden - Dense classes."""

    def __init__(self, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model.activation)
        spread = model.initial_spread
        units = [image.pixels, *(scaled(width, model.width) for width in model.hidden or ())]
        self.hidden = nn.ModuleList(Dense(inputs, outputs, spread, rng) for inputs, outputs in pairwise(units))
        self.out = Dense(units[-1], classes, spread, rng)
        self._noisy = (units[:1] if model.noise_input else []) + (units[1:] if model.noise_hidden else [])
        self._noise_input = model.noise_input
        self._noise_hidden = model.noise_hidden
        self._feature = model.feature_layer % len(self.hidden)

    def _judge(self, images: Tensor, draws: Draws | None, apply: Apply) -> DiscriminatorOutput:
        noise = None if draws is None else iter(draws.normals(self._noisy))
        x = add_noise(images.flatten(1), self._noise_input, noise)
        features = x
        for index, layer in enumerate(self.hidden):
            assert isinstance(layer, Dense)
            x = self._activate(apply(layer, x, 1.0))
            if index == self._feature:
                features = x
            x = add_noise(x, self._noise_hidden, noise)
        return DiscriminatorOutput(apply(self.out, x, 1.0), features)


class ConvDiscriminator(Discriminator):
    """Dropout - 3 conv 96 - dropout - 3 conv 192 - dropout - conv 192, two 1x1 - global pool - Dense classes."""

    def __init__(self, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model.activation)
        spread = model.initial_spread
        assert model.dropout is not None
        self._dropout = model.dropout
        narrow, wide = scaled(96, model.width), scaled(192, model.width)

        def conv(inputs: int, units: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> Conv:
            return Conv(inputs, units, kernel, spread, rng, stride=stride, padding=padding)

        self.hidden = nn.ModuleList(
            [
                conv(image.channels, narrow),
                conv(narrow, narrow),
                conv(narrow, narrow, stride=2),
                conv(narrow, wide),
                conv(wide, wide),
                conv(wide, wide, stride=2),
                conv(wide, wide, padding=0),
                conv(wide, wide, kernel=1, padding=0),
                conv(wide, wide, kernel=1, padding=0),
            ]
        )
        self.out = Dense(wide, classes, spread, rng)
        self._feature = model.feature_layer % CONV_FEATURES

    def _judge(self, images: Tensor, draws: Draws | None, apply: Apply) -> DiscriminatorOutput:
        x = images
        features = x
        for index, layer in enumerate(self.hidden):
            assert isinstance(layer, Conv)
            if index % 3 == 0:
                x = drop_out(x, self._dropout[index // 3], draws)
            x = self._activate(apply(layer, x, 1.0))
            if index == self._feature:
                features = x
        pooled = x.mean(dim=(2, 3))
        if self._feature == CONV_FEATURES - 1:
            features = pooled
        return DiscriminatorOutput(apply(self.out, pooled, 0.1), features.flatten(1))


class Generator(nn.Module):
    """Base of both families: latent vectors in, images out, statistics over all ranks."""

    out: WeightNorm | nn.Linear

    def forward(self, latent: Tensor, all_sum: AllSum | None = None) -> Tensor:
        """Generate images: (B, latent_size) -> (B, channels, size, size)."""
        return self._generate(latent, all_sum, _call)

    @torch.no_grad()
    def calibrate(self, latent: Tensor) -> None:
        """Initialise the output layer from data if it has weight norm."""
        self._generate(latent, None, _calibrate)

    @torch.no_grad()
    def start_at_scale_one(self) -> None:
        """Initialise the output layer as improved-gan does, without data, if it has weight norm."""
        if isinstance(self.out, WeightNorm):
            self.out.g.fill_(1.0)

    def _generate(self, latent: Tensor, all_sum: AllSum | None, apply: Apply) -> Tensor:
        raise NotImplementedError


class MlpGenerator(Generator):
    """2 x [Dense 500, no bias - BatchNorm, no gain - softplus] - Dense pixels - sigmoid."""

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        spread = model.generator_initial_spread
        units = [model.latent_size, scaled(500, model.width), scaled(500, model.width)]
        self.dense = nn.ModuleList(_linear(inputs, outputs, spread, rng) for inputs, outputs in pairwise(units))
        self.norm = nn.ModuleList(BatchNorm(outputs) for outputs in units[1:])
        if model.generator_weight_norm:
            self.out = Dense(units[-1], image.pixels, spread, rng)
        else:
            self.out = _linear(units[-1], image.pixels, spread, rng, bias=True)
        self._image = image

    def _generate(self, latent: Tensor, all_sum: AllSum | None, apply: Apply) -> Tensor:
        x = latent
        for dense, norm in zip(self.dense, self.norm, strict=True):
            x = F.softplus(norm(dense(x), all_sum))
        pixels = apply(self.out, x, 1.0) if isinstance(self.out, WeightNorm) else self.out(x)
        return torch.sigmoid(pixels).view(-1, self._image.channels, self._image.size, self._image.size)


class ConvGenerator(Generator):
    """Dense - BN - ReLU - 512 maps of ceil(size / 8) - transposed 5x5: 256, 128 (BN, ReLU), channels (tanh) - crop."""

    out: ConvTransposed

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        spread = model.generator_initial_spread
        self._maps = scaled(512, model.width)
        self._start = math.ceil(image.size / 8)
        self._image = image
        units = [self._maps, scaled(256, model.width), scaled(128, model.width)]
        self.dense = _linear(model.latent_size, self._maps * self._start**2, spread, rng)
        self.dense_norm = BatchNorm(self._maps * self._start**2)
        self.weights = nn.ParameterList(
            draw_weights((inputs, outputs, 5, 5), inputs * 25, outputs * 25, spread, rng)
            for inputs, outputs in pairwise(units)
        )
        self.norm = nn.ModuleList(BatchNorm(outputs) for outputs in units[1:])
        self.out = ConvTransposed(units[-1], image.channels, spread, rng)

    def _generate(self, latent: Tensor, all_sum: AllSum | None, apply: Apply) -> Tensor:
        x = F.relu(self.dense_norm(self.dense(latent), all_sum))
        x = x.view(-1, self._maps, self._start, self._start)
        for weight, norm in zip(self.weights, self.norm, strict=True):
            x = F.relu(norm(double(x, weight), all_sum))
        size = self._image.size
        return torch.tanh(apply(self.out, x, 0.1)[:, :, :size, :size])


class Pair(NamedTuple):
    """A discriminator and its generator."""

    discriminator: Discriminator
    generator: Generator


def check_image(model: ModelSpec, image: ImageShape) -> None:
    """Check that the model can work on images of this shape.

    Raises:
        RuleError: if it cannot.
    """
    size = f"{image.size} x {image.size}"
    if model.kind == "conv" and image.size < SMALLEST_CONV:
        least = f"{SMALLEST_CONV} x {SMALLEST_CONV}"
        raise RuleError(f"trial.model.kind: conv needs images of at least {least} (use mlp)", size)
    if model.zca and image.size > LARGEST_ZCA:
        most = f"{LARGEST_ZCA} x {LARGEST_ZCA}"
        raise RuleError(
            f"trial.model.zca: needs images of at most {most} (set it to false, or trial.data.size smaller)", size
        )


def build(
    model: ModelSpec,
    image: ImageShape,
    classes: int,
    generators: tuple[torch.Generator, torch.Generator],
    whitening: Whitening | None = None,
) -> Pair:
    """Build both networks with new weights, on the CPU in float32, not yet calibrated.

    Args:
        model: kind and settings of the pair.
        image: shape of the images.
        classes: number of classes, and of D's logits.
        generators: random generators for D's and for G's initial weights.
        whitening: D's first operation if `model.zca` is set.

    Raises:
        RuleError: if model and images do not fit (`check_image`).
    """
    check_image(model, image)
    for_d, for_g = generators
    D: Discriminator
    G: Generator
    if model.kind == "mlp":
        D, G = MlpDiscriminator(model, image, classes, for_d), MlpGenerator(model, image, for_g)
    else:
        D, G = ConvDiscriminator(model, image, classes, for_d), ConvGenerator(model, image, for_g)
    if not model.train_hidden_gain:
        D.freeze_hidden_gains()
    if model.generator_weight_norm_init == "one":
        G.start_at_scale_one()
    D.whitening = whitening
    return Pair(D, G)


def scaled(units: int, width: float) -> int:
    """Return `units` times `width`, rounded, at least 1."""
    return max(1, round(units * width))


def to_unit_range(images: Tensor, kind: Kind, dtype: torch.dtype) -> Tensor:
    """Convert uint8 pixels to the pair's range: [0, 1] for mlp, [-1, 1] for conv."""
    return images.to(dtype) / 255.0 if kind == "mlp" else images.to(dtype) / 127.5 - 1.0


def draw_latent(draws: Draws, model: ModelSpec) -> Tensor:
    """Draw z for G: U(0, 1)^n (patent paragraph 0002) or N(0, 1)^n."""
    draw = draws.uniform if model.latent == "uniform" else draws.normal
    return draw((model.latent_size,))


def _linear(inputs: int, outputs: int, spread: Spread, rng: torch.Generator, *, bias: bool = False) -> nn.Linear:
    # On "meta", nn.Linear draws nothing from the global RNG, and does not import sympy as nn.utils.skip_init does.
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta")
    layer.weight = nn.Parameter(draw_weights((outputs, inputs), inputs, outputs, spread, rng))
    if bias:
        layer.bias = nn.Parameter(torch.zeros(outputs))
    return layer
