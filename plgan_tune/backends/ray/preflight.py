"""Check every node of a cluster with a task on that node, before any trial starts."""

import hashlib
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from plgan_tune.backends.backend import Workload
from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.ray.connect import STOPPING, capacity, connect, join_cluster
from plgan_tune.backends.ray.gpus import gpu_problem
from plgan_tune.config.trial import DataSpec
from plgan_tune.data.check import DataSummary, check_data, check_room
from plgan_tune.data.errors import DataError
from plgan_tune.study.trial_resources import TrialResources

LOOK_SECONDS = 120.0
"""How long a node may take to start a process and answer."""

DATA_SECONDS = 3600.0
"""How long a node may take to find its images, which it may have to download."""

PACKAGE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Node:
    """A living node on which a rank fits."""

    ray_id: str
    address: str


@contextmanager
def open_cluster(workload: Workload, *, address: str | None, console: Console) -> Iterator[tuple[TrialResources, int]]:
    """Open Ray for a `with` block, and yield a trial's share of it and how many trials to run at a time.

    If this call joins a cluster, its nodes are checked first (`prepare_nodes`). If trials take GPUs, torch must be able
    to use them on every node where a rank fits.

    Raises:
        ClusterError: If the cluster cannot be joined or is too small, or one of its nodes cannot train.
    """
    with join_cluster(address, console) as joined_here:
        share, at_a_time = capacity(workload.resources, workload.search.concurrent)
        if address is not None and joined_here:
            with console.status("checking the nodes") as status:
                prepare_nodes(
                    address, share, workload.data, workload.summary, on_interrupt=lambda: status.update(STOPPING)
                )
        if share.gpus and joined_here:
            with console.status("looking whether torch can use the GPUs"):
                _refuse(_on_each(training_nodes(share), gpu_problem, (), LOOK_SECONDS))
        yield share, at_a_time


def prepare_nodes(
    address: str, share: TrialResources, data: DataSpec, summary: DataSummary, *, on_interrupt: Callable[[], None]
) -> None:
    """Check that every node that may train can: its versions, this code, the images and disk space for them.

    Nodes on which no rank fits are not checked, nor are those that an autoscaler adds later. If a node has different
    code or none, the cluster is joined again with this process's code, which Ray then sends to all nodes.

    Args:
        address: The address of the joined cluster.
        share: What a trial takes.
        data: The data of every trial.
        summary: The images that this process found.
        on_interrupt: Called at Ctrl-C while the cluster is joined again.

    Raises:
        ClusterError: If a node fails a check; the message gives its address and the problem.
    """
    nodes = training_nodes(share)
    look = looker()
    here = look(PACKAGE.name)
    found = _on_each(nodes, look, (PACKAGE.name,), LOOK_SECONDS)
    _refuse({node: _difference(here, there) for node, there in found.items()})
    if any(there["code"] != here["code"] for there in found.values()):
        ray.shutdown()
        connect(address, PACKAGE, on_interrupt=on_interrupt)
    _refuse(_on_each(nodes, data_problem, (data, summary), DATA_SECONDS))


def training_nodes(share: TrialResources) -> list[Node]:
    """Return the nodes of the joined cluster on which at least one rank fits, sorted by address."""
    living = [node for node in ray.nodes() if node["Alive"] and share.fits(node["Resources"])]
    return sorted((Node(node["NodeID"], node["NodeManagerAddress"]) for node in living), key=lambda node: node.address)


Facts = Mapping[str, str | None]
"""A node's versions of Python, Ray and torch, which nodes must share, and a digest of its copy of this code."""


def looker() -> Callable[[str], Facts]:
    """Return a function that reads a machine's `Facts`. It is pickled by value: the node may lack the package."""

    def look(package: str) -> dict[str, str | None]:
        def of(name: str) -> str | None:
            try:
                return version(name).partition("+")[0]  # the rest names the build's CUDA
            except PackageNotFoundError:
                return None

        found = find_spec(package)
        digest = hashlib.sha256()
        if found is not None and found.origin is not None:
            folder = Path(found.origin).parent
            for file in sorted(folder.rglob("*.py")):
                digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
        python = ".".join(platform.python_version_tuple()[:2])
        return {"Python": python, "ray": of("ray"), "torch": of("torch"), "code": digest.hexdigest()}

    return look


def _difference(here: Facts, there: Facts) -> str | None:
    differing = [name for name in here if name != "code" and there[name] != here[name]]
    if not differing:
        return None
    told = ", ".join(f"{name} {there[name] or 'is missing'} (here {here[name]})" for name in differing)
    return f"versions must be the same on every node, but it has {told}"


def data_problem(data: DataSpec, expected: DataSummary) -> str | None:
    """Return why a trial could not load its images on this machine; None if it could."""
    try:
        found = check_data(data)
        check_room(data, found)
    except DataError as error:
        return str(error)
    if found == expected:
        return None
    where = f" at {data.path}" if data.path else ""
    differing = "; ".join(
        f"{field.name} {getattr(found, field.name)}, here {getattr(expected, field.name)}"
        for field in fields(DataSummary)
        if getattr(found, field.name) != getattr(expected, field.name)
    )
    return f"the images{where} must be the same on every node, but it has {differing}"


def _on_each(
    nodes: Sequence[Node], function: Callable[..., Any], arguments: tuple[Any, ...], seconds: float
) -> dict[Node, Any]:
    """Return the result of `function` on each node. A node that leaves meanwhile is omitted: no trial will run there.

    Raises:
        ClusterError: If a node does not answer in time or the function raises; the message names the nodes.
    """
    task = ray.remote(function)
    calls = {
        node: task.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False)
        ).remote(*arguments)
        for node in nodes
    }
    ray.wait(list(calls.values()), num_returns=len(calls), timeout=seconds)
    answers: dict[Node, Any] = {}
    silent: dict[Node, str | None] = {}
    for node, call in calls.items():
        try:
            answers[node] = ray.get(call, timeout=0.1)
        except GetTimeoutError:
            silent[node] = f"it did not answer within {seconds:g} s"
        except RayError as error:
            silent[node] = str(error).strip().splitlines()[-1]
    living = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
    _refuse({node: why for node, why in silent.items() if node.ray_id in living})
    return answers


def _refuse(problems: Mapping[Node, str | None]) -> None:
    told = [f"node {node.address}: {problem}" for node, problem in problems.items() if problem]
    if told:
        raise ClusterError("\n".join(told))
