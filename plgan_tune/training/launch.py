"""How a process becomes one of a trial's ranks: the process group, its address and its end.

A search's gang calls `join_ranks` with what its driver hands out; under torchrun, `join_torchrun` reads it from the
environment. Without either a trial has one rank and no process group.
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
"""The last resort: how long a rank waits for the others, in the first meeting and in each collective."""


class LaunchError(Exception):
    """This machine cannot give every rank what it needs."""


class Rendezvous(NamedTuple):
    """Where ranks meet.

    Attributes:
        store: to be kept by its owner until it has joined.
        url: `init_method` for every rank.
    """

    store: TCPStore
    url: str


def open_rendezvous(host: str, timeout: timedelta = TIMEOUT) -> Rendezvous:
    """Called by rank 0's process: a meeting place on a free port of `host`, its own address as other nodes reach it.

    The port is taken at once, so no other process can take it before the ranks come.
    """
    store = TCPStore(host, 0, is_master=True, timeout=timeout, wait_for_workers=False, multi_tenant=True)
    return Rendezvous(store, f"tcp://{host}:{store.port}")


@contextmanager
def join_ranks(
    init_method: str, index: int, count: int, device: torch.device, timeout: timedelta = TIMEOUT
) -> Iterator[Ranks]:
    """This process as rank `index` of `count`, until the block is left: NCCL where `device` is a GPU, else gloo.

        meeting = open_rendezvous(own_address)  # in rank 0's process; the others are told meeting.url
        with join_ranks(meeting.url, index=0, count=2, device=torch.device("cpu")) as ranks:
            state = new_state(trial, data, device)
            for metrics in epochs(state, data, ranks):
                ...

    One process is in one group at a time. It may join another after leaving this one in order, or after an error on a
    CPU; but not after an error on a GPU, nor where the ranks did not meet: torch keeps what it had begun.

    Args:
        init_method: `Rendezvous.url`, `file://` on a folder that all ranks share, or `env://`.
        device: this rank's own, with its index where it is a GPU.

    Raises:
        RankLostError: where not all ranks come within `timeout`.
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
    """gloo closes its connections, and the others see it at once. NCCL would wait for them, who wait for this rank."""
    if on_gpu:
        abort_ranks()
    else:
        dist.destroy_process_group()


class Place(NamedTuple):
    """Where a process trains: its rank and its device."""

    ranks: Ranks
    device: torch.device


@contextmanager
def join_torchrun(environ: Mapping[str, str] = os.environ, timeout: timedelta = TIMEOUT) -> Iterator[Place]:
    """This process's place as torchrun's environment says it; without torchrun one rank, on the GPU if there is one.

    Raises:
        LaunchError: where torchrun starts more ranks than the machine has GPUs.
        RankLostError: where not all ranks come within `timeout`.
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
    """gloo listens on the interface that leads to the meeting place.

    By default it listens where the machine's name points, which on Debian is 127.0.1.1: no other node gets there.
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
    """The network interface by which this machine reaches `host` (IPv4); None where that is not known."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 1))  # of a datagram socket: chooses a route, sends nothing
            own = probe.getsockname()[0]
    except OSError:
        return None
    addresses = psutil.net_if_addrs()
    return next((name for name, found in addresses.items() if own in {one.address for one in found}), None)
