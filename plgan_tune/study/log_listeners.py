"""Several listeners as one."""

from plgan_tune.records import DecisionRow, EpochRow, TrialRow
from plgan_tune.study.protocols import LogListener


class LogListeners:
    """Gives each row to every listener in turn: the study's log first, then what derives from the same rows."""

    def __init__(self, *listeners: LogListener) -> None:
        self._listeners = listeners

    def epoch(self, row: EpochRow, /) -> None:
        for listener in self._listeners:
            listener.epoch(row)

    def decision(self, row: DecisionRow, /) -> None:
        for listener in self._listeners:
            listener.decision(row)

    def trial(self, row: TrialRow, /) -> None:
        for listener in self._listeners:
            listener.trial(row)
