"""Failures for the contract's tests, planted in what trains a trial: which trial fails, when and how often.

On Ray the same ones are in `ray/planted.py`.
"""

from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.study.assignment import Assignment, EpochReport

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
