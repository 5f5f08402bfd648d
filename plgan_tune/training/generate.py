"""Generated images, from z that belong to (seed, number, stream): the only place where z of images is numbered."""

from typing import Final

import torch
from torch import Tensor

from plgan_tune.config.trial import ModelSpec, TrialSpec
from plgan_tune.gan.draws import Draws, Stream, rng_for
from plgan_tune.gan.pairs.base import Generator, draw_latent

BATCH: Final = 100
"""Images of one pass of the generator, whose batch normalisation uses the batch's statistics: the patent's size.

With `model.generator_norm` virtual or none, an image does not depend on the others of its pass.
"""


def latent_of(G: Generator, model: ModelSpec, seed: int, stream: Stream, batch: int) -> Tensor:
    """Return the z of a batch, numbered from 0 on, (BATCH, *latent_shape): drawn on the CPU, moved to G's device."""
    # Number 0 of a stream is something else: the sample grid's draw, the directions of the transport distance.
    return drawn_latent(G, model, rng_for(seed, batch + 1, stream))


def drawn_latent(G: Generator, model: ModelSpec, rng: torch.Generator) -> Tensor:
    """Return z, (BATCH, *latent_shape), of the type of G's weights, drawn on `rng`'s device and moved to G's."""
    weights = next(G.parameters())
    return draw_latent(Draws(rng, BATCH, dtype=weights.dtype), model).to(weights.device)


@torch.no_grad()
def uint8_batch(G: Generator, trial: TrialSpec, stream: Stream, batch: int) -> Tensor:
    """Return the images of a batch's z, (BATCH, channels, size, size) uint8, on G's device."""
    return as_uint8(G, G(latent_of(G, trial.model, trial.seed, stream, batch)))


def as_uint8(G: Generator, images: Tensor) -> Tensor:
    """Round images in G's range of pixels, of any shape, to uint8."""
    return (G.traits.pixels.to_unit(images) * 255).round().clamp(0, 255).to(torch.uint8)
