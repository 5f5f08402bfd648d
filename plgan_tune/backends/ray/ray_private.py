"""Ray's private names. They are used only here, and `tests/backends/ray/test_ray_private.py` calls each.

If Ray renames one, its test fails and says what the name is for.
"""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import ray._private.utils
import ray._private.worker
from ray._private.process_watcher import _RAYLET_LOG_MAX_PUBLISH_LINES
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET
from ray._private.state import available_resources_per_node
from ray.tune.experiment import Trial


def session_folder() -> Path:
    """Return the folder of sockets and logs of the Ray that this process has started."""
    return Path(ray._private.worker._global_node.get_session_dir_path())


def dead_server() -> str | None:
    """Return which server of this process's own Ray has died; None if none has, or Ray was started elsewhere."""
    node = ray._private.worker._global_node
    for kind, process in node.dead_processes() if node else ():
        if kind in (PROCESS_TYPE_RAYLET, PROCESS_TYPE_GCS_SERVER):
            log = Path(node.get_session_dir_path(), "logs", f"{kind}.out")
            return f"Ray has died: its {kind} (process {process.pid}) ended with {process.returncode}; its log is {log}"
    return None


_DUMP: Final = f"Last {_RAYLET_LOG_MAX_PUBLISH_LINES} lines of the Raylet logs:"


@contextmanager
def without_dump(*, own: bool) -> Iterator[None]:
    """Hide the last twenty lines of a dead raylet's log, which Ray prints on the terminal, twice.

    Args:
        own: Whether this process has started that Ray. `dead_server` then reports its death and the log's path;
            otherwise one line that names the raylet is kept.
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


@contextmanager
def without_sigterm_handler() -> Iterator[None]:
    """Keep the caller's handler of SIGTERM.

    The handler that Ray sets when it starts would end the process. Its C++ code installs another, which aborts the
    process after 3 s, whatever Python's handler does in the meantime.
    """
    before = signal.getsignal(signal.SIGTERM)
    install = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda handler: None  # noqa: ARG005
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = install
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def free_resources() -> Mapping[str, Mapping[str, float]]:
    """Return node id -> resource -> the free amount, on the joined cluster."""
    return available_resources_per_node()  # type: ignore[no-any-return,unused-ignore]


class Controller:
    """Access to Tune's controller, which Tune passes only to schedulers, in a wrapper. Does nothing before `take`."""

    def __init__(self) -> None:
        self._tune: Any = None

    def take(self, wrapped: Any) -> None:
        """Unwrap and keep the controller that Tune passes to a scheduler."""
        self._tune = wrapped._tune_controller

    def hold(self, trial: Any) -> None:
        """Keep a trial that is to start again from starting until the scheduler chooses it."""
        if self._tune is not None:
            self._tune._set_trial_status(trial, Trial.PAUSED)

    def processes(self) -> Mapping[Any, Any]:
        """Return each trial whose process runs or starts -> its actor. A trial that waits for resources has none."""
        if self._tune is None:
            return {}
        live = self._tune._actor_manager._live_actors_to_ray_actors_resources
        return {trial: live[actor][0] for trial, actor in self._tune._trial_to_actor.items() if actor in live}

    def wait_at_a_stop(self, seconds: float) -> None:
        """Set how long a trial may take to stop before Tune kills it. Tune's default, 10 s, has no setting."""
        if self._tune is not None:
            self._tune._actor_force_cleanup_timeout = seconds
