"""Who trains a study's trials: the door that `InProcess` and `RayBackend` go through."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console

from plgan_tune.config.study import ResourcesSpec, SearchSpec
from plgan_tune.config.trial import DataSpec
from plgan_tune.data.check import DataSummary
from plgan_tune.store.location import Location
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.coordinator import Coordinator


@dataclass(frozen=True, slots=True)
class Workload:
    """What is to be trained, as far as machines are concerned.

    Attributes:
        study: the folder, which every process of the backend reaches.
        search: how many trials at most, how many at a time, how often one may fail, how long one and all may take.
        resources: what a trial takes.
        data: of every trial.
        summary: of the images as this process found them.
    """

    study: Location
    search: SearchSpec
    resources: ResourcesSpec
    data: DataSpec
    summary: DataSummary


class Trainer(Protocol):
    """A backend's machines, ready to train."""

    @property
    def threads(self) -> int:
        """Of each rank: the last digits of a sum on a CPU depend on them."""

    @property
    def cluster(self) -> ClusterStatus | None:
        """The machines as they are now; None where there is only this process."""

    def train(self, coordinator: Coordinator, backpressure: Backpressure, on_look: Callable[[], None]) -> bool:
        """Trains what the coordinator hands out until it has no more, the time is over or the user asks to stop.

        Trials that have not ended then have saved, and the coordinator hears of no end.

        Args:
            coordinator: takes every report, on one thread.
            backpressure: held after every report.
            on_look: called after each look at the cluster, from any thread.

        Returns:
            Whether the user asked to stop.

        Raises:
            StudyError: where no trial can begin.
        """


class Backend(Protocol):
    """Who trains."""

    def check(self) -> None:
        """Looks whether it is there at all, before anything is read or written.

        Raises:
            StudyError: where it is not; the message says what to do.
        """

    def open(self, workload: Workload, console: Console) -> AbstractContextManager[Trainer]:
        """Takes the machines for the time of a block.

        Raises:
            ClusterError: where the cluster cannot be joined or is too small, or a node of it cannot train.
            RuleError: where this backend cannot give a trial what it asks for.
        """
