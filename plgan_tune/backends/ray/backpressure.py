"""Tune rests while the log cannot be written, and ends once another search has it."""

import logging
import signal
from collections.abc import Mapping
from typing import Any

from plgan_tune.backends.ray.local import LocalCallback
from plgan_tune.study.backpressure import Backpressure

logger = logging.getLogger(__name__)


class Pause(LocalCallback):
    """Holds Tune's only thread, so that all trials come to rest.

    Ctrl-C ends the rest, and Tune then the search. Where another search has followed this one, it ends as by Ctrl-C.
    """

    def __init__(self, backpressure: Backpressure) -> None:
        self._backpressure = backpressure
        self._ending = False

    def on_trial_result(self, *, trial: Any, result: Mapping[str, Any], **_info: Any) -> None:  # noqa: ARG002
        asked = signal.getsignal(signal.SIGINT)
        # Tune gives the handler back at the first Ctrl-C.
        self._backpressure.hold(lambda: signal.getsignal(signal.SIGINT) != asked)
        why = self._backpressure.why_to_end()
        if why is not None and not self._ending:
            self._ending = True
            logger.warning("the search ends: %s", why)
            signal.raise_signal(signal.SIGINT)
