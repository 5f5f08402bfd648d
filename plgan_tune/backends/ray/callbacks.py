"""Tune's events as the coordinator's."""

import re
import textwrap
from pathlib import Path
from typing import Any, Final

from plgan_tune.backends.ray.local import LocalCallback
from plgan_tune.study.coordinator import Coordinator

LOST_MACHINE = re.compile(r"its node has died|node is dead|The actor \w+ is unavailable: ")
"""How Ray says that an actor's machine is gone.

The last is said while Ray does not know yet: by a rank's actor, or by the trial's own, whose error comes without its
type's name. Of a process that died on a living machine Ray knows at once.
"""

UNDERLINE = re.compile(r"\s+[\^~]+")

ERROR_LENGTH = 400
"""Characters of an error that a trial's row keeps."""


HUNG: Final = "hung"
"""Key of a trial's config: why its attempt was ended, where it hung."""


class CoordinatorCallback(LocalCallback):
    """Takes starts and failures to the coordinator, on the driver's thread."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def on_trial_start(self, *, trial: Any, **_info: Any) -> None:
        self._coordinator.start(trial.config["assignment"])

    def on_trial_error(self, *, trial: Any, **_info: Any) -> None:
        self._coordinator.fail(trial.config["assignment"], _reason_of(trial))

    def on_trial_recover(self, *, trial: Any, **_info: Any) -> None:
        """Tune starts the trial again, with its config as it stands then."""
        assignment = trial.config["assignment"]
        if HUNG in trial.config:
            trial.config["assignment"] = self._coordinator.retry_hung(assignment, trial.config.pop(HUNG))
            return
        error = _reason_of(trial)
        trial.config["assignment"] = self._coordinator.retry(assignment, error, counts=not is_lost_machine(error))


def is_lost_machine(error: str) -> bool:
    """Whether an attempt ended because its machine went away, which is not the trial's fault."""
    return LOST_MACHINE.search(error) is not None


def _reason_of(trial: Any) -> str:
    """The trial's latest exception, from the text file in which Tune's driver collects them."""
    path = trial.error_file
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace") if path else ""
    except OSError:  # must not end the search, which a callback's exception does
        text = ""
    return reason(text) or "the trial failed without a message"


def reason(traceback: str) -> str:
    """The exception at the end of a traceback: type and message on one line, at most ERROR_LENGTH long.

    Of several tracebacks the last counts, as in Tune's error file. Of an actor that was never made Ray leaves the
    places out, but not their underlines.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    lines = re.split(r"(?m)^Failure # .*$", plain)[-1].strip("\n").splitlines()
    frames = [place for place, line in enumerate(lines) if line.lstrip().startswith('File "')] or [
        place for place, line in enumerate(lines) if UNDERLINE.fullmatch(line)
    ]
    after = lines[frames[-1] + 1 :] if frames else lines
    message = next((place for place, line in enumerate(after) if line[:1].strip()), 0)
    return textwrap.shorten(" ".join(after[message:]), ERROR_LENGTH, placeholder=" ...")
