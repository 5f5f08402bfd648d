"""A rank: which checkpoint it goes on from, and how it shares a GPU."""

import hashlib
import io
import subprocess
import sys
from typing import Any

import pytest
import torch

from plgan_tune.backends import trial_worker as module
from plgan_tune.backends.trial_worker import TrialWorker, device_for
from plgan_tune.store.checkpoints import TrialFiles
from plgan_tune.store.location import Location, StoreError
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.training.ranks import ALONE, Ranks
from tests.factories import UNTIMED, small

FILL = """
import sys, torch
from plgan_tune.backends.trial_worker import device_for

device = device_for(0.25)
whole = torch.cuda.get_device_properties(device).total_memory
for part in (0.15, 0.2):
    try:
        print("took", torch.empty(int(part * whole), dtype=torch.uint8, device=device).numel() < whole)
    except torch.OutOfMemoryError:
        print("refused", part)
    torch.cuda.empty_cache()
both = [torch.empty(int(0.15 * whole), dtype=torch.uint8, device=device)]
try:
    both.append(torch.empty(int(0.15 * whole), dtype=torch.uint8, device=device))
except torch.OutOfMemoryError:
    print("refused beyond a quarter")
"""


def test_a_rank_without_a_gpu_is_on_the_cpu() -> None:
    assert device_for(0.0) == torch.device("cpu")


@pytest.mark.gpu
def test_a_quarter_of_a_gpu_holds_a_quarter_of_its_memory() -> None:
    """In a process of its own, for the limit is the process's."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    done = subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["took True", "took True", "refused beyond a quarter"], done.stderr


@pytest.mark.parametrize(("gpus", "limited"), [(0.25, [0.25]), (1.0, []), (2.0, [])])
def test_only_a_rank_that_shares_its_gpu_is_limited(
    monkeypatch: pytest.MonkeyPatch, gpus: float, limited: list[float]
) -> None:
    asked: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda part, _: asked.append(part))
    assert device_for(gpus) == torch.device("cuda", 0)
    assert asked == limited


def trained(study: Location, attempt: int, epochs: int, ranks: Ranks = ALONE) -> list[dict[str, Any]]:
    """What an attempt at a small trial reports that saves after every epoch and dies after `epochs`."""
    trial = small({"alpha": 0.5}, {"epochs": 4, "checkpoint_every": 1}, first=[]).any_trial()
    worker = TrialWorker(ALONE, torch.device("cpu"), "here", study, threads=1)
    worker.begin(Assignment("t0000", 0, attempt, {1: 0, 2: 3, 3: 3}[attempt], {}, trial))
    worker._ranks = ranks
    return [_untimed(worker.step()) for _ in range(epochs)]


def _untimed(report: EpochReport) -> dict[str, Any]:
    assert report.metrics is not None
    return {name: getattr(report.metrics, name) for name in UNTIMED} | {"notes": list(report.notes)}


def test_a_checkpoint_damaged_twice_over_costs_its_epochs_and_no_more(tmp_path: Any) -> None:
    """The whole one that was fallen back on stays while the attempt's own may be damaged, too."""
    study = Location.at(tmp_path)
    whole = trained(study.join("undisturbed"), 1, 4)
    assert trained(study, 1, 3) == whole[:3]
    for attempt in (2, 3):
        newest = next(TrialFiles.of(study, "t0000").newest_first())
        newest.write_bytes(newest.read_bytes()[:1000])
        (row,) = trained(study, attempt, 1)
        (note,) = row.pop("notes")
        assert note.startswith(f"{newest.url} is damaged")
        assert note.endswith("; the one before it is used, or the trial starts over")
        assert row | {"notes": []} == whole[2]


def test_a_checkpoint_that_cannot_be_written_is_told_of_once(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study, write = Location.at(tmp_path), TrialFiles.write
    failures = iter([StoreError("the disk is full")])

    def failing(files: TrialFiles, *what: Any) -> str:
        for failure in failures:
            raise failure
        return write(files, *what)

    monkeypatch.setattr(TrialFiles, "write", failing)
    notes = [row["notes"] for row in trained(study, 1, 3)]
    assert notes == [["no checkpoint could be written after epoch 1: the disk is full"], [], []]


def test_pictures_change_no_row_and_a_resumed_trial_leaves_those_of_an_undisturbed_one(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Location.at(tmp_path)
    files = TrialFiles.of(study.join("undisturbed"), "t0000")
    rows = trained(study.join("undisturbed"), 1, 4)
    whole = files.grids()
    assert list(whole) == [1, 2, 3, 4]
    assert len(set(whole.values())) == 4
    assert files.steps() is None  # it draws in one
    assert trained(study, 1, 3) == rows[:3]
    assert TrialFiles.of(study, "t0000").grids() == {}  # of a trial that is stopped nobody looks at them
    assert trained(study, 2, 1) == rows[3:]
    assert TrialFiles.of(study, "t0000").grids() == whole
    assert trained(study.join("another rank"), 1, 4, Ranks(index=1)) == rows
    assert TrialFiles.of(study.join("another rank"), "t0000").location.list() == []
    monkeypatch.setattr(module, "grid_epochs", lambda trial: [])
    assert trained(study.join("without"), 1, 4) == rows
    assert TrialFiles.of(study.join("without"), "t0000").grids() == {}


def test_a_checkpoint_of_a_version_without_grids_goes_on(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Location.at(tmp_path)
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "grid_epochs", lambda trial: [])
        rows = trained(study, 1, 3)
    newest = next(TrialFiles.of(study, "t0000").newest_first())
    saved = torch.load(newest.path, weights_only=True)
    assert saved.pop("grids") == {}
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    newest.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    assert [row["epoch"] for row in (*rows, *trained(study, 2, 1))] == [1, 2, 3, 4]
    assert list(TrialFiles.of(study, "t0000").grids()) == [4]


def test_pictures_that_cannot_be_written_are_a_note_and_no_more(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Location.at(tmp_path)

    def failing(files: TrialFiles, *what: Any) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(TrialFiles, "write_grid", failing)
    monkeypatch.setattr(module, "retry", lambda action: action())
    rows = trained(study, 1, 4)
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert [row["notes"] for row in rows] == [
        *([], [], []),
        ["its last checkpoint and samples are missing: the disk is full"],
    ]
