"""The Ray that a search starts for itself: its folder, and whether its servers live."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Any, Final, Self

import ray._private.worker
from ray._private.process_watcher import _RAYLET_LOG_MAX_PUBLISH_LINES
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET
from ray.tune import Stopper
from ray.tune.stopper import NoopStopper

from plgan_tune.tuning.controller import Controller
from plgan_tune.tuning.errors import RayDiedError
from plgan_tune.tuning.scratch import mark, remove_left_behind

LOOK_SECONDS: Final = 1.0


def take_session() -> None:
    """Marks the folder of sockets and logs of the Ray that this process has just started; removes those of dead ones.

    Its own stays at its end, for its logs, until the next start. Folders without a mark are another program's.
    """
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    mark(session)
    remove_left_behind(session.parent, "session_")


def dead_server() -> str | None:
    """What has died of a Ray that this process has started; None also where it has joined another's."""
    node = ray._private.worker._global_node
    for kind, process in node.dead_processes() if node else ():
        if kind in (PROCESS_TYPE_RAYLET, PROCESS_TYPE_GCS_SERVER):
            log = Path(node.get_session_dir_path(), "logs", f"{kind}.out")
            return f"Ray has died: its {kind} (process {process.pid}) ended with {process.returncode}; its log is {log}"
    return None


@contextmanager
def without_dump(*, own: bool) -> Iterator[None]:
    """Keeps the last twenty lines of a dead raylet's log from the terminal, which Ray prints there, twice.

    Args:
        own: whether this process has started that Ray; `dead_server` then says that it is dead, and where the log is.
            Of another's a line says which raylet it was.
    """
    shown = ray._private.worker.print_to_stdstream

    def show(data: dict[str, Any], *args: Any, **options: Any) -> None:
        lines = [line.partition(_DUMP)[0].rstrip() if _DUMP in line else line for line in data["lines"]]
        if not (own and lines != data["lines"]):
            shown({**data, "lines": lines}, *args, **options)

    ray._private.worker.print_to_stdstream = show
    try:
        yield
    finally:
        ray._private.worker.print_to_stdstream = shown


_DUMP: Final = f"Last {_RAYLET_LOG_MAX_PUBLISH_LINES} lines of the Raylet logs:"


class RayWatch(Stopper):
    """Ends a search whose own Ray has died; without its raylet none of its processes ever starts again.

    Looks in a thread, for Tune's loop may wait for an answer of Ray's. Without its GCS, Ray itself ends this process
    after a minute, whatever it does then: who resumes must have been told before. A context manager.

    Args:
        tell: called in the thread, with what has died.
    """

    def __init__(self, controller: Controller, tell: Callable[[str], None]) -> None:
        self._controller, self._tell = controller, tell
        self._died: str | None = None
        self._closing = Event()
        self._thread = Thread(target=self._look_until_closed, name="ray-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """An error of Ray's own has the same cause.

        Raises:
            RayDiedError: where Ray has died.
        """
        self._closing.set()
        self._thread.join()
        died = self._died or (dead_server() if error else None)
        if died is not None and (error is None or isinstance(error, Exception)):
            raise RayDiedError(f"{died}; every epoch in the results is kept") from error

    def __reduce__(self) -> tuple[type[Stopper], tuple[()]]:
        """Tune pickles its stoppers into a snapshot that we never read."""
        return NoopStopper, ()

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:  # noqa: ARG002
        return False

    def stop_all(self) -> bool:
        if self._died is None:
            return False
        self._controller.wait_at_a_stop(0.0)  # nothing answers any more
        return True

    def _look_until_closed(self) -> None:
        while self._died is None and not self._closing.wait(LOOK_SECONDS):
            died = dead_server()
            if died is not None:
                self._tell(died)
                self._died = died
