"""Retries while a store does not answer."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from plgan_tune.store.location import StoreError

logger = logging.getLogger(__name__)

T = TypeVar("T")

WAITS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between tries: two minutes in all."""


def retry(action: Callable[[], T], waits: Sequence[float] = WAITS, sleep: Callable[[float], None] = time.sleep) -> T:
    """Return what `action` returns; if the store fails, wait and call it again.

    Args:
        action: What to do.
        waits: Seconds before each further call.
        sleep: Waits for some seconds.

    Raises:
        StoreError: If the last call raises it.
    """
    for wait in waits:
        try:
            return action()
        except StoreError as error:
            logger.warning("%s; tried again in %g s", error, wait)
            sleep(wait)
    return action()
