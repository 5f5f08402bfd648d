"""Pause Tune while the log cannot be written, and stop it once another search has taken over the study."""

import logging
import signal
from collections.abc import Mapping
from typing import Any

from plgan_tune.backends.ray.local import LocalCallback
from plgan_tune.study.backpressure import Backpressure

logger = logging.getLogger(__name__)


class Pause(LocalCallback):
    """Blocks Tune's only thread while the store fails, so that all trials pause.

    Ctrl-C ends the pause, and Tune then stops the search. If another search has taken over the study, this search stops
    as by Ctrl-C.
    """

    def __init__(self, backpressure: Backpressure) -> None:
        self._backpressure = backpressure
        self._ending = False

    def on_trial_result(self, *, trial: Any, result: Mapping[str, Any], **_info: Any) -> None:  # noqa: ARG002
        """Wait while the store fails; stop the search if it must end."""
        asked = signal.getsignal(signal.SIGINT)
        # Tune restores the handler at the first Ctrl-C.
        self._backpressure.hold(lambda: signal.getsignal(signal.SIGINT) != asked)
        why = self._backpressure.why_to_end()
        if why is not None and not self._ending:
            self._ending = True
            logger.warning("the search ends: %s", why)
            signal.raise_signal(signal.SIGINT)
