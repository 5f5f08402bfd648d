"""Lets two trained GANs fight a battle, from their checkpoints."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from plgan_tune.evaluation.battle import Battle, Calibration, Floats, Judged, calibrate, judged
from plgan_tune.evaluation.generation import generated
from plgan_tune.gan.games import realness
from plgan_tune.gan.own import Own
from plgan_tune.gan.pairs.base import Discriminator
from plgan_tune.trained import build_pair
from plgan_tune.training.checkpoint import Checkpoint
from plgan_tune.training.generate import BATCH

CALIBRATION: Final = 1000
"""Training and own generated images that set D's threshold, of each kind at most."""

MOST: Final = 9000
"""Generated images of a battle, at most; as many as there are test images, if they are a thousand or more."""


@dataclass(frozen=True, eq=False)
class Fighter:
    """A trained GAN with its averaged weights.

    Attributes:
        discriminator: on the device.
        images: by its generator: those that calibrate D, then those of the battles.
        calibration: of D.
        test: realness of the test images.
    """

    discriminator: Discriminator
    images: Tensor
    calibration: Calibration
    test: Floats


def fighter(checkpoint: Checkpoint, own: Own | None, training: Tensor, test: Tensor, device: torch.device) -> Fighter:
    """Return a checkpoint's GAN, its D calibrated.

    Args:
        checkpoint: its weights.
        own: the user's own file that builds the networks, if one does.
        training: training images, (n, channels, size, size) uint8.
        test: the test images.
        device: where the networks run.
    """
    discriminator = build_pair(checkpoint, own).discriminator
    discriminator.load_state_dict(checkpoint.content["averaged"])
    discriminator.to(device).eval()
    battle = min(MOST, max(CALIBRATION, len(test)))
    images = generated(checkpoint, device, -(-(CALIBRATION + battle) // BATCH) * BATCH, own, "averaged")
    count = min(CALIBRATION, len(training))
    calibration = calibrate(
        _realness(discriminator, training[:count], device), _realness(discriminator, images[:count], device)
    )
    return Fighter(discriminator, images[CALIBRATION:], calibration, _realness(discriminator, test, device))


def fight(one: Fighter, other: Fighter, device: torch.device) -> Battle:
    """Return the battle of two GANs."""
    return Battle.of(_answers(one, other, device), _answers(other, one, device))


def _answers(one: Fighter, other: Fighter, device: torch.device) -> Judged:
    return judged(one.calibration, one.test, _realness(one.discriminator, other.images, device))


@torch.no_grad()
def _realness(D: Discriminator, images: Tensor, device: torch.device) -> Floats:
    """Return D's realness of uint8 images, (n,)."""
    dtype = next(D.parameters()).dtype
    parts = (
        realness(D(D.traits.pixels.from_uint8(part.to(device), dtype)).logits) for part in torch.split(images, D.chunk)
    )
    return np.asarray(torch.cat(list(parts)).double().cpu().numpy(), dtype=np.float64)
