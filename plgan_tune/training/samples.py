"""Generated images as a picture."""

import io

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.gan.draws import Draws, Stream, rng_for
from plgan_tune.gan.pairs.base import draw_latent
from plgan_tune.training.state import TrainState

ROWS = 10


@torch.no_grad()
def sample_grid(state: TrainState) -> bytes:
    """Return a PNG of 10 x 10 generated images, with the same z at every call so that grids of epochs compare."""
    model = state.trial.model
    rng = rng_for(state.trial.seed, 0, Stream.SAMPLES, state.device)
    images = state.G.network(draw_latent(Draws(rng, ROWS * ROWS, dtype=state.precision.dtype), model))
    grid = tiled(state.G.network.traits.pixels.to_unit(images).float().cpu()).mul(255).byte()
    buffer = io.BytesIO()
    Image.fromarray(grid.permute(1, 2, 0).squeeze(2).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()


def tiled(images: Tensor) -> Tensor:
    """Tile images (ROWS**2, channels, size, size) into one (channels, side, side) with grey lines between them.

    Same as torchvision.utils.make_grid, but torchvision takes four seconds to import, in every process of a trial.
    """
    _, channels, size, _ = images.shape
    side = ROWS * (size + 1)
    cells = F.pad(images, (1, 0, 1, 0), value=0.5).view(ROWS, ROWS, channels, size + 1, size + 1)
    return F.pad(cells.permute(2, 0, 3, 1, 4).reshape(channels, side, side), (0, 1, 0, 1), value=0.5)
