"""The folder of one configuration's training: its epochs, its checkpoint, its samples."""

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from plgan_tune.records import EpochMetrics, EpochRow
from plgan_tune.store.checkpoints import SAMPLES
from plgan_tune.store.location import Location
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import read_epochs

CHECKPOINT: Final = "checkpoint.pt"


class TrainingFolder:
    """Takes what a training session hands out. A context manager: leaving it writes what waits.

    Args:
        location: the folder; rows in its `epochs/` are gone on with.
        trial_id: what the rows are filed under.
        now: the UTC time.
    """

    def __init__(self, location: Location, trial_id: str, now: Callable[[], datetime]) -> None:
        self._location = location
        self._trial_id = trial_id
        self._now = now
        self._seq, attempt = _latest(location)
        self._attempt = attempt + 1
        self._log = StudyLog(location, {}, {})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._log.close()

    def epoch(self, metrics: EpochMetrics) -> None:
        self._log.epoch(EpochRow(self._seq, self._trial_id, self._attempt, metrics, self._now()))
        self._seq += 1

    def checkpoint(self, content: bytes) -> None:
        """The epochs are written first: a checkpoint is never ahead of the log."""
        self._log.flush()
        self._location.join(CHECKPOINT).write_bytes(content)

    def samples(self, png: bytes) -> None:
        self._location.join(SAMPLES).write_bytes(png)


def _latest(location: Location) -> tuple[int, int]:
    """The next `seq`, and the latest attempt in the log."""
    if not location.join("epochs").exists():
        return 0, 0
    rows = read_epochs(location).select(["seq", "attempt"]).to_pylist()
    return (rows[-1]["seq"] + 1, max(row["attempt"] for row in rows)) if rows else (0, 0)
