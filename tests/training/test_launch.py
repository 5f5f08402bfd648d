"""A process's place as torchrun's environment says it, and training under torchrun itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from plgan_tune.config.load import load_trial
from plgan_tune.train import train
from plgan_tune.training.launch import LaunchError, join_torchrun
from plgan_tune.training.ranks import ALONE

CPU = torch.device("cpu")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def test_without_torchrun_a_process_is_alone() -> None:
    threads = torch.get_num_threads()
    with join_torchrun({"RANK": "3", "WORLD_SIZE": "8"}) as place:  # a cluster's own, not torchrun's
        assert place.ranks == ALONE
        assert place.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
        assert torch.get_num_threads() == threads


def test_a_rank_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with join_torchrun(TORCHRUN | {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}) as place:
        assert place.device == torch.device("cuda", 1)
    with (
        pytest.raises(LaunchError, match=r"must hold, but got \(nproc-per-node=3, GPUs=2\)"),
        join_torchrun(TORCHRUN | {"LOCAL_WORLD_SIZE": "3"}),
    ):
        pass


CONFIG = """
trial:
  data: {source: digits, labels: 20, validation: 400}
  model: {kind: mlp, width: 0.1}
  training: {epochs: 2, precision: float64}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "trial.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def torchrun(ranks: int, arguments: Sequence[str | Path]) -> subprocess.Popen[str]:
    command = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "plgan_tune.train"]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )


def rows_of(out: Path) -> list[dict[str, Any]]:
    frame = pd.read_parquet(out / "epochs").sort_values("epoch")
    timeless = frame.drop(columns=["trial_id", "attempt", "images_per_second", "seconds", "reported_at"])
    timeless = timeless.dropna(axis="columns", how="all")  # what the method does not have
    return [{str(column): value for column, value in row.items()} for row in timeless.to_dict("records")]


def test_two_ranks_under_torchrun_leave_what_one_leaves(config: Path, tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    running = torchrun(2, ["--config", config, "--out", two])
    train(load_trial(config), one, device=CPU)
    told, _ = running.communicate(timeout=120)
    assert running.returncode == 0, told
    assert rows_of(two) == [pytest.approx(row, rel=1e-9, abs=1e-9) for row in rows_of(one)]
    assert {file.name for file in two.iterdir()} == {file.name for file in one.iterdir()}
    assert told.count("epoch 2/2") == 1  # rank 0 alone speaks
    assert told.count("training on the CPU, 2 ranks of 1 thread each\n") == 1


@pytest.mark.slow
def test_ctrl_c_stops_all_ranks_after_the_same_epoch_and_one_rank_can_go_on(config: Path, tmp_path: Path) -> None:
    out, straight = tmp_path / "out", tmp_path / "straight"
    running = torchrun(2, ["--config", config, "--set", "trial.training.epochs=1000", "--out", out])
    assert running.stdout is not None
    while not running.stdout.readline().startswith("epoch 2/1000"):
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    told, _ = running.communicate(timeout=60)
    assert f"bin/torchrun --nproc-per-node=2 -m plgan_tune.train --config {config}" in told
    stopped_after = len(rows_of(out))
    assert 2 <= stopped_after < 1000
    trial = load_trial(config, [f"trial.training.epochs={stopped_after + 2}"])
    train(trial, out, resume=True, device=CPU)
    train(trial, straight, device=CPU)
    assert rows_of(out) == [pytest.approx(row, rel=1e-9, abs=1e-9) for row in rows_of(straight)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trial.training.batch_size=2", "(ranks=3, training.batch_size=2)"),
        ("trial.data.labels=21", "(labels=21, classes=10)"),
        ("trial.data.source=nowhere", "nowhere"),
    ],
)
def test_what_all_ranks_refuse_is_said_once(override: str, message: str, config: Path, tmp_path: Path) -> None:
    running = torchrun(3, ["--config", config, "--set", override, "--out", tmp_path / "out"])
    told, _ = running.communicate(timeout=120)
    assert running.returncode != 0
    assert told.count(message) == 1
    assert not (tmp_path / "out" / "epochs").exists()


@pytest.mark.slow
def test_ranks_that_lose_one_end_and_say_so(config: Path, tmp_path: Path) -> None:
    running = torchrun(2, ["--config", config, "--set", "trial.training.epochs=1000", "--out", tmp_path / "out"])
    assert running.stdout is not None
    while not running.stdout.readline().startswith("epoch 1/1000"):
        assert running.poll() is None
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text(encoding="utf-8").split()
    began = time.monotonic()
    os.kill(int(children[1]), signal.SIGKILL)
    told, _ = running.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert running.returncode != 0
    assert "rank 0 of 2 got no answer from another rank" in told


RANK = """
import sys
from datetime import timedelta
import torch
from plgan_tune.training.launch import join_ranks, open_rendezvous
index = int(sys.argv[1])
url = sys.argv[2]
if index == 0:
    meeting = open_rendezvous(url)
    url = meeting.url
    print(url, flush=True)
with join_ranks(url, index, 2, torch.device("cpu"), timedelta(seconds=30)) as ranks:
    print(ranks.all_sum(torch.tensor(index + 1)).item())
"""


@pytest.fixture
def two_hosts() -> Iterator[tuple[str, str]]:
    """Two network namespaces, 10.98.0.1 and 10.98.0.2. Both call themselves by this machine's name."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the command ip, to make two hosts of one machine")
    names = (f"plgan{os.getpid()}a", f"plgan{os.getpid()}b")
    try:
        _ip("netns", "add", names[0])
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine allows no network namespace: {error.stderr.strip()}")
    _ip("netns", "add", names[1])
    try:
        _ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, start=1):
            _ip("-n", name, "addr", "add", f"10.98.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                _ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, text=True, check=True)


@pytest.mark.slow
@pytest.mark.root
def test_ranks_on_two_hosts_meet_at_the_first_one_s_address(two_hosts: tuple[str, str]) -> None:
    def rank(index: int, url: str) -> subprocess.Popen[str]:
        program = [sys.executable, "-c", RANK, str(index), url]
        return subprocess.Popen(["ip", "netns", "exec", two_hosts[index], *program], stdout=subprocess.PIPE, text=True)

    first = rank(0, "10.98.0.1")
    assert first.stdout is not None
    second = rank(1, first.stdout.readline().strip())
    assert [each.communicate(timeout=60)[0] for each in (first, second)] == ["3\n", "3\n"]
