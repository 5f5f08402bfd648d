"""Generated images as a picture."""

import io

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.training.generate import unit_images
from plgan_tune.training.state import TrainState

ROWS = 10


def sample_grid(state: TrainState) -> bytes:
    """Return a PNG of 10 x 10 generated images, with the same z at every call so that grids of epochs compare."""
    rng = rng_for(state.trial.seed, 0, Stream.SAMPLES, state.device)
    grid = tiled(unit_images(state.G.network, state.trial, rng).float().cpu()).mul(255).byte()
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
