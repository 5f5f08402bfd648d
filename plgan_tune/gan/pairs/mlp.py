"""The MLP pair (patent table 4), with improved-gan's variants: images in [0, 1] from a sigmoid."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.trial import ModelSpec
from plgan_tune.gan.layers import GENERATOR_NORMS, Dense, add_noise
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

TRAITS = Traits(PixelRange(0.0, 1.0), chunk=5000, convolutional=False)


class MlpDiscriminator(Discriminator):
    """Noise - [Dense - activation - noise] x hidden - Dense classes."""

    traits = TRAITS
    deviation = 1.0

    def __init__(self, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model)
        spread = model.initial_spread
        units = [image.pixels, *(scaled(width, model.width) for width in model.hidden or ())]
        self.hidden = nn.ModuleList(Dense(inputs, outputs, spread, rng) for inputs, outputs in pairwise(units))
        self._end(model, units[-1], classes, rng)
        self._noisy = (units[:1] if model.noise_input else []) + (units[1:] if model.noise_hidden else [])
        self._noise_input = model.noise_input
        self._noise_hidden = model.noise_hidden
        self._feature = model.feature_layer % len(self.hidden)

    def _look(self, images: Tensor, seen: Pass, apply: Apply) -> Hidden:
        noise = None if seen.draws is None else iter(seen.draws.normals(self._noisy))
        x = add_noise(images.flatten(1), self._noise_input, noise)
        features = x
        for index, layer in enumerate(self.hidden):
            assert isinstance(layer, Dense)
            x = self._activate(apply(layer, x, 1.0))
            if index == self._feature:
                features = x
            x = add_noise(x, self._noise_hidden, noise)
        return Hidden(x, features)


class MlpGenerator(Generator):
    """2 x [Dense 500, no bias - norm, no gain - softplus] - Dense pixels - sigmoid."""

    traits = TRAITS

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        spread = model.generator_initial_spread
        units = [model.latent_size, scaled(500, model.width), scaled(500, model.width)]
        self.dense = nn.ModuleList(linear(inputs, outputs, spread, rng) for inputs, outputs in pairwise(units))
        norm = GENERATOR_NORMS[model.generator_norm]
        self.norm = nn.ModuleList(norm(outputs) for outputs in units[1:])
        if model.generator_weight_norm:
            self.out = Dense(units[-1], image.pixels, spread, rng)
        else:
            self.out = linear(units[-1], image.pixels, spread, rng, bias=True)
        self._image = image

    def _generate(self, latent: Tensor, seen: Pass, apply: Apply) -> Tensor:
        x = latent
        for dense, norm in zip(self.dense, self.norm, strict=True):
            x = F.softplus(norm(dense(x), seen))
        pixels = apply(self.out, x[seen.reference :], 1.0)
        return torch.sigmoid(pixels).view(-1, self._image.channels, self._image.size, self._image.size)
