"""Which rows an epoch's steps see."""

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.data.splits import Split
from plgan_tune.training.loop import EpochPlan, plan_epoch

MakeTrial = Callable[..., TrialSpec]
Plan = Callable[..., EpochPlan]


def rows_only(labelled: int, pool: int) -> Dataset:
    """A data set whose images do not matter. Rows of the pool are odd, those with a label are even."""
    split = Split(2 * torch.arange(labelled), 2 * torch.arange(pool) + 1, torch.empty(0, dtype=torch.int64), "hash")
    nothing = torch.empty(0, dtype=torch.uint8)
    return Dataset(nothing, nothing, ("a", "b"), split)


@pytest.fixture(scope="module")
def plan(make_trial: MakeTrial) -> Plan:
    def planned(
        labelled: int = 6, pool: int = 47, batch: int = 10, k: int = 1, epoch: int = 0, seed: int = 0, g: int = 1
    ) -> EpochPlan:
        steps = {"discriminator_steps": k, "generator_steps": g}
        trial = make_trial(training={"batch_size": batch, **steps}, seed=seed)
        return plan_epoch(trial, rows_only(labelled, pool), epoch)

    return planned


def blocks(rows: Tensor, length: int) -> list[list[int]]:
    """Consecutive blocks, the last one perhaps shorter."""
    flat: list[int] = rows.flatten().tolist()
    return [flat[start : start + length] for start in range(0, len(flat), length)]


SIZES = {"labelled": st.integers(1, 20), "pool": st.integers(1, 60), "batch": st.integers(2, 12)}


@given(k=st.integers(1, 3), g=st.integers(1, 3), epoch=st.integers(0, 1000), **SIZES)
def test_an_epoch_is_as_many_whole_batches_as_the_pool_holds(
    plan: Plan, labelled: int, pool: int, batch: int, k: int, g: int, epoch: int
) -> None:
    planned = plan(labelled, pool, batch, k, epoch, g=g)
    rounds = max(pool // batch, 1)
    assert planned.labelled.shape == planned.unlabelled_d.shape == (rounds, k, batch)
    assert planned.unlabelled_g.shape == (rounds, g, batch)


@given(k=st.integers(1, 3), g=st.integers(1, 3), **SIZES)
def test_rows_are_permutations_laid_end_to_end(
    plan: Plan, labelled: int, pool: int, batch: int, k: int, g: int
) -> None:
    planned = plan(labelled, pool, batch, k, g=g)
    known = set(range(0, 2 * labelled, 2))
    unknown = set(range(1, 2 * pool, 2))
    for rows, among in ((planned.labelled, known), (planned.unlabelled_d, unknown), (planned.unlabelled_g, unknown)):
        *whole, rest = blocks(rows, len(among))
        assert all(Counter(block) == Counter(among) for block in whole)
        assert len(set(rest)) == len(rest)
        assert among.issuperset(rest)


@given(pool=st.integers(12, 200), batch=st.integers(2, 12))
def test_an_unlabelled_row_comes_at_most_once_an_epoch_to_each_network(plan: Plan, pool: int, batch: int) -> None:
    planned = plan(pool=pool, batch=batch, k=1)
    for rows in (planned.unlabelled_d, planned.unlabelled_g):
        assert max(Counter(rows.flatten().tolist()).values()) == 1
        assert rows.numel() > pool - batch


def test_a_pool_smaller_than_the_batch_is_one_step_of_repeated_rows(plan: Plan) -> None:
    planned = plan(pool=4, batch=10)
    assert planned.unlabelled_d.shape == (1, 1, 10)
    assert sorted(Counter(planned.unlabelled_d.flatten().tolist()).values()) == [2, 2, 3, 3]
    assert sorted(Counter(planned.unlabelled_g.flatten().tolist()).values()) == [2, 2, 3, 3]


def test_permutations_of_labelled_rows_differ(plan: Plan) -> None:
    tiled = blocks(plan(labelled=10, pool=200, batch=10).labelled, 10)
    assert len({tuple(block) for block in tiled}) == len(tiled) == 20


def test_the_two_networks_orders_are_independent_and_new_every_epoch(plan: Plan) -> None:
    """Two independent permutations of n agree in one place on average, whatever n is."""
    epochs = 300
    plans = [plan(pool=50, batch=10, epoch=epoch) for epoch in range(epochs)]
    orders_d = torch.stack([planned.unlabelled_d.flatten() for planned in plans])
    orders_g = torch.stack([planned.unlabelled_g.flatten() for planned in plans])
    for one, other in ((orders_d, orders_g), (orders_d[1:], orders_d[:-1]), (orders_g[1:], orders_d[:-1])):
        places = (one == other).sum(dim=1).double().mean().item()
        assert places == pytest.approx(1.0, abs=5 / epochs**0.5)


def test_seed_and_epoch_decide(plan: Plan) -> None:
    here, again = plan(epoch=3, seed=5), plan(epoch=3, seed=5)
    assert all(torch.equal(one, other) for one, other in zip(here, again, strict=True))
    for elsewhere in (plan(epoch=4, seed=5), plan(epoch=3, seed=6)):
        assert not any(torch.equal(one, other) for one, other in zip(here, elsewhere, strict=True))
