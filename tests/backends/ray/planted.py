"""The failures of `tests/backends/planted.py` on Ray, where a process may also die."""

import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

from plgan_tune.backends.ray.trainable import PlganTrainable
from tests.backends.planted import DIES, breaks, cannot_begin


class Breaking(PlganTrainable):
    def _take_up(self, config: dict[str, Any]) -> None:
        """Of the one that cannot begin, the process dies: where another trial was before."""
        self._assignment = config["assignment"]
        if cannot_begin(self._assignment):
            os._exit(1)
        super()._take_up(config)

    def step(self) -> dict[str, Any]:
        result = super().step()
        if breaks(self._assignment, result["report"]):
            if self._assignment.number == DIES:
                os._exit(1)
            raise RuntimeError("planted")
        return result


class Starving(PlganTrainable):
    """Of trial 1, Ray ends the process twice for lack of memory, in its words: beside trial 0, then alone.

    Trial 0 has begun before, and ends only when the file `known` is in the study's folder.
    """

    def _take_up(self, config: dict[str, Any]) -> None:
        self._assignment, self._study = config["assignment"], Path(config["study"])
        super()._take_up(config)

    def step(self) -> dict[str, Any]:
        result = super().step()
        assignment, epoch = self._assignment, result["report"].metrics.epoch
        if assignment.number == 0 and epoch == 2:
            (self._study / "begun").touch()
            _wait_for(self._study / "known")
        if assignment.number == 1 and (assignment.attempt, epoch) in ((1, 2), (2, 3)):
            _wait_for(self._study / "begun")
            raise RuntimeError("1 worker(s) were killed due to the node running low on memory.")
        return result


def _wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.05)


def unable() -> type[PlganTrainable]:
    """A Trainable of a module that no other process can import."""
    trainable = type("Absent", (PlganTrainable,), {"__module__": "nowhere"})
    sys.modules["nowhere"] = ModuleType("nowhere")
    setattr(sys.modules["nowhere"], "Absent", trainable)  # noqa: B010 - a module has no such attribute, says mypy
    return trainable
