"""What Tune calls back stays in this process."""

from ray.tune import Callback


class Local:
    """Its log, display and threads cannot leave this process.

    Tune pickles what it calls back into a snapshot, which is never read: an empty object is enough there.
    """

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


class LocalCallback(Local, Callback):
    """A callback that stays in this process."""
