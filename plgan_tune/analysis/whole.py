"""Checks that a study's tables match its file: they may have been edited by hand."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import pandas as pd
from pydantic import ValidationError

from plgan_tune.config.domains import Choice
from plgan_tune.config.errors import show
from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialStatus, Value
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.read import EPOCHS, TRIALS
from plgan_tune.store.schemas import trials_schema
from plgan_tune.study.study_file import STUDY_FILE

Row = Mapping[Hashable, Any]


def check_columns(study: Location, spec: StudySpec, trials: Any) -> None:
    """Check the columns of the searched keys in the table of trials.

    Raises:
        StoreError: if a column is missing or of another type.
    """
    if not trials.num_rows:  # a study without trials may lack the columns
        return
    file, asked = study.join(*TRIALS).url, trials_schema(spec.columns, spec.types, *spec.metric_names)
    for path, column in spec.columns.items():
        if column not in trials.column_names:
            raise StoreError(f"{file} must have a column {column}, because {STUDY_FILE} searches trial.{path}")
        kind, found = asked.field(column).type, trials.schema.field(column).type
        if found != kind:
            raise StoreError(
                f"{file}: column {column} must hold {kind}, as {STUDY_FILE} searches trial.{path}, but holds {found}"
            )


def check_epochs(study: Location, epochs: Any) -> None:
    """Check that no epoch of an attempt occurs twice.

    Raises:
        StoreError: if one does.
    """
    keys = ["trial_id", "attempt", "epoch"]
    frame = epochs.select(keys).to_pandas(strings_to_categorical=True)
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        trial_id, attempt, epoch = twice.iloc[0]
        raise StoreError(
            f"{study.join(EPOCHS).url} must hold an attempt's epoch once, but epoch {epoch} of {trial_id}'s attempt "
            f"{attempt} occurs twice"
        )


def check_trials(
    study: Location, spec: StudySpec, trials: pd.DataFrame, point: Callable[[Row], Mapping[str, Value]]
) -> None:
    """Check that ended trials have a time and a value, and that all trials are valid configurations.

    Args:
        study: the study's folder.
        spec: its specification.
        trials: its trials.
        point: returns the searched values of a row of `trials`.

    Raises:
        StoreError: if a trial fails a check.
    """
    file = study.join(*TRIALS).url
    completed = trials["status"] == TrialStatus.COMPLETED
    ended = trials["status"] != TrialStatus.RUNNING
    last = [f"{name}_last" for name in spec.metric_names]
    for which, column, words in (
        (ended, "ended_at", "has ended"),
        *((completed, one, "has completed") for one in last),
    ):
        without = trials[which & trials[column].isna()]
        if len(without):
            raise StoreError(f"{file}: {without['trial_id'].iloc[0]} {words}, so {column} must have a value")
    places = sorted({place for path in spec.columns for place in _extremes(file, spec, trials, path)})
    for row in trials.iloc[places].to_dict("records"):
        try:
            spec.trial(values := point(row))
        except ValidationError as error:
            path = ".".join(map(str, error.errors()[0]["loc"]))
            value = f"{path} is {show(values[path])}" if path in values else error.errors()[0]["msg"]
            raise StoreError(f"{file}: {row['trial_id']} must be a valid trial, but {value}") from error
        except (ValueError, KeyError) as error:  # text that is not a list, an unknown kind
            raise StoreError(f"{file}: {row['trial_id']} must be a valid trial, but got {error}") from error


def _extremes(file: str, spec: StudySpec, trials: pd.DataFrame, path: str) -> Iterator[int]:
    """Yield rows that violate a key's rule if any row does: its lowest and highest value, or one of each option."""
    column, domain = spec.columns[path], spec.domains[path]
    if not len(trials):
        return
    cells = trials[column].reset_index(drop=True)
    may_be_none = isinstance(domain, Choice) and None in domain.options
    if cells.isna().any() and not may_be_none:
        raise StoreError(f"{file}: {trials['trial_id'][cells.isna().to_numpy()].iloc[0]} must have a {column}")
    if isinstance(domain, Choice):
        yield from cells.drop_duplicates().index
    else:
        yield from (int(cells.argmin()), int(cells.argmax()))
