"""A clock for a search, which ignores changes of the system time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from plgan_tune.store.lock import seconds_awake_or_asleep

Now = Callable[[], datetime]
"""Returns the UTC time."""


def steady_clock() -> Now:
    """Return a clock that starts at the machine's UTC time and then counts seconds, also while it is suspended.

    Later changes of the machine's clock, by its user or over the network, have no effect.
    """
    begun, at = datetime.now(UTC), seconds_awake_or_asleep()
    return lambda: begun + timedelta(seconds=seconds_awake_or_asleep() - at)
