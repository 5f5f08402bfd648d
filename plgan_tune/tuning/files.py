"""The two YAML files of a study: what was asked for, and the best that was found."""

from datetime import datetime

from plgan_tune.records import TrialRow
from plgan_tune.spec.study import StudySpec
from plgan_tune.spec.trial import TrialSpec
from plgan_tune.spec.yaml import dump_yaml
from plgan_tune.store.location import Location
from plgan_tune.tuning.provenance import provenance

STUDY_FILE = "study.yaml"
BEST_FILE = "best.yaml"


def existing_study(location: Location, spec: StudySpec) -> None: ...


def write_study(location: Location, spec: StudySpec, started: datetime) -> None:
    """The resolved study, itself a space file, with what it was made with in comments that no parser needs."""
    made_with = "\n".join(f"#   {name}: {version}" for name, version in provenance().items())
    header = f"# Study {location.name}, started {started:%Y-%m-%d %H:%M:%S} UTC with\n{made_with}\n"
    location.join(STUDY_FILE).write_text(header + dump_yaml(spec.as_mapping()))


def write_best(location: Location, spec: StudySpec, best: TrialRow, trial: TrialSpec, threads: int) -> None:
    """The best configuration, ready for `train --config`."""
    header = (
        f"# The best of study {location.name}: trial {best.trial_id}, val_error {best.val_error_last} at epoch "
        f"{best.epochs}.\n"
        "# plgan_tune.train repeats that number on the same kind of machine with the same number of threads:\n"
        f"#   OMP_NUM_THREADS={threads} python -m plgan_tune.train --config {BEST_FILE}\n"
    )
    mapping = {"study": spec.study, "trial": trial.model_dump(mode="json")}
    location.join(BEST_FILE).write_text(header + dump_yaml(mapping))
