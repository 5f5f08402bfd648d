"""How a process becomes one of a trial's ranks: its process group, the group's address and its end.

In a search each process of a gang calls `join_ranks` with the arguments from the driver; under torchrun,
`join_torchrun` reads them from the environment. Otherwise a trial has one rank and no process group.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Final, NamedTuple
from urllib.parse import urlparse

import psutil
import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from plgan_tune.training.ranks import ALONE, RankLostError, Ranks
from plgan_tune.training.torch_private import abort_ranks

TIMEOUT: Final = timedelta(minutes=10)
"""The longest time a rank waits for the others, at the rendezvous and in each collective."""


class LaunchError(Exception):
    """This machine has too few GPUs for its ranks."""


class Rendezvous(NamedTuple):
    """Where ranks meet.

    Attributes:
        store: its owner must keep it until it has joined.
        url: `init_method` for every rank.
    """

    store: TCPStore
    url: str


def open_rendezvous(host: str, timeout: timedelta = TIMEOUT) -> Rendezvous:
    """Open a rendezvous on a free port. Rank 0's process calls it.

    The port is bound at once, so no other process can take it before the ranks join.

    Args:
        host: this machine's address, as other nodes reach it.
        timeout: how long the ranks may take to join.
    """
    store = TCPStore(host, 0, is_master=True, timeout=timeout, wait_for_workers=False, multi_tenant=True)
    return Rendezvous(store, f"tcp://{host}:{store.port}")


@contextmanager
def join_ranks(
    init_method: str, index: int, count: int, device: torch.device, timeout: timedelta = TIMEOUT
) -> Iterator[Ranks]:
    """Join as rank `index` of `count` for the duration of the block, with NCCL if `device` is a GPU, else with gloo.

        meeting = open_rendezvous(own_address)  # in rank 0's process; send meeting.url to the others
        with join_ranks(meeting.url, index=0, count=2, device=torch.device("cpu")) as ranks:
            state = new_state(trial, data, device)
            for metrics in epochs(state, data, ranks):
                ...

    A process is in one group at a time. It may join another after it left this one without an error, or with an error
    on a CPU; but not after an error on a GPU, nor after a failed rendezvous: torch keeps the state it had begun.

    Args:
        init_method: `Rendezvous.url`, `file://` on a folder that all ranks share, or `env://`.
        index: this process's rank, from 0.
        count: number of ranks.
        device: this rank's device, with its index if it is a GPU.
        timeout: how long to wait for the others, here and in each collective.

    Raises:
        RankLostError: if not all ranks join within `timeout`.
    """
    if count == 1:
        yield ALONE
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        with _gloo_reaching(init_method):
            dist.init_process_group(
                "nccl" if on_gpu else "gloo",
                init_method=init_method,
                rank=index,
                world_size=count,
                timeout=timeout,
                device_id=device if on_gpu else None,
            )
    except RuntimeError as error:
        raise RankLostError(
            f"rank {index} of {count} did not meet the others at {init_method} within "
            f"{timeout.total_seconds():g} s ({error})"
        ) from error
    try:
        yield Ranks(index, count)
    except BaseException:
        _leave_others_waiting(on_gpu=on_gpu)
        raise
    dist.destroy_process_group()


def _leave_others_waiting(*, on_gpu: bool) -> None:
    """Leave after an error. With gloo the others notice at once; NCCL would wait for them, which wait for this rank."""
    if on_gpu:
        abort_ranks()
    else:
        dist.destroy_process_group()


class Place(NamedTuple):
    """A process's rank and device."""

    ranks: Ranks
    device: torch.device


@contextmanager
def join_torchrun(environ: Mapping[str, str] = os.environ, timeout: timedelta = TIMEOUT) -> Iterator[Place]:
    """Join the group that torchrun's environment names; without torchrun, use one rank, on the GPU if there is one.

    Raises:
        LaunchError: if torchrun starts more ranks than the machine has GPUs.
        RankLostError: if not all ranks join within `timeout`.
    """
    gpus = torch.cuda.device_count()
    if "TORCHELASTIC_RUN_ID" not in environ:
        yield Place(ALONE, torch.device("cuda" if gpus else "cpu"))
        return
    here, local = int(environ["LOCAL_RANK"]), int(environ["LOCAL_WORLD_SIZE"])
    if gpus and local > gpus:
        raise LaunchError(
            f"`--nproc-per-node <= GPUs of the machine` must hold, but got (nproc-per-node={local}, GPUs={gpus}); "
            f"CUDA_VISIBLE_DEVICES= trains on the CPU"
        )
    device = torch.device("cuda", here) if gpus else torch.device("cpu")
    with join_ranks("env://", int(environ["RANK"]), int(environ["WORLD_SIZE"]), device, timeout) as ranks:
        yield Place(ranks, device)


@contextmanager
def _gloo_reaching(init_method: str) -> Iterator[None]:
    """Make gloo listen on the interface that reaches the rendezvous.

    By default it listens on the address of the machine's name, which on Debian is 127.0.1.1: no other node reaches it.
    """
    host = os.environ.get("MASTER_ADDR") if init_method == "env://" else urlparse(init_method).hostname
    name = _interface_towards(host) if host else None
    if name is None or "GLOO_SOCKET_IFNAME" in os.environ:
        yield
        return
    os.environ["GLOO_SOCKET_IFNAME"] = name
    try:
        yield
    finally:
        del os.environ["GLOO_SOCKET_IFNAME"]


def _interface_towards(host: str) -> str | None:
    """Return the network interface through which this machine reaches `host` (IPv4); None if unknown."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 1))  # on a datagram socket this chooses a route and sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    addresses = psutil.net_if_addrs()
    return next((name for name, found in addresses.items() if own in {one.address for one in found}), None)
