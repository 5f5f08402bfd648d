"""The back-end that a command line names: this process, a Ray of its own, or a cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from plgan_tune.backends.address import check_protocol
from plgan_tune.backends.backend import Backend
from plgan_tune.backends.errors import RayDiedError
from plgan_tune.backends.in_process import InProcess
from plgan_tune.console.signals import ending_with_ray, say_how_to_resume
from plgan_tune.study.errors import StudyError


def check_selection(address: str | None, *, in_process: bool) -> None:
    """Check `--address` and `--in-process` before anything is read.

    Raises:
        StudyError: If both are given.
        ClusterError: If the address is none of Ray's.
    """
    if in_process and address is not None:
        raise StudyError(f"--in-process trains without Ray, but got --address {address}")
    if address is not None:
        check_protocol(address)


@contextmanager
def select_backend(address: str | None, *, in_process: bool, console: Console, resume: str) -> Iterator[Backend]:
    """Yield the back-end. If the block's own Ray dies, end the command with status 1 and say how to resume.

    Args:
        address: `auto` or `host:port` of a cluster; None starts a Ray.
        in_process: Train in this process, without importing Ray.
        console: Where the last words go.
        resume: The command that resumes.
    """
    if in_process:
        yield InProcess()
        return
    from plgan_tune.backends.ray.backend import RayBackend  # noqa: PLC0415 - imports Ray, which takes two seconds

    try:
        with ending_with_ray(console, resume) as on_death:
            yield RayBackend(address, on_death=on_death)
    except RayDiedError as error:
        say_how_to_resume(console, str(error), resume)
        raise typer.Exit(1) from error
