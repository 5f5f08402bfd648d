"""A trial's data set: one uint8 tensor of images, from which batches are drawn by index."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.cache import Decoded, cached, gathered, key_of
from plgan_tune.data.decode import Progress, Reading, form_of, read, unseen
from plgan_tune.data.duplicates import also_in, groups_of, one_of_each, torn
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL, Rows
from plgan_tune.data.sources import cache_of, is_cached, open_half, stamp_half
from plgan_tune.data.splits import Split, draw_split, limit_rows
from plgan_tune.data.zca import fit_zca

_BLOCK = 4096
"""Images that are hashed at a time: those of a mapped file need not fit into memory."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """The training images, including those without a label, after `limit`.

    Attributes:
        images: (n, channels, size, size) uint8.
        labels: (n,) int64, -1 for none. The labels of `split.pool` must not be used.
        classes: Their names; a label is an index into them.
        split: Which rows are labelled, unlabelled and validation.
        notes: What was seen while they were read, in sentences for the user.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    split: Split
    notes: tuple[str, ...] = ()

    def to(self, device: torch.device | str) -> "Dataset":
        """Return a copy with all tensors on `device`."""
        split = replace(
            self.split,
            labelled=self.split.labelled.to(device),
            pool=self.split.pool.to(device),
            validation=self.split.validation.to(device),
        )
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), split=split)

    @cached_property
    def whitening(self) -> tuple[Tensor, Tensor]:
        """Mean and matrix of `fit_zca` on the pool, on the CPU. Computed once: all trials of a study share the data."""
        pool = self.images[self.split.pool].flatten(1).to(torch.float32) / 127.5 - 1.0
        return fit_zca(pool.cpu())

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of a sha256 over all images and their labels; the same wherever the files lie."""
        digest = hashlib.sha256(repr(tuple(self.images.shape)).encode())
        for start in range(0, len(self.images), _BLOCK):
            digest.update(np.ascontiguousarray(self.images[start : start + _BLOCK].numpy(force=True)).data)
        digest.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()[:16]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """Height and width in pixels."""
        return self.images.shape[2]

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)


def load_dataset(spec: DataSpec, cache: Path | None = None, progress: Progress = unseen) -> Dataset:
    """Load the training images and their split. The test images are not read.

    Args:
        spec: What to load.
        cache: The folder of decoded images; None is `cache_folder()`.
        progress: Is told how many images are decoded, if they are not in the cache.

    Raises:
        DataError: If the data are missing or damaged, or do not fit `spec`.
    """
    folder = cache_of(spec, cache)
    held = _decoded_train(spec, folder, progress)
    (groups,) = groups_of(held.hashes)
    rows = one_of_each(groups, held.labels) if spec.duplicates == "drop" else np.arange(len(held.labels))
    labels = np.full_like(held.labels, NO_LABEL)  # a copy that is left out has none, so that nobody learns from it
    labels[rows] = held.labels[rows]
    split = draw_split(torch.from_numpy(labels[rows]), spec, len(held.classes)).at(torch.from_numpy(rows))
    notes = (*held.notes, *(() if spec.refit else _on_copies(groups, held.labels, split, len(rows))))
    return Dataset(torch.from_numpy(held.images), torch.from_numpy(labels), held.classes, split, notes)


def load_test(spec: DataSpec, cache: Path | None = None, progress: Progress = unseen) -> tuple[Tensor, Tensor]:
    """Load the test images (n, channels, size, size) uint8 and their labels (n,) int64. A search never calls this.

    They have the channels and size of the training images.

    Raises:
        DataError: If the data are missing or damaged, or a test image has a class that training lacks, or no label
            though training has classes.
    """
    folder = cache_of(spec, cache)
    held = _decoded_test(spec, folder, progress)
    return torch.from_numpy(held.images), torch.from_numpy(held.labels)


def notes_on_test(spec: DataSpec, cache: Path | None = None, progress: Progress = unseen) -> tuple[str, ...]:
    """Return what is seen while the test images are read, and how many of them are among the training images.

    Raises:
        DataError: As `load_test` does.
    """
    folder = cache_of(spec, cache)
    train, test = _decoded_train(spec, folder, progress), _decoded_test(spec, folder, progress)
    of_train, of_test = groups_of(train.hashes, test.hashes)
    leaks = also_in(of_test, of_train)
    told = f"{leaks:,} of {of_test.size:,} test images are the same as a training image: test errors are too low"
    return (*(f"test: {note}" for note in test.notes), *([told] if leaks else []))


def _on_copies(groups: Rows, labels: Rows, split: Split, kept: int) -> list[str]:
    """Return sentences on images that are the same, of which `kept` are left."""
    if kept < groups.size:
        return [
            f"{groups.size - kept:,} of {groups.size:,} images are copies, and are left out (data.duplicates: drop)"
        ]
    validation = split.validation.numpy()
    leaks = also_in(groups[validation], groups[np.setdiff1d(np.arange(groups.size), validation)])
    differing = torn(groups, labels)
    notes = []
    if leaks:
        notes.append(
            f"{leaks:,} of {validation.size:,} validation images are the same as one to learn from, so val_error is "
            "too low; data.duplicates: drop keeps one of each"
        )
    if differing:
        notes.append(f"images that are there more than once, with different labels: {differing:,}")
    return notes


def _decoded_train(spec: DataSpec, folder: Path, progress: Progress) -> Decoded:
    if not is_cached(spec):
        return gathered(_read_train(spec, folder, progress))
    key = key_of(spec, "train", stamp_half(spec, "train", folder))
    return cached(folder, key, lambda: _read_train(spec, folder, progress))


def _decoded_test(spec: DataSpec, folder: Path, progress: Progress) -> Decoded:
    if not is_cached(spec):
        return gathered(_read_test(spec, folder, progress))
    # The training half is part of the key: its first image sets the form, its labels the classes.
    stamps = [*stamp_half(spec, "train", folder), *stamp_half(spec, "test", folder)]
    return cached(folder, key_of(spec, "test", stamps), lambda: _read_test(spec, folder, progress))


def _read_train(spec: DataSpec, folder: Path, progress: Progress) -> Reading:
    half = open_half(spec, "train", folder)
    return read(half, limit_rows(half.labels, spec), form_of(half, spec), spec, progress)


def _read_test(spec: DataSpec, folder: Path, progress: Progress) -> Reading:
    train, test = open_half(spec, "train", folder), open_half(spec, "test", folder)
    n_classes = len(train.classes)
    wrong = np.flatnonzero((test.labels < 0) | (test.labels >= n_classes)) if n_classes else np.empty(0, np.int64)
    if wrong.size:
        row = int(wrong[0])
        got = test.labels[row] if test.labels[row] >= 0 else None
        raise DataError(
            f"{test.where(row)}: a test image's label must be in [0, {n_classes - 1}], as in training, but got {got}"
        )
    return read(test, np.arange(test.labels.size), form_of(train, spec), spec, progress)
