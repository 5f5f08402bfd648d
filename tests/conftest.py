"""What every room's tests share: one Ray for the whole session, the shared images, no deadline on a busy machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("plgan_tune", deadline=None)
settings.load_profile("plgan_tune")


@pytest.fixture(scope="session")
def embedded_ray() -> Iterator[None]:
    """A Ray of two CPUs. Starting one costs seconds: everything that needs Ray shares this one."""
    import ray  # noqa: PLC0415 - seconds

    # "local": without an address Ray joins a cluster that already runs on this machine.
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of MNIST and CIFAR-10 as Parquet, which lies beside the repository where it is to be had."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, MNIST and CIFAR-10 as Parquet beside the repository")
    return folder
