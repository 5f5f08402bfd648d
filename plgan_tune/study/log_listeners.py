"""Several listeners as one."""

from plgan_tune.records import DecisionRow, EpochRow, TrialRow
from plgan_tune.study.protocols import LogListener


class LogListeners:
    """Passes each row to every listener in turn: first the study's log, then those that derive from it."""

    def __init__(self, *listeners: LogListener) -> None:
        self._listeners = listeners

    def epoch(self, row: EpochRow, /) -> None:
        """Pass an epoch's row on."""
        for listener in self._listeners:
            listener.epoch(row)

    def decision(self, row: DecisionRow, /) -> None:
        """Pass a decision on."""
        for listener in self._listeners:
            listener.decision(row)

    def trial(self, row: TrialRow, /) -> None:
        """Pass a trial's row on."""
        for listener in self._listeners:
            listener.trial(row)
