"""What each technique costs: a step of the MNIST pair with it, against the plain step in the same run.

    OMP_NUM_THREADS=1 python benchmarks/technique_cost.py [--rounds 15] [--steps 4]

Writes technique_cost.md beside itself. All contenders live in one process and take turns, a few steps at a time, in
another order each round. A ratio is the median over rounds of CPU time against CPU time, which other work on the
machine changes little.
"""

import argparse
import random
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

import torch
from machine import machine
from step import BATCH, ours

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.gan.draws import Draws
from plgan_tune.gan.pairs.base import ImageShape, draw_latent
from plgan_tune.gan.pairs.build import build


class Technique(NamedTuple):
    """A technique's keys, and the most that its step may cost against the plain one; None where no bar is set."""

    keys: Mapping[str, Any]
    bar: float | None = None


PLAIN: Final = "plain"
TECHNIQUES: Final[Mapping[str, Technique]] = {
    "minibatch discrimination, 100 kernels of 5": Technique({"model.minibatch_kernels": 100}, 1.7),
    "virtual batch norm": Technique({"model.generator_norm": "virtual"}),
    "historical averaging": Technique({"loss.history": 1e-3}, 1.1),
    "one-sided smoothing": Technique({"loss.smoothing": 0.1}, 1.1),
    "logit of generated learned, C_sup joint": Technique(
        {"model.fake_logit": "learned", "loss.supervised": "joint"}, 1.1
    ),
    "self-training": Technique({"loss.self_scale": 0.5, "loss.self_epoch": 0}, 1.2),
}
PASS_BAR: Final = 2.2
"""For virtual batch norm's pass of G."""

Timed = Callable[[], float]
"""Does some work and returns its seconds of CPU time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=4, help="of a contender's turn")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    steps = {PLAIN: step_of({}, asked.steps), **{n: step_of(t.keys, asked.steps) for n, t in TECHNIQUES.items()}}
    passes = {norm: pass_of(norm) for norm in ("batch", "virtual")}
    text = page(in_turns(steps, asked.rounds), in_turns(passes, asked.rounds), asked)
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


def step_of(keys: Mapping[str, Any], steps: int) -> Timed:
    """Some whole steps, one update of D and one of G each, warmed up."""
    measure = ours(torch.device("cpu"), keys)
    measure(2, time.process_time)
    return lambda: measure(steps, time.process_time)


def pass_of(norm: str) -> Timed:
    """A pass of G, forward and back, as in G's step."""
    spec = {
        "data": {"source": "mnist", "labels": 100, "validation": 100},
        "model": {"kind": "mlp", "generator_norm": norm},
    }
    model = TrialSpec.model_validate(with_defaults(spec)).model
    seeds = (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1))
    latent, reference = (draw_latent(Draws(torch.Generator().manual_seed(seed), BATCH), model) for seed in (2, 3))
    G = build(model, ImageShape(1, 28), 10, seeds, reference_latent=reference).generator

    def timed() -> float:
        began = time.process_time()
        for _ in range(10):
            G(latent).sum().backward()
        return (time.process_time() - began) / 10

    timed()
    return timed


def in_turns(contenders: Mapping[str, Timed], rounds: int) -> Mapping[str, list[float]]:
    """The seconds of each contender in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    shuffled, order = list(contenders), random.Random(0)
    for _ in range(rounds):
        order.shuffle(shuffled)
        for name in shuffled:
            seconds[name].append(contenders[name]())
    return seconds


def page(steps: Mapping[str, list[float]], passes: Mapping[str, list[float]], asked: argparse.Namespace) -> str:
    plain = steps[PLAIN]
    rows = [f"| {PLAIN} | {1e3 * median(plain):.1f} | | | |"]
    for name, technique in TECHNIQUES.items():
        rows.append(row(name, steps[name], plain, technique.bar))
    passed = row("pass of G, forward and back: virtual", passes["virtual"], passes["batch"], PASS_BAR)
    lines = "\n".join(rows)
    return f"""# What a technique costs: a step of the MNIST pair, batch {BATCH}, full width, one CPU thread

| | ms of CPU time | against the plain one | rounds | bar |
| --- | --- | --- | --- | --- |
{lines}
| pass of G, forward and back: batch norm | {1e3 * median(passes["batch"]):.1f} | | | |
{passed}

Medians of {asked.rounds} rounds of {asked.steps} steps, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {machine()}.
"""


def row(name: str, seconds: list[float], plain: list[float], bar: float | None) -> str:
    ratios = sorted(one / other for one, other in zip(seconds, plain, strict=True))
    ratio = median(ratios)
    against = "" if bar is None else f"at most {bar} x: {'met' if ratio <= bar else 'missed'}"
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    return f"| {name} | {1e3 * median(seconds):.1f} | {ratio:.2f} x | {spread} | {against} |"


if __name__ == "__main__":
    main()
