"""Base classes for Tune's callbacks that stay in this process."""

from ray.tune import Callback


class Local:
    """An object that pickles as an empty one, because its log, display and threads cannot leave this process.

    Tune pickles its callbacks into a snapshot, which is never read.
    """

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        return object, ()


class LocalCallback(Local, Callback):
    """A callback that stays in this process."""
