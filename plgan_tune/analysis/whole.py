"""Whether a study's tables are what its file asks for: edited by hand they may be anything."""

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
    """Raises StoreError where the table of trials lacks a searched key's column, or has it of another type."""
    if not trials.num_rows:  # a study without a trial yet may have no column of its keys
        return
    file, asked = study.join(*TRIALS).url, trials_schema(spec.columns, spec.types)
    for path, column in spec.columns.items():
        if column not in trials.column_names:
            raise StoreError(f"{file} must have a column {column}, for {STUDY_FILE} searches trial.{path}")
        kind, found = asked.field(column).type, trials.schema.field(column).type
        if found != kind:
            raise StoreError(
                f"{file}: column {column} must hold {kind}, as {STUDY_FILE} searches trial.{path}, but holds {found}"
            )


def check_epochs(study: Location, epochs: Any) -> None:
    """Raises StoreError where an epoch of an attempt is there twice."""
    keys = ["trial_id", "attempt", "epoch"]
    frame = epochs.select(keys).to_pandas(strings_to_categorical=True)
    twice = frame[frame.duplicated(keys)]
    if len(twice):
        trial_id, attempt, epoch = twice.iloc[0]
        raise StoreError(
            f"{study.join(EPOCHS).url} must hold an attempt's epoch once, but epoch {epoch} of {trial_id}'s attempt "
            f"{attempt} is there twice"
        )


def check_trials(
    study: Location, spec: StudySpec, trials: pd.DataFrame, point: Callable[[Row], Mapping[str, Value]]
) -> None:
    """Raises StoreError where a trial has ended without its end's time or error, or is one that none can be.

    Args:
        point: the searched values of a row of `trials`.
    """
    file = study.join(*TRIALS).url
    completed = trials["status"] == TrialStatus.COMPLETED
    ended = trials["status"] != TrialStatus.RUNNING
    for which, column, words in ((ended, "ended_at", "has ended"), (completed, "val_error_last", "has completed")):
        without = trials[which & trials[column].isna()]
        if len(without):
            raise StoreError(f"{file}: {without['trial_id'].iloc[0]} {words}, so {column} must hold something")
    places = sorted({place for path in spec.columns for place in _extremes(file, spec, trials, path)})
    for row in trials.iloc[places].to_dict("records"):
        try:
            spec.trial(values := point(row))
        except ValidationError as error:
            path = ".".join(map(str, error.errors()[0]["loc"]))
            value = f"{path} is {show(values[path])}" if path in values else error.errors()[0]["msg"]
            raise StoreError(f"{file}: {row['trial_id']} must be a trial that can be, but {value}") from error
        except (ValueError, KeyError) as error:  # text that is no list, a kind that is none
            raise StoreError(f"{file}: {row['trial_id']} must be a trial that can be, but got {error}") from error


def _extremes(file: str, spec: StudySpec, trials: pd.DataFrame, path: str) -> Iterator[int]:
    """Rows that break a key's rule where any does: its least and greatest value, or one of each option."""
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
