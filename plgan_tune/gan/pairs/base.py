"""What both networks of every pair have in common, and what a pair says about itself.

In a `Pass`, a discriminator maps images to logits and features, and a generator latent vectors to images. Images are
(B, channels, size, size), in the pair's range of pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.trial import ModelSpec, Spread
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.layers import Dense, MinibatchDiscrimination, WeightNorm, Whitening, draw_weights
from plgan_tune.gan.passes import EVALUATION, Pass

Plain = TypeVar("Plain", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class PixelRange(NamedTuple):
    """The numbers that stand for black and for full brightness."""

    low: float
    high: float

    def from_uint8(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert uint8 pixels of any shape to this range."""
        scaled = images.to(dtype) / (255.0 / (self.high - self.low))
        return scaled + self.low if self.low else scaled

    def to_unit(self, images: Tensor) -> Tensor:
        """Convert pixels of this range to [0, 1]."""
        return (images - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Traits:
    """What a pair says about itself to whoever feeds and runs it.

    Attributes:
        pixels: the range of its images.
        chunk: images of a pass in evaluation, at most; few where activations are large.
        convolutional: whether convolutions do its work. A GPU then takes them in channels-last layout, and `precision:
            auto` means bf16 products; other pairs take TF32.
    """

    pixels: PixelRange
    chunk: int
    convolutional: bool


class DiscriminatorOutput(NamedTuple):
    """D's output for a batch: logits (B, classes), features (B, F) of the chosen hidden layer, before its noise.

    The logits are those of the classes less that of "generated".
    """

    logits: Tensor
    features: Tensor

    def to(self, dtype: torch.dtype) -> "DiscriminatorOutput":
        """Convert to the type of the losses; autocast may have produced a narrower one."""
        return DiscriminatorOutput(self.logits.to(dtype), self.features.to(dtype))


class Hidden(NamedTuple):
    """What D's hidden layers make of a batch: the last, (B, A), which the output layer reads, and the features."""

    last: Tensor
    features: Tensor


class ImageShape(NamedTuple):
    """The shape of a square image."""

    channels: int
    size: int

    @property
    def tensor(self) -> tuple[int, int, int]:
        """Shape of an image's tensor, (channels, size, size)."""
        return self.channels, self.size, self.size

    @property
    def pixels(self) -> int:
        """Number of values of an image, over all channels."""
        return self.channels * self.size**2


Apply = Callable[[nn.Module, Tensor, float], Tensor]
"""How a pass uses a layer: call it, or first calibrate it to the given deviation, if it has weight norm."""


def _call(layer: nn.Module, x: Tensor, deviation: float) -> Tensor:  # noqa: ARG001
    return layer(x)  # type: ignore[no-any-return]


def _calibrate(layer: nn.Module, x: Tensor, deviation: float) -> Tensor:
    return layer.calibrate(x, deviation) if isinstance(layer, WeightNorm) else _call(layer, x, deviation)


class Discriminator(nn.Module):
    """Base of all discriminators: the last layers, calling, calibrating, and which gains are trained.

    Attributes:
        traits: what the pair says about itself.
        deviation: of the outputs after a calibration.
        reference: uint8 images (b, channels, size, size) that minibatch discrimination has in place of a batch in
            evaluation, so that the result for an image depends on that image alone.
    """

    traits: ClassVar[Traits]
    deviation: ClassVar[float]
    out: Dense | nn.Linear
    minibatch: MinibatchDiscrimination | None
    whitening: Whitening | None
    reference: Tensor | None

    def __init__(self, model: ModelSpec) -> None:
        super().__init__()
        self.whitening = None
        self.register_buffer("reference", None)
        self._slope = 0.2 if model.activation == "leaky_relu" else 0.0
        self._learns_fake = model.fake_logit == "learned"

    def forward(self, images: Tensor, seen: Pass = EVALUATION) -> DiscriminatorOutput:
        """Classify images."""
        last, features = self._look(self._whiten(images), seen, _call)
        outputs = self.out(self._with_closeness(last, seen))
        # Only differences of logits matter to a softmax over N + 1: all that follows may take the fake logit to be 0.
        return DiscriminatorOutput(outputs[:, :-1] - outputs[:, -1:] if self._learns_fake else outputs, features)

    def features(self, images: Tensor, seen: Pass) -> Tensor:
        """Return the features of images alone, (B, F)."""
        return self._look(self._whiten(images), seen, _call).features

    @property
    def chunk(self) -> int:
        """Images of a pass in evaluation; few where each is compared with all of the reference."""
        return self.traits.chunk if self.minibatch is None else min(self.traits.chunk, 250)

    @torch.no_grad()
    def calibrate(self, images: Tensor, draws: Draws) -> None:
        """Initialise from data: every pre-activation gets mean 0 and deviation 1, outputs the pair's own."""
        last = self._look(self._whiten(images), Pass(draws), _calibrate).last
        _calibrate(self.out, self._with_calibrated_closeness(last), self.deviation)

    @torch.no_grad()
    def calibrate_minibatch(self, images: Tensor, draws: Draws) -> None:
        """Initialise minibatch discrimination alone from data, where all else stays as drawn."""
        self._with_calibrated_closeness(self._look(self._whiten(images), Pass(draws), _call).last)

    def settle(self, images: Tensor) -> None:
        """Fix from these images what evaluation needs to know of a batch. Most networks need nothing."""

    def freeze_hidden_gains(self) -> None:
        """Exclude g of every layer but the output from training."""
        for module in self.modules():
            if isinstance(module, WeightNorm) and module is not self.out:
                module.g.requires_grad_(False)

    def _end(self, model: ModelSpec, inputs: int, classes: int, rng: torch.Generator) -> None:
        """Add the last layers, for which the hidden ones leave `inputs` numbers of an image."""
        kernels, size = model.minibatch_kernels, model.minibatch_size
        self.minibatch = MinibatchDiscrimination(inputs, kernels, size, rng) if kernels else None
        reads, outputs, spread = inputs + kernels, classes + self._learns_fake, model.initial_spread
        if model.discriminator_norm == "weight":
            self.out = Dense(reads, outputs, spread, rng)
        else:
            self.out = linear(reads, outputs, spread, rng, bias=True)

    def _with_closeness(self, last: Tensor, seen: Pass) -> Tensor:
        """Return what the output layer reads: the last hidden layer and, if there is one, minibatch discrimination."""
        if self.minibatch is None:
            return last
        assert self.reference is not None
        if seen.draws is not None:
            return torch.cat([last, self.minibatch(last, seen, len(self.reference))], dim=1)
        images = self.traits.pixels.from_uint8(self.reference, next(self.parameters()).dtype)
        others = self._look(self._whiten(images), EVALUATION, _call).last
        return torch.cat([last, self.minibatch.against(last, others)], dim=1)

    def _with_calibrated_closeness(self, last: Tensor) -> Tensor:
        if self.minibatch is None:
            return last
        assert self.reference is not None
        return torch.cat([last, self.minibatch.calibrate(last, len(self.reference))], dim=1)

    def _whiten(self, images: Tensor) -> Tensor:
        return images if self.whitening is None else self.whitening(images)

    def _activate(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self._slope) if self._slope else F.relu(x)

    def _look(self, images: Tensor, seen: Pass, apply: Apply) -> Hidden:
        """Return what the hidden layers make of whitened images, with their noise."""
        raise NotImplementedError


class Generator(nn.Module):
    """Base of all generators.

    Attributes:
        traits: what the pair says about itself.
        reference: the z, (b, *latent_shape), that virtual batch norm has in place of a batch.
    """

    traits: ClassVar[Traits]
    out: WeightNorm | nn.Linear | nn.ConvTranspose2d
    reference: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reference", None)

    def forward(self, latent: Tensor, seen: Pass = EVALUATION) -> Tensor:
        """Generate images: (B, *latent_shape) -> (B, channels, size, size)."""
        return self._generate(*self._after_reference(latent, seen), _call)

    def canvases(self, latent: Tensor, seen: Pass = EVALUATION) -> Tensor:
        """Return the image as it is after each step, (B, T, channels, size, size). Most draw it in one."""
        return self(latent, seen).unsqueeze(1)  # type: ignore[no-any-return]

    @torch.no_grad()
    def calibrate(self, latent: Tensor) -> None:
        """Initialise the output layer from data if it has weight norm."""
        self._generate(*self._after_reference(latent, EVALUATION), _calibrate)

    @torch.no_grad()
    def start_at_scale_one(self) -> None:
        """Initialise the output layer as improved-gan does, without data, if it has weight norm."""
        if isinstance(self.out, WeightNorm):
            self.out.g.fill_(1.0)

    def _after_reference(self, latent: Tensor, seen: Pass) -> tuple[Tensor, Pass]:
        if self.reference is None:
            return latent, seen
        return torch.cat([self.reference, latent]), replace(seen, reference=len(self.reference))

    def _generate(self, latent: Tensor, seen: Pass, apply: Apply) -> Tensor:
        """Return the images; the first `seen.reference` rows are for the hidden layers only."""
        raise NotImplementedError


class Pair(NamedTuple):
    """A discriminator and its generator."""

    discriminator: Discriminator
    generator: Generator


def scaled(units: int, width: float) -> int:
    """Return `units` times `width`, rounded, at least 1."""
    return max(1, round(units * width))


def latent_shape(model: ModelSpec) -> tuple[int, ...]:
    """Return the shape of an image's z: (latent_size,), or (steps, latent_size) where each step of G has its own."""
    return (model.steps, model.latent_size) if model.latent_each_step else (model.latent_size,)


def draw_latent(draws: Draws, model: ModelSpec) -> Tensor:
    """Draw z for G, (B, *latent_shape): numbers of U(0, 1) (patent paragraph 0002) or N(0, 1)."""
    draw = draws.uniform if model.latent == "uniform" else draws.normal
    return draw(latent_shape(model))


def linear(inputs: int, outputs: int, spread: Spread, rng: torch.Generator, *, bias: bool = False) -> nn.Linear:
    """Return a layer without weight norm, its weights drawn and its bias, if any, 0."""
    return drawn(nn.Linear(inputs, outputs, bias=bias, device="meta"), spread, rng)


def last_doubling(inputs: int, outputs: int, spread: Spread, rng: torch.Generator) -> nn.ConvTranspose2d:
    """Return an output layer that doubles height and width as `double` does, with a bias and without weight norm."""
    return drawn(
        nn.ConvTranspose2d(inputs, outputs, 5, stride=2, padding=2, output_padding=1, device="meta"), spread, rng
    )


def drawn(layer: Plain, spread: Spread, rng: torch.Generator) -> Plain:
    """Give a layer its weights, drawn, and its bias, if any, 0.

    Args:
        layer: on "meta", where it has drawn nothing from the global RNG, and has not imported sympy as
            nn.utils.skip_init does.
        spread: how weights are drawn.
        rng: with what.
    """
    one, other, *area = layer.weight.shape
    fan_one, fan_other = one * math.prod(area), other * math.prod(area)
    layer.weight = nn.Parameter(draw_weights(tuple(layer.weight.shape), fan_other, fan_one, spread, rng))
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(len(layer.bias)))
    return layer
