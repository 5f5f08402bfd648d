"""What every room's tests share: a search, the shared images, commands that run beside a test."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import typer.rich_utils  # noqa: F401 - decides about colours as it is imported: not in a test that asks for them
from hypothesis import settings

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config import defaults
from plgan_tune.config.study import StudySpec
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.factories import Search

settings.register_profile("plgan_tune", deadline=None)
settings.load_profile("plgan_tune")


@pytest.fixture(scope="module", autouse=True)
def hasty_disk() -> Iterator[None]:
    """Nobody cuts the power, nor takes a lock in the same moment: no test outside store/ waits for either."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda file: None)
        patched.setattr("plgan_tune.store.lock.SETTLE", 0.0)
        yield


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """A copy of the results that an earlier version left (fixtures/README.md)."""
    return Path(shutil.copytree(Path(__file__).parent / "fixtures", tmp_path / "results"))


@pytest.fixture
def newer_edition(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Makes all weights start otherwise by default, in an edition after the last; how they start in it."""
    start = {"initial_spread": 0.125, "generator_initial_spread": 0.25, "generator_weight_norm_init": "one"}
    newer = dict.fromkeys(defaults.EDITIONS[-1], start)
    monkeypatch.setattr(defaults, "EDITIONS", (*defaults.EDITIONS, newer))
    return start


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of MNIST and CIFAR-10 as Parquet, which lies beside the repository where it is to be had."""
    folder = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data, MNIST and CIFAR-10 as Parquet beside the repository")
    return folder


@pytest.fixture(scope="session")
def usual_kernels() -> None:
    """Skips where stored numbers cannot be met: torch draws float32 weights alike with AVX2 and AVX512 only."""
    import torch  # noqa: PLC0415 - seconds

    kernels = torch.backends.cpu.get_cpu_capability()
    if kernels not in ("AVX2", "AVX512"):
        pytest.skip(f"needs a processor with AVX2 or AVX512, whose numbers are stored, not {kernels}")


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


@pytest.fixture(scope="session")
def gs_bucket() -> Iterator[str]:
    """The URL of a bucket on a server of its own that speaks Google Cloud Storage's JSON API."""
    import fsspec  # noqa: PLC0415 - seconds, as the next
    from gcp_storage_emulator.handlers import objects  # noqa: PLC0415
    from gcp_storage_emulator.server import create_server  # noqa: PLC0415

    def if_generation_matches(upload: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
        """The emulator ignores the condition that an object has a generation; 0 is that of no object."""

        def upload_if(request: Any, response: Any, storage: Any) -> None:
            (name,) = request.query.get("name") or [request.data["meta"].get("name")]
            found = storage.objects.get(request.params["bucket_name"], {}).get(name, {"generation": "0"})
            if request.query.get("ifGenerationMatch", [found["generation"]]) == [found["generation"]]:
                upload(request, response, storage)
            else:
                response.status = HTTPStatus.PRECONDITION_FAILED

        return upload_if

    with pytest.MonkeyPatch.context() as environment:
        for upload in ("_multipart_upload", "_media_upload"):
            environment.setattr(objects, upload, if_generation_matches(getattr(objects, upload)))
        server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="studies")
        server.start()
        environment.setenv("STORAGE_EMULATOR_HOST", "http://{}:{}".format(*server._api._httpd.server_address))
        environment.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks for a bucket's kind by another API
        assert type(fsspec.filesystem("gs")).__name__ == "GCSFileSystem"  # else gcsfs was imported before
        yield "gs://studies"
    server.stop()


@contextmanager
def _started(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a terminal's place: a process group of its own, which is what Ctrl-C interrupts."""
    with (
        (folder / "said.txt").open("w") as said,
        subprocess.Popen(
            words,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as command,
    ):
        try:
            yield command
        finally:
            if command.poll() is None:
                os.killpg(command.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def started() -> Callable[..., AbstractContextManager[subprocess.Popen[str]]]:
    """Starts a command in a folder, whose said.txt gets what it prints; at the block's end it is killed."""
    return _started


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many as a trial of one CPU has: a sum's order, and so its last digit, depends on the number of threads.

    And small trials are slower on more.
    """
    from plgan_tune.training.threads import torch_threads  # noqa: PLC0415 - torch, seconds

    with torch_threads(1):
        yield


@pytest.fixture
def search(tmp_path: Path) -> Search:
    def run(spec: StudySpec, name: str = "study", **options: Any) -> StudyResult:
        return run_study(spec, backend=InProcess(), results=tmp_path, name=name, **options)

    return run
