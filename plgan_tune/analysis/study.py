"""A study as data frames: what it asked for and what its log holds, running or finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from plgan_tune.records import TrialStatus
from plgan_tune.spec.errors import SpecError
from plgan_tune.spec.load import study_from_mapping
from plgan_tune.spec.study import StudySpec
from plgan_tune.spec.yaml import read_yaml
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.read import STUDY_FILE, read_decisions, read_epochs, read_trials


@dataclass(frozen=True, slots=True)
class Study:
    """One study.

    Attributes:
        location: its folder.
        spec: what was asked for.
        trials: one row a trial by number, the columns of `results/README.md`; searched keys are `spec.columns`.
        epochs: one row an epoch of a trial, by seq. Of an epoch that several attempts trained, the latest's.
        decisions: of early stopping, by seq.
    """

    location: Location
    spec: StudySpec
    trials: pd.DataFrame
    epochs: pd.DataFrame
    decisions: pd.DataFrame

    @property
    def name(self) -> str:
        return self.location.name

    @property
    def last_epoch(self) -> int:
        """Epochs of a whole training."""
        return self.spec.any_trial().training.epochs

    @property
    def validation(self) -> int:
        """Images that an error is counted on."""
        return self.spec.any_trial().data.validation

    @property
    def ranked(self) -> pd.DataFrame:
        """Completed trials, the lowest error at the last epoch first; of equals, the first suggested."""
        completed = self.trials[self.trials["status"] == TrialStatus.COMPLETED]
        return completed.sort_values(["val_error_last", "number"])


def read_study(place: str | Path) -> Study:
    """The study in a folder or at an fsspec URL. It may be running: what is on the store by now is read.

    Raises:
        StoreError: where no study is there, or a file of it is corrupt or of a newer version.
    """
    location = Location.at(place)
    spec = _read_spec(location)
    trials = read_trials(location).to_pandas().sort_values("number", ignore_index=True)
    ids = trials["trial_id"].tolist()
    return Study(
        location,
        spec,
        trials,
        _latest(_frame(read_epochs(location), ids)),
        _frame(read_decisions(location), ids),
    )


def _read_spec(location: Location) -> StudySpec:
    file = location.join(STUDY_FILE)
    if not file.exists():
        raise StoreError(f"a study's folder holds {STUDY_FILE}, but {location.url} does not")
    document = read_yaml(file.read_text())
    try:
        return study_from_mapping(document.value if isinstance(document.value, dict) else {})
    except SpecError as error:
        raise StoreError(f"{file.url} is no study of this version of plgan-tune: {error}") from error


def _frame(table: Any, ids: Sequence[str]) -> pd.DataFrame:
    """Ids as categories: a million of them as text would take the room of all numbers together."""
    frame: pd.DataFrame = table.to_pandas(strings_to_categorical=True)
    return frame.assign(trial_id=frame["trial_id"].cat.set_categories(ids))


def _latest(epochs: pd.DataFrame) -> pd.DataFrame:
    """A retried trial reports some epochs again."""
    again = epochs.duplicated(["trial_id", "epoch"], keep="last")
    return epochs[~again].reset_index(drop=True) if again.any() else epochs
