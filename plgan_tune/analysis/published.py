"""Published numbers for comparison: the patent CN108665058B's tables 3 (MNIST), 6 and 7 (CIFAR-10)."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Published:
    """One published number.

    Attributes:
        method: name of the method.
        error: fraction of the test images.
        deviation: as printed after +-, a fraction; None if none is printed.
    """

    method: str
    error: float
    deviation: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """A published Inception score and its +-, of which the patent does not say what it is over."""

    method: str
    mean: float
    deviation: float


@dataclass(frozen=True, slots=True)
class Setting:
    """Published numbers and the data that they were measured on.

    Attributes:
        data: name of the data set.
        labels: number of labels.
        epochs: epochs of PL-GAN's training (patent table 2).
        rows: test errors.
        scores: Inception scores of generated images.
    """

    data: str
    labels: int
    epochs: int
    rows: tuple[Published, ...]
    scores: tuple[Score, ...] = ()


SETTINGS: Final = (
    Setting(
        "MNIST",
        100,
        300,
        (
            Published("PL-GAN", 0.0090, 0.0006),
            Published("Triple-GAN", 0.0091, 0.0058),
            Published("Improved-GAN", 0.0093, 0.0007),
            Published("ADGM", 0.0096, 0.0002),
            Published("Ladder", 0.0106, 0.0037),
            Published("CatGAN", 0.0139, 0.0028),
            Published("VAT", 0.0233),
            Published("M1+M2", 0.0333, 0.0014),
        ),
    ),
    Setting(
        "CIFAR-10",
        4000,
        600,
        (
            Published("Triple-GAN", 0.1699, 0.0036),
            Published("PL-GAN", 0.1730, 0.0056),
            Published("ALI", 0.183),
            Published("Improved-GAN", 0.1863, 0.0232),
            Published("CatGAN", 0.1958, 0.0058),
            Published("Ladder", 0.2040, 0.0047),
            Published("VAT", 0.2465),
        ),
        (
            Score("real images", 11.24, 0.12),
            Score("PL-GAN", 6.87, 0.86),
            Score("regular GAN", 6.16, 0.46),
            Score("feature-wise GAN", 5.54, 0.26),
        ),
    ),
)


def published(source: str, path: str | None, labels: int) -> Setting | None:
    """Return the published numbers for a data set with this many labels; None if there are none.

    Args:
        source: `trial.data.source`; for `parquet` and `folder` the last name of `path` is the name of the set.
        path: `trial.data.path`.
        labels: `trial.data.labels`.
    """
    name = data_name(source, path)
    return next((one for one in SETTINGS if one.labels == labels and plain(one.data) == name), None)


def data_name(source: str, path: str | None) -> str:
    """Return the name of a data set as `plain` has it: its source, or the last name of the path where it is read."""
    return plain((path or "").rstrip("/").rpartition("/")[2] if source in ("parquet", "folder") else source)


def plain(name: str) -> str:
    """Return a data set's name in small letters, without hyphens and underscores."""
    return name.lower().replace("-", "").replace("_", "")
