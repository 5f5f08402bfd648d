"""The interface of a back-end, which trains a study's trials. `InProcess` and `RayBackend` implement it."""

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
    """What a back-end needs to know about a study before it trains.

    Attributes:
        study: The study's folder, which every process of the back-end must reach.
        search: How many trials in all and at a time, how often a trial may fail, how long a trial and all may take.
        resources: What a trial takes.
        data: The data of every trial.
        summary: The images that this process found.
    """

    study: Location
    search: SearchSpec
    resources: ResourcesSpec
    data: DataSpec
    summary: DataSummary


class Trainer(Protocol):
    """A back-end's machines, ready to train."""

    @property
    def threads(self) -> int:
        """CPU threads of each rank. The last digits of a sum on a CPU depend on this number."""

    @property
    def cluster(self) -> ClusterStatus | None:
        """The current state of the machines; None if there is only this process."""

    def train(self, coordinator: Coordinator, backpressure: Backpressure, on_look: Callable[[], None]) -> bool:
        """Train the coordinator's assignments until there are none, a limit is reached or the user stops the search.

        The limits are `search.hours` and, checked after every report, `Coordinator.is_over`.

        Unfinished trials save a checkpoint. Their end is not reported to the coordinator.

        Args:
            coordinator: Hands out assignments and takes every report, on one thread.
            backpressure: Held after every report, so that training pauses while the store fails.
            on_look: Called after each look at the cluster, from any thread.

        Returns:
            Whether the user stopped the search.

        Raises:
            StudyError: If no trial can start.
        """


class Backend(Protocol):
    """A system that trains trials: this process, Ray, or one of your own."""

    def check(self) -> None:
        """Check that the back-end can be reached, before anything is read or written.

        Raises:
            StudyError: If it cannot; the message says what to do.
        """

    def open(self, workload: Workload, console: Console) -> AbstractContextManager[Trainer]:
        """Take the machines for the time of a `with` block.

        Args:
            workload: What to train.
            console: Where messages to the user go.

        Returns:
            A context manager that yields the trainer.

        Raises:
            ClusterError: If the cluster cannot be joined or is too small, or one of its nodes cannot train.
            RuleError: If this back-end cannot give a trial the resources that it needs.
        """
