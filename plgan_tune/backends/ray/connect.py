"""Join a Ray cluster, and count the trials that it holds at a time."""

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
from ray.exceptions import RayError
from rich.console import Console

from plgan_tune.backends.address import check_protocol
from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.ray.autoscaler import Growth, read_growth
from plgan_tune.backends.ray.cores import allowed_cores
from plgan_tune.backends.ray.embedded import take_session
from plgan_tune.backends.ray.ray_private import without_dump, without_sigterm_handler
from plgan_tune.backends.ray.token import keep_token_private
from plgan_tune.config.study import ResourcesSpec
from plgan_tune.study.trial_resources import ACCELERATOR, TrialResources

ANSWER_SECONDS = 20.0

HEAD = "node:__internal_head__"
"""A resource that only the head of a cluster has."""


REFUSED = re.compile("InvalidAuthToken|AuthenticationError|UNAUTHENTICATED")
"""Ray's messages for a cluster that requires a token when ours is missing or wrong."""

PASS_THE_TOKEN = (
    "the cluster refuses this token, or none was given: set RAY_AUTH_MODE=token in this environment, and copy the "
    "head's ~/.ray/auth_token to ~/.ray/auth_token here (or name the file in RAY_AUTH_TOKEN_PATH)"
)


STOPPING = "stopping as soon as Ray answers, in a few seconds"


def connect(address: str | None, code: Path | None = None, *, on_interrupt: Callable[[], None]) -> None:
    """Start an embedded Ray (address None), or join the cluster at `auto` or `host:port`.

    Args:
        address: The cluster's address.
        code: A package to send to the nodes, in place of their own copy.
        on_interrupt: Called at Ctrl-C, which takes effect once Ray has started.

    Raises:
        ClusterError: If the cluster cannot be joined. `check_address` reports sooner that no cluster answers.
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
    cores = allowed_cores()
    try:
        # "local": with no address Ray would join a cluster that runs on this machine.
        with _interrupts_kept(on_interrupt):
            ray.init(
                address="local",
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # Ray raises that class itself
        raise ClusterError(
            f"Ray does not start on this machine: {error}; its sockets and logs go to a folder ray in RAY_TMPDIR, else "
            "TMPDIR, else /tmp, which must be this user's to write and have a path of at most about 40 letters; "
            "--in-process searches without Ray"
        ) from error
    take_session()


@contextmanager
def _interrupts_kept(on_interrupt: Callable[[], None]) -> Iterator[None]:
    """Delay Ctrl-C until the block ends, and keep the caller's handler of SIGTERM.

    Ray forks while it starts, and Python drops an exception raised in a fork's hooks: the search would continue, or
    hang on logging's lock. For SIGTERM, Ray would install a handler that ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    here = os.getpid()

    def keep(number: int, _frame: object) -> None:
        asked.append(number)
        if os.getpid() == here:  # otherwise a fork before its exec, where some locks may never be released
            on_interrupt()

    before = signal.signal(signal.SIGINT, keep)
    try:
        with without_sigterm_handler():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def check_address(address: str) -> None:
    """Check that a cluster answers at the address.

    Raises:
        ClusterError: If none answers within 20 s, or the address is invalid or one of Ray Client.
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


def share_of(resources: ResourcesSpec, nodes: Iterable[Mapping[str, float]]) -> TrialResources:
    """Return the resources of a trial; `auto` takes a GPU if the cluster has any."""
    gpus = resources.gpus_per_rank
    if gpus == "auto":
        gpus = 1.0 if any(node.get("GPU", 0.0) >= 1 for node in nodes) else 0.0
    return TrialResources(resources.ranks, resources.cpus_per_rank, gpus, resources.accelerator, resources.placement)


def trials_at_a_time(share: TrialResources, nodes: Iterable[Mapping[str, float]], growth: Growth | None = None) -> int:
    """Return how many trials fit on the nodes and on those that an autoscaler may add.

    Raises:
        ClusterError: If none fits; the message gives the numbers.
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


def capacity(resources: ResourcesSpec, concurrent: int | Literal["auto"]) -> tuple[TrialResources, int]:
    """Return a trial's share of the joined cluster, and how many trials to run at a time.

    Raises:
        ClusterError: If the cluster can never hold a trial, or `auto` is used where an autoscaler can add nodes.
    """
    growth = read_growth(ray.get_runtime_context().gcs_address)
    nodes = node_resources()
    if growth is not None:  # its current nodes are among those that it may have
        nodes = [node for node in nodes if HEAD in node]
    share = share_of(resources, [*nodes, *(growth.nodes if growth else ())])
    trials = trials_at_a_time(share, nodes, growth)
    if growth is not None and "auto" in (concurrent, resources.gpus_per_rank):
        raise ClusterError(
            "`search.concurrent` and `resources.gpus_per_rank` must be given where an autoscaler can add nodes, since "
            "auto knows only the current nodes, but got "
            f"(search.concurrent={concurrent}, resources.gpus_per_rank={resources.gpus_per_rank}); with all the nodes "
            f"that it may add, {trials} trials of {share} run at a time"
        )
    return share, trials if concurrent == "auto" else concurrent


def node_resources() -> list[Mapping[str, float]]:
    """Return the total resources of each living node of the joined cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def join_cluster(address: str | None, console: Console) -> Iterator[bool]:
    """Join or start Ray for a `with` block. Yield False if the caller has already done so; its Ray is then kept."""
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
