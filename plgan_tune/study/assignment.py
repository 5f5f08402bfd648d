"""What a back-end gets to train, and what it reports for each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from plgan_tune.config.trial import TrialSpec
from plgan_tune.records import EpochMetrics, TrialStatus, Value


@dataclass(frozen=True, slots=True)
class Assignment:
    """One attempt of a trial, to be trained.

    Attributes:
        trial_id: The study's own id of the trial, such as `t0007`.
        number: The order of suggestion, from 0.
        attempt: The trial's n-th start, from 1.
        logged: How many epochs of the trial the log holds.
        point: Dotted path of each searched key -> its value.
        trial: The whole configuration, with the point in place.
        failures: How many earlier attempts failed by the trial's own fault.
        last_error: Why the previous attempt failed.
        hung_at: The last logged epoch at which an attempt hung; -1 if none did.
        notes: Messages to the user on how the trial was chosen.
        replicate_of: The search's trial whose point this one trains with a fresh seed; None for the search's own.
        replicate: Which fresh seed, from 1; None for the search's own.
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
    notes: tuple[str, ...] = ()
    replicate_of: str | None = None
    replicate: int | None = None


class NoneYet(Enum):
    """The type of `NONE_YET`."""

    NONE_YET = "none yet"


NO_FURTHER_POINT: Final = "no further point is left to try: {:,} trials instead of {:,}"

NONE_YET: Final = NoneYet.NONE_YET
"""There is nothing to train before one of the running trials has reported; then there may be."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What a trial reports at the end of an epoch, or when its loss is no longer finite.

    Attributes:
        status: `running`, `completed` after the last epoch, or `diverged` if the loss is no longer finite.
        attempt: The trial's n-th start.
        metrics: The measures of the epoch; None if the trial diverged.
        split_hash: A hash of the labelled, unlabelled and validation rows.
        node: The address of the machine.
        reported_at: When the epoch ended, UTC.
        notes: Messages to the user about the trial's files.
        error: Why the trial diverged.
    """

    status: TrialStatus
    attempt: int
    metrics: EpochMetrics | None
    split_hash: str
    node: str
    reported_at: datetime
    notes: tuple[str, ...] = ()
    error: str | None = None


def trial_name(number: int) -> str:
    """Return the study's id of its trial `number`, which counts from 0."""
    return f"t{number:04d}"
