"""Whether torch can use the GPUs that Ray counts on a node."""

import os
import subprocess
import sys

TRY = "import torch; torch.cuda.init(); torch.zeros(1, device='cuda')"

SECONDS = 100.0


def gpu_problem() -> str | None:
    """Return why torch cannot use this machine's GPUs, as with a build for CPUs or too old a driver; None if it can.

    It is tried in a process of its own: Ray hides the GPUs from a task that asks for none, and a context that is made
    here would stay on the GPU.
    """
    seen = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        tried = subprocess.run(
            [sys.executable, "-c", TRY], env=seen, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _in_words(str(error))
    if tried.returncode == 0:
        return None
    said = [line.strip() for line in tried.stderr.splitlines() if line.strip()]
    return _in_words(said[-1] if said else f"status {tried.returncode}")


def _in_words(why: str) -> str:
    return (
        f"Ray counts a GPU here, but torch cannot use it ({why}); resources.gpus_per_rank=0 trains on CPUs, else "
        "install a torch that fits the GPU's driver"
    )
