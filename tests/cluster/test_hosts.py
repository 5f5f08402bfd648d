"""A search over several hosts, one of which is cut off and one killed: network namespaces stand for the hosts."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.waiting import epochs_in, wait_for_epochs, wait_until

pytestmark = [pytest.mark.root, pytest.mark.ray, pytest.mark.slow]

TRIALS, EPOCHS = 3, 40
"""So that on no machine they end before the first epochs are in the log and a host is cut off."""
SPACE = f"""
study: hosts
search: {{confirm: null, trials: {TRIALS}, concurrent: 1, sampler: random, early_stopping: none, max_failures: 0}}
resources: {{ranks: 2, gpus_per_rank: 0, placement: strict_spread}}
trial:
  data: {{source: digits, labels: 20, validation: 200}}
  model: {{width: 0.2}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}, switch_epoch: 6}}
  training: {{epochs: {EPOCHS}, batch_size: 100, checkpoint_every: 1}}
"""
IMPATIENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "4",
}
"""A host that does not answer is given up after some ten seconds."""

Machines = Callable[[Path], AbstractContextManager[Any]]


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosts(machine: Machines, tmp_path: Path) -> Iterator[list[Any]]:
    """Four machines on a bridge, each with an address of its own: 10.99.7.1 to 10.99.7.4."""
    bridge = f"pl{os.getpid()}"
    with ExitStack() as stack:
        try:
            ip("link", "add", bridge, "type", "bridge")
            stack.callback(subprocess.run, ["ip", "link", "del", bridge], check=False)
            ip("link", "set", bridge, "up")
            ip("link", "add", cable_of(0), "type", "veth", "peer", "name", cable_of(9))
            ip("link", "del", cable_of(0))
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"needs a bridge and veth pairs, which this machine refuses: {refused.stderr.strip()}")
        found = []
        for number in range(1, 5):
            host = stack.enter_context(machine(tmp_path / f"h{number}"))
            cable = cable_of(number)
            ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
            stack.callback(subprocess.run, ["ip", "link", "del", cable], check=False, stderr=subprocess.DEVNULL)
            ip("link", "set", cable, "master", bridge, "up")
            host.run("ip", "addr", "add", f"10.99.7.{number}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            found.append(host)
        yield found


def cable_of(number: int) -> str:
    return f"pl{os.getpid()}h{number}"


def join(host: Any, number: int, cpus: int) -> None:
    words = f"ray start --address=10.99.7.1:6379 --node-ip-address=10.99.7.{number} --num-cpus={cpus}"
    host.run(*words.split(), **IMPATIENT)


def ranks_on(host: Any) -> int:
    return str(host.run("ps", "-e", "-o", "args")).count("ray::RankActor")


def test_a_search_survives_a_host_cut_off_and_a_host_killed(
    hosts: list[Any],
    tmp_path: Path,
    assert_whole: Callable[..., None],
) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    said, study = tmp_path / "said.txt", tmp_path / "studies" / "mine"
    head = "ray start --head --port=6379 --node-ip-address=10.99.7.1 --num-cpus=2 --include-dashboard=false"
    hosts[0].run(*head.split(), **IMPATIENT)
    join(hosts[1], 2, cpus=2)
    join(hosts[2], 3, cpus=2)
    join(hosts[3], 4, cpus=0)  # whence the search is started; it trains nothing
    words = "python -m plgan_tune.search --space space.yaml --address 10.99.7.1:6379 --name mine"
    search = hosts[3].start(*words.split(), "--results", str(study.parent), said=said, folder=tmp_path, **IMPATIENT)

    def trained_on() -> list[int]:
        """The numbers of the hosts that have a rank."""
        return [number for number in (1, 2, 3) if ranks_on(hosts[number - 1])]

    wait_for_epochs(search, study, 3, said)
    assert [ranks_on(host) for host in hosts[:3]].count(1) == 2, "each rank is on a host of its own"

    cut = trained_on()[-1]
    ip("link", "set", cable_of(cut), "down")
    wait_until(lambda: "now on 3 nodes" in said.read_text(), "the loss of the host that was cut off", said, search)
    ip("link", "set", cable_of(cut), "up")
    hosts[cut - 1].run("ray", "stop")  # what a supervisor of its Ray would do
    join(hosts[cut - 1], cut, cpus=2)
    wait_until(lambda: "now on 4 nodes" in said.read_text(), "the host's return", said, search)
    before, killed = epochs_in(study), ({2, 3} - {cut}).pop()
    wait_until(lambda: epochs_in(study) > before and killed in trained_on(), "epochs after the cut", said, search)

    hosts[killed - 1].kill()
    assert search.wait(timeout=600) == 0, said.read_text()

    assert_whole(study, TRIALS, EPOCHS)
    trials = pd.read_parquet(study / "trials")
    assert trials["attempt"].sum() >= TRIALS + 2, "both losses have cost an attempt"
    assert set(trials["node"]) <= {"10.99.7.1", "10.99.7.2", "10.99.7.3"}
