"""The time of a search, which nobody sets while it runs."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from plgan_tune.store.lock import seconds_awake_or_asleep

Now = Callable[[], datetime]
"""The UTC time."""


def steady_clock() -> Now:
    """UTC as the machine's clock says it now; from then on it counts seconds, those of a suspended machine included.

    A machine's clock that is set meanwhile, by its user or over the network, changes nothing.
    """
    begun, at = datetime.now(UTC), seconds_awake_or_asleep()
    return lambda: begun + timedelta(seconds=seconds_awake_or_asleep() - at)
