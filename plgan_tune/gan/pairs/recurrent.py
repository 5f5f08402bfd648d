"""The pair of GRAN, WGAN, WIRGAN and GP-WIRGAN (Feng et al. 2020): images in [-1, 1], which G draws in steps."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plgan_tune.config.trial import GeneratorNorm, ModelSpec, Spread
from plgan_tune.gan.layers import (
    GENERATOR_NORMS,
    DiscriminatorBatchNorm,
    GainedBatchNorm,
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
from plgan_tune.gan.passes import EVALUATION, Pass

TRAITS = Traits(PixelRange(-1.0, 1.0), chunk=500, convolutional=True)
SMALLEST = 4
"""Height and width of the smallest images: two halvings leave a single pixel."""

NORMS: Final[Mapping[GeneratorNorm, Callable[[int], nn.Module]]] = {**GENERATOR_NORMS, "batch": GainedBatchNorm}
"""Normalisation of G's hidden layers: its batch norm has a gain, and new statistics in each step."""

MEMORY = 128
"""Length of h before `width`."""


def count_features(model: ModelSpec, size: int) -> int:
    """Return the number of D's hidden activations for images of this size."""
    return _halvings(size) + (model.head is not None)


class RecurrentDiscriminator(NormedDiscriminator):
    """Conv 5x5 of stride 2: 128, 256, ... - Dense classes; with a head, a dense layer with tanh before it.

    Each convolution is followed by its normalisation, the first by none, and by its activation. 28 x 28 images become
    maps of 14 and 7, 32 x 32 images of 16, 8 and 4.
    """

    traits = TRAITS
    deviation = 0.1
    head: nn.Linear | None

    def __init__(self, model: ModelSpec, image: ImageShape, classes: int, rng: torch.Generator) -> None:
        super().__init__(model)
        spread = model.initial_spread
        maps = _maps(image.size, model.width)
        normed = [False, *[model.discriminator_norm == "batch"] * (len(maps) - 1)]
        self.hidden = nn.ModuleList(
            # The shift of a batch norm stands for its bias.
            _halving(inputs, outputs, spread, rng, bias=not has_norm)
            for (inputs, outputs), has_norm in zip(pairwise([image.channels, *maps]), normed, strict=True)
        )
        self.norm = nn.ModuleList(
            DiscriminatorBatchNorm(units) if has_norm else NoNorm()
            for units, has_norm in zip(maps, normed, strict=True)
        )
        units = maps[-1] * _smallest_side(image.size) ** 2
        self.head = None
        if model.head is not None:
            units, inputs = scaled(model.head, model.width), units
            self.head = linear(inputs, units, spread, rng, bias=True)
        self._end(model, units, classes, rng)
        self._feature = model.feature_layer % count_features(model, image.size)

    def _look(self, images: Tensor, seen: Pass, apply: Apply) -> Hidden:
        activations = [maps.flatten(1) for maps in self._activations(images, seen, apply)]
        if self.head is not None:
            activations.append(torch.tanh(self.head(activations[-1])))
        return Hidden(activations[-1], activations[self._feature])


class RecurrentGenerator(Generator):
    """An image in T steps with the same weights: f draws from z_t and from h_t = g(the step before); h_1 is 0.

    f: Dense of [z_t, h_t] - norm, ReLU - maps of ceil(size / 2^halvings) - transposed 5x5: ..., 256, 128 (norm, ReLU),
    channels. With `canvas: last`, a step draws tanh of f's output, and the last is the image. With `canvas: sum`, the
    image is the tanh of the sum of all outputs (Im et al. 2016, arXiv:1602.05110).

    With one step there is neither g nor the half of f's first layer that reads h. They draw their weights last, so that
    generators of any T begin with the same weights of what they share.
    """

    traits = TRAITS
    recall: nn.Linear | None
    look: "Encoder | None"
    latent: "LatentLayer | None"

    def __init__(self, model: ModelSpec, image: ImageShape, rng: torch.Generator) -> None:
        super().__init__()
        spread, norm = model.generator_initial_spread, NORMS[model.generator_norm]
        self._size, self._start = image.size, _smallest_side(image.size)
        self._steps, self._adds_up, self._latent_each_step = model.steps, model.canvas == "sum", model.latent_each_step
        maps = _maps(image.size, model.width)[::-1]
        units = maps[0] * self._start**2
        self.dense = linear(model.latent_size, units, spread, rng)
        self.weights = nn.ParameterList(
            draw_weights((inputs, outputs, 5, 5), inputs * 25, outputs * 25, spread, rng)
            for inputs, outputs in pairwise(maps)
        )
        self.out = last_doubling(maps[-1], image.channels, spread, rng)
        self.norm = nn.ModuleList(norm(each) for each in (units, *maps[1:]))
        self.latent = LatentLayer(model, rng) if model.latent_layer else None
        self.recall = self.look = None
        if model.steps > 1:
            memory = scaled(MEMORY, model.width)
            self.recall = linear(memory, units, spread, rng)
            self.look = Encoder(model, image, memory, rng)

    def canvases(self, latent: Tensor, seen: Pass = EVALUATION) -> Tensor:
        """Return the image as it is after each step, (B, T, channels, size, size)."""
        latent, seen = self._after_reference(latent, seen)
        return torch.stack(list(self._canvases(latent, seen)), dim=1)[seen.reference :]

    def _generate(self, latent: Tensor, seen: Pass, apply: Apply) -> Tensor:  # noqa: ARG002 - no weight norm
        *_, image = self._canvases(latent, seen)
        return image[seen.reference :]

    def _canvases(self, latent: Tensor, seen: Pass) -> Iterator[Tensor]:
        drawing = total = None
        for given in self._of_latent(latent, seen):
            drawing = self._draw(given if drawing is None else given + self._of_drawing(drawing, seen), seen)
            if self._adds_up:
                total = drawing if total is None else total + drawing
                yield torch.tanh(total)
            else:
                drawing = torch.tanh(drawing)
                yield drawing

    def _of_latent(self, latent: Tensor, seen: Pass) -> Sequence[Tensor]:
        """Return what f's first layer makes of z in each step."""
        each = latent.unbind(dim=1) if self._latent_each_step else [latent]
        made = [self.dense(z if self.latent is None else self.latent(z, seen)) for z in each]
        return made if self._latent_each_step else made * self._steps

    def _of_drawing(self, drawing: Tensor, seen: Pass) -> Tensor:
        """Return what f's first layer makes of h, which is g of the step before."""
        assert self.recall is not None
        assert self.look is not None
        made: Tensor = self.recall(self.look(drawing, seen))
        return made

    def _draw(self, x: Tensor, seen: Pass) -> Tensor:
        """Return f's output for that of its first layer, (B, channels, size, size)."""
        first, *others = self.norm
        maps = F.relu(first(x, seen))
        x = maps.view(-1, maps.shape[1] // self._start**2, self._start, self._start)
        for weight, norm in zip(self.weights, others, strict=True):
            x = F.relu(norm(double(x, weight), seen))
        return self.out(x)[:, :, : self._size, : self._size]  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """g: conv 5x5 of stride 2: 128, 256, ... (norm, ReLU) - Dense, of what a step has drawn.

    No convolution has a bias, for a normalisation's shift follows. Nor has the dense layer, unless nothing is
    normalised: f's first normalisation would take it off again.
    """

    def __init__(self, model: ModelSpec, image: ImageShape, memory: int, rng: torch.Generator) -> None:
        super().__init__()
        spread, maps = model.generator_initial_spread, _maps(image.size, model.width)
        self.hidden = nn.ModuleList(
            _halving(inputs, outputs, spread, rng, bias=False) for inputs, outputs in pairwise([image.channels, *maps])
        )
        self.norm = nn.ModuleList(NORMS[model.generator_norm](units) for units in maps)
        pixels = maps[-1] * _smallest_side(image.size) ** 2
        self.out = linear(pixels, memory, spread, rng, bias=model.generator_norm == "none")

    def forward(self, drawing: Tensor, seen: Pass) -> Tensor:
        """Return h, (B, memory)."""
        x = drawing
        for layer, norm in zip(self.hidden, self.norm, strict=True):
            x = F.relu(norm(layer(x), seen))
        return self.out(x.flatten(1))  # type: ignore[no-any-return]


class LatentLayer(nn.Module):
    """GRAN's first layer: z -> tanh(norm(W z)), as long as z."""

    def __init__(self, model: ModelSpec, rng: torch.Generator) -> None:
        super().__init__()
        self.dense = linear(model.latent_size, model.latent_size, model.generator_initial_spread, rng)
        self.norm = NORMS[model.generator_norm](model.latent_size)

    def forward(self, z: Tensor, seen: Pass) -> Tensor:
        """Return what f reads in place of z, (B, latent_size)."""
        return torch.tanh(self.norm(self.dense(z), seen))


def _halvings(size: int) -> int:
    """Return floor(log2(size / 4)), at least 2: how often images of this size are halved."""
    return max(2, int(math.log2(size / 4)))


def _smallest_side(size: int) -> int:
    """Return height and width after all halvings, each of which rounds up."""
    return math.ceil(size / (1 << _halvings(size)))


def _maps(size: int, width: float) -> list[int]:
    """Return the number of maps after each halving."""
    return [scaled(128 * 2**number, width) for number in range(_halvings(size))]


def _halving(inputs: int, units: int, spread: Spread, rng: torch.Generator, *, bias: bool) -> nn.Conv2d:
    return drawn(nn.Conv2d(inputs, units, 5, stride=2, padding=2, bias=bias, device="meta"), spread, rng)
