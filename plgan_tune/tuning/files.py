"""The two YAML files of a study: what was asked for, and the best that was found."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from plgan_tune.records import TrialRow
from plgan_tune.spec.study import MADE_WITH, StudySpec
from plgan_tune.spec.trial import TrialSpec, trial_as_mapping
from plgan_tune.spec.yaml import dump_yaml
from plgan_tune.store.location import Location
from plgan_tune.tuning.provenance import provenance

STUDY_FILE = "study.yaml"
BEST_FILE = "best.yaml"


def write_study(location: Location, spec: StudySpec, started: datetime, earlier: Sequence[Any] = ()) -> None:
    """The resolved study, itself a space file, and what it was made with at this start and at `earlier` ones."""
    start = {"started_at": started.isoformat(timespec="seconds"), **provenance()}
    location.join(STUDY_FILE).write_text(dump_yaml({**spec.as_mapping(), MADE_WITH: [*earlier, start]}))


def write_best(location: Location, spec: StudySpec, best: TrialRow, trial: TrialSpec, threads: int) -> None:
    """The best configuration, ready for `train --config`."""
    header = (
        f"# The best of study {location.name}: trial {best.trial_id}, val_error {best.val_error_last} at epoch "
        f"{best.epochs}.\n"
        "# plgan_tune.train repeats that number on the same kind of machine with the same number of threads:\n"
        f"#   OMP_NUM_THREADS={threads} python -m plgan_tune.train --config {BEST_FILE}\n"
    )
    location.join(BEST_FILE).write_text(header + dump_yaml({"study": spec.study, **trial_as_mapping(trial)}))
