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


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of a bucket on a server of its own that speaks S3."""
    import fsspec  # noqa: PLC0415 - seconds, as the next
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "nobody-may-ever-read-this",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(name, value)
        fsspec.filesystem("s3").mkdir("studies")
        yield "s3://studies"
    server.stop()
