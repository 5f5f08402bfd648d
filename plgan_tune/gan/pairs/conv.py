"""The convolutional pair (patent table 5), with improved-gan's variants: images in [-1, 1] from a tanh."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.trial import CONV_FEATURES, ModelSpec
from plgan_tune.gan.layers import GENERATOR_NORMS, Conv, ConvTransposed, double, draw_weights, drop_out
from plgan_tune.gan.pairs.base import (
    Apply,
    Discriminator,
    Generator,
    Hidden,
    ImageShape,
    PixelRange,
    Traits,
    linear,
    scaled,
)
from plgan_tune.gan.passes import Pass

TRAITS = Traits(PixelRange(-1.0, 1.0), chunk=250, convolutional=True)
SMALLEST = 16
"""Height and width of the smallest images: below, the unpadded layers have nothing left."""


class ConvDiscriminator(Discriminator):
    """Dropout - 3 conv 96 - dropout - 3 conv 192 - dropout - conv 192, two 1x1 - global pool - Dense classes."""

    traits = TRAITS
    deviation = 0.1

    def __init__(self, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model)
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
        self._end(model, wide, classes, rng)
        self._feature = model.feature_layer % CONV_FEATURES

    def _look(self, images: Tensor, seen: Pass, apply: Apply) -> Hidden:
        x = images
        features = x
        for index, layer in enumerate(self.hidden):
            assert isinstance(layer, Conv)
            if index % 3 == 0:
                x = drop_out(x, self._dropout[index // 3], seen.draws)
            x = self._activate(apply(layer, x, 1.0))
            if index == self._feature:
                features = x
        pooled = x.mean(dim=(2, 3))
        if self._feature == CONV_FEATURES - 1:
            features = pooled
        return Hidden(pooled, features.flatten(1))


class ConvGenerator(Generator):
    """Dense - norm - ReLU - 512 maps of ceil(size / 8) - transposed 5x5: 256, 128 (norm, ReLU), channels - tanh."""

    traits = TRAITS
    out: ConvTransposed

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        spread = model.generator_initial_spread
        self._maps = scaled(512, model.width)
        self._start = math.ceil(image.size / 8)
        self._image = image
        units = [self._maps, scaled(256, model.width), scaled(128, model.width)]
        self.dense = linear(model.latent_size, self._maps * self._start**2, spread, rng)
        norm = GENERATOR_NORMS[model.generator_norm]
        self.dense_norm = norm(self._maps * self._start**2)
        self.weights = nn.ParameterList(
            draw_weights((inputs, outputs, 5, 5), inputs * 25, outputs * 25, spread, rng)
            for inputs, outputs in pairwise(units)
        )
        self.norm = nn.ModuleList(norm(outputs) for outputs in units[1:])
        self.out = ConvTransposed(units[-1], image.channels, spread, rng)

    def _generate(self, latent: Tensor, seen: Pass, apply: Apply) -> Tensor:
        x = F.relu(self.dense_norm(self.dense(latent), seen))
        x = x.view(-1, self._maps, self._start, self._start)
        for weight, norm in zip(self.weights, self.norm, strict=True):
            x = F.relu(norm(double(x, weight), seen))
        size = self._image.size
        return torch.tanh(apply(self.out, x[seen.reference :], 0.1)[:, :, :size, :size])
