"""Draw labelled, unlabelled and validation rows from `split_seed`, the same on every machine."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import PCG64, SeedSequence
from torch import Tensor

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL, Rows

_SPLIT_STREAM = 0
_LIMIT_STREAM = 1


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of `Dataset.images`, int64, ascending.

    Attributes:
        labelled: (labels,) images that keep their label, equally many of each class; with `refit` also those of
            validation, unless there are none.
        pool: Images that training uses without a label: all except validation, with or without the labelled ones
            (`labels_in_pool`).
        validation: (validation,) images to measure by, equally many of each class, or any if no class is known. They
            are in no other part, except with `refit`.
        hash: 16 hexadecimal digits of a sha256 over the three and all labels; the same on every machine.
    """

    labelled: Tensor
    pool: Tensor
    validation: Tensor
    hash: str

    def at(self, rows: Tensor) -> "Split":
        """Return the split of a data set of which this one's images are the rows `rows` (ascending)."""
        return replace(self, labelled=rows[self.labelled], pool=rows[self.pool], validation=rows[self.validation])


def draw_split(labels: Tensor, spec: DataSpec, n_classes: int) -> Split:
    """Draw validation, then labelled images, from each class in an order that `split_seed` determines.

    A smaller number of labels draws a subset of a larger one. The validation images do not depend on it. If no image
    has a class, the validation images are drawn from all.

    Args:
        labels: (n,) int64, -1 for none.
        spec: The numbers to draw.
        n_classes: The number of classes.

    Raises:
        DataError: If `labels` and `validation` do not fit the images (see `check_fit`).
    """
    known = labels.numpy(force=True)
    check_fit(known, tuple(map(str, range(n_classes))), spec)
    bits = _bits(spec.split_seed, _SPLIT_STREAM)
    groups = [np.flatnonzero(known == c) for c in range(n_classes)] or [np.arange(known.size)]
    held_out, kept = spec.validation // len(groups), spec.labels // len(groups)
    orders = [_shuffled(group, bits) for group in groups]
    validation = np.sort(np.concatenate([order[:held_out] for order in orders]))
    labelled = np.sort(np.concatenate([order[held_out : held_out + kept] for order in orders]))
    if spec.refit and spec.labels:
        labelled = np.sort(np.concatenate([labelled, validation]))
    outside = ([] if spec.refit else [validation]) + ([] if spec.labels_in_pool else [labelled])
    pool = np.setdiff1d(np.arange(known.size), _joined(outside), assume_unique=True)
    return Split(
        labelled=torch.from_numpy(labelled),
        pool=torch.from_numpy(pool),
        validation=torch.from_numpy(validation),
        hash=_digest(labelled, pool, validation, known),
    )


def check_fit(labels: Rows, classes: Sequence[str], spec: DataSpec) -> None:
    """Check that `labels` and `validation` can be drawn, class-balanced, from images with these labels.

    Raises:
        DataError: With every broken rule, one per line.
    """
    if len(classes) < 2 and spec.labels:
        raise DataError(f"images of at least 2 classes must have a label, but got classes {list(classes)}")
    fits = _too_few(labels, classes, spec) if classes else _pool_left(labels, spec)
    problems = [*_indivisible(len(classes), spec), *fits]
    if problems:
        raise DataError("\n".join(problems))


def limit_rows(labels: Rows, spec: DataSpec) -> Rows:
    """Return the rows that `limit` keeps, in ascending order.

    It keeps that many labelled images, as class-balanced as possible, and at most as many unlabelled ones.
    """
    if spec.limit is None:
        return np.arange(labels.size)
    bits = _bits(spec.split_seed, _LIMIT_STREAM)
    labelled = balanced_rows(labels, spec.limit, bits)
    unlabelled = _shuffled(np.flatnonzero(labels == NO_LABEL), bits)[: spec.limit]
    return np.sort(np.concatenate([labelled, unlabelled]))


def balanced_rows(labels: Rows, total: int, bits: PCG64) -> Rows:
    """Return `total` labelled rows, or all if there are fewer, divided among the classes by `even_quotas`."""
    counts = np.bincount(labels[labels != NO_LABEL])
    quotas = even_quotas(counts.tolist(), total)
    orders = [_shuffled(np.flatnonzero(labels == c), bits) for c in range(len(quotas))]
    return np.sort(_joined([order[:quota] for order, quota in zip(orders, quotas, strict=True)]))


def even_quotas(available: Sequence[int], total: int) -> list[int]:
    """Divide `total` among the classes: none gets more than it has, and those with images left differ by at most 1."""
    quotas = [0] * len(available)
    left = total
    smallest_first = sorted(range(len(available)), key=lambda c: available[c])
    for place, c in enumerate(smallest_first):
        quotas[c] = min(available[c], left // (len(available) - place))
        left -= quotas[c]
    return quotas


def _indivisible(n_classes: int, spec: DataSpec) -> list[str]:
    return [
        f"`trial.data.{key}` must be a multiple of the number of classes, but got "
        f"({key}={value}, classes={n_classes}); "
        f"the next ones are {' and '.join(str(m) for m in _neighbours(value, n_classes))}"
        for key, value in (("labels", spec.labels), ("validation", spec.validation))
        if n_classes and value % n_classes
    ]


def _neighbours(value: int, step: int) -> list[int]:
    below = value // step * step
    return [below, below + step] if below else [step]


def _too_few(labels: Rows, classes: Sequence[str], spec: DataSpec) -> list[str]:
    counts = np.bincount(labels[labels != NO_LABEL], minlength=len(classes))
    needed = -(-spec.labels // len(classes)) + -(-spec.validation // len(classes))
    smallest = int(counts.argmin())
    if counts[smallest] < needed:
        return [
            f"`trial.data.labels + trial.data.validation` must fit into every class, but got {_numbers(spec)}, "
            f"which takes {needed} images a class, and class {classes[smallest]!r} has {counts[smallest]}"
        ]
    return _pool_left(labels, spec)


def _pool_left(labels: Rows, spec: DataSpec) -> list[str]:
    pool = labels.size - spec.validation - (0 if spec.labels_in_pool else spec.labels)
    if pool < 1:
        got = _numbers(spec)
        return [f"the unlabelled pool must hold at least 1 image, but got {got} of {labels.size} training images"]
    return []


def _numbers(spec: DataSpec) -> str:
    limit = "" if spec.limit is None else f", limit={spec.limit}"
    return f"(labels={spec.labels}, validation={spec.validation}{limit})"


def _bits(seed: int, stream: int) -> PCG64:
    return PCG64(SeedSequence((seed, stream)))


def _shuffled(rows: Rows, bits: PCG64) -> Rows:
    # NumPy guarantees that a bit generator's raw stream never changes, but not Generator's use of it.
    keys = np.asarray(bits.random_raw(rows.size), dtype=np.uint64)
    return rows[np.argsort(keys, kind="stable")]


def _joined(parts: Sequence[Rows]) -> Rows:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _digest(*arrays: Rows) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.size.to_bytes(8, "little"))
        digest.update(array.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
