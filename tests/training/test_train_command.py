"""`python -m plgan_tune.train` as a user meets it: files, refusals, Ctrl-C, a new process that goes on."""

import hashlib
import io
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from plgan_tune.config.load import load_trial
from plgan_tune.records import EpochMetrics
from plgan_tune.store.location import Location
from plgan_tune.store.read import read_epochs
from plgan_tune.train import app, train
from plgan_tune.training.checkpoint import decode_checkpoint
from plgan_tune.training.threads import torch_threads

Timeless = Callable[[EpochMetrics], dict[str, float]]

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """
trial:
  data: {source: digits, labels: 20, validation: 100, limit: 300}
  model: {width: 0.05}
  loss: {switch_epoch: 3}
  optim: {decay_epoch: 4}
  training: {epochs: 3, batch_size: 20}
"""

BLOCKED = """
import runpy, sys
sys.modules |= {"ray": None, "optuna": None}
runpy.run_module("plgan_tune.train", run_name="__main__", alter_sys=True)
"""
"""Importing a module that stands as None raises ImportError."""


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    status: int
    text: str


def command(*words: str | Path) -> Said:
    """The command in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Said(result.exit_code, result.output)


def process(*words: str | Path, start: tuple[str, ...] = ("-m", "plgan_tune.train")) -> Said:
    """The command in a process of its own."""
    ended = subprocess.run(
        [sys.executable, *start, *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    return Said(ended.returncode, ended.stdout)


def checkpoint_of(folder: Path) -> Any:
    return decode_checkpoint((folder / "checkpoint.pt").read_bytes(), str(folder))


def same_bits(one: Any, other: Any) -> bool:
    """Whether two checkpoints' contents are equal to the last bit, rows' times apart."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        timed = {"seconds", "images_per_second"}
        return one.keys() == other.keys() and all(same_bits(one[key], other[key]) for key in one.keys() - timed)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_bits, one, other))
    return bool(one == other)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "my trial.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def six(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of 6 epochs without interruption."""
    folder = tmp_path_factory.mktemp("six")
    train(load_trial(config, ["trial.training.epochs=6"]), folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def three(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said]:
    """The folder of 3 epochs, trained by a process that can import neither ray nor optuna, and what it said."""
    folder = tmp_path_factory.mktemp("three") / "out"
    return folder, process("--config", config, "--out", folder, start=("-c", BLOCKED))


@pytest.fixture
def copied(three: tuple[Path, Said], tmp_path: Path) -> Path:
    """A copy of those 3 epochs, to be gone on with or spoilt."""
    out = tmp_path / "copy"
    (out / "epochs").mkdir(parents=True)
    for file in ("checkpoint.pt", "samples.png", "epochs/part-00000.parquet"):
        (out / file).write_bytes((three[0] / file).read_bytes())
    return out


def test_it_trains_where_neither_ray_nor_optuna_can_be_imported(three: tuple[Path, Said]) -> None:
    folder, said = three
    assert said.status == 0, said.text
    lines = [line[:10] for line in said.text.splitlines() if line.startswith("epoch ")]
    assert lines[:3] == ["epoch 1/3 ", "epoch 2/3 ", "epoch 3/3 "]
    judge = (
        r"^judge of generated images: [\d,]+ labels, error \d+\.\d\d % on the validation images; val_distance of real"
    )
    assert re.search(judge, said.text, re.MULTILINE)
    error = r"\d+\.\d\d %"
    assert re.search(rf"^epoch 3/3  val_error {error}  D ", said.text, re.MULTILINE)
    assert re.search(rf"^epoch 3 of 3: val_error {error}, averaged weights \(raw {error}\)$", said.text, re.MULTILINE)
    assert f"epochs, samples.png and checkpoint.pt are in {folder}" in said.text


def test_what_it_leaves(three: tuple[Path, Said], timeless: Timeless) -> None:
    folder, _ = three
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "epochs", "judge.pt", "samples.png"]
    epochs = pd.read_parquet(folder / "epochs")
    assert epochs.epoch.tolist() == [1, 2, 3]
    assert epochs.seq.tolist() == [0, 1, 2]
    assert set(epochs.attempt) == {1}
    rows = checkpoint_of(folder).rows
    assert epochs.val_error.tolist() == [row.val_error for row in rows]
    assert epochs.grad_norm_feature.tolist() == [row.grad_norm_feature for row in rows]
    with Image.open(io.BytesIO((folder / "samples.png").read_bytes())) as image:
        assert image.size == (91, 91)


def test_a_new_process_goes_on_as_if_nothing_had_been(config: Path, six: Path, copied: Path) -> None:
    """Another process has trained the first three epochs."""
    said = command("--config", config, "--set", "trial.training.epochs=6", "--out", copied, "--resume")
    assert said.status == 0, said.text
    assert same_bits(checkpoint_of(copied).content, checkpoint_of(six).content)
    assert (copied / "samples.png").read_bytes() == (six / "samples.png").read_bytes()
    epochs = pd.read_parquet(copied / "epochs")
    assert epochs.epoch.tolist() == [1, 2, 3, 4, 5, 6]
    assert epochs.attempt.tolist() == [1, 1, 1, 2, 2, 2]
    assert epochs.seq.tolist() == list(range(6))
    assert epochs.loss_feature.tolist() == pd.read_parquet(six / "epochs").loss_feature.tolist()


def test_ctrl_c_ends_the_epoch_and_says_how_to_go_on(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "it's out"
    changes = ["trial.training.epochs=100000", "trial.loss.alpha=0.75", "resources.cpus_per_rank=2"]
    overrides = [word for change in changes for word in ("--set", change)]
    words = ["--config", str(config), *overrides, "--out", str(out), "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "plgan_tune.train", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as training:
        assert training.stdout is not None
        while not training.stdout.readline().startswith("epoch 2/"):
            assert training.poll() is None
        training.send_signal(signal.SIGINT)
        *_, last = training.stdout.read().splitlines()
        assert training.wait(timeout=60) == 130
    finished = len(checkpoint_of(out).rows)
    assert finished >= 2
    assert pd.read_parquet(out / "epochs").epoch.tolist() == list(range(1, finished + 1))

    _, *words = shlex.split(last)
    assert words[:2] == ["-m", "plgan_tune.train"]
    assert words[-5:] == ["--threads", "1", "--out", str(out), "--resume"]
    go_on = [*words[2:], "--set", f"trial.training.epochs={finished + 2}"]
    said = command(*go_on)
    assert said.status == 0, said.text
    straight = tmp_path / "straight"
    said = command("--config", config, *overrides, *go_on[-2:], "--threads", "1", "--out", straight)
    assert said.status == 0, said.text
    assert same_bits(checkpoint_of(out).content, checkpoint_of(straight).content)


@pytest.mark.parametrize(
    ("resources", "words", "threads"),
    [
        ("", [], 1),
        ("resources: {ranks: 2, cpus_per_rank: 3.5}", [], 3),
        ("resources: {cpus_per_rank: 0.5}", [], 1),
        ("resources: {cpus_per_rank: 3}", ["--threads", "2"], 2),
        ("resources: {cpus_per_rank: 3}", ["--set", "resources.cpus_per_rank=2"], 2),
    ],
)
def test_it_takes_the_threads_of_its_configuration_or_those_asked_for(
    resources: str, words: list[str], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never all cores, nor what OMP_NUM_THREADS says; torch has its own number back at the end."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen: list[int] = []

    def session(*_: object, **__: object) -> Iterator[EpochMetrics]:
        seen.append(torch.get_num_threads())
        yield from ()

    monkeypatch.setattr("plgan_tune.train.session", session)
    config = tmp_path / "trial.yaml"
    config.write_text(f"{resources}\n{CONFIG}")
    with torch_threads(5):
        said = command("--config", config, *words, "--out", tmp_path / "out")
        assert torch.get_num_threads() == 5
    assert seen == [threads]
    assert f"training on the CPU, {threads} thread{'s' * (threads > 1)}\n" in said.text


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("resources.cpus_per_rank=-1", "resources.cpus_per_rank: must be a finite number > 0, but got -1"),
        ("resources.cpus_per_rank=1e300", "resources.cpus_per_rank: must be at most 1024 where one process trains"),
        ("resources.cpus_per_rank={int: [1, 2]}", "resources.cpus_per_rank: no domain is allowed outside trial"),
    ],
)
def test_threads_that_cannot_be_are_refused(config: Path, tmp_path: Path, override: str, rule: str) -> None:
    assert rule in refused("--config", config, "--set", override, "--out", tmp_path / "out")


def test_stopping_by_the_watch_is_the_same_as_by_a_signal(config: Path, six: Path, tmp_path: Path) -> None:
    trial, seen = load_trial(config, ["trial.training.epochs=6"]), []

    def watch(metrics: EpochMetrics) -> bool:
        seen.append(metrics.epoch)
        return metrics.epoch != 4

    first = train(trial, tmp_path, watch=watch)
    rows = train(trial, tmp_path, resume=True, watch=watch)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert rows[:4] == first
    assert same_bits(checkpoint_of(tmp_path).content, checkpoint_of(six).content)


def test_resuming_what_is_complete_changes_nothing(config: Path, copied: Path) -> None:
    before = checkpoint_of(copied).content
    said = command("--config", config, "--out", copied, "--resume")
    assert said.status == 0, said.text
    assert same_bits(checkpoint_of(copied).content, before)
    assert read_epochs(Location.at(copied)).num_rows == 3


def test_without_out_a_new_folder_in_trained_is_taken(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = command("--config", config, "--set", "trial.training.epochs=1")
    assert said.status == 0, said.text
    (folder,) = (tmp_path / "trained").iterdir()
    assert folder.name.startswith("digits-2")
    assert (folder / "checkpoint.pt").exists()


def refused(*words: str | Path) -> str:
    """What is said where a command exits 2, on one line however wide the terminal is."""
    said = command(*words)
    assert said.status == 2, said.text
    assert "Traceback" not in said.text
    return said.text


def test_an_out_that_is_there_is_not_written_over(config: Path, copied: Path) -> None:
    before = (copied / "checkpoint.pt").read_bytes()
    text = refused("--config", config, "--out", copied)
    assert f"{copied}/checkpoint.pt already exists; add --resume" in text
    assert (copied / "checkpoint.pt").read_bytes() == before


def test_resume_needs_out_and_a_checkpoint(config: Path, tmp_path: Path) -> None:
    assert "--resume needs --out" in refused("--config", config, "--resume")
    text = refused("--config", config, "--resume", "--out", tmp_path / "new")
    assert f"there is no checkpoint {tmp_path}/new/checkpoint.pt" in text
    assert not (tmp_path / "new").exists()


def test_every_changed_key_but_the_epochs_is_named(config: Path, copied: Path) -> None:
    changes = ["trial.training.epochs=9", "trial.loss.alpha=0.25", "trial.optim.lr_generator=0.001"]
    text = refused("--config", config, *(w for c in changes for w in ("--set", c)), "--out", copied, "--resume")
    assert "only training.epochs may change" in text
    assert "loss.alpha: 0.5 -> 0.25" in text
    assert "optim.lr_generator: 0.003 -> 0.001" in text
    assert "epochs: 3 -> 9" not in text


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda content: content[: len(content) // 2], "is damaged"),
        (lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:], "is damaged"),
        (lambda content: b"", "is damaged"),
        (lambda content: b"some notes of mine", "is damaged or no checkpoint"),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_kept(
    config: Path, copied: Path, spoil: Callable[[bytes], bytes], why: str
) -> None:
    spoilt = spoil((copied / "checkpoint.pt").read_bytes())
    (copied / "checkpoint.pt").write_bytes(spoilt)
    assert f"{copied}/checkpoint.pt {why}" in refused("--config", config, "--out", copied, "--resume")
    assert (copied / "checkpoint.pt").read_bytes() == spoilt


def test_a_foreign_checkpoint_is_refused(config: Path, copied: Path) -> None:
    torch.save({"state_dict": {}}, copied / "checkpoint.pt")
    text = refused("--config", config, "--out", copied, "--resume")
    assert f"{copied}/checkpoint.pt is no checkpoint of plgan_tune" in text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trial.loss.alfa=1", ["trial.loss.alfa", "alpha"]),
        ("trial.loss.alpha=-1", ["trial.loss.alpha", "-1"]),
        ("trial.loss.alpha={uniform: [0, 1]}", ["trial.loss.alpha"]),
        ("trial.data.labels=7", ["trial.yaml: `trial.data.labels`", "7"]),
        ("trial.data.source=parquet", ["data.path"]),
        ("trial.model.kind=conv", ["trial.yaml: trial.model.kind", "16 x 16"]),
    ],
)
def test_a_wrong_configuration_is_refused(config: Path, tmp_path: Path, override: str, words: list[str]) -> None:
    out = tmp_path / "of" / "mine"
    text = refused("--config", config, "--set", override, "--set", "trial.model.width=0.05", "--out", out)
    assert [word for word in words if word not in text] == []
    assert "training on" not in text
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refused("--config", tmp_path / "nowhere.yaml")


def test_a_trial_that_diverges_exits_1_and_leaves_its_last_checkpoint(config: Path, copied: Path) -> None:
    """Broken between two epochs, as a flipped bit in memory would."""
    trial = load_trial(config, ["trial.training.epochs=6"])
    broken = checkpoint_of(copied).content
    broken["generator"]["norm.0.shift"][0] = torch.nan
    buffer = io.BytesIO()
    torch.save({**broken, "trial": trial.model_dump(mode="json")}, buffer)
    content = buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest()
    (copied / "checkpoint.pt").write_bytes(content)
    said = command("--config", config, "--set", "trial.training.epochs=6", "--out", copied, "--resume")
    assert said.status == 1
    assert "diverged: loss_unsupervised is not finite in epoch 4, step 0" in said.text
    assert (copied / "checkpoint.pt").read_bytes() == content
    assert pd.read_parquet(copied / "epochs").epoch.tolist() == [1, 2, 3]
