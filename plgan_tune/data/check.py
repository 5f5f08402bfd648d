"""What can be known of the data without decoding them: for the dry run, and before a search starts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from plgan_tune.data.cache import cache_folder
from plgan_tune.data.decode import form_of
from plgan_tune.data.errors import DataError
from plgan_tune.data.half import NO_LABEL
from plgan_tune.data.sources import open_half
from plgan_tune.data.splits import check_fit, limit_rows
from plgan_tune.spec.trial import DataSpec


@dataclass(frozen=True)
class DataSummary:
    """The training images that a trial would hold, after `limit`.

    Attributes:
        classes: names.
        images_per_class: images with a label, validation included, in the order of `classes`.
        unlabelled: images that have no label.
        channels: 1 for grey, 3 for colour.
        size: height and width in pixels.
    """

    classes: tuple[str, ...]
    images_per_class: tuple[int, ...]
    unlabelled: int
    channels: int
    size: int

    @property
    def images(self) -> int:
        return sum(self.images_per_class) + self.unlabelled


def check_data(spec: DataSpec, cache: Path | None = None) -> DataSummary:
    """Finds the training images, reads schema and labels, decodes the first image, sees if the split fits.

    Of Parquet files it reads the label column and one image; a torchvision set is downloaded where absent.

    Raises:
        DataError: where the data are missing or broken, or do not fit `spec`.
    """
    half = open_half(spec, "train", cache or cache_folder())
    kept = half.labels[limit_rows(half.labels, spec)]
    form = form_of(half, spec.size)
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
