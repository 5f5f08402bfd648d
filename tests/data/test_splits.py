"""What a split promises, for any labels."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.splits import draw_split, even_quotas, limit_rows


def spec_of(labels: int, validation: int, **keys: Any) -> DataSpec:
    return DataSpec(source="parquet", labels=labels, validation=validation, **keys)


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, DataSpec, int]:
    """Labels, some missing, and a split that fits them."""
    n_classes = draw(st.integers(2, 5))
    kept, held_out = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    counts = [kept + held_out + draw(st.integers(1, 6)) for _ in range(n_classes)]
    labels = np.repeat(np.arange(-1, n_classes), [draw(st.integers(0, 8)), *counts])
    np.random.default_rng(draw(st.integers(0, 99))).shuffle(labels)
    spec = spec_of(
        kept * n_classes,
        held_out * n_classes,
        labels_in_pool=draw(st.booleans()),
        split_seed=draw(st.integers(0, 2**63 - 1)),
    )
    return torch.from_numpy(labels), spec, n_classes


@given(problems())
def test_parts_are_balanced_disjoint_and_cover(problem: tuple[torch.Tensor, DataSpec, int]) -> None:
    labels, spec, n_classes = problem
    split = draw_split(labels, spec, n_classes)
    labelled, pool, validation = (set(part.tolist()) for part in (split.labelled, split.pool, split.validation))
    for part, total in ((split.labelled, spec.labels), (split.validation, spec.validation)):
        assert labels[part].bincount(minlength=n_classes).tolist() == [total // n_classes] * n_classes
    assert not validation & (labelled | pool)
    assert labelled | pool | validation == set(range(len(labels)))
    assert labelled & pool == (labelled if spec.labels_in_pool else set())
    assert all(part.dtype == torch.int64 for part in (split.labelled, split.pool, split.validation))


@given(problems())
def test_a_refit_trains_on_the_validation_images_as_well_and_on_nothing_else(
    problem: tuple[torch.Tensor, DataSpec, int],
) -> None:
    labels, spec, n_classes = problem
    split = draw_split(labels, spec, n_classes)
    refit = draw_split(labels, spec.model_copy(update={"refit": True}), n_classes)
    assert torch.equal(refit.validation, split.validation)
    assert torch.equal(refit.labelled, torch.cat([split.labelled, split.validation]).sort().values)
    unlabelled = set(range(len(labels))) - set(refit.labelled.tolist())
    assert set(refit.pool.tolist()) == (set(range(len(labels))) if spec.labels_in_pool else unlabelled)
    assert refit.hash != split.hash


@given(problems())
def test_same_seed_same_split(problem: tuple[torch.Tensor, DataSpec, int]) -> None:
    labels, spec, n_classes = problem
    a, b = draw_split(labels, spec, n_classes), draw_split(labels, spec, n_classes)
    assert a.hash == b.hash
    assert torch.equal(a.labelled, b.labelled)


def test_another_seed_is_another_split() -> None:
    labels = torch.arange(400) % 4
    hashes = {draw_split(labels, spec_of(40, 40, split_seed=seed), 4).hash for seed in range(20)}
    assert len(hashes) == 20


def test_hash_depends_on_labels_and_on_every_part() -> None:
    labels = torch.arange(40) % 2
    base = spec_of(4, 4)
    specs = [base, *(base.model_copy(update=change) for change in ({"labels_in_pool": False}, {"labels": 6}))]
    hashes = {draw_split(labels, spec, 2).hash for spec in specs} | {draw_split(1 - labels, base, 2).hash}
    assert len(hashes) == 4


def test_split_is_the_same_on_every_machine() -> None:
    split = draw_split(torch.arange(60) % 3, spec_of(6, 6, split_seed=7), 3)
    assert split.labelled.tolist() == [2, 10, 13, 33, 36, 47]
    assert split.validation.tolist() == [9, 18, 20, 37, 38, 52]
    assert split.hash == "1dce754db7282ac0"


def test_more_labels_hold_the_fewer_and_leave_validation_alone() -> None:
    labels = torch.arange(100) % 2
    few, many = (draw_split(labels, spec_of(n, 20), 2) for n in (4, 30))
    assert set(few.labelled.tolist()) < set(many.labelled.tolist())
    assert torch.equal(few.validation, many.validation)


@pytest.mark.parametrize(
    ("labels", "validation", "said"),
    [
        (5, 4, r"`trial.data.labels` must be a multiple .*labels=5, classes=2.*4 and 6"),
        (4, 1, r"`trial.data.validation` must be a multiple .*validation=1, classes=2.*ones are 2$"),
        (12, 10, r"must fit into every class.*takes 11 images a class, and class '0' has 10"),
    ],
)
def test_what_does_not_fit_is_refused(labels: int, validation: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        draw_split(torch.arange(20) % 2, spec_of(labels, validation), 2)


def test_all_broken_rules_are_said_at_once() -> None:
    with pytest.raises(DataError, match=r"(?s)data\.labels` must be.*data\.validation` must be.*must fit"):
        draw_split(torch.arange(20) % 2, spec_of(31, 31), 2)


def test_an_empty_pool_is_refused() -> None:
    labels = torch.arange(8) % 2
    assert len(draw_split(labels, spec_of(4, 4), 2).pool) == 4
    with pytest.raises(DataError, match="pool must hold at least 1 image"):
        draw_split(labels, spec_of(4, 4, labels_in_pool=False), 2)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2 classes"):
        draw_split(torch.zeros(9, dtype=torch.int64), spec_of(1, 1), 1)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 200))
def test_quotas_are_as_even_as_the_classes_allow(available: list[int], total: int) -> None:
    quotas = even_quotas(available, total)
    assert sum(quotas) == min(total, sum(available))
    assert all(q <= a for q, a in zip(quotas, available, strict=True))
    open_ended = [q for q, a in zip(quotas, available, strict=True) if q < a]
    assert not open_ended or max(quotas) - min(open_ended) <= 1


@given(st.integers(1, 60), st.integers(0, 20), st.integers(0, 5))
def test_limit_is_balanced_and_keeps_at_most_as_many_unlabelled(limit: int, unlabelled: int, seed: int) -> None:
    labels = np.concatenate([np.arange(30) % 3, np.full(unlabelled, -1)])
    rows = limit_rows(labels, spec_of(3, 3, limit=limit, split_seed=seed))
    kept = labels[rows]
    counts = np.bincount(kept[kept >= 0], minlength=3)
    assert counts.sum() == min(limit, 30)
    assert counts.max() - counts.min() <= 1
    assert (kept < 0).sum() == min(limit, unlabelled)
    assert (np.diff(rows) > 0).all()


def test_limit_is_drawn_with_the_split_seed() -> None:
    labels = np.arange(200) % 2
    draws = [limit_rows(labels, spec_of(2, 2, limit=50, split_seed=seed)).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


@given(problems())
def test_without_labels_the_validation_images_stay_and_all_others_are_the_pool(
    problem: tuple[torch.Tensor, DataSpec, int],
) -> None:
    labels, spec, n_classes = problem
    none = spec.model_copy(update={"labels": 0})
    split = draw_split(labels, none, n_classes)
    assert torch.equal(split.validation, draw_split(labels, spec, n_classes).validation)
    assert split.labelled.tolist() == []
    assert set(split.pool.tolist()) == set(range(len(labels))) - set(split.validation.tolist())
    refit = draw_split(labels, none.model_copy(update={"refit": True}), n_classes)
    assert (refit.labelled.tolist(), refit.pool.tolist()) == ([], list(range(len(labels))))


def test_images_of_no_class_are_drawn_from_all() -> None:
    unknown = torch.full((50,), -1)
    split = draw_split(unknown, spec_of(0, 7), 0)
    assert len(split.validation) == 7
    assert set(split.pool.tolist()) | set(split.validation.tolist()) == set(range(50))
    assert not torch.equal(split.validation, draw_split(unknown, spec_of(0, 7, split_seed=1), 0).validation)
    with pytest.raises(DataError, match="at least 2 classes must have a label"):
        draw_split(unknown, spec_of(4, 7), 0)
    with pytest.raises(DataError, match="pool must hold at least 1 image"):
        draw_split(unknown, spec_of(0, 50), 0)
