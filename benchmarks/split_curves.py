"""Learning curves of random trainings on ten splits of the digits, on which searches are judged without training.

    nice python benchmarks/split_curves.py [--splits 10] [--processes 2]

A number decides the split, the weights and the 36 random points. Validation errors, epoch by epoch, are kept in
search_curves/, a file a split, and no training that is there is made again: an interrupted run goes on, and without the
folder all are made anew. The files hold trainings at TPE's points, too, which nothing reads.
"""

import argparse
import json
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from machine import machine

from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.records import Value
from plgan_tune.study.assignment import Assignment
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.state import new_state
from plgan_tune.tuning.sampler import OptunaSampler

Errors = np.ndarray[Any, np.dtype[np.float64]]

CURVES: Final = Path(__file__).with_name("search_curves")
COLUMNS: Final = ["point", "machine", "errors"]
POINTS: Final = 36
"""Of each split."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        for split, errors in enumerate(pool.map(make, range(asked.splits))):
            print(f"split {split}: last errors from {100 * min(errors):.2f} to {100 * max(errors):.2f} %", flush=True)


def make(split: int) -> list[float]:
    """Train what is missing of a split; return the last errors."""
    torch.set_num_threads(1)
    file = CURVES / f"{split:02d}.parquet"
    file.parent.mkdir(exist_ok=True)
    rows = read(file)
    data = load_dataset(study(split).any_trial().data)
    assignments = random_assignments(split)
    for assignment in assignments:
        key = key_of(assignment.point)
        if key not in rows or len(rows[key]["errors"]) < assignment.trial.training.epochs:
            rows[key] = {"point": key, "machine": machine(), "errors": list(trained(assignment.trial, data))}
            keep(file, rows)
    return [rows[key_of(assignment.point)]["errors"][-1] for assignment in assignments]


def random_trainings() -> Iterator[tuple[list[Mapping[str, Value]], Errors]]:
    """Yield the points of each split and their curves, shape (points, epochs)."""
    for file in sorted(CURVES.glob("[0-9]*.parquet")):
        rows = read(file)
        points = [assignment.point for assignment in random_assignments(int(file.stem))]
        yield points, np.array([rows[key_of(point)]["errors"] for point in points])


def random_assignments(split: int) -> list[Assignment]:
    sampler = OptunaSampler(study(split))
    return [one for _ in range(POINTS) if (one := sampler.ask()) is not None]


def study(split: int) -> StudySpec:
    """The space file without its first point, early stopping and confirming."""
    seeds = [f"{key}={split}" for key in ("search.seed", "trial.seed", "trial.data.split_seed")]
    plain = ["search.sampler=random", "search.early_stopping=none", "search.first=[]", "search.confirm=none"]
    return load_study(default_space(), [*plain, *seeds, "search.trials=100000"]).study


def key_of(point: Mapping[str, Value]) -> str:
    return json.dumps(dict(point), sort_keys=True)


def read(file: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a file by their points; none if there is no file."""
    if not file.exists():
        return {}
    rows = pd.read_parquet(file)[COLUMNS].itertuples(index=False)
    return {point: {"point": point, "machine": made_on, "errors": list(errors)} for point, made_on, errors in rows}


def keep(file: Path, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the rows, the file whole at every moment."""
    scratch = file.with_name(f"_{file.name}")
    pd.DataFrame(list(rows.values())).to_parquet(scratch, index=False)
    scratch.replace(file)


def trained(trial: TrialSpec, data: Dataset) -> Iterator[float]:
    """Train, and yield each epoch's error; NaN, and no more, where it diverged."""
    try:
        for metrics in epochs(new_state(trial, data, torch.device("cpu")), data):
            assert metrics.val_error is not None
            yield metrics.val_error
    except Diverged:
        yield math.nan


if __name__ == "__main__":
    main()
