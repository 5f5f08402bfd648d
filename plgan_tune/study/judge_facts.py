"""What `study.yaml` says of the judge that measures the study's generated images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

JUDGE: Final = "judge"
"""Key of the start that trained it, or that found it first."""


@dataclass(frozen=True, slots=True)
class JudgeFacts:
    """A judge in numbers.

    Attributes:
        sha256: of its file.
        labels: how many images it has learned from.
        error: its error on the validation images.
        floor: the distance of real images from the validation images, in its features.
    """

    sha256: str
    labels: int
    error: float
    floor: float

    @classmethod
    def of(cls, held: object) -> Self:
        """Return the facts that a start's mapping holds.

        Raises:
            ValueError: if it holds something else.
        """
        kinds = {"sha256": str, "labels": int, "error": float | int, "floor": float | int}
        if not isinstance(held, Mapping) or held.keys() != kinds.keys():
            raise ValueError(f"must be a mapping of {', '.join(kinds)}, but got {held!r}")
        if wrong := [name for name, kind in kinds.items() if not isinstance(held[name], kind)]:
            raise ValueError(f"{wrong[0]} must be {'text' if wrong[0] == 'sha256' else 'a number'}, but got {held!r}")
        return cls(**held)

    def as_mapping(self) -> dict[str, Any]:
        """Return the facts as `study.yaml` holds them."""
        return asdict(self)
