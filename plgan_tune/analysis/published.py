"""Published test errors for comparison: the patent CN108665058B's table 3 (MNIST) and table 7 (CIFAR-10)."""

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
class Setting:
    """Published numbers and the data that they were measured on.

    Attributes:
        data: name of the data set.
        labels: number of labels.
        epochs: epochs of PL-GAN's training (patent table 2).
        rows: the numbers.
    """

    data: str
    labels: int
    epochs: int
    rows: tuple[Published, ...]


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
    ),
)


def published(source: str, path: str | None, labels: int) -> Setting | None:
    """Return the published numbers for a data set with this many labels; None if there are none.

    Args:
        source: `trial.data.source`; for `parquet` and `folder` the last name of `path` is the name of the set.
        path: `trial.data.path`.
        labels: `trial.data.labels`.
    """
    name = (path or "").rstrip("/").rpartition("/")[2] if source in ("parquet", "folder") else source
    plain = name.lower().replace("-", "").replace("_", "")
    for setting in SETTINGS:
        if setting.labels == labels and setting.data.lower().replace("-", "") == plain:
            return setting
    return None
