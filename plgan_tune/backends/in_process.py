"""Train one trial after another in this process, without Ray."""

import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from rich.console import Console

from plgan_tune.backends.backend import Workload
from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import threads_of
from plgan_tune.console.signals import asked_to_stop
from plgan_tune.records import Verdict
from plgan_tune.store.location import StoreError
from plgan_tune.store.lock import seconds_awake_or_asleep
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.errors import StudyError
from plgan_tune.training.ranks import ALONE

logger = logging.getLogger(__name__)

WAITS_FOR: Final = "waiting for the trial to finish its epoch and save; Ctrl-C again stops at once"


class InProcess:
    """Trains one trial after another in this process, without Ray.

    `search.concurrent` and `search.trial_timeout` have no effect here.

    Args:
        stop_requested: Called after every epoch; True stops the search. By default, Ctrl-C stops it.
        device: The default is the GPU if there is one, unless `resources.gpus_per_rank` is 0.
    """

    def __init__(self, *, stop_requested: Callable[[], bool] | None = None, device: torch.device | None = None) -> None:
        self._stop_requested, self._device = stop_requested, device

    def check(self) -> None:
        """Do nothing: this process can always be reached."""

    @contextmanager
    def open(self, workload: Workload, console: Console) -> Iterator["InProcessTrainer"]:  # noqa: ARG002
        """Take this process for the time of a `with` block.

        Args:
            workload: What to train.
            console: Not used.

        Raises:
            RuleError: If `resources.ranks` is not 1.
        """
        ranks = workload.resources.ranks
        if ranks != 1:
            raise RuleError("resources.ranks must be 1 where trials train in this process", str(ranks))
        yield InProcessTrainer(workload, self._device or _device_for(workload), self._stop_requested)


class InProcessTrainer:
    """The `Trainer` of `InProcess`.

    Args:
        workload: What to train.
        device: Where to train.
        stop_requested: See `InProcess`.
    """

    cluster = None

    def __init__(
        self, workload: Workload, device: torch.device, stop_requested: Callable[[], bool] | None = None
    ) -> None:
        self.threads = threads_of(workload.resources.cpus_per_rank)
        self._worker = TrialWorker(ALONE, device, socket.gethostname(), workload.study, self.threads)
        self._hours = workload.search.hours
        self._stop_requested = stop_requested

    def train(self, coordinator: Coordinator, backpressure: Backpressure, on_look: Callable[[], None]) -> bool:  # noqa: ARG002
        """See `Trainer.train`."""
        deadline = None if self._hours is None else seconds_awake_or_asleep() + 3600 * self._hours
        with asked_to_stop(lambda: coordinator.stopping(WAITS_FOR)) as interrupted:
            stop_requested = self._stop_requested or interrupted

            def must_end() -> bool:
                backpressure.hold(stop_requested)
                out_of_time = deadline is not None and seconds_awake_or_asleep() >= deadline
                must_stop = stop_requested() or backpressure.why_to_end() is not None
                return must_stop or out_of_time or coordinator.is_over()

            # One trial at a time: nothing that is still running can bring another one.
            while not must_end() and isinstance(assignment := coordinator.ask(), Assignment):
                self._train_trial(assignment, coordinator, must_end)
                if (why := coordinator.why_none_starts()) is not None:
                    raise StudyError(why)
            return stop_requested() or backpressure.why_to_end() is not None

    def _train_trial(self, assignment: Assignment, coordinator: Coordinator, must_end: Callable[[], bool]) -> None:
        """Train a trial until it ends or the search stops. After a failure, restart it from its checkpoint."""
        while coordinator.may_try(assignment):
            failure = self._train_attempt(assignment, coordinator, must_end)
            if failure is None:
                return
            assignment = coordinator.retry(assignment, describe(failure))
        coordinator.fail(assignment, assignment.last_error)

    def _train_attempt(
        self, assignment: Assignment, coordinator: Coordinator, must_end: Callable[[], bool]
    ) -> Exception | None:
        """Return why the attempt failed; None if the trial has ended or the search stops."""
        try:
            self._worker.begin(assignment)
        except Exception as error:
            return error
        coordinator.start(assignment)
        while True:
            try:
                report = self._worker.step()
            except Exception as error:
                return error
            if coordinator.report(assignment, report) is Verdict.STOP:
                return None
            if must_end():
                self._save()
                return None

    def _save(self) -> None:
        """Write a checkpoint. If the store fails, only the epochs since the last checkpoint are lost."""
        try:
            self._worker.save()
        except StoreError as error:
            logger.warning("the trial that was running has no checkpoint of its last epoch: %s", error)


def describe(error: Exception) -> str:
    """Return an exception's type and message on one line, as a trial's row holds them."""
    return " ".join(traceback.format_exception_only(error)[-1].split())


def _device_for(workload: Workload) -> torch.device:
    has_gpu = workload.resources.gpus_per_rank != 0 and torch.cuda.is_available()
    return torch.device("cuda" if has_gpu else "cpu")
