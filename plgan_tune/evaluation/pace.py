"""How long a step of D and a step of G take, of several configurations in turns.

An epoch's row knows the time of all steps together, on whatever machine trained at that moment. Here each configuration
takes one step of each after the other, round by round in this process, so that what else the machine does slows all of
them alike.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Final, NamedTuple

import torch

from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset
from plgan_tune.training.state import new_state
from plgan_tune.training.step_runner import StepRunner

TURNS: Final = 7
"""Rounds that count; one before them does not, for libraries choose their kernels in the first call."""


class Pace(NamedTuple):
    """Seconds of a step on a whole batch, medians over `TURNS`."""

    discriminator: float
    generator: float


def measure_paces(
    trials: Mapping[str, TrialSpec],
    data: Dataset,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Pace]:
    """Return the pace of each trial on one rank, with new weights: a step takes the same time with any.

    Trials with a user's own file are left out.

    Args:
        trials: configuration -> its trial, without labels.
        data: the images.
        device: where the steps run.
        clock: seconds.
    """
    data = data.to(device)
    runners = {name: _runner(trial, data, device) for name, trial in trials.items() if trial.own.file is None}
    turns: dict[str, list[Pace]] = {name: [] for name in runners}
    for _ in range(1 + TURNS):
        for name, runner in runners.items():
            turns[name].append(_turn(runner, data, device, clock))
    return {name: Pace(*(median(times) for times in zip(*paces[1:], strict=True))) for name, paces in turns.items()}


def _runner(trial: TrialSpec, data: Dataset, device: torch.device) -> StepRunner:
    runner = StepRunner(new_state(trial, data, device), data)
    runner.state.before_epoch(0.0, trial.optim.lr_discriminator, trial.optim.lr_generator)
    runner.prepare()
    return runner


def _turn(runner: StepRunner, data: Dataset, device: torch.device, clock: Callable[[], float]) -> Pace:
    pool, batch = data.split.pool, runner.state.trial.training.batch_size
    rows = pool[torch.arange(batch, device=device) % len(pool)]
    moments = [_now(device, clock)]
    runner.discriminator(rows[:0], rows)
    moments.append(_now(device, clock))
    runner.generator(rows)
    moments.append(_now(device, clock))
    return Pace(moments[1] - moments[0], moments[2] - moments[1])


def _now(device: torch.device, clock: Callable[[], float]) -> float:
    """Return the time at which all that was launched is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock()
