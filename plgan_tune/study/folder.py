"""A study's folder: its location and its two YAML files, the resolved study and the best configuration."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from plgan_tune.config.errors import RuleError
from plgan_tune.config.own import FILE, read_own
from plgan_tune.config.study import NAME, StudySpec, set_paths
from plgan_tune.config.trial import TrialSpec, configuration_as_mapping
from plgan_tune.config.urls import check_no_password
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.location import Location, StoreError, remove_unfinished
from plgan_tune.store.own import FOLDER
from plgan_tune.study.errors import StudyError
from plgan_tune.study.provenance import provenance
from plgan_tune.study.race import Standing
from plgan_tune.study.study_file import STUDY_FILE, StudyFile

BEST_FILE = "best.yaml"

FRONT_FOLDER = "front"
"""Of a study by two metrics: a file of each configuration of the front, named by its trial."""


def with_absolute_path(spec: StudySpec) -> StudySpec:
    """Make `data.path` absolute: a trial's process has another working folder than the user."""
    path = spec.any_trial().data.path
    return spec if path is None or "://" in path else spec.with_path(str(Path(path).expanduser().absolute()))


def own_content(spec: StudySpec) -> bytes | None:
    """Return what the user's own file holds; None if the study has none.

    Raises:
        RuleError: if it cannot be read.
    """
    file = spec.template["own"]["file"]
    return None if file is None else read_own(Path(file))


def with_own_copy(spec: StudySpec) -> StudySpec:
    """Name the copy of the user's own file in the study's folder, relative to `study.yaml` and `best.yaml`."""
    sha256 = spec.template["own"]["sha256"]
    if sha256 is None:
        return spec
    return replace(spec, template=set_paths(spec.template, {FILE: f"{FOLDER}/{sha256}.py"}))


def write_study(
    location: Location,
    spec: StudySpec,
    started: datetime,
    earlier: Sequence[Any] = (),
    about: Mapping[str, Any] = MappingProxyType({}),
) -> StudyFile:
    """Write the resolved study and the provenance of this start and of `earlier` ones.

    Args:
        location: the study's folder.
        spec: the resolved study.
        started: UTC time of this start.
        earlier: entries of earlier starts.
        about: more entries for this start.
    """
    file = StudyFile(spec, (*earlier, {**start_as_mapping(started), **about}))
    file.write(location)
    return file


def start_as_mapping(started: datetime) -> dict[str, str]:
    """Return when a study was started, and with which versions."""
    return {"started_at": started.isoformat(timespec="seconds"), **provenance()}


def write_best(
    location: Location, spec: StudySpec, best: TrialRow, trial: TrialSpec, threads: int, standing: Standing
) -> None:
    """Write the best configuration, ready for `train --config`."""
    in_the_search, confirmed = _in_the_search(best, spec.metric.name), _confirmed(standing, spec.metric.name)
    header = (
        f"# The best of study {location.name}: trial {best.trial_id}{in_the_search}.\n{confirmed}"
        f"#   python -m plgan_tune.train --config {BEST_FILE}\n"
    )
    location.join(BEST_FILE).write_text(header + dump_yaml(configuration_as_mapping(spec.study, trial, threads)))


def write_front(location: Location, spec: StudySpec, front: Sequence[TrialRow], threads: int) -> None:
    """Write each configuration of the front, ready for `train --config`, and remove those that left it.

    A file of another name belongs to the user.
    """
    folder = location.join(FRONT_FOLDER)
    files = {f"{row.trial_id}.yaml": row for row in front}
    for name, row in files.items():
        configuration = configuration_as_mapping(spec.study, spec.trial(row.params), threads)
        if (own := configuration["trial"].get("own", {}).get("file")) is not None:
            configuration = set_paths(configuration, {f"trial.{FILE}": f"../{own}"})  # relative to the file itself
        folder.join(name).write_text(_of_front(location, spec, row) + dump_yaml(configuration))
    remove_unfinished(folder)
    stale = [name for name in folder.list() if _OF_FRONT.fullmatch(name) and name not in files]
    for name in stale:
        folder.join(name).remove()


_OF_FRONT = re.compile(r"t\d+\.yaml")


def _of_front(location: Location, spec: StudySpec, row: TrialRow) -> str:
    values = zip(spec.metric_names, (row.value_last, row.second_last), strict=True)
    said = " and ".join(f"{name} {value}" for name, value in values)
    return (
        f"# On the front of study {location.name}: trial {row.trial_id}, {said} at epoch {row.epochs}, of one seed.\n"
        f"#   python -m plgan_tune.train --config {FRONT_FOLDER}/{row.trial_id}.yaml\n"
    )


def _in_the_search(best: TrialRow, metric: str) -> str:
    if best.status is not TrialStatus.COMPLETED:  # the first point, whose replicates are whole
        return ", which was stopped early in the search"
    value = f"{metric} {best.value_last} at epoch {best.epochs}"
    return f", {value}, which plgan_tune.train repeats on the same kind of machine"


def _confirmed(standing: Standing, metric: str) -> str:
    winner = standing.winner
    if winner is None:
        return ""
    seeds = f"{len(winner.judging)} fresh seed{'s' * (len(winner.judging) > 1)}"
    return f"# Mean {metric} on {seeds} that had chosen nothing before: {winner.mean}.\n"


def default_name(spec: StudySpec, started: datetime) -> str:
    """Return the study's name with the UTC time."""
    return f"{spec.study}-{started:%Y%m%d-%H%M%S}"


LONGEST_NAME = 200


def study_location(results: str | Path, name: str | None, default: str, *, resume: bool) -> Location:
    """Return the study's folder after a check that it is free, or can be resumed. Nothing is written.

    Args:
        results: folder or URL that holds the studies.
        name: the user's choice; None takes `default`.
        default: name of a new study without a choice.
        resume: whether to resume the study of that name.

    Raises:
        StudyError: if an option is wrong; the message names it.
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
            f"--name {name}: {location.url} must be a study or an empty folder, but it has no {STUDY_FILE} and holds "
            f"{', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}; if it was a study, put a copy of "
            f"{STUDY_FILE} back, else choose another --name"
        )
    return location


def taken(study: Location) -> str:
    """Return the message for a new study whose name is already in use."""
    return f"--name {study.name}: {study.url} already exists; add --resume to continue it, or choose another name"
