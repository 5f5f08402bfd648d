"""The embedded Ray that a search starts: its session folder, and whether its servers are alive."""

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
    """Mark the session folder (sockets and logs) of the Ray just started, and remove those of dead processes.

    The folder is kept at the end, for its logs, until the next start. Folders without a mark belong to other programs.
    """
    session = session_folder()
    mark(session)
    remove_left_behind(session.parent, "session_")


class RayWatch(Local, Stopper):
    """Stops a search whose own Ray has died: without its raylet, no process of Ray can start again.

    A context manager. It looks in a thread, because Tune's loop may be waiting for Ray. Without its GCS, Ray ends this
    process after a minute, so the user must see the command to resume before that.

    Args:
        controller: Tune's controller.
        tell: Called in the thread, with a message about what has died.
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
        """Stop looking, and raise RayDiedError in place of an error that Ray's death has caused.

        Raises:
            RayDiedError: If Ray has died.
        """
        self._looking.__exit__(kind, error, trace)
        died = self._died or (dead_server() if error else None)
        if died is not None and (error is None or isinstance(error, Exception)):
            raise RayDiedError(f"{died}; finished epochs are saved") from error

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:  # noqa: ARG002
        """Stop no single trial."""
        return False

    def stop_all(self) -> bool:
        """Return whether Ray has died; Tune then stops without waiting for trials."""
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
