"""Generated images as a picture."""

import io
import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.training.generate import as_uint8, unit_images
from plgan_tune.training.state import TrainState

COLUMNS = 10
GREY = 127
"""Of the lines between images."""


def sample_grid(state: TrainState) -> bytes:
    """Return a PNG of 10 x 10 generated images, with the same z at every call so that grids of epochs compare."""
    rng = rng_for(state.trial.seed, 0, Stream.SAMPLES, state.device)
    images = as_uint8(unit_images(state.G.network, state.trial, rng))
    return encode_png(tiled(images.cpu(), COLUMNS))


def tiled(images: Tensor, columns: int) -> Tensor:
    """Tile uint8 images (n, channels, size, size) row by row into one picture with grey lines between them.

    Much as torchvision.utils.make_grid, but torchvision takes four seconds to import, in every process of a trial.
    """
    n, channels, size, _ = images.shape
    rows, cell = math.ceil(n / columns), size + 1
    filled = torch.cat([images, images.new_full((rows * columns - n, channels, size, size), GREY)])
    cells = F.pad(filled, (1, 0, 1, 0), value=GREY).view(rows, columns, channels, cell, cell)
    whole = cells.permute(2, 0, 3, 1, 4).reshape(channels, rows * cell, columns * cell)
    return F.pad(whole, (0, 1, 0, 1), value=GREY)


def encode_png(picture: Tensor) -> bytes:
    """Return a uint8 picture (1 or 3 channels, height, width) as a PNG file's bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).squeeze(2).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
