"""A user's own pair: residual blocks in D, and upsampling in G. Tests load it as a search loads a user's."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.own import (
    Apply,
    BatchNorm,
    Conv,
    Discriminator,
    Generator,
    Hidden,
    ImageShape,
    Keys,
    ModelSpec,
    Pair,
    Pass,
    PixelRange,
    Seen,
    Traits,
    linear,
    scaled,
)

TRAITS = Traits(PixelRange(-1.0, 1.0), chunk=250, convolutional=True)


class Own(Keys):
    blocks: Annotated[int, Field(ge=1, le=4)] = 2
    entropy: float = 0.1


class ResidualDiscriminator(Discriminator):
    traits = TRAITS
    deviation = 0.1

    def __init__(self, keys: Own, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model)
        units, spread = scaled(32, model.width), model.initial_spread
        self.first = Conv(image.channels, units, 3, spread, rng, padding=1)
        self.blocks = nn.ModuleList(Conv(units, units, 3, spread, rng, padding=1) for _ in range(keys.blocks))
        self._end(model, units, classes, rng)

    def _look(self, images: Tensor, seen: Pass, apply: Apply) -> Hidden:
        x = apply(self.first, images, 1.0)
        if seen.draws is not None:
            x = x + 0.1 * seen.draws.normal(x.shape[1:])
        for block in self.blocks:
            x = F.avg_pool2d(x + apply(block, self._activate(x), 1.0), 2)
        features = self._activate(x).mean(dim=(2, 3))
        return Hidden(features, features)


class ResidualGenerator(Generator):
    traits = TRAITS

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        units, spread = scaled(32, model.width), model.generator_initial_spread
        self.image, self.start = image, -(-image.size // 4)
        self.dense = linear(model.latent_size, units * self.start**2, spread, rng)
        self.norm = BatchNorm(units)
        self.block = Conv(units, units, 3, spread, rng, padding=1)
        self.block_norm = BatchNorm(units)
        self.out = Conv(units, image.channels, 3, spread, rng, padding=1)

    def _generate(self, latent: Tensor, seen: Pass, apply: Apply) -> Tensor:
        x = self.dense(latent).view(len(latent), -1, self.start, self.start)
        x = F.interpolate(F.relu(self.norm(x, seen)), scale_factor=2.0)
        x = F.interpolate(x + F.relu(self.block_norm(self.block(x), seen)), scale_factor=2.0)
        size = self.image.size
        return torch.tanh(apply(self.out, x, 0.1)[:, :, :size, :size])


def build_pair(
    keys: Own, model: ModelSpec, image: ImageShape, classes: int, rng_d: torch.Generator, rng_g: torch.Generator
) -> Pair:
    return Pair(ResidualDiscriminator(keys, model, image, classes, rng_d), ResidualGenerator(model, image, rng_g))


def discriminator_terms(keys: Own, unlabelled: Seen) -> dict[str, Tensor]:
    p = unlabelled.logits.softmax(1)
    return {"entropy": -keys.entropy * torch.xlogy(p, p).sum(1)}
