"""What the measures of generated images cost: those after an epoch, against the epoch without them in the same run.

    OMP_NUM_THREADS=1 python benchmarks/metrics_cost.py [--rounds 15]

Writes metrics_cost.md beside itself. The digits are those of the default space. MNIST has the pair at full width on
synthetic images, and an epoch is its steps alone. All contenders live in one process and take turns, in another order
each round. A ratio is the median over rounds of CPU time against CPU time, which other work on the machine changes
little.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import torch
from machine import machine
from step import BATCH, IMAGES, Pool
from technique_cost import Timed, in_turns

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.data.splits import Split
from plgan_tune.gan.draws import Stream
from plgan_tune.gan.pairs.base import ImageShape
from plgan_tune.training.generate import uint8_batch
from plgan_tune.training.judge import Judge, Network
from plgan_tune.training.loop import plan_epoch, run
from plgan_tune.training.measures import coverage, frechet_distance, moments, projected, sorted_along, transport
from plgan_tune.training.ranks import ALONE, Ranks
from plgan_tune.training.reference import Quality, Reference
from plgan_tune.training.state import TrainState, new_state
from plgan_tune.training.step_runner import StepRunner

CPU: Final = torch.device("cpu")
STEP, EPOCH = "a step of D and of G", "an epoch without them"
MEASURES, AVERAGE = "all measures after an epoch", "averaging G's weights, a step"
BARS: Final = {"digits": 0.05, "MNIST": 0.03}
"""The most that all measures may take of an epoch."""
AVERAGE_BAR: Final = 0.01
"""The most that G's average may take of a step."""


class Unmeasured(Reference):
    """Compares with nothing."""

    def measure(self, state: TrainState, ranks: Ranks) -> Quality:  # noqa: ARG002
        return Quality(None, None, None, None, 0.0)


class Case(NamedTuple):
    """A trial on its data, the number of its epoch's steps, and that of the images that are measured."""

    rounds: int
    images: int
    timed: Mapping[str, Timed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cases = {
        "digits": case(*digits(), repeat=10, whole_epochs=True),
        "MNIST": case(*mnist(), repeat=2, whole_epochs=False),
    }
    sections = [section(name, one, in_turns(one.timed, asked.rounds)) for name, one in cases.items()]
    text = f"""# What measuring generated images costs, one CPU thread

{"".join(sections)}Medians of {asked.rounds} rounds, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {machine()}.
"""
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


def digits() -> tuple[TrialSpec, Dataset]:
    trial = load_study(default_space()).study.any_trial()
    return trial, load_dataset(trial.data)


def mnist() -> tuple[TrialSpec, Dataset]:
    """50,000 images to train on and 5,000 for validation, as in search_spaces/mnist.yaml."""
    spec = {"data": {"source": "mnist", "labels": 100, "validation": 5000}, "model": {"kind": "mlp"}}
    pool, rows = Pool.synthetic(), torch.arange(IMAGES)
    split = Split(rows[:100], rows[:-5000], rows[-5000:], "")
    data = Dataset(pool.images, pool.labels, tuple("0123456789"), split)
    return TrialSpec.model_validate(with_defaults(spec)), data


def case(trial: TrialSpec, data: Dataset, repeat: int, *, whole_epochs: bool) -> Case:
    state = new_state(trial, data, CPU)
    runner, plan = StepRunner(state, data), plan_epoch(trial, data, 0)
    image = ImageShape(data.channels, data.size)
    network = Network(image, data.n_classes, torch.Generator().manual_seed(0)).requires_grad_(False)
    reference = Reference.of(data, Judge(network, image, data.classes, 0, 0.0, 0.0))
    seen = reference.judged
    assert seen is not None
    batches = range(-(-reference.images // BATCH))
    images = torch.cat([uint8_batch(state.averaged_g, trial, Stream.METRICS, batch) for batch in batches])
    features, along = seen.judge.features(images), projected(images, reference.along)[: reference.images]

    def step() -> object:
        runner.discriminator(plan.labelled[0, 0], plan.unlabelled_d[0, 0])
        return runner.generator(plan.unlabelled_g[0, 0])

    state.before_epoch(0.5, 1e-6, 1e-6)
    work: dict[str, Callable[[], object]] = {
        STEP: step,
        MEASURES: lambda: reference.measure(state, ALONE),
        "generating, by either G": lambda: [
            uint8_batch(G, trial, Stream.METRICS, batch)
            for G in (state.G.network, state.averaged_g)
            for batch in batches
        ],
        "the judge on images of either": lambda: [seen.judge.features(images) for _ in range(2)],
        "both distances": lambda: [frechet_distance(seen.moments, moments(features)) for _ in range(2)],
        "coverage": lambda: coverage(seen.features, seen.radii, features),
        "transport": lambda: (projected(images, reference.along), transport(sorted_along(along), reference.pixels)),
        AVERAGE: state.update_average_g,
    }
    contenders = {name: timed(one, repeat) for name, one in work.items()}
    if whole_epochs:
        epochs = run(StepRunner(new_state(trial, data, CPU), data), reference=Unmeasured.of(data, None))
        contenders[EPOCH] = timed(lambda: next(epochs), 1)
    return Case(len(plan.labelled), reference.images, contenders)


def timed(work: Callable[[], object], repeat: int) -> Timed:
    def seconds() -> float:
        began = time.process_time()
        for _ in range(repeat):
            work()
        return (time.process_time() - began) / repeat

    seconds()
    return seconds


def section(name: str, one: Case, seconds: Mapping[str, list[float]]) -> str:
    steps = seconds[STEP]
    epochs = seconds.get(EPOCH) or [one.rounds * step for step in steps]
    lines = [f"| {STEP} | {1e3 * median(steps):.2f} | | |", f"| {EPOCH} | {1e3 * median(epochs):.0f} | | |"]
    for what in [what for what in seconds if what not in (STEP, EPOCH)]:
        against, bar = (steps, AVERAGE_BAR) if what == AVERAGE else (epochs, BARS[name])
        share = median(part / whole for part, whole in zip(seconds[what], against, strict=True))
        told = f"at most {100 * bar:g} %: {'met' if share <= bar else 'missed'}" if what in (MEASURES, AVERAGE) else ""
        lines.append(f"| {what} | {1e3 * median(seconds[what]):.2f} | {100 * share:.2f} % | {told} |")
    rows = "\n".join(lines)
    return f"""## {name}, {one.images:,} images

| | ms of CPU time | of an epoch, or a step | bar |
| --- | --- | --- | --- |
{rows}

"""


if __name__ == "__main__":
    main()
