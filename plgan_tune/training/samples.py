"""Generated images as a picture."""

import io
import math

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from plgan_tune.config.trial import TrialSpec
from plgan_tune.gan.draws import Stream, rng_for
from plgan_tune.training.generate import as_uint8, drawn_latent, latent_of
from plgan_tune.training.state import TrainState

COLUMNS = 10
ROWS = 5
"""Of an epoch's grid, and of a picture of steps, of images up to `LARGE`."""
LARGE = 32
"""Height of an image in pixels above which there are fewer rows, so that the files stay small."""
GRIDS = 5
"""Epochs whose grids a trial leaves."""
GREY = 127
"""Of the lines between images."""


@torch.no_grad()
def sample_grid(state: TrainState) -> bytes:
    """Return a PNG of 10 x 10 images by the raw weights, with the same z at every call so that grids compare."""
    G = state.G.network
    rng = rng_for(state.trial.seed, 0, Stream.SAMPLES, state.device)
    return encode_png(tiled(as_uint8(G, G(drawn_latent(G, state.trial.model, rng))).cpu(), COLUMNS))


def grid_epochs(trial: TrialSpec) -> list[int]:
    """Return the epochs after which a trial leaves a grid: five, evenly spaced, the last among them; all of fewer.

    None if the trial does not train its generator, as `supervised` does not.
    """
    if not (trial.loss.alpha or trial.loss.beta or trial.own.file):
        return []
    return sorted({math.ceil(trial.training.epochs * part / GRIDS) for part in range(1, GRIDS + 1)})


@torch.no_grad()
def averaged_grid(state: TrainState) -> bytes:
    """Return a PNG of at most 5 x 10 images by the averaged weights, which distances are measured with.

    They are the first that `ImageGenerator.sample` returns with the trial's seed, the same z at every call.
    """
    G = state.averaged_g
    return encode_png(tiled(as_uint8(G, G(_latent(state)))[: _rows(state) * COLUMNS].cpu(), COLUMNS))


@torch.no_grad()
def averaged_steps(state: TrainState) -> bytes | None:
    """Return a PNG of the first images of `averaged_grid`, a row each, after each step; None if there is one step."""
    G = state.averaged_g
    canvases = as_uint8(G, G.canvases(_latent(state)))[: _rows(state)].cpu()
    steps = canvases.shape[1]
    return encode_png(tiled(canvases.flatten(0, 1), steps)) if steps > 1 else None


def _latent(state: TrainState) -> Tensor:
    return latent_of(state.averaged_g, state.trial.model, state.trial.seed, Stream.SAMPLES, 0)


def _rows(state: TrainState) -> int:
    return max(1, min(ROWS, ROWS * LARGE**2 // state.image.size**2))


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
