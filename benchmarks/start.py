"""What a process spends before it trains its first step: ours and the usual calls that do the same.

    python benchmarks/start.py

A search starts such a process for its driver and for each trial that runs at a time (later trials take it over). Every
contender is a new process; they take turns. Prints a table and writes it to start.md beside itself.
"""

import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Final

from machine import machine

ROUNDS = 9

IMPORTS: Final = "import numpy, torch; from torch import nn; "
ADAM: Final = "weight = nn.Parameter(torch.ones(3)); weight.grad = torch.ones(3); "
OPTIM: Final = "OptimSpec.model_construct(beta1=0.5, beta2=0.999, eps=1e-4)"  # the rest of it is not Adam's
PAIRS: Final = {
    "the digits": (
        "from plgan_tune.data.digits import open_digits; from plgan_tune.config.trial import DataSpec; "
        "from pathlib import Path; open_digits(DataSpec.model_construct(path=None), 'train', Path())",
        "from sklearn.datasets import load_digits; load_digits(return_X_y=True)",
    ),
    "a first step of Adam": (
        "from plgan_tune.training.optimisers import Adam; from plgan_tune.config.trial import OptimSpec; "
        f"{ADAM}adam = Adam([weight], {OPTIM}); adam.step()",
        f"{ADAM}adam = torch.optim.Adam([weight], fused=True); adam.step()",
    ),
    "a layer without weights of its own": (
        "nn.Linear(5, 5, device='meta').weight = nn.Parameter(torch.empty(5, 5))",
        "nn.utils.skip_init(nn.Linear, 5, 5)",
    ),
}
"""What is done: ours, and the usual call."""


def spent(code: str) -> float:
    """Processor seconds of a process that runs this."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", IMPORTS + code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    codes = ["", *(code for pair in PAIRS.values() for code in pair)]
    for code in codes:
        spent(code)  # files are read from the disk once
    seconds = dict(zip(codes, zip(*([spent(code) for code in codes] for _ in range(ROUNDS)), strict=True), strict=True))
    floor = median(seconds[""])
    lines = [
        "# Before the first step",
        "",
        f"{machine()}.",
        f"Medians of {ROUNDS} rounds, processor seconds beyond the {floor:.2f} s of `import numpy, torch`; ours with",
        "what of our package it imports.",
        "",
        "| | ours | the usual call |",
        "| --- | --- | --- |",
    ]
    for name, (ours, usual) in PAIRS.items():
        lines.append(f"| {name} | {median(seconds[ours]) - floor:.2f} s | {median(seconds[usual]) - floor:.2f} s |")
    lines += [
        "",
        "The usual calls: `sklearn.datasets.load_digits`, `torch.optim.Adam(fused=True)`, `nn.utils.skip_init`.",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
