"""What all that Tune calls back have in common."""

from ray.tune import Callback


class LocalCallback(Callback):
    """A callback that stays in this process: its log, display or threads cannot leave it."""

    def __reduce__(self) -> tuple[type[Callback], tuple[()]]:
        """Tune pickles its callbacks into a snapshot that we never read."""
        return Callback, ()
