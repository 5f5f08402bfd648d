"""The pair of LDOUBLEV/semi-supervised-GAN, a DCGAN (Radford et al. 2016): images in [-1, 1] from a tanh."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.trial import DCGAN_FEATURES, DiscriminatorNorm, ModelSpec, Spread
from plgan_tune.gan.layers import (
    GENERATOR_NORMS,
    Conv,
    ConvTransposed,
    DiscriminatorBatchNorm,
    NoNorm,
    double,
    draw_weights,
)
from plgan_tune.gan.pairs.base import (
    Apply,
    Generator,
    Hidden,
    ImageShape,
    PixelRange,
    Traits,
    drawn,
    last_doubling,
    linear,
    scaled,
)
from plgan_tune.gan.pairs.normed import NormedDiscriminator
from plgan_tune.gan.passes import Pass

TRAITS = Traits(PixelRange(-1.0, 1.0), chunk=500, convolutional=True)
SMALLEST = 17
"""Height and width of the smallest images: below, the unpadded layers have nothing left."""


class DcganDiscriminator(NormedDiscriminator):
    """Conv 5x5 64, 3x3 128 of stride 2 - unpadded 3x3 256, of stride 1 and 2 - Dense classes.

    Each convolution is followed by its normalisation and activation. 28 x 28 images become maps of 14, 7, 5, 2.
    """

    traits = TRAITS
    deviation = 0.1

    def __init__(self, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model)
        norm, spread = model.discriminator_norm, model.initial_spread
        units = [image.channels, *(scaled(units, model.width) for units in (64, 128, 256, 256))]
        shapes = [(5, 2, 2), (3, 2, 1), (3, 1, 0), (3, 2, 0)]
        self.hidden = nn.ModuleList(
            _convolution(norm, inputs, outputs, shape, spread, rng)
            for (inputs, outputs), shape in zip(pairwise(units), shapes, strict=True)
        )
        self.norm = nn.ModuleList(
            DiscriminatorBatchNorm(outputs) if norm == "batch" else NoNorm() for outputs in units[1:]
        )
        pixels = units[-1] * _last_maps(image.size) ** 2
        self._end(model, pixels, classes, rng)
        self._feature = model.feature_layer % DCGAN_FEATURES

    def _look(self, images: Tensor, seen: Pass, apply: Apply) -> Hidden:
        activations = self._activations(images, seen, apply)
        return Hidden(activations[-1].flatten(1), activations[self._feature].flatten(1))


class DcganGenerator(Generator):
    """Dense - 64 maps of ceil(size / 16) - norm, ReLU - transposed 5x5: 256, 128, 64 (norm, ReLU), channels - tanh.

    The maps of the last layer are 16 times as high as the first ones; if images are not, they are scaled to their size
    before the tanh.
    """

    traits = TRAITS

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        spread = model.generator_initial_spread
        self._image = image
        self._start = math.ceil(image.size / 16)
        units = [scaled(units, model.width) for units in (64, 256, 128, 64)]
        self.dense = linear(model.latent_size, units[0] * self._start**2, spread, rng)
        self.weights = nn.ParameterList(
            draw_weights((inputs, outputs, 5, 5), inputs * 25, outputs * 25, spread, rng)
            for inputs, outputs in pairwise(units)
        )
        self.norm = nn.ModuleList(GENERATOR_NORMS[model.generator_norm](outputs) for outputs in units)
        if model.generator_weight_norm:
            self.out = ConvTransposed(units[-1], image.channels, spread, rng)
        else:
            self.out = last_doubling(units[-1], image.channels, spread, rng)

    def _generate(self, latent: Tensor, seen: Pass, apply: Apply) -> Tensor:
        first, *others = self.norm
        x = self.dense(latent)
        x = F.relu(first(x.view(x.shape[0], -1, self._start, self._start), seen))
        for weight, norm in zip(self.weights, others, strict=True):
            x = F.relu(norm(double(x, weight), seen))
        x = apply(self.out, x[seen.reference :], 0.1)
        if x.shape[-1] != self._image.size:
            x = F.interpolate(x, size=self._image.size, mode="bilinear")
        return torch.tanh(x)


def _last_maps(size: int) -> int:
    """Return height and width of the last maps of D for images of this size."""
    padded = math.ceil(math.ceil(size / 2) / 2)
    return (padded - 2 - 3) // 2 + 1


def _convolution(
    norm: DiscriminatorNorm, inputs: int, units: int, shape: tuple[int, int, int], spread: Spread, rng: torch.Generator
) -> nn.Module:
    """Return a convolution of this kernel, stride and padding; the shift of a batch norm stands for its bias."""
    kernel, stride, padding = shape
    if norm == "weight":
        return Conv(inputs, units, kernel, spread, rng, stride=stride, padding=padding)
    return drawn(nn.Conv2d(inputs, units, kernel, stride, padding, bias=norm == "none", device="meta"), spread, rng)
