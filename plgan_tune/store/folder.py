"""The folder of `plgan-tune train`: epochs, a checkpoint, samples."""

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
    """Stores what a training session reports. A context manager: its end writes the rows that wait.

    Args:
        location: The folder. New rows follow those in its `epochs/`.
        trial_id: The trial id of the rows.
        now: Returns the UTC time.
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
        """Add a row."""
        self._log.epoch(EpochRow(self._seq, self._trial_id, self._attempt, metrics, self._now()))
        self._seq += 1

    def checkpoint(self, content: bytes) -> None:
        """Replace the checkpoint. The epochs are written first, so a checkpoint is never ahead of the log."""
        self._log.flush()
        self._location.join(CHECKPOINT).write_bytes(content)

    def samples(self, png: bytes) -> None:
        """Replace the sample grid."""
        self._location.join(SAMPLES).write_bytes(png)


def _latest(location: Location) -> tuple[int, int]:
    """Return the next `seq` and the latest attempt in the log."""
    if not location.join("epochs").exists():
        return 0, 0
    rows = read_epochs(location).select(["seq", "attempt"]).to_pylist()
    return (rows[-1]["seq"] + 1, max(row["attempt"] for row in rows)) if rows else (0, 0)
