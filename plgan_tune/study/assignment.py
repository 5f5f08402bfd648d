"""What a backend is given of a trial, and what it gives back of each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from plgan_tune.config.trial import TrialSpec
from plgan_tune.records import EpochMetrics, TrialStatus, Value


@dataclass(frozen=True, slots=True)
class Assignment:
    """An attempt of a trial, to be trained.

    Attributes:
        trial_id: the study's own.
        number: order of suggestion, from 0.
        attempt: the trial's n-th start, from 1.
        logged: epochs of the trial that the log holds.
        point: dotted path of each searched key -> its value.
        trial: the whole specification, the point in its place.
        failures: attempts before that failed by the trial's own fault.
        last_error: why the attempt before failed.
        hung_at: the last logged epoch at which an attempt hung; -1 where none has.
    """

    trial_id: str
    number: int
    attempt: int
    logged: int
    point: Mapping[str, Value]
    trial: TrialSpec
    failures: int = 0
    last_error: str = ""
    hung_at: int = -1


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What a trial reports at an epoch's end, or of the epoch in which its loss broke.

    Attributes:
        status: `running`; `completed` after the last epoch; `diverged` where the loss broke.
        attempt: of the trial.
        metrics: of the epoch; None where the trial has diverged.
        split_hash: of the labelled, unlabelled and validation rows.
        node: address of the machine.
        reported_at: when the epoch ended, UTC.
        notes: what the user should know of the trial's files.
        error: why the trial diverged.
    """

    status: TrialStatus
    attempt: int
    metrics: EpochMetrics | None
    split_hash: str
    node: str
    reported_at: datetime
    notes: tuple[str, ...] = ()
    error: str | None = None
