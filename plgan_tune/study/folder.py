"""A study's folder: which it is, and its two YAML files, what was asked for and the best that was found."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import NAME, StudySpec
from plgan_tune.config.trial import TrialSpec, configuration_as_mapping
from plgan_tune.config.urls import check_no_password
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.records import TrialRow
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.errors import StudyError
from plgan_tune.study.provenance import provenance
from plgan_tune.study.study_file import STUDY_FILE, StudyFile

BEST_FILE = "best.yaml"


def with_absolute_path(spec: StudySpec) -> StudySpec:
    """A trial's process has another working folder than the user."""
    path = spec.any_trial().data.path
    return spec if path is None or "://" in path else spec.with_path(str(Path(path).expanduser().absolute()))


def write_study(
    location: Location,
    spec: StudySpec,
    started: datetime,
    earlier: Sequence[Any] = (),
    about: Mapping[str, Any] = MappingProxyType({}),
) -> StudyFile:
    """Writes the resolved study, and what it was made with at this start and at `earlier` ones.

    Args:
        about: what else is to be known of this start.
    """
    file = StudyFile(spec, (*earlier, {**start_as_mapping(started), **about}))
    file.write(location)
    return file


def start_as_mapping(started: datetime) -> dict[str, str]:
    """When a study was started, and with which versions."""
    return {"started_at": started.isoformat(timespec="seconds"), **provenance()}


def write_best(location: Location, spec: StudySpec, best: TrialRow, trial: TrialSpec, threads: int) -> None:
    """The best configuration, ready for `train --config`."""
    header = (
        f"# The best of study {location.name}: trial {best.trial_id}, val_error {best.val_error_last} at epoch "
        f"{best.epochs}.\n"
        "# plgan_tune.train repeats that number on the same kind of machine:\n"
        f"#   python -m plgan_tune.train --config {BEST_FILE}\n"
    )
    location.join(BEST_FILE).write_text(header + dump_yaml(configuration_as_mapping(spec.study, trial, threads)))


def default_name(spec: StudySpec, started: datetime) -> str:
    """The study's name and the UTC time."""
    return f"{spec.study}-{started:%Y%m%d-%H%M%S}"


LONGEST_NAME = 200


def study_location(results: str | Path, name: str | None, default: str, *, resume: bool) -> Location:
    """The study's folder, checked to be free, or to be resumed. Nothing is written.

    Args:
        name: that the user chose; None takes `default`.

    Raises:
        StudyError: naming the option at fault.
    """
    if not str(results):
        raise StudyError("--results must be a folder or URL, but got ''")
    if str(results).startswith("memory://"):
        raise StudyError("--results memory:// is lost with its process: name a folder or a shared URL")
    try:
        check_no_password(str(results))
    except RuleError as error:
        raise StudyError(f"--results {error}") from None
    if resume and name is None:
        raise StudyError("--resume needs --name, the study to resume")
    name = default if name is None else name
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise StudyError(
            f"--name must be at most {LONGEST_NAME} letters, digits, '.', '_' and '-', the first a letter or digit, "
            f"but got {name!r}"
        )
    try:
        location = Location.at(results).join(name)
        found = location.list()
    except StoreError as error:
        raise StudyError(f"--results {results}: must be a folder or URL that can be written: {error}") from error
    if found and not resume:
        raise StudyError(taken(location))
    foreign = [name for name in found if not name.startswith("_")]
    if foreign and STUDY_FILE not in found:
        raise StudyError(
            f"--name {name}: {location.url} must be a study, or empty to begin one, but it has no {STUDY_FILE} and "
            f"holds {', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}; if it was a study, put a copy of "
            f"{STUDY_FILE} back, else take another --name"
        )
    return location


def taken(study: Location) -> str:
    """What to say where a new study's name is another's."""
    return f"--name {study.name}: {study.url} already exists; add --resume to continue it, or choose another name"
