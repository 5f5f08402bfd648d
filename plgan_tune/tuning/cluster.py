"""The Ray cluster: joining it, and how many trials it holds at a time."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import ray
import ray._private.utils
from ray.exceptions import RayError
from rich.console import Console

from plgan_tune.spec.study import ResourcesSpec
from plgan_tune.tuning.autoscaler import Growth, read_growth
from plgan_tune.tuning.embedded import take_session, without_dump
from plgan_tune.tuning.errors import StudyError
from plgan_tune.tuning.share import ACCELERATOR, Share
from plgan_tune.tuning.token import keep_token_private

ANSWER_SECONDS = 20.0

HEAD = "node:__internal_head__"
"""A resource that Ray gives to the head of a cluster alone."""


class ClusterError(StudyError):
    """A cluster that cannot be joined, or that cannot hold a single trial. The message says what to do."""


REFUSED = re.compile("InvalidAuthToken|AuthenticationError|UNAUTHENTICATED")
"""How Ray says that a cluster asks for a token, and that ours is missing or another's."""

PASS_THE_TOKEN = (
    "the cluster refuses this token, or none was given: set RAY_AUTH_MODE=token in this environment, and copy the "
    "head's ~/.ray/auth_token to ~/.ray/auth_token here (or name the file in RAY_AUTH_TOKEN_PATH)"
)


STOPPING = "stopping, once Ray has answered, which takes it some seconds"


def connect(address: str | None, code: Path | None = None, *, on_interrupt: Callable[[], None]) -> None:
    """Starts an embedded Ray (address None), or joins the cluster at `auto` or `host:port`.

    Args:
        address: of the cluster.
        code: a package that travels to the nodes, in place of what they have.
        on_interrupt: called at Ctrl-C, which takes effect once Ray has started.

    Raises:
        ClusterError: where it cannot be joined. `check_address` finds out sooner that nobody is there.
    """
    keep_token_private(make=address is None)
    if address is None:
        _start(on_interrupt)
        return
    try:
        with _interrupts_kept(on_interrupt):
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"py_modules": [str(code)], "excludes": ["__pycache__"]} if code else None,
            )
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        if REFUSED.search(f"{type(error).__name__}: {error}"):
            raise ClusterError(f"--address {address}: {PASS_THE_TOKEN}") from error
        raise ClusterError(f"--address {address}: cannot join the cluster: {error}") from error


def _start(on_interrupt: Callable[[], None]) -> None:
    try:
        # "local": with no address Ray would join a cluster that runs on this machine.
        with _interrupts_kept(on_interrupt):
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises that class itself
        raise ClusterError(f"Ray does not start on this machine: {error}") from error
    take_session()


@contextmanager
def _interrupts_kept(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Holds Ctrl-C back until the block ends, and keeps the caller's own handler of SIGTERM.

    Ray forks while it starts, and Python drops an exception that is raised in a fork's hooks: the search would go on,
    or hang on logging's lock. For SIGTERM it would install a handler that ends the process, and its C++ installs one
    that aborts it after 3 s, whatever Python's does in the meantime.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    here = os.getpid()

    def keep(number: int, _frame: object) -> None:
        asked.append(number)
        if os.getpid() == here:  # else a fork that is not yet Ray's; of its locks some may never open
            on_interrupt()

    before = signal.signal(signal.SIGINT, keep)
    at_end = signal.getsignal(signal.SIGTERM)
    install = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = lambda handler: None  # noqa: ARG005
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        ray._private.utils.set_sigterm_handler = install
        if at_end is not None:
            signal.signal(signal.SIGTERM, at_end)
    if asked:
        raise KeyboardInterrupt


def check_protocol(address: str) -> None:
    """Raises ClusterError where the address is one of Ray Client."""
    if address.startswith("ray://"):
        raise ClusterError(
            f"--address takes auto or host:port, but got {address}: Ray Client would take the display and the "
            "results away from this machine; run the search on the cluster with "
            "`ray job submit --address http://HOST:8265 -- python -m plgan_tune.search --address auto ...`"
        )


def check_address(address: str) -> None:
    """Asks the cluster for a sign of life.

    Raises:
        ClusterError: where there is none within 20 s, or the address is one of Ray Client or none at all.
    """
    check_protocol(address)
    if address != "auto" and not re.fullmatch(r"\S+:\d+", address):
        raise ClusterError(f"--address must be auto or host:port, but got {address!r}")
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    command += [] if address == "auto" else ["--address", address]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"--address {address}: no Ray cluster answered within {ANSWER_SECONDS:.0f} s; "
            "is `ray start --head` running there?"
        ) from None
    if answer.returncode != 0:
        if REFUSED.search(answer.stderr + answer.stdout):
            raise ClusterError(f"--address {address}: {PASS_THE_TOKEN}")
        said = (answer.stderr or answer.stdout).strip().splitlines()
        raise ClusterError(
            f"--address {address}: no Ray cluster answered; is `ray start --head` running there?"
            + (f" ({said[-1].strip()})" if said else "")
        )


def share_of(resources: ResourcesSpec, nodes: Iterable[Mapping[str, float]]) -> Share:
    """The resources of a trial, `auto` decided by whether the cluster has GPUs."""
    gpus = resources.gpus_per_rank
    if gpus == "auto":
        gpus = 1.0 if any(node.get("GPU", 0.0) >= 1 for node in nodes) else 0.0
    return Share(resources.ranks, resources.cpus_per_rank, gpus, resources.accelerator, resources.placement)


def trials_at_a_time(share: Share, nodes: Iterable[Mapping[str, float]], growth: Growth | None = None) -> int:
    """How many trials the nodes, and those that an autoscaler may add to them, hold together.

    Raises:
        ClusterError: where they hold none, with the numbers.
    """
    nodes = list(nodes)
    added = sorted(growth.nodes, key=share.fits, reverse=True)[: growth.most] if growth else []
    trials = share.trials_on([*nodes, *added])
    if trials == 0:
        may = f"; its autoscaler may add up to {growth.most} of {_held(growth.nodes)}" if growth else ""
        raise ClusterError(f"a trial needs {share}, but the cluster can never hold one: it has {_held(nodes)}{may}")
    return trials


def _held(nodes: Iterable[Mapping[str, float]]) -> str:
    each = Counter(f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU{_kinds(node)}" for node in nodes)
    return ", ".join(f"{count} x ({one})" if count > 1 else one for one, count in each.items()) or "nothing"


def _kinds(node: Mapping[str, float]) -> str:
    kinds = [name.removeprefix(ACCELERATOR) for name in node if name.startswith(ACCELERATOR)]
    return f" of {', '.join(kinds)}" if kinds else ""


def capacity(resources: ResourcesSpec, concurrent: int | Literal["auto"]) -> tuple[Share, int]:
    """A trial's share of the joined cluster, and how many trials are to run at a time.

    Raises:
        ClusterError: where the cluster can never hold a trial, or `auto` would count nodes that come and go.
    """
    growth = read_growth(ray.get_runtime_context().gcs_address)
    nodes = node_resources()
    if growth is not None:  # its nodes of now are among those that it may have
        nodes = [node for node in nodes if HEAD in node]
    share = share_of(resources, [*nodes, *(growth.nodes if growth else ())])
    trials = trials_at_a_time(share, nodes, growth)
    if growth is not None and "auto" in (concurrent, resources.gpus_per_rank):
        raise ClusterError(
            "`search.concurrent` and `resources.gpus_per_rank` must be given where an autoscaler can add nodes, since "
            "auto knows only the nodes of now, but got "
            f"(search.concurrent={concurrent}, resources.gpus_per_rank={resources.gpus_per_rank}); with all the nodes "
            f"that it may add, {trials} trials of {share} run at a time"
        )
    return share, trials if concurrent == "auto" else concurrent


def node_resources() -> list[Mapping[str, float]]:
    """What each living node of the joined cluster has in all."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def joined(address: str | None, console: Console) -> Iterator[bool]:
    """Ray for the time of a study, and whether it is ours; one that the caller started is used and left alone."""
    if ray.is_initialized():
        yield False
        return
    with without_dump(own=address is None):
        try:
            with console.status("starting Ray" if address is None else f"joining the cluster at {address}") as status:
                connect(address, on_interrupt=lambda: status.update(STOPPING))
            yield True
        finally:
            ray.shutdown()
