"""`python held_search.py TRIAL EPOCH ...`: the search that the other words ask for, which cannot end by itself.

Before its EPOCH the TRIAL waits for the file `go` in this folder, or until the search is asked to stop: however fast or
slow the machine, a test finds it there. The log is written several times a second.
"""

import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from plgan_tune.backends import in_process
from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.search import app
from plgan_tune.store.log import StudyLog
from plgan_tune.study import log_session
from plgan_tune.study.assignment import Assignment, EpochReport


class Held(TrialWorker):
    """A worker of which one trial waits before one epoch."""

    trial_id = ""
    epoch = 0

    def begin(self, assignment: Assignment) -> None:
        super().begin(assignment)
        self._holds = assignment.trial_id == self.trial_id

    def step(self) -> EpochReport:
        handler = signal.getsignal(signal.SIGINT)  # the first Ctrl-C gives the handler before it back
        while self._is_there() and signal.getsignal(signal.SIGINT) is handler:
            if Path("go").exists():
                break
            time.sleep(0.05)
        return super().step()

    def _is_there(self) -> bool:
        return self._holds and self._attempt is not None and self._attempt.state.epoch + 1 == self.epoch


if __name__ == "__main__":
    Held.trial_id, Held.epoch = sys.argv[1], int(sys.argv[2])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(in_process, "TrialWorker", Held)
        patched.setattr(log_session, "StudyLog", partial(StudyLog, interval=0.2))
        app(args=["--in-process", *sys.argv[3:]])
