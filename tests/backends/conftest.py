"""One Ray for all tests that need one."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def embedded_ray() -> Iterator[None]:
    """A Ray of two CPUs. Starting one costs seconds: everything that needs Ray shares this one."""
    import ray  # noqa: PLC0415 - seconds

    # "local": without an address Ray joins a cluster that already runs on this machine.
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
