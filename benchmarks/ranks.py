"""Images per second of one trial on one rank, on two, and on four and eight where there are as many GPUs.

    python benchmarks/ranks.py ../shared/data/mnist

The command under torchrun, as a user starts it, on the MNIST pair; ranks on a CPU have one thread each. Prints a table
and writes ranks.md beside itself. Numbers of ranks take turns; of each, the median of the epochs but the first.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from machine import machine

CONFIG = """
trial:
  data: {{source: parquet, path: {images}, labels: 100, validation: 1000, limit: 12000}}
  model: {{kind: mlp}}
  training: {{epochs: 4, batch_size: {batch}}}
"""
BATCHES = (100, 400)
TURNS = 2


def images_per_second(ranks: int, batch: int, images: Path) -> list[float]:
    """Of each epoch but the first, which also warms up."""
    with tempfile.TemporaryDirectory() as folder:
        config, out = Path(folder) / "trial.yaml", Path(folder) / "out"
        config.write_text(CONFIG.format(images=images.absolute(), batch=batch))
        launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
        words = ["-m", "plgan_tune.train", "--config", str(config), "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*launcher, *words], check=True, env=environment, stdout=subprocess.DEVNULL)
        rows = pd.read_parquet(out / "epochs")
    return [float(speed) for speed in rows.sort_values("epoch")["images_per_second"].iloc[1:]]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("images", type=Path, help="a folder that holds MNIST as train*.parquet and test*.parquet")
    images = arguments.parse_args().images
    ranks = [n for n in (1, 2, 4, 8) if n <= max(torch.cuda.device_count(), 2)]
    speeds: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in range(TURNS):
        for batch in BATCHES:
            for n in ranks:
                speeds[batch, n] += images_per_second(n, batch, images)
    lines = ["# Ranks", "", f"`python benchmarks/ranks.py {images}`", "", f"{machine()}; 1 minute load before the end "]
    lines[-1] += f"{os.getloadavg()[0]:.1f}. One thread a rank; medians of {TURNS * 3} epochs of the MNIST pair."
    lines += ["", "| batch | ranks | images per second | of one rank's |", "| --- | --- | --- | --- |"]
    for (batch, n), seen in speeds.items():
        one = median(speeds[batch, 1])
        lines.append(f"| {batch} | {n} | {median(seen):,.0f} | {median(seen) / one:.2f} x |")
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
