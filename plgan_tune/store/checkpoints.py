"""The checkpoints of a study's trials: moved, listed and removed here, without knowing what is in them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from plgan_tune.store.location import Location

FOLDER: Final = "checkpoints"
SAMPLES: Final = "samples.png"
_NAME: Final = re.compile(r"attempt-(\d+)-epoch-(\d+)\.pt")
_UNFINISHED: Final = re.compile(r"_(attempt-\d+-epoch-\d+\.pt|samples\.png)(\.[0-9a-f]+)?\.tmp")


@dataclass(frozen=True, slots=True)
class TrialFiles:
    """One trial's folder under `checkpoints/`.

    Attributes:
        location: `<study>/checkpoints/<trial_id>`.
    """

    location: Location

    @classmethod
    def of(cls, study: Location, trial_id: str) -> "TrialFiles":
        return cls(study.join(FOLDER, trial_id))

    def write(self, attempt: int, epoch: int, content: bytes, whole: str | None = None) -> str:
        """Adds a checkpoint, and answers with its name. What attempts that were killed have left unfinished goes.

        Args:
            whole: name of one before it that can be read, to fall back on where this one is damaged. It stays; every
                other before this one is removed, and none where no such name is given.
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
        """Checkpoints by attempt and epoch, the latest first."""
        yield from (self.location.join(name) for name in _checkpoints(self.location.list()))

    def write_samples(self, png: bytes) -> None:
        self.location.join(SAMPLES).write_bytes(png)

    def samples(self) -> bytes | None:
        """The trial's sample grid, if it has one."""
        file = self.location.join(SAMPLES)
        return file.read_bytes() if file.exists() else None

    def ours(self) -> list[str]:
        """Names of the trial's checkpoints and samples, unfinished ones, too; not of what a user has put there."""
        return [name for name in self.location.list() if _is_ours(name)]

    def remove(self) -> None:
        """The trial's checkpoints and samples, then the folder where nothing else is in it: what is not ours stays."""
        ours = self.ours()
        for name in ours:
            self.location.join(name).remove()
        if ours and not self.location.list():
            self.location.remove()


def _checkpoints(names: Iterable[str]) -> list[str]:
    """Those of them that are checkpoints', the latest first."""
    found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    return [name for _, name in sorted(found, key=lambda pair: tuple(map(int, pair[0].groups())), reverse=True)]


def _is_ours(name: str) -> bool:
    return name == SAMPLES or bool(_NAME.fullmatch(name) or _UNFINISHED.fullmatch(name))


def trials_with_files(study: Location) -> list[str]:
    """Trial ids that have a folder; whatever else lies there, too."""
    return study.join(FOLDER).list()
