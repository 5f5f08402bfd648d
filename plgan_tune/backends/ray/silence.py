"""Detect trials that report nothing: warn the user, restart them if requested, and do not wait for them at a stop."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median
from typing import Any, Final

import ray

from plgan_tune.backends.ray.callbacks import HUNG
from plgan_tune.backends.ray.local import LocalCallback
from plgan_tune.backends.ray.ray_private import Controller
from plgan_tune.console.format import duration
from plgan_tune.study.assignment import Assignment

SILENT_EPOCHS: Final = 10
"""A trial counts as silent after this many usual epochs without a report."""

SILENT_SECONDS: Final = 30.0
"""Minimum silence: starting a process and reading images may take this long, however short epochs are."""

KNOWN_EPOCHS: Final = 3
"""Epochs of a search that must have ended before the usual duration is known."""

EVERY_SECONDS: Final = 0.5
"""Seconds between two looks at all trials."""

LISTEN_SECONDS: Final = 5.0
"""Most seconds between two rounds of Tune's loop that count as silence. In a longer gap the driver itself was not
listening: it was suspended, stopped, or paused while its store failed."""

STOP_SECONDS: Final = 10.0
"""Time for a trial to save when a search stops, in addition to twice its longest recent epoch."""

MOST_STOP_SECONDS: Final = 240.0
"""Upper bound of that time: below the five minutes' notice of `cluster/slurm.sh`."""


@dataclass(slots=True)
class _Heard:
    """What is known about a trial's process.

    Attributes:
        since: Its last sign of life, by the driver's clock.
        begun: Whether it has loaded its images and built its networks.
        epochs: Seconds that each of the latest epochs took, with the time between them.
        told: Whether the user has been warned of its silence.
        ended: Whether it was ended because of its silence.
    """

    since: float
    begun: bool = False
    epochs: deque[float] = field(default_factory=lambda: deque(maxlen=10))
    told: bool = False
    ended: bool = False


class SilenceWatch(LocalCallback):
    """Watches trials from Tune's loop, which calls it about ten times a second.

    Args:
        controller: Tune's controller.
        timeout: Seconds without a report after which a trial's process is ended; None is never. Tune then restarts the
            trial; `hung` in its config says why.
        tell: Called with the id of a silent trial and a message.
        seconds: A clock.
        end: Ends a process.
    """

    def __init__(
        self,
        controller: Controller,
        timeout: float | None,
        tell: Callable[[str, str], None],
        seconds: Callable[[], float] = time.monotonic,
        end: Callable[[Any], None] = ray.kill,
    ) -> None:
        self._controller, self._timeout, self._tell = controller, timeout, tell
        self._seconds, self._end = seconds, end
        self._looked, self._now = seconds(), 0.0
        self._heard: dict[str, _Heard] = {}
        self._epochs: deque[float] = deque(maxlen=100)
        self._next_look = 0.0
        self._stopping = False

    def on_trial_start(self, *, trial: Any, **_info: Any) -> None:
        """Note that the trial has begun."""
        self._heard[_id_of(trial)] = _Heard(self._listen(), begun=True)

    def on_trial_result(self, *, trial: Any, result: Mapping[str, Any], **_info: Any) -> None:
        """Note a sign of life and the epoch's duration."""
        now = self._listen()
        heard = self._heard.setdefault(_id_of(trial), _Heard(now, begun=True))
        # An epoch that an earlier attempt trained is reported at once.
        metrics = result["report"].metrics
        seconds = max(now - heard.since, metrics.seconds if metrics else 0.0)
        heard.epochs.append(seconds)
        self._epochs.append(seconds)
        heard.since, heard.told = now, False

    def on_trial_recover(self, *, trial: Any, **_info: Any) -> None:
        """Forget the ended process."""
        self._heard.pop(_id_of(trial), None)

    def on_step_begin(self, **_info: Any) -> None:
        """Look at all trials if it is time."""
        now = self._listen()
        if now < self._next_look:
            return
        self._next_look = now + EVERY_SECONDS
        processes = {_id_of(trial): (trial, actor) for trial, actor in self._controller.processes().items()}
        self._heard = {trial_id: self._heard.get(trial_id) or _Heard(now) for trial_id in processes}
        for trial_id, heard in self._heard.items():
            self._see_to(*processes[trial_id], heard, now - heard.since)
        self._controller.wait_at_a_stop(self.patience())

    def on_step_end(self, **_info: Any) -> None:
        """At a stop, end trials that are silent or have not begun: they have nothing to save."""
        if self._stopping:
            for trial, actor in self._controller.processes().items():
                heard = self._heard.get(_id_of(trial))
                if heard is None or heard.told or not heard.begun:
                    self._end(actor)

    def stop(self) -> None:
        """Begin to stop the search. Called in a signal handler, at any moment."""
        self._controller.wait_at_a_stop(self.patience())
        self._stopping = True

    def patience(self) -> float:
        """Return the seconds for which a stop waits for trials to finish their epoch and save."""
        under_way = [heard.epochs or self._epochs for heard in self._heard.values() if heard.begun and not heard.told]
        longest = max((max(epochs, default=MOST_STOP_SECONDS) for epochs in under_way), default=0.0)
        return min(STOP_SECONDS + 2 * longest, MOST_STOP_SECONDS)

    def _listen(self) -> float:
        """Return the seconds for which this driver has been listening."""
        looked = self._seconds()
        self._now += min(looked - self._looked, LISTEN_SECONDS)
        self._looked = looked
        return self._now

    def _see_to(self, trial: Any, actor: Any, heard: _Heard, silence: float) -> None:
        if not heard.told and silence >= SILENT_SECONDS and silence >= SILENT_EPOCHS * self._usual(heard):
            heard.told = True
            self._tell(_id_of(trial), self._sentence(heard, silence))
        if self._timeout is not None and silence >= self._timeout and not heard.ended:
            heard.ended = True
            trial.config[HUNG] = f"it reported nothing for {_told(silence)}, search.trial_timeout"
            self._end(actor)

    def _usual(self, heard: _Heard) -> float:
        """Return the usual seconds of an epoch: the study's or the trial's, the longer; inf while few are known."""
        if len(self._epochs) < KNOWN_EPOCHS:
            return float("inf")
        return max(median(self._epochs), median(heard.epochs or self._epochs))

    def _sentence(self, heard: _Heard, silence: float) -> str:
        usual = _told(SILENT_EPOCHS * self._usual(heard))
        then = (
            "search.trial_timeout would start it again"
            if self._timeout is None
            else f"it starts again after {_told(self._timeout)}, search.trial_timeout"
        )
        return f"no report for {_told(silence)}, where {SILENT_EPOCHS} usual epochs take {usual}; {then}"


def _id_of(trial: Any) -> str:
    """Return the study's trial id, which differs from Tune's."""
    assignment: Assignment = trial.config["assignment"]
    return assignment.trial_id


def _told(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 1 else duration(timedelta(seconds=seconds))
