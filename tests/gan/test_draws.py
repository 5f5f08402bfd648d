"""Randomness is a function of (seed, step, stream) and of the global batch, never of the ranks."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.gan.draws import Draws, Stream, rng_for, seed_for

SEEDS = [*range(12), 2**31, 2**32, 2**63 - 1]
STEPS = [*range(150), 10_000, 2**32]


def test_no_two_draws_of_a_grid_share_a_seed() -> None:
    """Also in their low 32 bits, which is all that torch's CPU generator takes."""
    grid = list(product(SEEDS, STEPS, Stream))
    seeds = [seed_for(*place) for place in grid]
    assert len(set(seeds)) == len(grid)
    chance = len(grid) ** 2 / 2**33
    assert len(grid) - len({seed & (2**32 - 1) for seed in seeds}) <= 5 * chance + 5
    assert all(0 <= seed < 2**64 for seed in seeds)


@pytest.mark.parametrize("neighbour", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_neighbours_have_unrelated_seeds(neighbour: tuple[int, int, int]) -> None:
    """About half of the 64 bits differ, each of them about half of the time."""
    places = list(product(range(20), range(20), [stream for stream in Stream if stream + 1 in set(Stream)]))
    flips = np.array(
        [
            bits(seed_for(s, t, Stream(n))) ^ bits(seed_for(*shifted))
            for s, t, n in places
            for shifted in [(s + neighbour[0], t + neighbour[1], Stream(n + neighbour[2]))]
        ]
    )
    assert 31 < flips.sum(axis=1).mean() < 33
    assert np.abs(flips.mean(axis=0) - 0.5).max() < 0.05


def bits(number: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.array([number >> place & 1 for place in range(64)], dtype=np.uint8)


def test_swapped_arguments_are_another_draw() -> None:
    assert seed_for(1, 2, Stream(3)) != seed_for(2, 1, Stream(3)) != seed_for(1, 3, Stream(2))


def test_a_generator_is_fresh_at_every_use() -> None:
    first, second = (torch.rand(5, generator=rng_for(3, 4, Stream.LATENT_D)) for _ in range(2))
    other = torch.rand(5, generator=rng_for(3, 4, Stream.LATENT_G))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def three_draws(seed: int, batch: int, rows: torch.Tensor | None, shape: list[int]) -> list[torch.Tensor]:
    draws = Draws(torch.Generator().manual_seed(seed), batch, rows)
    return [draws.normal(shape), draws.keep(shape, 0.7), draws.uniform(shape)]


@given(st.data(), st.integers(0, 2**31), st.lists(st.integers(1, 6), max_size=3))
def test_own_rows_are_rows_of_the_whole_draw(data: st.DataObject, seed: int, shape: list[int]) -> None:
    batch = data.draw(st.integers(1, 20))
    rows = torch.tensor(data.draw(st.lists(st.integers(0, batch - 1), max_size=batch, unique=True)), dtype=torch.long)
    whole, own = three_draws(seed, batch, None, shape), three_draws(seed, batch, rows, shape)
    for of_all, of_rows in zip(whole, own, strict=True):
        assert of_all.shape == (batch, *shape)
        assert torch.equal(of_all[rows], of_rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distributions(dtype: torch.dtype) -> None:
    draws = Draws(torch.Generator().manual_seed(0), 200, dtype=dtype)
    normal, uniform, keep = draws.normal((500,)), draws.uniform((500,)), draws.keep((500,), 0.8)
    assert {normal.dtype, uniform.dtype, keep.dtype} == {dtype}
    moments = [normal.mean(), normal.std(), uniform.mean(), uniform.std(), keep.mean()]
    np.testing.assert_allclose(moments, [0, 1, 0.5, 12**-0.5, 0.8], atol=0.01)
    assert uniform.min() >= 0
    assert uniform.max() <= 1
    assert set(keep.flatten().tolist()) == {0.0, 1.0}
