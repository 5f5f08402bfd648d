"""What tests are made of: a study that a search ends in seconds, assignments, reports, listeners that remember."""

import os
import signal
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.own import sha256_of
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.records import MEASURES, DecisionRow, EpochMetrics, EpochRow, TrialRow, TrialStatus, Value
from plgan_tune.store.location import Location
from plgan_tune.store.lock import FollowedError
from plgan_tune.study.assignment import Assignment, EpochReport

if TYPE_CHECKING:  # torch and Optuna take seconds, which a process that only writes rows does without
    from plgan_tune.backends.trial_worker import TrialWorker
    from plgan_tune.gan.own import Own
    from plgan_tune.tuning.driver import StudyResult

START = datetime(2026, 1, 1, tzinfo=UTC)

SMALL: Mapping[str, Any] = {
    "study": "small",
    "search": {
        "trials": 6,
        "concurrent": 1,
        "sampler": {"tpe": {"startup_trials": 2}},
        "early_stopping": {"asha": {"grace_period": 1, "reduction_factor": 2}},
        "first": [{"loss.alpha": 0.5}],
        "confirm": None,
    },
    "trial": {
        "data": {"source": "digits", "labels": 20, "validation": 100, "limit": 400},
        "model": {"kind": "mlp", "width": 0.05},
        "loss": {"alpha": {"uniform": [0.1, 1.0]}, "ramp": {"choice": ["clamp", "one"]}},
        "optim": {"lr_discriminator": {"log_uniform": [1e-4, 1e-2]}},
        "training": {"epochs": 4},
    },
}


OWN_TERMS: Final = Path(__file__).with_name("own_terms.py")
"""A user's own file of terms."""

OWN_PAIR: Final = Path(__file__).with_name("own_pair.py")
"""A user's own file of a pair of networks, and a term."""


def own_section(file: Path) -> dict[str, Any]:
    """The section of a trial that names a file as it is now."""
    return {"file": str(file), "sha256": sha256_of(file.read_bytes())}


def load(trial: TrialSpec) -> "Own | None":
    """The file that a trial names, run with its values."""
    from plgan_tune.gan.own_contract import Shapes  # noqa: PLC0415 - torch, seconds
    from plgan_tune.gan.own_file import load_own  # noqa: PLC0415 - as above
    from plgan_tune.gan.pairs.base import ImageShape  # noqa: PLC0415 - as above

    shapes = Shapes(ImageShape(3, 16), 3)
    return load_own(Path(trial.own.file).read_bytes(), trial.own, trial.own.file, shapes) if trial.own.file else None


def small(
    loss: Mapping[str, Any] = SMALL["trial"]["loss"],
    training: Mapping[str, Any] = SMALL["trial"]["training"],
    ranks: int = 1,
    model: Mapping[str, Any] = SMALL["trial"]["model"],
    **search: Any,
) -> StudySpec:
    trial = {**SMALL["trial"], "loss": loss, "training": training, "model": model}
    changed = {"search": {**SMALL["search"], **search}, "resources": {"ranks": ranks}, "trial": trial}
    return study_from_mapping({**SMALL, **changed})


Search = Callable[..., "StudyResult"]
"""`run_study` of a specification, in the test's folder, named `study` or as the second argument says."""


def make_metrics(epoch: int, val_error: float = 0.5, **changes: Any) -> EpochMetrics:
    known: dict[str, Any] = {"epoch": epoch, "val_error": val_error, "seconds": 2.0, "val_score": 1.5, **changes}
    return EpochMetrics(**dict.fromkeys(MEASURES, 0.5) | known)


def make_epoch(seq: int, trial_id: str, epoch: int, val_error: float = 0.5) -> EpochRow:
    """Reported `seq` seconds after START."""
    return EpochRow(seq, trial_id, 1, make_metrics(epoch, val_error), START + timedelta(seconds=seq))


def make_trial(
    number: int,
    status: TrialStatus = TrialStatus.RUNNING,
    params: Mapping[str, Value] | None = None,
    error: float | None = None,
    **changes: Any,
) -> TrialRow:
    """Trial `t{number}` after an epoch, with its error there."""
    known: dict[str, Any] = {
        "seq": number,
        "trial_id": f"t{number}",
        "attempt": 1,
        "epochs": 1,
        "value_last": error,
        "value_best": error,
        "best_epoch": None if error is None else 1,
        "params": params or {"loss.alpha": 0.5},
        "seed": 0,
        "split_hash": None,
        "seconds": 1.0,
        "node": None,
        "started_at": START,
        "ended_at": None,
        "error": None,
    }
    return TrialRow(number=number, status=status, **known | changes)


def make_report(
    metrics: EpochMetrics | None,
    status: TrialStatus = TrialStatus.RUNNING,
    *,
    attempt: int = 1,
    node: str = "n1",
    **changes: Any,
) -> EpochReport:
    return EpochReport(status, attempt, metrics, "abc", node, START, **changes)


def make_assignment(number: int, *, point: Mapping[str, Any] | None = None, **changes: Any) -> Assignment:
    point = {"loss.alpha": number / 10} if point is None else point
    return Assignment(f"t{number:04d}", number, 1, 0, point, SMALL_TRIAL, **changes)


class Memory:
    """A log and a display that remember what they were given."""

    def __init__(self) -> None:
        self.epochs: list[EpochRow] = []
        self.decisions: list[DecisionRow] = []
        self.trials: list[TrialRow] = []
        self.news: list[tuple[str, str]] = []

    def epoch(self, row: EpochRow) -> None:
        self.epochs.append(row)

    def decision(self, row: DecisionRow) -> None:
        self.decisions.append(row)

    def trial(self, row: TrialRow) -> None:
        self.trials.append(row)

    def started(self, row: TrialRow) -> None:
        self.news.append(("started", row.trial_id))

    def progressed(self, row: TrialRow) -> None:
        self.news.append(("progressed", row.trial_id))

    def ended(self, row: TrialRow) -> None:
        self.news.append((str(row.status), row.trial_id))

    def silent(self, trial_id: str) -> None:
        self.news.append(("silent", trial_id))

    def noted(self, note: str) -> None:
        self.news.append(("noted", note))

    def stopping(self, waits_for: str) -> None:
        self.news.append(("stopping", waits_for))


def interrupting(number: signal.Signals, trial_id: str, epoch: int) -> "type[TrialWorker]":
    """A worker that sends its process the signal while the trial is in that epoch of its first attempt."""
    from plgan_tune.backends.trial_worker import TrialWorker  # noqa: PLC0415 - as above

    class Interrupting(TrialWorker):
        def begin(self, assignment: Assignment) -> None:
            super().begin(assignment)
            self._to_go = epoch if (assignment.trial_id, assignment.attempt) == (trial_id, 1) else 0

        def step(self) -> EpochReport:
            self._to_go -= 1
            if self._to_go == 0:
                os.kill(os.getpid(), number)
            return super().step()

    return Interrupting


UNTIMED = ["epoch", "val_error", "val_error_raw", "loss_supervised", "loss_feature"]
"""Columns that are the same in every run."""

SMALL_TRIAL: TrialSpec = small(loss={"alpha": 0.5}, first=[]).any_trial()


class WaitingLog:
    """A log with rows that wait in memory, whose store may fail."""

    def __init__(self, waiting: int, failure: str | None) -> None:
        self.waiting, self.failure, self.followed = waiting, failure, False


class CountedSleep:
    """Sleeps, and lets something happen after the third time."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.slept, self._then = 0, then

    def __call__(self, seconds: float) -> None:
        self.slept += 1
        if self.slept == 3:
            self._then()


class Followed:
    """The `Writer` of a search that another has followed."""

    token = "followed"

    def write(self, file: Location, content: bytes) -> None:
        raise FollowedError("taken over")
