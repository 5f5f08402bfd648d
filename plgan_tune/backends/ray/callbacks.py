"""Pass Tune's events to the coordinator."""

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from plgan_tune.backends.ray.local import LocalCallback
from plgan_tune.study.coordinator import Coordinator

LOST_MACHINE = re.compile(r"its node has died|node is dead|The actor \w+ is unavailable: ")
"""Ray's messages for an actor whose machine is gone.

The last appears while Ray does not yet know the cause, for a rank's actor or for the trial's own, whose error lacks the
name of its type. Ray knows at once of a process that died on a living machine.
"""

NO_MEMORY = re.compile(r"killed due to the node running low on memory|OutOfMemoryError: .*\bnode\b")
"""Ray's messages for a process that its memory monitor has ended."""

UNDERLINE = re.compile(r"\s+[\^~]+")

ERROR_LENGTH = 400
"""Characters of an error that a trial's row keeps."""


HUNG: Final = "hung"
"""Key of a trial's config that says why its hung attempt was ended."""


class CoordinatorCallback(LocalCallback):
    """Reports starts and failures to the coordinator, on the driver's thread.

    Args:
        coordinator: Hears of them.
        train_fewer: Trains fewer trials at a time from now on, after the trial of its first argument was ended for lack
            of memory; its second is all trials. Returns how many, or None if that trial was alone.
    """

    def __init__(self, coordinator: Coordinator, train_fewer: Callable[[Any, Sequence[Any]], int | None]) -> None:
        self._coordinator, self._train_fewer = coordinator, train_fewer

    def on_trial_start(self, *, trial: Any, **_info: Any) -> None:
        """Report the start of the attempt."""
        self._coordinator.start(trial.config["assignment"])

    def on_trial_error(self, *, trial: Any, **_info: Any) -> None:
        """Report a trial that has failed for good."""
        self._coordinator.fail(trial.config["assignment"], _reason_of(trial))

    def on_trial_recover(self, *, trial: Any, trials: Sequence[Any], **_info: Any) -> None:
        """Update the assignment: Tune restarts the trial with its current config."""
        assignment = trial.config["assignment"]
        if HUNG in trial.config:
            trial.config["assignment"] = self._coordinator.retry_hung(assignment, trial.config.pop(HUNG))
            return
        error = _reason_of(trial)
        if lacked_memory(error):
            at_a_time = self._train_fewer(trial, trials)
            trial.config["assignment"] = self._coordinator.retry_for_memory(assignment, error, at_a_time)
            return
        trial.config["assignment"] = self._coordinator.retry(assignment, error, counts=not is_lost_machine(error))


def is_lost_machine(error: str) -> bool:
    """Return whether an attempt ended because its machine was lost, which is not the trial's fault."""
    return LOST_MACHINE.search(error) is not None


def lacked_memory(error: str) -> bool:
    """Return whether Ray ended the attempt because its node had too little memory for all that ran there."""
    return NO_MEMORY.search(error) is not None


def _reason_of(trial: Any) -> str:
    """Return the trial's latest exception, from the text file in which Tune's driver collects them."""
    path = trial.error_file
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:  # an exception in a callback would end the search
        text = ""
    return reason(text) or "the trial failed without a message"


def reason(traceback: str) -> str:
    """Return the exception at the end of a traceback: type and message on one line, at most ERROR_LENGTH long.

    If there are several tracebacks, as in Tune's error file, the last counts. For an actor that was never created, Ray
    omits the places but keeps their underlines.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    lines = re.split(r"(?m)^Failure # .*$", plain)[-1].strip("\n").splitlines()
    frames = [place for place, line in enumerate(lines) if line.lstrip().startswith('File "')] or [
        place for place, line in enumerate(lines) if UNDERLINE.fullmatch(line)
    ]
    after = lines[frames[-1] + 1 :] if frames else lines
    message = next((place for place, line in enumerate(after) if line[:1].strip()), 0)
    return textwrap.shorten(" ".join(after[message:]), ERROR_LENGTH, placeholder=" ...")
