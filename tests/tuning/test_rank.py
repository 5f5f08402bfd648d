"""Ranks that share a GPU."""

import subprocess
import sys

import pytest
import torch

from plgan_tune.tuning.rank import device_for

FILL = """
import sys, torch
from plgan_tune.tuning.rank import device_for

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
