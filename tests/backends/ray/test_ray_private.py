"""What breaks where Ray renames a name that it makes no promise of: each is called as the back-end calls it."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

from plgan_tune.backends.ray.ray_private import (
    Controller,
    dead_server,
    free_resources,
    session_folder,
    without_dump,
    without_sigterm_handler,
)


@pytest.mark.ray
def test_an_embedded_ray_has_a_folder_living_servers_and_free_resources(embedded_ray: None) -> None:
    """Its folder is marked as this process's, its servers are watched, its resources shown as busy or free."""
    assert session_folder().name.startswith("session_")
    assert Path(session_folder() / "logs").is_dir()
    assert dead_server() is None
    (node,) = ray.nodes()
    assert free_resources()[node["NodeID"]].keys() >= {"CPU", "memory"}


def test_tune_s_controller_has_what_a_stop_and_a_silent_trial_need() -> None:
    """The names that Controller reads, in the class of the installed Ray."""
    from ray.air.execution._internal.actor_manager import RayActorManager  # noqa: PLC0415
    from ray.tune.execution.tune_controller import TuneController  # noqa: PLC0415

    read = TuneController.__init__.__code__.co_names
    assert {"_trial_to_actor", "_actor_manager", "_actor_force_cleanup_timeout"} <= set(read)
    assert "_live_actors_to_ray_actors_resources" in RayActorManager.__init__.__code__.co_names


def test_without_a_controller_nothing_runs_and_a_stop_is_tune_s_own() -> None:
    controller = Controller()
    assert controller.processes() == {}
    controller.wait_at_a_stop(1.0)
    tune = SimpleNamespace(_actor_force_cleanup_timeout=10.0)
    controller.take(SimpleNamespace(_tune_controller=tune))
    controller.wait_at_a_stop(1.0)
    assert tune._actor_force_cleanup_timeout == 1.0


def test_ray_has_what_is_kept_from_the_terminal_and_from_sigterm() -> None:
    """The two functions that a start and a death of Ray's call by these names."""
    from ray._private import utils, worker  # noqa: PLC0415

    shown, own = worker.print_to_stdstream, utils.set_sigterm_handler
    with without_dump(own=True), without_sigterm_handler():
        assert worker.print_to_stdstream is not shown
        assert utils.set_sigterm_handler is not own
    assert worker.print_to_stdstream is shown
    assert utils.set_sigterm_handler is own
