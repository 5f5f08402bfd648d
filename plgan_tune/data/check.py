"""Check the data without decoding them, for the dry run and before a search starts."""

from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage

import numpy as np

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.cache import key_of
from plgan_tune.data.decode import check_first, form_of
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL
from plgan_tune.data.sources import cache_of, is_cached, open_half, stamp_half
from plgan_tune.data.splits import check_fit, limit_rows


@dataclass(frozen=True)
class DataSummary:
    """The training images that a trial would hold, after `limit`.

    Attributes:
        classes: Their names.
        images_per_class: Images with a label, including validation, in the order of `classes`.
        unlabelled: Images without a label.
        channels: 1 for grey, 3 for colour.
        size: Height and width in pixels.
    """

    classes: tuple[str, ...]
    images_per_class: tuple[int, ...]
    unlabelled: int
    channels: int
    size: int

    @property
    def images(self) -> int:
        """All images, with and without a label."""
        return sum(self.images_per_class) + self.unlabelled


def check_data(spec: DataSpec, cache: Path | None = None) -> DataSummary:
    """Find the training images, read schema and labels, decode the first image, and check that the split fits.

    Of Parquet files, only the label column and one image are read. A missing torchvision set is downloaded.

    Raises:
        DataError: If the data are missing or damaged, or do not fit `spec`.
    """
    half = open_half(spec, "train", cache_of(spec, cache))
    kept = half.labels[limit_rows(half.labels, spec)]
    if spec.on_broken == "refuse":
        check_first(half, spec)
    form = form_of(half, spec)
    try:
        check_fit(kept, half.classes, spec)
    except DataError as error:
        raise DataError(f"source {spec.source}{f' at {spec.path}' if spec.path else ''}: {error}") from None
    counts = np.bincount(kept[kept != NO_LABEL], minlength=len(half.classes))
    return DataSummary(
        classes=half.classes,
        images_per_class=tuple(counts.tolist()),
        unlabelled=int((kept == NO_LABEL).sum()),
        channels=form.channels,
        size=form.size,
    )


def check_room(spec: DataSpec, summary: DataSummary, cache: Path | None = None) -> None:
    """Check that the cache holds the decoded images, or that its disk has space for them.

    Raises:
        DataError: If the space is too small; the message gives the needed and the free MB.
    """
    if not is_cached(spec):
        return
    folder = cache_of(spec, cache)
    if (folder / key_of(spec, "train", stamp_half(spec, "train", folder))).exists():
        return
    needed = summary.images * summary.channels * summary.size**2
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free = disk_usage(existing).free
    if free < needed:
        raise DataError(
            f"{folder}: the cache of decoded images needs {needed / 1e6:,.1f} MB, but its disk has "
            f"{free / 1e6:,.1f} MB free; the environment variable PLGAN_TUNE_CACHE names another folder"
        )
