"""The failures of `tests/backends/planted.py` on Ray, where a process may also die."""

import os
import sys
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


def unable() -> type[PlganTrainable]:
    """A Trainable of a module that no other process can import."""
    trainable = type("Absent", (PlganTrainable,), {"__module__": "nowhere"})
    sys.modules["nowhere"] = ModuleType("nowhere")
    setattr(sys.modules["nowhere"], "Absent", trainable)  # noqa: B010 - a module has no such attribute, says mypy
    return trainable
