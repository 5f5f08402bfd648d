"""Train trials on an embedded Ray or on a cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from plgan_tune.backends.backend import Workload
from plgan_tune.backends.ray.cluster_monitor import ClusterMonitor
from plgan_tune.backends.ray.connect import check_address
from plgan_tune.backends.ray.preflight import open_cluster
from plgan_tune.backends.ray.tune_run import run_tune
from plgan_tune.config.study import threads_of
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.trial_resources import TrialResources


def ignore_death(why: str) -> None:
    """Do nothing: the search ends with RayDiedError."""


class RayBackend:
    """Trains trials on Ray, each trial or rank in a process of its own.

    Args:
        address: `auto` or `host:port` of a running cluster. None starts a Ray on this machine and stops it at the end.
        on_death: Called in a thread, with a message about what died, if the search's own Ray dies. The search then
            ends. If the GCS died, Ray ends this process after a minute.
    """

    def __init__(self, address: str | None = None, *, on_death: Callable[[str], None] = ignore_death) -> None:
        self._address, self._on_death = address, on_death

    def check(self) -> None:
        """Check that a cluster answers at the address.

        Raises:
            ClusterError: If none does.
        """
        if self._address is not None:
            check_address(self._address)

    @contextmanager
    def open(self, workload: Workload, console: Console) -> Iterator["RayTrainer"]:
        """Join the cluster, or start a Ray, for the time of a `with` block.

        Args:
            workload: What to train.
            console: Where messages to the user go.

        Raises:
            ClusterError: If the cluster cannot be joined or is too small, or one of its nodes cannot train.
        """
        with open_cluster(workload, address=self._address, console=console) as (share, concurrent):
            yield RayTrainer(workload, share, concurrent, self._on_death)


class RayTrainer:
    """The `Trainer` of `RayBackend`.

    Args:
        workload: What to train.
        share: What a trial takes.
        concurrent: Trials at a time.
        on_death: See `RayBackend`.
    """

    def __init__(
        self, workload: Workload, share: TrialResources, concurrent: int, on_death: Callable[[str], None]
    ) -> None:
        self._workload, self._share, self._concurrent, self._on_death = workload, share, concurrent, on_death
        self._monitor = ClusterMonitor(share, concurrent)

    @property
    def threads(self) -> int:
        """See `Trainer.threads`."""
        return threads_of(self._share.cpus)

    @property
    def cluster(self) -> ClusterStatus:
        """See `Trainer.cluster`."""
        return self._monitor.status

    def train(self, coordinator: Coordinator, backpressure: Backpressure, on_look: Callable[[], None]) -> bool:
        """See `Trainer.train`.

        Args:
            coordinator: Takes every report.
            backpressure: Held after every report.
            on_look: Called after each look at the cluster.

        Raises:
            RayDiedError: If the search's own Ray has died.
        """
        with self._monitor.watching(coordinator.state, on_look):
            return run_tune(self._workload, self._share, self._concurrent, coordinator, backpressure, self._on_death)
