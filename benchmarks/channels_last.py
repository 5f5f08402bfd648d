"""Do convolutions on a CPU take less time in the channels-last layout, as they do on tensor cores?

    python benchmarks/channels_last.py --data FOLDER [--threads 1 2] [--turns 12]

FOLDER has cifar10/ and mnist/ as Parquet. Writes channels_last.md beside itself. Both layouts train the same epoch side
by side and take turns, a few steps at a time, so that whatever else the machine does hits both alike.
"""

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from machine import machine
from torch import Tensor

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.training import state as state_module
from plgan_tune.training.loop import plan_epoch
from plgan_tune.training.precision import precision_policy_for
from plgan_tune.training.state import new_state
from plgan_tune.training.step_runner import StepRunner

TURN = 2
"""Steps of one layout before it is the other's turn."""

PAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "conv": ("cifar10", {"method": "pl_gan", "data": {"labels": 500}, "model": {"kind": "conv", "width": 0.25}}),
    "dcgan": ("mnist", {"method": "dcgan_ssl", "data": {"labels": 100}, "model": {"kind": "dcgan", "width": 0.25}}),
}
"""Kind -> folder of its images, and its trial but for what all share."""


class Turn(NamedTuple):
    """What a few steps took, in seconds, and the losses of the last."""

    wall: float
    cpu: float
    terms: Tensor


def runner_of(trial: TrialSpec, data: Dataset, *, channels_last: bool) -> StepRunner:
    """Return a new trial in this layout, whatever the project chooses for a CPU."""

    def policy(*given: Any) -> Any:
        return replace(precision_policy_for(*given), channels_last=channels_last)

    with patch.object(state_module, "precision_policy_for", policy):
        state = new_state(trial, data, torch.device("cpu"))
    state.before_epoch(0.0, trial.optim.lr_discriminator, trial.optim.lr_generator)
    return StepRunner(state, data)


def turns(runner: StepRunner, most: int) -> Iterator[Turn]:
    """Train the first epoch, or at most so many turns of it."""
    plan = plan_epoch(runner.state.trial, runner.data, 0)
    for first in range(0, min(len(plan.unlabelled_g) // TURN, most) * TURN, TURN):
        steps = range(first, first + TURN)
        began, cpu = time.perf_counter(), time.process_time()
        for step in steps:
            of_d = runner.discriminator(plan.labelled[step, 0], plan.unlabelled_d[step, 0]).clone()
            of_g = runner.generator(plan.unlabelled_g[step, 0], 0)
        wall, used = time.perf_counter() - began, time.process_time() - cpu
        yield Turn(wall / len(steps), used / len(steps), torch.cat([of_d, of_g]))


def row(kind: str, threads: int, most: int, folder: Path) -> str:
    """Train in both layouts; return a row of the table."""
    source, given = PAIRS[kind]
    data_spec = {"source": "parquet", "path": str(folder / source), "validation": 500, "limit": 5000, **given["data"]}
    trial = TrialSpec.model_validate(with_defaults({**given, "data": data_spec}))
    data = load_dataset(trial.data)
    torch.set_num_threads(threads)
    plain, last = (turns(runner_of(trial, data, channels_last=layout), most) for layout in (False, True))
    pairs = list(zip(plain, last, strict=True))[1:]  # libraries choose kernels and allocate in the first turn
    ms = [1000 * median(turn.wall for turn in of_layout) for of_layout in zip(*pairs, strict=True)]
    ratios = [median(getattr(one, clock) / getattr(other, clock) for one, other in pairs) for clock in ("wall", "cpu")]
    ahead = sum(one.wall > other.wall for one, other in pairs)
    same = "yes" if torch.equal(*(turn.terms for turn in pairs[-1])) else "no"
    cells = [kind, threads, *(f"{each:.0f}" for each in ms), *(f"{each:.2f} x" for each in ratios)]
    print(f"{kind}, {threads} threads: {ratios[0]:.2f} x", flush=True)
    return "| " + " | ".join(map(str, [*cells, f"{ahead} of {len(pairs)}", same])) + " |"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--turns", type=int, default=12)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    rows = [row(kind, threads, arguments.turns, arguments.data) for threads, kind in product(arguments.threads, PAIRS)]
    title = "# Convolutions on a CPU: channels last against the usual layout, a step of an epoch at width 0.25"
    head = "| pair | threads | ms a step | channels last | faster by | in CPU time | turns ahead | same bits |"
    text = f"""{title}

{head}
| --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

Medians over {arguments.turns - 1} turns of {TURN} steps, both layouts by turns; *faster by* is the median of the ratios
of neighbouring turns. conv on CIFAR-10 and dcgan on MNIST; *same bits* compares the losses of the last step.

Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average {load:.1f} at the start, of other work. {machine()}.
"""
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
