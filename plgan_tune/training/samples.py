"""Generated images as a picture."""

import io

import torch
from torchvision.transforms.functional import to_pil_image
from torchvision.utils import make_grid

from plgan_tune.gan.draws import Draws, Stream, generator_for
from plgan_tune.gan.networks import draw_latent
from plgan_tune.training.state import TrainState

ROWS = 10


@torch.no_grad()
def sample_grid(state: TrainState) -> bytes:
    """A PNG of 10 x 10 images from the generator; the same z at every call, so that grids compare over epochs."""
    model = state.trial.model
    generator = generator_for(state.trial.seed, 0, Stream.SAMPLES, state.device)
    images = state.generator(draw_latent(Draws(generator, ROWS * ROWS, dtype=state.numbers.dtype), model))
    pixels = images if model.kind == "mlp" else (images + 1) / 2
    grid = make_grid(pixels.float().cpu(), nrow=ROWS, padding=1, pad_value=0.5)
    buffer = io.BytesIO()
    to_pil_image(grid).save(buffer, format="PNG")
    return buffer.getvalue()
