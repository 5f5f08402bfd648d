"""How many trials a cluster holds, and what is said where nobody answers."""

import io
import random
import signal
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import ray._private.worker
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.ray.connect import (
    STOPPING,
    check_address,
    join_cluster,
    share_of,
    trials_at_a_time,
)
from plgan_tune.backends.ray.ray_private import without_dump
from plgan_tune.config.study import ResourcesSpec
from plgan_tune.search import app
from plgan_tune.study.trial_resources import SOME, TrialResources

Node = Mapping[str, float]

EIGHTHS = st.integers(1, 32).map(lambda n: n / 8)
"""Shares that binary fractions hold exactly, so that the reference below may count them off."""
GPUS = st.one_of(st.just(0.0), st.sampled_from([0.125, 0.25, 0.5]), st.integers(1, 4).map(float))
SHARES = st.builds(TrialResources, ranks=st.integers(1, 8), cpus=EIGHTHS, gpus=GPUS)
NODES = st.lists(
    st.fixed_dictionaries(
        {"CPU": st.integers(0, 64).map(float), "memory": st.just(1e9)}, optional={"GPU": st.integers(0, 8).map(float)}
    ),
    max_size=6,
)


def placed(share: TrialResources, nodes: Sequence[Node], order: random.Random) -> int:
    """Ranks that are placed one by one, each on any node with room, until none has."""
    free = [[node.get("CPU", 0.0), node.get("GPU", 0.0)] for node in nodes]
    for count in range(100_000):
        room = [node for node in free if node[0] >= share.cpus and node[1] >= share.gpus]
        if not room:
            return count
        chosen = order.choice(room)
        chosen[0] -= share.cpus
        chosen[1] -= share.gpus
    raise AssertionError("ranks that take nothing")


@given(SHARES, NODES, st.randoms(use_true_random=False))
def test_the_gangs_fill_the_cluster_and_none_waits_half_placed(
    share: TrialResources, nodes: list[Node], order: random.Random
) -> None:
    """Whatever nodes Ray chooses, that many whole gangs find room, and one more does not."""
    ranks = placed(share, nodes, order)
    if ranks < share.ranks:
        with pytest.raises(ClusterError):
            trials_at_a_time(share, nodes)
    else:
        assert trials_at_a_time(share, nodes) == ranks // share.ranks


@given(SHARES, NODES, NODES)
def test_more_nodes_never_hold_fewer_trials(share: TrialResources, nodes: list[Node], more: list[Node]) -> None:
    assume(sum(share.fits(node) for node in nodes) >= share.ranks)
    assert trials_at_a_time(share, [*nodes, *more]) >= trials_at_a_time(share, nodes)


DUMP = (
    "Raylet is terminated. Termination is unexpected. Last 20 lines of the Raylet logs:\n    [state-dump] 0\n    more"
)
"""As Ray's agents tell it, each once."""


@pytest.mark.parametrize("cpus", [0.1, 0.2, 0.3, 0.7])
def test_decimal_shares_fill_a_node(cpus: float) -> None:
    """0.1 + 0.2 is not 0.3 in binary: ten tenths of a CPU are one all the same."""
    assert TrialResources(1, cpus, 0.0).fits({"CPU": 10 * cpus}) == 10


@pytest.mark.parametrize(("gpus", "on_three"), [(0.1, 30), (0.25, 12), (0.3, 9), (0.7, 3), (1, 3), (2, 1), (4, 0)])
def test_ranks_share_a_gpu_and_not_its_neighbour(gpus: float, on_three: int) -> None:
    """Three ranks of 0.3 on each of three GPUs leave 0.1 of each: no room for a tenth."""
    assert TrialResources(1, 0.001, gpus).fits({"CPU": 1.0, "GPU": 3.0}) == on_three


H100, A10G, CPU_ONLY = (
    {"CPU": 8.0, "GPU": 4.0, "accelerator_type:H100": 1.0},
    {"CPU": 4.0, "GPU": 1.0, "accelerator_type:A10G": 1.0},
    {"CPU": 64.0},
)


@pytest.mark.parametrize(
    ("resources", "trials"),
    [
        (ResourcesSpec(), 5),  # a GPU each, and none on the node without
        (ResourcesSpec(accelerator="H100"), 4),
        (ResourcesSpec(accelerator="A10G", gpus_per_rank=0.25), 4),
        (ResourcesSpec(accelerator="H100", gpus_per_rank=0), 8),
        (ResourcesSpec(gpus_per_rank=0), 76),
        (ResourcesSpec(ranks=4), 1),
        (ResourcesSpec(ranks=2, placement="strict_pack"), 2),
        (ResourcesSpec(ranks=2, placement="strict_spread"), 1),
        (ResourcesSpec(ranks=2, placement="strict_spread", gpus_per_rank=0), 12),
    ],
)
def test_a_mixed_cluster_holds_what_its_kinds_do(resources: ResourcesSpec, trials: int) -> None:
    nodes = [H100, A10G, CPU_ONLY]
    assert trials_at_a_time(share_of(resources, nodes), nodes) == trials


def test_an_accelerator_that_no_node_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(ClusterError) as refused:
        trials_at_a_time(TrialResources(1, 1, 1, "B200"), [H100, A10G])
    for text in ("1 x (1 CPU, 1 GPU of B200)", "4 GPU of H100", "1 GPU of A10G"):
        assert text in str(refused.value)


@given(NODES, st.integers(2, 4), st.randoms(use_true_random=False))
def test_spread_trials_all_find_their_hosts(nodes: list[Node], ranks: int, order: random.Random) -> None:
    """Placing each rank where there is most room left, never two of one trial on a node, places just as many trials."""
    share = TrialResources(ranks, 1, 0, placement="strict_spread")
    room = [share.fits(node) for node in nodes]
    placed_trials = 0
    while sum(free > 0 for free in room) >= ranks:
        order.shuffle(room)
        room.sort(reverse=True)
        room[:ranks] = [free - 1 for free in room[:ranks]]
        placed_trials += 1
    assert share.trials_on(nodes) == placed_trials


@given(SHARES, NODES)
def test_where_ranks_must_be_only_takes_room_away(share: TrialResources, nodes: list[Node]) -> None:
    anywhere = share.trials_on(nodes)
    assert replace(share, placement="strict_pack").trials_on(nodes) <= anywhere
    assert replace(share, placement="strict_spread").trials_on(nodes) <= anywhere


@given(SHARES)
def test_a_placement_group_has_a_bundle_a_rank(share: TrialResources) -> None:
    bundles = share.bundles()
    assert len(bundles) == share.ranks
    for bundle in bundles:
        assert bundle == {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})


def test_a_bundle_that_asks_for_an_accelerator_asks_for_its_resource() -> None:
    bundles = TrialResources(2, 1, 0.5, "H100").bundles()
    assert bundles == [{"CPU": 1, "GPU": 0.5, "accelerator_type:H100": SOME}] * 2
    assert 0 < SOME <= 0.01


@given(NODES)
def test_auto_is_a_whole_gpu_where_the_cluster_has_one(nodes: list[Node]) -> None:
    share = share_of(ResourcesSpec(ranks=3, cpus_per_rank=2), nodes)
    assert (share.ranks, share.cpus) == (3, 2.0)
    assert share.gpus == (1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0)


@given(NODES, st.sampled_from([0.0, 0.5, 2.0]))
def test_what_was_asked_for_is_kept(nodes: list[Node], gpus: float) -> None:
    assert share_of(ResourcesSpec(gpus_per_rank=gpus), nodes).gpus == gpus


def test_auto_leaves_nodes_without_a_gpu_alone() -> None:
    nodes = [{"CPU": 64.0}, {"CPU": 8.0, "GPU": 2.0}]
    assert trials_at_a_time(share_of(ResourcesSpec(), nodes), nodes) == 2


@pytest.mark.parametrize(
    ("share", "nodes", "said"),
    [
        (TrialResources(1, 1, 1), [{"CPU": 8.0}], ["1 x (1 CPU, 1 GPU)", "8 CPU and 0 GPU"]),
        (TrialResources(2, 4, 0), [{"CPU": 7.0}], ["2 x (4 CPU)", "7 CPU"]),
        (TrialResources(9, 1, 1), [{"CPU": 16.0, "GPU": 8.0}], ["9 x (1 CPU, 1 GPU)", "16 CPU and 8 GPU"]),
        (
            TrialResources(1, 2.5, 0),
            [{"CPU": 2.0}, {"CPU": 1.0}],
            ["1 x (2.5 CPU)", "2 CPU and 0 GPU, 1 CPU and 0 GPU"],
        ),
        (TrialResources(1, 1, 0), [], ["1 x (1 CPU)", "nothing"]),
    ],
)
def test_a_cluster_too_small_is_refused_with_the_numbers(
    share: TrialResources, nodes: list[Node], said: list[str]
) -> None:
    with pytest.raises(ClusterError) as refused:
        trials_at_a_time(share, nodes)
    assert [text for text in said if text not in str(refused.value)] == []


def search_at(address: str, results: Path) -> Result:
    return CliRunner().invoke(app, ["--address", address, "--results", str(results)])


@pytest.fixture
def port() -> Iterator[socket.socket]:
    """A port of this machine that is taken, though nobody listens yet."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken


def address_of(taken: socket.socket) -> str:
    return f"127.0.0.1:{taken.getsockname()[1]}"


def test_ctrl_c_while_ray_starts_is_heard_at_once_and_obeyed_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray forks while it starts, and Python drops what is raised in a fork's hooks. Then it is not left running."""
    events: list[str] = []

    def init(**_options: object) -> None:
        signal.raise_signal(signal.SIGINT)
        events.append("Ray has started")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: events.append("Ray is shut down"))
    monkeypatch.setattr("rich.status.Status.update", lambda _, text: events.append(text))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), join_cluster(None, Console(file=io.StringIO())):
        events.append("used")
    assert events == [STOPPING, "Ray has started", "Ray is shut down"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "accepts and stays silent"])
def test_an_address_where_no_cluster_answers_exits_2_in_time(
    port: socket.socket, tmp_path: Path, listens: bool
) -> None:
    if listens:
        port.listen()
    started = time.monotonic()
    result = search_at(address_of(port), tmp_path / "results")
    assert time.monotonic() - started < 26
    assert result.exit_code == 2, result.output
    assert f"--address {address_of(port)}: no Ray cluster answered" in result.output
    assert "ray start --head" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("address", ["foo", "127.0.0.1", "host:", ""])
def test_what_is_no_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(ClusterError, match="--address must be auto or host:port, but got"):
        check_address(address)


@pytest.mark.parametrize(
    ("own", "text", "shown"),
    [
        (True, DUMP, ""),
        (False, DUMP, "Raylet is terminated. Termination is unexpected."),
        (True, "The actor died", "The actor died"),
    ],
)
def test_a_dead_raylet_s_log_stays_off_the_terminal(
    own: bool, text: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ray's listener takes the function from its module by the name that is replaced here."""
    before = ray._private.worker.print_to_stdstream
    assert "print_to_stdstream" in ray._private.worker.listen_error_messages.__code__.co_names
    with without_dump(own=own):
        ray._private.worker.print_to_stdstream({"lines": [text], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    assert ray._private.worker.print_to_stdstream == before
    said = capsys.readouterr().out
    assert shown in said
    assert "state-dump" not in said
    assert bool(said) == bool(shown)


def test_a_ray_that_does_not_start_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - as Ray does

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    said = CliRunner().invoke(app, ["--results", str(tmp_path / "results")])
    assert said.exit_code == 2, said.output
    assert "Ray does not start on this machine: The current node timed out during startup." in said.output
    assert not any(tmp_path.iterdir())
