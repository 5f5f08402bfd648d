"""The Ray that a search starts for itself: its folder, and whether its servers live."""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ray.tune import Stopper

from plgan_tune.backends.errors import RayDiedError
from plgan_tune.backends.ray.local import Local
from plgan_tune.backends.ray.ray_private import Controller, dead_server, session_folder
from plgan_tune.backends.ray.scratch import mark, remove_left_behind
from plgan_tune.store.repeat import Repeating

LOOK_SECONDS: Final = 1.0


def take_session() -> None:
    """Marks the folder of sockets and logs of the Ray that this process has just started; removes those of dead ones.

    Its own stays at its end, for its logs, until the next start. Folders without a mark are another program's.
    """
    session = session_folder()
    mark(session)
    remove_left_behind(session.parent, "session_")


class RayWatch(Local, Stopper):
    """Ends a search whose own Ray has died; without its raylet none of its processes ever starts again.

    Looks in a thread, for Tune's loop may wait for an answer of Ray's. Without its GCS, Ray itself ends this process
    after a minute, whatever it does then: who resumes must have been told before. A context manager.

    Args:
        tell: called in the thread, with what has died.
    """

    def __init__(self, controller: Controller, tell: Callable[[str], None]) -> None:
        self._controller, self._tell = controller, tell
        self._died: str | None = None
        self._looking = Repeating(self._look, LOOK_SECONDS, "ray-watch")

    def __enter__(self) -> Self:
        self._looking.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An error of Ray's own has the same cause.

        Raises:
            RayDiedError: where Ray has died.
        """
        self._looking.__exit__(kind, error, trace)
        died = self._died or (dead_server() if error else None)
        if died is not None and (error is None or isinstance(error, Exception)):
            raise RayDiedError(f"{died}; finished epochs are saved") from error

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        if self._died is None:
            return False
        self._controller.wait_at_a_stop(0.0)  # nothing answers any more
        return True

    def _look(self) -> bool:
        died = dead_server()
        if died is not None:
            self._tell(died)
            self._died = died
        return died is not None
