"""What tests plant in the place of what trains a trial: failures, and errors that nobody trained.

The contract's failures say which trial fails, when and how often; on Ray the same ones are in `ray/planted.py`.
"""

from random import Random

from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.records import TrialStatus
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location
from plgan_tune.study.assignment import Assignment, EpochReport
from tests.factories import make_metrics, make_report

ALWAYS_BREAKS, BREAKS, DIES, CANNOT_BEGIN = 1, 3, 4, 5
"""Trials, by their numbers. All but the first fail in their first attempt alone."""

UNABLE = "No module named 'nowhere'"


def breaks(assignment: Assignment, report: EpochReport) -> bool:
    """Whether the attempt breaks now that it would report its third epoch."""
    often = assignment.number == ALWAYS_BREAKS or assignment.attempt == 1
    third = report.metrics is not None and report.metrics.epoch == 3
    return third and often and assignment.number in (ALWAYS_BREAKS, BREAKS, DIES)


def cannot_begin(assignment: Assignment) -> bool:
    return (assignment.number, assignment.attempt) == (CANNOT_BEGIN, 1)


class Breaking(TrialWorker):
    def begin(self, assignment: Assignment) -> None:
        self._assignment = assignment
        if cannot_begin(assignment):
            raise RuntimeError("planted")
        super().begin(assignment)

    def step(self) -> EpochReport:
        report = super().step()
        if breaks(self._assignment, report):
            raise RuntimeError("planted")
        return report


class Unable(TrialWorker):
    def begin(self, assignment: Assignment) -> None:
        raise ModuleNotFoundError(UNABLE)


class Planned:
    """A worker that trains nothing: an error follows from the point, the seed and the epoch.

    A checkpoint is the number of its epoch.
    """

    noise = 0.02
    diverging: frozenset[tuple[str, int]] = frozenset()
    """Replicates that diverge in their first epoch: whose, and which."""

    def __init__(self, ranks: object, device: object, node: str, study: Location, threads: int) -> None:
        self._study = study

    def begin(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._files = TrialFiles.of(self._study, assignment.trial_id)
        saved = next(self._files.newest_first(), None) if assignment.attempt > 1 else None
        self._epoch = 0 if saved is None else min(int(saved.read_bytes()), assignment.logged)

    def step(self) -> EpochReport:
        self._epoch += 1
        assignment = self._assignment
        if (assignment.replicate_of, assignment.replicate) in self.diverging:
            return self._report(None, TrialStatus.DIVERGED, "planned")
        last = self._epoch == assignment.trial.training.epochs
        if last:
            self.save()
        return self._report(self.error(), TrialStatus.COMPLETED if last else TrialStatus.RUNNING)

    def error(self) -> float:
        trial, draw = (
            self._assignment.trial,
            Random(f"{self._assignment.trial.seed} {self._assignment.trial.loss.alpha}"),
        )
        ahead = 0.05 * (trial.training.epochs - self._epoch)
        return trial.loss.alpha + ahead + draw.uniform(-self.noise, self.noise)

    def save(self) -> None:
        self._files.write(self._assignment.attempt, self._epoch, str(self._epoch).encode())

    def _report(self, error: float | None, status: TrialStatus, why: str | None = None) -> EpochReport:
        metrics = None if error is None else make_metrics(self._epoch, error)
        return make_report(metrics, status, attempt=self._assignment.attempt, error=why)
