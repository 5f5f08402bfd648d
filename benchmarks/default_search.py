"""What the default search finds: real searches, and their winners on further seeds beside the patent's settings.

    OMP_NUM_THREADS=1 python benchmarks/default_search.py [--searches 10] [--seeds 10] [--results FOLDER]

Runs `search --in-process` with search.seed 1, 2, ..., and trains each winner, and the first point, with seeds that no
search has seen, on the searches' own split. A search that has ended and a training in the table are not made again, so
an interrupted run goes on. A search takes about 4 minutes of a core, ten seeds of a configuration one.

Prints a table and writes it to default_search.md; the errors are in default_search.parquet.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from machine import machine

from plgan_tune.analysis.seeds import estimate
from plgan_tune.analysis.study import read_study
from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.study import StudySpec, set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import load_dataset
from plgan_tune.records import Value
from plgan_tune.study.race import Confirmed
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state

Errors = np.ndarray[Any, np.dtype[np.float64]]
Point = Mapping[str, Value]

TABLE: Final = Path(__file__).with_suffix(".parquet")
FIRST_SEED: Final = 1000
"""Far above those of any race."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search printed.

    Attributes:
        seed: `search.seed`.
        winner: Its choice, and what it says of it.
        point: The choice's point.
        epochs: Trained in all.
    """

    seed: int
    winner: Confirmed
    point: Point
    epochs: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--results", type=Path, default=Path("results"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    spec = load_study(default_space()).study
    found = [searched(asked.results, seed) for seed in range(1, asked.searches + 1)]
    first: Point = spec.search.first[0]
    errors = {key_of(point): errors_at(spec, point, asked.seeds) for point in (first, *(one.point for one in found))}
    text = page(spec, found, errors, key_of(first), asked.seeds)
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


def searched(results: Path, seed: int) -> Found:
    """Search, or go on with a search, to its end."""
    name = f"default{seed}"
    command = [sys.executable, "-m", "plgan_tune.search", "--in-process", "--results", str(results), "--name", name]
    if not (results / name / "best.yaml").exists():
        subprocess.run([*command, "--resume", "--set", f"search.seed={seed}"], check=True)
    study = read_study(results / name)
    winner = study.standing.winner
    assert winner is not None, f"{name} has confirmed nothing"
    point = study.params(study.ranked.iloc[0].to_dict())
    return Found(seed, winner, point, int(study.everything.epochs.shape[0]))


def key_of(point: Point) -> str:
    return json.dumps({path: float(str(value)) for path, value in sorted(point.items())})


def errors_at(spec: StudySpec, point: Point, seeds: int) -> list[float]:
    """Return the last errors of a point on the seeds; those that are in the table are not trained."""
    key, known = key_of(point), table()
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        if (key, seed) not in known:
            trial = TrialSpec.model_validate(set_paths(spec.trial(point).model_dump(), {"seed": seed}))
            data = load_dataset(trial.data)
            *_, last = epochs(new_state(trial, data, torch.device("cpu")), data)
            assert last.val_error is not None
            known[key, seed] = last.val_error
            rows = [(one, which, error) for (one, which), error in known.items()]
            pd.DataFrame(rows, columns=["point", "seed", "val_error"]).to_parquet(TABLE, index=False)
    return [known[key, seed] for seed in range(FIRST_SEED, FIRST_SEED + seeds)]


def table() -> dict[tuple[str, int], float]:
    """Return what was trained: point and seed -> error."""
    if not TABLE.exists():
        return {}
    return {(str(point), int(seed)): float(error) for point, seed, error in pd.read_parquet(TABLE).to_numpy()}


HEAD: Final = """# The default search, {searches} times

{machine}.
`OMP_NUM_THREADS=1 python benchmarks/default_search.py --searches {searches} --seeds {seeds}`

Real searches of {space} with other `search.seed`s, in one process. Each winner is trained again with {seeds} seeds that
no search has seen, on the searches' split, and so is the first point, the patent's settings: {first:.2f} %. Errors in
%, differences in points, on the same seeds; a negative one is better. Intervals are Student's, 95 %.

| search | prints | says of the first point | it is | optimism | from the first point | epochs |
| --- | --- | --- | --- | --- | --- | --- |
"""


def page(spec: StudySpec, found: Sequence[Found], errors: Mapping[str, list[float]], first: str, seeds: int) -> str:
    base = np.array(errors[first])
    text = HEAD.format(
        machine=machine(), searches=len(found), seeds=seeds, space=spec.study, first=100 * float(base.mean())
    )
    for one in found:
        theirs = np.array(errors[key_of(one.point)])
        cells = [
            f"{100 * one.winner.mean:.2f}",
            words(one),
            f"{100 * theirs.mean():.2f}",
            f"{100 * (theirs.mean() - one.winner.mean):.2f}",
            "-" if key_of(one.point) == first else in_points(theirs - base),
            f"{one.epochs:,}",
        ]
        text += f"| {one.seed} | {' | '.join(cells)} |\n"
    return text + "".join(sums(found, errors, base))


def words(one: Found) -> str:
    difference = one.winner.difference
    if difference is None:
        return "none better"
    told = "better" if difference.is_better else "not told apart"
    return f"{told}: {100 * difference.mean:.2f} ({100 * difference.low:.2f} to {100 * difference.high:.2f})"


def sums(found: Sequence[Found], errors: Mapping[str, list[float]], base: Errors) -> Iterator[str]:
    """Yield a line for each sum over the searches."""
    truths = [fmean(errors[key_of(one.point)]) for one in found]
    gains = np.array([truth - float(base.mean()) for truth in truths])
    optimism = np.array([truth - one.winner.mean for truth, one in zip(truths, found, strict=True)])
    said = [one.winner.difference is not None and one.winner.difference.is_better for one in found]
    right = [gain < 0 for gain, says in zip(gains.tolist(), said, strict=True) if says]
    yield f"\n- From the first point, mean of the searches: {in_points(gains)} points.\n"
    yield f"- Truly better than the first point: {int((gains < 0).sum())} of {len(found)}.\n"
    yield f"- Said to be better: {sum(said)} of {len(found)}; it is so in {sum(right)}.\n"
    yield f"- Optimism, mean of the searches: {in_points(optimism)} points.\n"


def in_points(values: Errors) -> str:
    """Return the mean of fractions with its interval."""
    found = estimate(values.tolist())
    return f"{100 * found.mean:.2f} ({100 * found.low:.2f} to {100 * found.high:.2f})"


if __name__ == "__main__":
    main()
