"""The readers of each `data.source`. Only this module lists them all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from plgan_tune.config.trial import DataSpec
from plgan_tune.config.trial import Source as SourceName
from plgan_tune.data.cache import cache_folder
from plgan_tune.data.digits import open_digits
from plgan_tune.data.folder import open_folder, stamp_folder
from plgan_tune.data.half import Half, HalfName, Source, Stamp
from plgan_tune.data.parquet import open_parquet, stamp_parquet
from plgan_tune.data.vision import open_vision, stamp_vision

SOURCES: Final[Mapping[SourceName, Source]] = {
    "digits": Source(open_digits, None),
    "mnist": Source(open_vision, stamp_vision),
    "fashion_mnist": Source(open_vision, stamp_vision),
    "cifar10": Source(open_vision, stamp_vision),
    "svhn": Source(open_vision, stamp_vision),
    "parquet": Source(open_parquet, stamp_parquet),
    "folder": Source(open_folder, stamp_folder),
}


def cache_of(spec: DataSpec, chosen: Path | None) -> Path:
    """Return the folder of decoded images: `chosen`, or else `cache_folder()`, unless the source never needs one.

    Raises:
        DataError: As `cache_folder`.
    """
    return chosen or (cache_folder() if is_cached(spec) else Path())


def open_half(spec: DataSpec, name: HalfName, cache: Path) -> Half:
    """Return the half's labels and undecoded images.

    Raises:
        DataError: If the data are missing or not in the source's layout.
    """
    return SOURCES[spec.source].open(spec, name, cache)


def is_cached(spec: DataSpec) -> bool:
    """Return whether the source's decoded images are cached on disk."""
    return SOURCES[spec.source].stamp is not None


def stamp_half(spec: DataSpec, name: HalfName, cache: Path) -> list[Stamp]:
    """Return the half's files and their current versions, without reading them.

    Raises:
        DataError: If they are missing.
    """
    stamp = SOURCES[spec.source].stamp
    return [] if stamp is None else stamp(spec, name, cache)
