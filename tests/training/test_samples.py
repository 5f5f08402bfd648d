"""The picture of generated images."""

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.gan.draws import Draws, Stream, rng_for
from plgan_tune.gan.pairs.base import draw_latent
from plgan_tune.generator import generator_of
from plgan_tune.training.checkpoint import decode_checkpoint, encode_checkpoint
from plgan_tune.training.loop import epochs
from plgan_tune.training.samples import averaged_grid, averaged_steps, grid_epochs, sample_grid
from plgan_tune.training.state import TrainState

MakeTrial = Callable[..., TrialSpec]
MakeData = Callable[..., Dataset]
Begin = Callable[[TrialSpec, Dataset], TrainState]
TensorsOf = Callable[[TrainState], dict[str, Tensor]]


def pixels(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("kind", "size", "channels"), [("mlp", 6, 1), ("conv", 16, 3)])
def test_the_grid_is_ten_by_ten_images(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, kind: str, size: int, channels: int
) -> None:
    state = begin(make_trial(kind), make_data(size=size, channels=channels))
    grid = pixels(sample_grid(state))
    stride = size + 1
    assert grid.shape == (10 * stride + 1, 10 * stride + 1, 3)
    assert (grid[::stride] == grid[0, 0]).all()
    assert (grid[:, ::stride] == grid[0, 0]).all()
    cells = {
        grid[y * stride + 1 : (y + 1) * stride, x * stride + 1 : (x + 1) * stride].tobytes()
        for y, x in np.ndindex(10, 10)
    }
    assert len(cells) == 100


@pytest.mark.parametrize(("kind", "size", "channels"), [("mlp", 6, 1), ("conv", 16, 3)])
@pytest.mark.parametrize(("bias", "value"), [(-50.0, 0), (50.0, 255)])
def test_black_is_black_and_white_is_white(
    make_trial: MakeTrial,
    make_data: MakeData,
    begin: Begin,
    kind: str,
    size: int,
    channels: int,
    bias: float,
    value: int,
) -> None:
    state = begin(make_trial(kind), make_data(size=size, channels=channels))
    weights = dict(state.G.network.named_parameters())
    weights["out.g"].data.zero_()
    weights["out.b"].data.fill_(bias)
    assert (pixels(sample_grid(state))[1 : size + 1, 1 : size + 1] == value).all()


def test_the_same_weights_give_the_same_file_whatever_the_epoch(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin
) -> None:
    data = make_data()
    state, again = begin(make_trial(), data), begin(make_trial(), data)
    again.epoch, again.step = 5, 50
    torch.manual_seed(1)
    first = sample_grid(state)
    torch.manual_seed(2)
    assert sample_grid(again) == first
    next(again.G.network.parameters()).data += 0.1
    assert sample_grid(again) != first


@pytest.mark.parametrize(("kind", "size", "channels"), [("mlp", 6, 1), ("conv", 16, 3)])
def test_with_virtual_batch_norm_an_image_of_the_grid_is_the_one_of_its_z_alone(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, kind: str, size: int, channels: int
) -> None:
    trial = make_trial(kind, model={"generator_norm": "virtual"}, training={"precision": "float64"})
    state = begin(trial, make_data(size=size, channels=channels))
    G, stride = state.G.network, size + 1
    grid = pixels(sample_grid(state))
    draws = Draws(rng_for(trial.seed, 0, Stream.SAMPLES), 100, dtype=torch.float64)
    z = draw_latent(draws, trial.model)
    for place in (0, 37, 99):
        alone = G.traits.pixels.to_unit(G(z[place : place + 1])).detach()[0]
        shown = (255 * alone).to(torch.uint8).permute(1, 2, 0).expand(-1, -1, 3).numpy()
        y, x = (index * stride + 1 for index in divmod(place, 10))
        assert np.abs(grid[y : y + size, x : x + size].astype(int) - shown).max() <= 1  # cut off, not rounded


@pytest.mark.parametrize(
    ("length", "expected"),
    [(24, [5, 10, 15, 20, 24]), (1000, [200, 400, 600, 800, 1000]), (6, [2, 3, 4, 5, 6]), (3, [1, 2, 3]), (1, [1])],
)
def test_five_epochs_leave_a_grid_the_last_among_them(make_trial: MakeTrial, length: int, expected: list[int]) -> None:
    assert grid_epochs(make_trial(training={"epochs": length})) == expected
    assert grid_epochs(make_trial(method="supervised", training={"epochs": length})) == []


def cells(png: bytes, size: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """The images of a grid, (rows, columns, size, size, 3)."""
    grid, stride = pixels(png), size + 1
    assert grid.shape == (rows * stride + 1, columns * stride + 1, 3)
    inside = grid[:-1, :-1].reshape(rows, stride, columns, stride, 3)
    return inside.transpose(0, 2, 1, 3, 4)[:, :, 1:, 1:]


@pytest.mark.parametrize(("kind", "steps"), [("recurrent", 3), ("recurrent", 1), ("conv", 1)])
def test_an_epoch_s_grid_is_what_its_checkpoint_s_generator_samples(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, tensors_of: TensorsOf, kind: str, steps: int
) -> None:
    """By the averaged weights, with the trial's seed; the steps, too. Training goes on as if nothing had been drawn."""
    model = {"steps": steps} if kind == "recurrent" else {}
    trial, data = make_trial(kind, seed=4, model=model, training={"epochs": 1}), make_data(size=16, channels=3)
    state = begin(trial, data)
    rows = list(epochs(state, data))
    before = tensors_of(state)
    grid, drawn = averaged_grid(state), averaged_steps(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(state).items())

    generator = generator_of(decode_checkpoint(encode_checkpoint(state, rows), "x"))
    expected = as_cells(generator.sample(50, seed=4).view(5, 10, 3, 16, 16))
    np.testing.assert_array_equal(cells(grid, 16, 5, 10), expected)
    raw = generator_of(decode_checkpoint(encode_checkpoint(state, rows), "x"), weights="raw")
    assert not np.array_equal(as_cells(raw.sample(50, seed=4).view(5, 10, 3, 16, 16)), expected)
    if steps == 1:
        assert drawn is None
    else:
        assert drawn is not None
        canvases = cells(drawn, 16, 5, steps)
        np.testing.assert_array_equal(canvases, as_cells(generator.steps(5, seed=4)))
        np.testing.assert_array_equal(canvases[:, -1], expected[0, :5])


def as_cells(images: Tensor) -> NDArray[np.uint8]:
    assert images.dtype == torch.uint8
    return images.permute(0, 1, 3, 4, 2).expand(-1, -1, -1, -1, 3).numpy()


@pytest.mark.parametrize(("size", "rows"), [(32, 5), (48, 2), (128, 1)])
def test_of_large_images_there_are_fewer(
    make_trial: MakeTrial, make_data: MakeData, begin: Begin, size: int, rows: int
) -> None:
    state = begin(make_trial("mlp"), make_data(size=size, channels=3))
    cells(averaged_grid(state), size, rows, 10)
