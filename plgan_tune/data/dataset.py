"""A trial's data set: one uint8 tensor of images, from which batches are drawn by index."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.cache import Decoded, cached, key_of
from plgan_tune.data.decode import Reading, form_of, read
from plgan_tune.data.errors import DataError
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
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    split: Split

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


def load_dataset(spec: DataSpec, cache: Path | None = None) -> Dataset:
    """Load the training images and their split. The test images are not read.

    Args:
        spec: What to load.
        cache: The folder of decoded images; None is `cache_folder()`.

    Raises:
        DataError: If the data are missing or damaged, or do not fit `spec`.
    """
    folder = cache_of(spec, cache)
    held = _decoded_train(spec, folder)
    labels = torch.from_numpy(held.labels)
    split = draw_split(labels, spec, len(held.classes))
    return Dataset(torch.from_numpy(held.images), labels, held.classes, split)


def load_test(spec: DataSpec, cache: Path | None = None) -> tuple[Tensor, Tensor]:
    """Load the test images (n, channels, size, size) uint8 and their labels (n,) int64. A search never calls this.

    They have the channels and size of the training images.

    Raises:
        DataError: If the data are missing or damaged, or a test image has a class that training lacks, or no label
            though training has classes.
    """
    folder = cache_of(spec, cache)
    held = _decoded_test(spec, folder)
    return torch.from_numpy(held.images), torch.from_numpy(held.labels)


def _decoded_train(spec: DataSpec, folder: Path) -> Decoded:
    if not is_cached(spec):
        return _gathered(_read_train(spec, folder))
    key = key_of(spec, "train", stamp_half(spec, "train", folder))
    return cached(folder, key, lambda: _read_train(spec, folder))


def _decoded_test(spec: DataSpec, folder: Path) -> Decoded:
    if not is_cached(spec):
        return _gathered(_read_test(spec, folder))
    # The training half is part of the key: its first image sets the form, its labels the classes.
    stamps = [*stamp_half(spec, "train", folder), *stamp_half(spec, "test", folder)]
    return cached(folder, key_of(spec, "test", stamps), lambda: _read_test(spec, folder))


def _read_train(spec: DataSpec, folder: Path) -> Reading:
    half = open_half(spec, "train", folder)
    return read(half, limit_rows(half.labels, spec), form_of(half, spec.size))


def _read_test(spec: DataSpec, folder: Path) -> Reading:
    train, test = open_half(spec, "train", folder), open_half(spec, "test", folder)
    n_classes = len(train.classes)
    wrong = np.flatnonzero((test.labels < 0) | (test.labels >= n_classes)) if n_classes else np.empty(0, np.int64)
    if wrong.size:
        row = int(wrong[0])
        got = test.labels[row] if test.labels[row] >= 0 else None
        raise DataError(
            f"{test.where(row)}: a test image's label must be in [0, {n_classes - 1}], as in training, but got {got}"
        )
    return read(test, np.arange(test.labels.size), form_of(train, spec.size))


def _gathered(reading: Reading) -> Decoded:
    return Decoded(np.concatenate(list(reading.blocks)), reading.labels, reading.classes)
