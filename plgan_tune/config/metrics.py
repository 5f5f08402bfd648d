"""The measures of an epoch that a search may go by, `search.metric`, and what each of them means."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self, TypeVar

MetricName = Literal["val_error", "val_balanced_error", "val_distance", "val_coverage", "val_score", "val_transport"]
"""A metric's name, which is also its column in the table of epochs."""

Mode = Literal["min", "max"]


class _Signed(Protocol):
    def __neg__(self) -> Self: ...


Values = TypeVar("Values", bound=_Signed)
"""A number, or an array or a series of them."""


COMPARED: Final = 1000
"""Validation images that generated ones are compared with, at most."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A measure that ranks trials.

    Attributes:
        name: Its column in the table of epochs.
        better: Which of two values is the better one.
        worst: The worst value that it can have; None if it has no bound there.
        needs_labels: Whether it takes the labels of the trial's training images.
        needs_judge: Whether the study's judge measures it, on generated images.
        is_share: Whether it is a share of the validation images, printed in per cent. Its noise is then binomial.
    """

    name: MetricName
    better: Literal["lower", "higher"]
    worst: float | None
    needs_labels: bool
    needs_judge: bool
    is_share: bool

    def cost(self, value: Values) -> Values:
        """Return values of which the lower is better; the cost of a cost is the value again.

        Rows and files hold a metric's own values. Rules, the race, rankings and samplers compare costs, so that each is
        written for one direction. This is the only place where a sign is turned.
        """
        return value if self.better == "lower" else -value

    def images(self, validation: int) -> int:
        """Return how many of the validation images a value is measured on."""
        return min(validation, COMPARED) if self.needs_judge else validation

    @property
    def mode(self) -> Mode:
        """Its direction as `search.mode` names it."""
        return "min" if self.better == "lower" else "max"

    @property
    def best(self) -> str:
        """What the best of several values is, in a word."""
        return "lowest" if self.better == "lower" else "highest"

    @property
    def noun(self) -> str:
        """What a sentence calls it: `error` for `val_error`."""
        return self.name.removeprefix("val_").replace("_", " ")


def _listed(*metrics: Metric) -> Mapping[MetricName, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: Final = _listed(
    Metric("val_error", "lower", 1.0, needs_labels=True, needs_judge=False, is_share=True),
    Metric("val_balanced_error", "lower", 1.0, needs_labels=True, needs_judge=False, is_share=True),
    Metric("val_distance", "lower", None, needs_labels=False, needs_judge=True, is_share=False),
    Metric("val_coverage", "higher", 0.0, needs_labels=False, needs_judge=True, is_share=True),
    Metric("val_score", "higher", 1.0, needs_labels=False, needs_judge=True, is_share=False),
    Metric("val_transport", "lower", None, needs_labels=False, needs_judge=False, is_share=False),
)

VAL_ERROR: Final = METRICS["val_error"]
