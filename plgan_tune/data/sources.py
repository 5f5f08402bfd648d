"""`data.source` to the module that reads it: the only place that lists them all."""

from pathlib import Path

from plgan_tune.config.trial import DataSpec
from plgan_tune.data.digits import open_digits
from plgan_tune.data.folder import open_folder, stamp_folder
from plgan_tune.data.half import Half, HalfName, Stamp
from plgan_tune.data.parquet import open_parquet, stamp_parquet
from plgan_tune.data.vision import open_vision, stamp_vision


def open_half(spec: DataSpec, name: HalfName, cache: Path) -> Half:
    """The half's labels and undecoded images.

    Raises:
        DataError: where the data are missing or not in the source's layout.
    """
    match spec.source:
        case "digits":
            return open_digits(spec, name)
        case "parquet":
            return open_parquet(spec, name)
        case "folder":
            return open_folder(spec, name)
        case "mnist" | "fashion_mnist" | "cifar10" | "svhn":
            return open_vision(spec, name, cache)


def stamp_half(spec: DataSpec, name: HalfName, cache: Path) -> list[Stamp]:
    """The files that the half consists of, in the version they have now; nothing is read.

    Raises:
        DataError: where they are missing.
    """
    match spec.source:
        case "digits":
            return []
        case "parquet":
            return stamp_parquet(spec, name)
        case "folder":
            return stamp_folder(spec, name)
        case "mnist" | "fashion_mnist" | "cifar10" | "svhn":
            return stamp_vision(spec, name, cache)
