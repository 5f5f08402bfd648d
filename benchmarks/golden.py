"""Whether a change of the code changes a number: epochs of small trials, stored and between two checkouts.

    python benchmarks/golden.py                             # compare with tests/fixtures/golden_*.json
    python benchmarks/golden.py --against OTHER_CHECKOUT    # compare two checkouts bit for bit
    python benchmarks/golden.py --write digits              # store new rows: only where numbers are meant to change

Each trial runs as `python -m plgan_tune.train` in a process of its own with one thread, so that a checkout of any
version can take part. The stored rows are of float64 trials. Weights are drawn in float32, and torch draws them alike
with AVX2 and with AVX512; from there on machines agree within 1e-9. Two checkouts are compared in float32 too, as users
train. Trials on real images need `--data`, a folder with `mnist` and `cifar10` as Parquet; without it they are left
out. All trials, MNIST's 2 epochs of float64 among them, take about 3 minutes on a core.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple

import pyarrow.parquet as pq

HERE: Final = Path(__file__).resolve().parents[1]
LEFT_OUT: Final = {"images_per_second", "seconds", "reported_at", "seq", "trial_id", "attempt"}
"""Columns that no seed decides, and those that the log adds."""
TOLERANCE: Final = 1e-9

Row = dict[str, float]


class Golden(NamedTuple):
    """A trial whose rows are stored.

    Attributes:
        settings: its `trial` section but for the path of its images.
        images: the folder of its images under `--data`; None for embedded ones.
    """

    settings: Mapping[str, Any]
    images: str | None = None


def _mnist(data: Mapping[str, Any], model: Mapping[str, Any], batch: int) -> Golden:
    settings = {
        "data": {"source": "parquet", "labels": 100, **data},
        "model": {"kind": "mlp", **model},
        "loss": {"switch_epoch": 1},
        "training": {"epochs": 2, "batch_size": batch},
    }
    return Golden(settings, images="mnist")


TRIALS: Final[Mapping[str, Golden]] = {
    "digits": Golden(
        {
            "data": {"source": "digits", "labels": 20, "validation": 400},
            "model": {"kind": "mlp", "width": 0.25},
            "loss": {"switch_epoch": 3},
            "optim": {"decay_epoch": 4},
            "training": {"epochs": 6},
        }
    ),
    "digits_patent": Golden(
        {
            "profile": "patent",
            "seed": 1,
            "data": {"source": "digits", "labels": 20, "validation": 400, "labels_in_pool": False},
            "model": {"kind": "mlp", "width": 0.1},
            "loss": {"switch_epoch": 2, "ramp": "literal", "feature_norm": "sum", "supervised": "one_vs_all"},
            "training": {"epochs": 4, "discriminator_steps": 2},
        }
    ),
    "mnist_small": _mnist({"validation": 500, "limit": 2000}, {"width": 0.25}, batch=50),
    "mnist": _mnist({"validation": 5000}, {}, batch=100),
    "cifar10": Golden(
        {
            "data": {"source": "parquet", "labels": 50, "validation": 100, "limit": 300},
            "model": {"kind": "conv", "width": 0.1},
            "loss": {"switch_epoch": 1},
            "training": {"epochs": 2, "batch_size": 25},
        },
        images="cifar10",
    ),
}


def train(name: str, data: Path | None = None, precision: str = "float64", checkout: Path = HERE) -> list[Row]:
    """The rows of a trial's epochs, times left out.

    Args:
        name: a key of TRIALS.
        data: the folder of the images' folders, where the trial needs one.
        checkout: whose code trains.
    """
    with TemporaryDirectory() as folder:
        config, out = Path(folder, "trial.json"), Path(folder, "out")
        config.write_text(json.dumps(space_file(TRIALS[name], data, precision)))  # JSON is YAML
        words = [sys.executable, "-m", "plgan_tune.train", "--config", str(config), "--out", str(out)]
        env = _one_thread(checkout)
        ended = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise SystemExit(f"{checkout}: {name} ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
        return rows_in(out)


def rows_in(out: Path) -> list[Row]:
    """The rows that `train` left in a folder, times left out."""
    rows = pq.read_table(out / "epochs").to_pylist()
    return [{key: value for key, value in row.items() if key not in LEFT_OUT} for row in rows]


def space_file(golden: Golden, data: Path | None = None, precision: str = "float64") -> Mapping[str, Any]:
    """The trial as `train` reads it."""
    trial = {**golden.settings, "training": {**golden.settings["training"], "precision": precision}}
    if golden.images is not None:
        if data is None:
            raise SystemExit(f"--data must name the folder of {golden.images}/, but none is given")
        trial["data"] = {**trial["data"], "path": str((data / golden.images).resolve())}
    return {"edition": 1, "trial": trial}


def _one_thread(checkout: Path) -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": str(checkout.resolve()), "CUDA_VISIBLE_DEVICES": ""}


def stored(name: str) -> list[Row]:
    """The rows of tests/fixtures."""
    rows: list[Row] = json.loads(_fixture(name).read_text())
    return rows


def write(name: str, rows: Sequence[Row]) -> None:
    lines = ",\n".join(json.dumps(row) for row in rows)
    _fixture(name).write_text(f"[\n{lines}\n]\n")


def _fixture(name: str) -> Path:
    return HERE / "tests" / "fixtures" / f"golden_{name}.json"


def differences(expected: Sequence[Row], found: Sequence[Row], tolerance: float = 0.0) -> Iterator[str]:
    """A line for each number that differs by more than `tolerance`, relative and absolute. New columns do not count."""
    if len(expected) != len(found):
        yield f"{len(expected)} rows against {len(found)}"
    for old, new in zip(expected, found, strict=False):
        for key, value in old.items():
            if key not in new:
                yield f"epoch {old['epoch']}: {key} is missing"
            elif value != new[key] and not _close(value, new[key], tolerance):
                yield f"epoch {old['epoch']}: {key} is {new[key]!r}, but was {value!r}"


def _close(one: float | None, other: float | None, tolerance: float) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)


def main() -> None:
    asked = _arguments()
    names = [name for name in asked.trials if asked.data or TRIALS[name].images is None]
    for name in [name for name in asked.trials if name not in names]:
        print(f"{name}: left out, needs --data")
    differ = [name for name in names if not _same(name, asked)]
    if differ:
        raise SystemExit(f"numbers differ: {', '.join(differ)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("trials", nargs="*", default=list(TRIALS), metavar="TRIAL", help=f"of {', '.join(TRIALS)}")
    parser.add_argument("--data", type=Path, help="folder of mnist/ and cifar10/ as Parquet")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--against", type=Path, metavar="CHECKOUT", help="compare with this checkout, bit for bit")
    what.add_argument("--write", action="store_true", help="store the rows instead of comparing with them")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.trials) - TRIALS.keys()):
        parser.error(f"TRIAL must be one of {', '.join(TRIALS)}, but got {', '.join(unknown)}")
    if asked.against is not None and not (asked.against / "plgan_tune").is_dir():
        parser.error(f"--against must be a folder with plgan_tune/ in it, but got {asked.against}")
    return asked


def _same(name: str, asked: argparse.Namespace) -> bool:
    """Trains, says how the rows compare, and whether they are the same."""
    if asked.write:
        write(name, train(name, asked.data))
        print(f"{name}: {len(stored(name))} rows stored")
        return True
    if asked.against is None:
        found = list(differences(stored(name), train(name, asked.data), TOLERANCE))
        return _tell(name, f"within {TOLERANCE:g} of the stored rows", found)
    equal = [_equal_bits(name, precision, asked) for precision in ("float32", "float64")]
    return all(equal)


def _equal_bits(name: str, precision: str, asked: argparse.Namespace) -> bool:
    old, new = (train(name, asked.data, precision, checkout) for checkout in (asked.against, HERE))
    return _tell(f"{name}, {precision}", "equal bit for bit", list(differences(old, new)))


def _tell(what: str, same: str, found: Sequence[str]) -> bool:
    print(f"{what}: {'; '.join(['differs', *found[:5]]) if found else same}", flush=True)
    return not found


if __name__ == "__main__":
    main()
