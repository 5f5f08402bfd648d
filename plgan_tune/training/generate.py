"""Generated images of a trial, from z that belong to (seed, number, stream): the only place where G is sampled."""

from typing import Final

import torch
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.gan.draws import Draws, Stream, rng_for
from plgan_tune.gan.pairs.base import Generator, draw_latent

BATCH: Final = 100
"""Images of one pass of the generator, whose batch normalisation uses the batch's statistics: the patent's size.

With `model.generator_norm` virtual or none, an image does not depend on the others of its pass.
"""


@torch.no_grad()
def unit_images(G: Generator, trial: TrialSpec, rng: torch.Generator) -> Tensor:
    """Return a batch of generated images, (BATCH, channels, size, size) in [0, 1], on G's device and of its type.

    Args:
        G: the generator.
        trial: its configuration.
        rng: draws z, on its own device.
    """
    weights = next(G.parameters())
    latent = draw_latent(Draws(rng, BATCH, dtype=weights.dtype), trial.model)
    return G.traits.pixels.to_unit(G(latent.to(weights.device)))


def uint8_batch(G: Generator, trial: TrialSpec, stream: Stream, batch: int) -> Tensor:
    """Return the images of a number from 0 on, as `unit_images`, but rounded to uint8; z is drawn on the CPU."""
    # Number 0 of a stream is something else: the sample grid's draw, the directions of the transport distance.
    return as_uint8(unit_images(G, trial, rng_for(trial.seed, batch + 1, stream)))


def as_uint8(images: Tensor) -> Tensor:
    """Round pixels in [0, 1] to uint8."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
