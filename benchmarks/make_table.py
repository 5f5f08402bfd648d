"""Learning curves of random configurations over many seeds: the table by which searches are judged without training.

    OMP_NUM_THREADS=1 python benchmarks/make_table.py --processes 2

trains 256 configurations of table/space.yaml with 12 seeds each at one split, and 64 of them with 12 seeds that also
vary the split, and writes table/curves.parquet and table/configurations.parquet. A training takes about 6 s of a core.
The command continues where it was stopped; --hours ends it in time.
"""

import argparse
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from machine import machine

from plgan_tune.config.domains import Scalar
from plgan_tune.config.load import load_study
from plgan_tune.config.study import StudySpec, set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import load_dataset, load_test
from plgan_tune.records import EpochMetrics
from plgan_tune.training.evaluate import classify
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.state import new_state
from plgan_tune.tuning.points import drawn

TABLE: Final = Path(__file__).with_name("table")
CONFIGURATIONS: Final = 256
BLOCK: Final = 64
SEEDS: Final = 12
PATENT: Final[Mapping[str, Scalar]] = {
    "loss.alpha": 0.5,
    "loss.beta": 0.5,
    "loss.switch_epoch": 12,
    "optim.lr_discriminator": 3e-3,
    "optim.lr_generator": 3e-3,
    "optim.decay_epoch": 50,
}
"""Configuration 0: the first point of search_spaces/digits.yaml."""

SCHEMA: Final = pa.schema(
    [
        pa.field(
            "varied", pa.string(), nullable=False
        ),  # seed: weights and noise; split: also which images have labels
        pa.field("configuration", pa.int16(), nullable=False),
        pa.field("seed", pa.int16(), nullable=False),
        pa.field("wrong", pa.list_(pa.int16()), nullable=False),  # of 400 validation images, an epoch each
        pa.field("test_wrong", pa.int16()),  # of the test images, after the last epoch; null if it diverged
        pa.field("seconds", pa.float32(), nullable=False),  # of a core
        pa.field("machine", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Training:
    """One row of the table.

    Attributes:
        varied: `seed` varies weights and noise; `split` also which images keep their label and which validate.
    """

    varied: Literal["seed", "split"]
    configuration: int
    seed: int


@dataclass(frozen=True, slots=True)
class Curve:
    """What a training came to: a row of the table."""

    varied: str
    configuration: int
    seed: int
    wrong: list[int]
    test_wrong: int | None
    seconds: float
    machine: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--hours", type=float, default=math.inf, help="start no training after this time")
    asked = parser.parse_args()
    write_configurations(TABLE / "configurations.parquet")
    make(
        TABLE / "curves.parquet",
        {one: trial_of(one) for one in plan()},
        asked.processes,
        time.monotonic() + 3600 * asked.hours,
    )


def plan() -> list[Training]:
    """All trainings: blocks of 64 configurations, a seed after another, so that a part of the table is of use."""
    blocks = [range(first, first + BLOCK) for first in range(0, CONFIGURATIONS, BLOCK)]

    def by_seed(block: Iterable[int]) -> list[Training]:
        return [Training("seed", one, seed) for seed in range(SEEDS) for one in block]

    # From 1 on: with seed 0 both vary nothing, and are one training.
    by_split = [Training("split", one, seed) for seed in range(1, SEEDS + 1) for one in blocks[0]]
    return [*by_seed(blocks[0]), *by_split, *(training for block in blocks[1:] for training in by_seed(block))]


def make(file: Path, trials: Mapping[Training, TrialSpec], processes: int, until: float, each: int = 16) -> None:
    """Train what the file lacks and write it, `each` trainings at a time.

    Args:
        file: The table.
        trials: What it is to hold, and how each is trained.
        processes: How many train at a time.
        until: No batch starts after this time of `time.monotonic`.
        each: Trainings between two writes.
    """
    curves = read(file)
    known = {(row.varied, row.configuration, row.seed) for row in curves}
    missing = [one for one in trials if (one.varied, one.configuration, one.seed) not in known]
    with ProcessPoolExecutor(processes, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for first in range(0, len(missing), each):
            if time.monotonic() > until:
                return
            batch = missing[first : first + each]
            curves += pool.map(train, batch, [trials[one] for one in batch])
            write(file, curves)
            print(f"{len(curves):,} of {len(trials):,} trainings", flush=True)


def read(file: Path) -> list[Curve]:
    """The rows of the file; none if it is not there."""
    return [Curve(**row) for row in pq.read_table(file, schema=SCHEMA).to_pylist()] if file.exists() else []


def write(file: Path, curves: Iterable[Curve]) -> None:
    """Replace the file as a whole."""
    unfinished = file.with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(list(map(asdict, curves)), SCHEMA), unfinished, compression="zstd")
    unfinished.replace(file)


def write_configurations(file: Path) -> None:
    """Write the configurations: one row each, a column a searched key."""
    pd.DataFrame([point_of(number) for number in range(CONFIGURATIONS)]).to_parquet(file, index=False)


@cache
def study() -> StudySpec:
    return load_study(TABLE / "space.yaml").study


def point_of(number: int) -> dict[str, Scalar]:
    """Configuration `number`: 0 is the patent's, the others are drawn at random, each from its number alone."""
    if number == 0:
        return dict(PATENT)
    return dict(drawn(study().domains, np.random.default_rng([20261129, number])))


def trial_of(training: Training) -> TrialSpec:
    trial = study().trial(point_of(training.configuration)).model_dump()
    split_seed = training.seed if training.varied == "split" else 0
    return TrialSpec.model_validate(set_paths(trial, {"seed": training.seed, "data.split_seed": split_seed}))


def train(training: Training, trial: TrialSpec) -> Curve:
    """Train as a search does, and count what the averaged weights get wrong."""
    began = time.process_time()
    data, (images, labels) = load_dataset(trial.data), load_test(trial.data)
    state = new_state(trial, data, torch.device("cpu"))
    wrong = list(_wrong(trial, epochs(state, data)))
    test_wrong = None
    if len(wrong) == trial.training.epochs:
        error = classify(state.averaged, images, labels, state.precision).error
        test_wrong = round(error * len(labels))
    seconds = time.process_time() - began
    return Curve(**asdict(training), wrong=wrong, test_wrong=test_wrong, seconds=seconds, machine=machine())


def _wrong(trial: TrialSpec, trained: Iterator[EpochMetrics]) -> Iterator[int]:
    """Validation images that are wrong, epoch by epoch, until the training ends or diverges."""
    try:
        for metrics in trained:
            assert metrics.val_error is not None
            yield round(metrics.val_error * trial.data.validation)
    except Diverged:
        return


if __name__ == "__main__":
    main()
