"""The files of trials, checkpoints and pictures: written, listed and removed here.

What is in them is that of `training.checkpoint` and `training.samples`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from plgan_tune.store.location import Location

FOLDER: Final = "checkpoints"
SAMPLES: Final = "samples.png"
_NAME: Final = re.compile(r"attempt-(\d+)-epoch-(\d+)\.pt")
STEPS: Final = "samples-steps.png"
_GRID: Final = re.compile(r"samples-epoch-(\d+)\.png")
_PICTURE: Final = re.compile(r"samples(-epoch-\d+|-steps)?\.png")
_UNFINISHED: Final = re.compile(r"_(attempt-\d+-epoch-\d+\.pt|samples(-epoch-\d+|-steps)?\.png)(\.[0-9a-f]+)?\.tmp")


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """A trial's folder under `checkpoints/`.

    Attributes:
        location: The folder, `<study>/checkpoints/<trial_id>`.
    """

    location: Location

    @classmethod
    def of(cls, study: Location, trial_id: str) -> "TrialFiles":
        """Return the files of a trial of `study`."""
        return cls(study.join(FOLDER, trial_id))

    def write(self, attempt: int, epoch: int, content: bytes, whole: str | None = None) -> str:
        """Write a checkpoint and remove those that it replaces.

        Unfinished files of killed attempts are removed, too.

        Args:
            attempt: The attempt that saves.
            epoch: Epochs completed.
            content: The checkpoint.
            whole: Name of an earlier checkpoint that can be read. It stays, in case this one gets damaged, and all
                other earlier ones are removed. None removes no checkpoint.

        Returns:
            The name of the file.

        Raises:
            StoreError: If the store fails.
        """
        name = f"attempt-{attempt:03d}-epoch-{epoch:06d}.pt"
        self.location.join(name).write_bytes(content)
        found = self.location.list()
        names = _checkpoints(found)
        superseded = [before for before in names[names.index(name) + 1 :] if before != whole] if whole else []
        for other in [*superseded, *filter(_UNFINISHED.fullmatch, found)]:
            self.location.join(other).remove()
        return name

    def newest_first(self) -> Iterator[Location]:
        """Yield the checkpoints by attempt and epoch, the latest first."""
        yield from (self.location.join(name) for name in _checkpoints(self.location.list()))

    def write_samples(self, png: bytes) -> None:
        """Replace the trial's sample grid."""
        self.location.join(SAMPLES).write_bytes(png)

    def samples(self) -> bytes | None:
        """Return the trial's sample grid, or None if it has none."""
        return self._read(SAMPLES)

    def write_grid(self, epoch: int, png: bytes) -> None:
        """Replace the grid of an epoch."""
        self.location.join(f"samples-epoch-{epoch:06d}.png").write_bytes(png)

    def grids(self) -> dict[int, bytes]:
        """Return the grids of epochs by epoch, the first first; none if a version before they were left trained it."""
        found = [(match, name) for name in self.location.list() if (match := _GRID.fullmatch(name))]
        return {int(match[1]): self.location.join(name).read_bytes() for match, name in found}

    def write_steps(self, png: bytes) -> None:
        """Replace the picture of the steps in which images are drawn."""
        self.location.join(STEPS).write_bytes(png)

    def steps(self) -> bytes | None:
        """Return the picture of steps, or None if there is none."""
        return self._read(STEPS)

    def _read(self, name: str) -> bytes | None:
        file = self.location.join(name)
        return file.read_bytes() if file.exists() else None

    def ours(self) -> list[str]:
        """Return the names of checkpoints and pictures, unfinished ones included. The user's own files are not ours."""
        return [name for name in self.location.list() if _is_ours(name)]

    def remove(self) -> None:
        """Remove the checkpoints and pictures, then the folder if it is empty. The user's own files stay."""
        ours = self.ours()
        for name in ours:
            self.location.join(name).remove()
        if ours and not self.location.list():
            self.location.remove()


def _checkpoints(names: Iterable[str]) -> list[str]:
    """Return the names of checkpoints, the latest first."""
    found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    return [name for _, name in sorted(found, key=lambda pair: tuple(map(int, pair[0].groups())), reverse=True)]


def _is_ours(name: str) -> bool:
    return any(ours.fullmatch(name) for ours in (_NAME, _PICTURE, _UNFINISHED))


def trials_with_files(study: Location) -> list[str]:
    """Return the names in `checkpoints/`: ids of trials, and whatever else is there."""
    return study.join(FOLDER).list()
