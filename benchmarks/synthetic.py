"""A study of any size that nobody trained: known influences of its keys, early stopping at known rungs."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from plgan_tune.config.advice import rungs
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import MEASURES
from plgan_tune.store.location import Location
from plgan_tune.store.read import DECISIONS, EPOCHS, TRIALS, part_name
from plgan_tune.store.schemas import decisions_schema, epochs_schema, trials_schema
from plgan_tune.store.tables import write_table
from plgan_tune.study.study_file import StudyFile

ROWS_PER_PART = 50_000
NODES = 8
BEGAN = np.datetime64(datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None), "us")
SECOND = np.timedelta64(1_000_000, "us")

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def write_synthetic(study: Location, trials: int, epochs: int, *, early_stopping: bool = True, seed: int = 0) -> None:
    """Writes a finished study of `trials` trials of at most `epochs` epochs, a second each, into the folder `study`.

    The error is 0.05 + 0.5 (alpha - 0.6)^2 + 0.01 beta + 0.6 / epoch and noise of deviation 0.005: alpha decides, beta
    matters little, switch_epoch and lr_discriminator not at all. Every 50th trial diverges after its second epoch. Of
    the trials at a rung the best third goes on.
    """
    draw = np.random.default_rng(seed)
    spec = synthetic_spec(trials, epochs, early_stopping=early_stopping)
    point = {
        "loss.alpha": draw.random(trials),
        "loss.beta": draw.random(trials),
        "loss.switch_epoch": draw.integers(2, max(3, epochs // 2) + 1, trials),
        "optim.lr_discriminator": 10 ** draw.uniform(-4, -1, trials),
    }
    floor = 0.05 + 0.5 * (point["loss.alpha"] - 0.6) ** 2 + 0.01 * point["loss.beta"]
    noise = draw.normal(0, 0.005, (trials, epochs))
    errors = np.clip(floor[:, None] + 0.6 / np.arange(1, epochs + 1) + noise, 0, 1)
    diverged = np.arange(trials) % 50 == 49
    length = np.where(diverged, min(2, epochs), epochs)
    asha = spec.search.early_stopping.asha
    judged = _judged(errors, length, rungs(asha, epochs) if asha else ())
    number, epoch, seq, starts = _arrivals(length)
    StudyFile(spec).write(study)
    _write_trials(study, spec, point, errors, length, diverged, starts, seq)
    ramp = np.exp(-10 * (1 - np.minimum((epoch - 1) / point["loss.switch_epoch"][number], 1)) ** 2)
    _write_epochs(study, number, epoch, errors[number, epoch - 1], ramp, starts)
    _write_decisions(study, judged, seq)


def synthetic_spec(trials: int, epochs: int, *, early_stopping: bool = True) -> StudySpec:
    asha = {"asha": {"grace_period": max(1, epochs // 20), "reduction_factor": 3}}
    return study_from_mapping(
        {
            "study": "synthetic",
            "search": {"trials": max(1, trials), "confirm": None, "early_stopping": asha if early_stopping else "none"},
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 400},
                "loss": {
                    "alpha": {"uniform": [0, 1]},
                    "beta": {"uniform": [0, 1]},
                    "switch_epoch": {"int": [2, max(3, epochs // 2)]},
                },
                "optim": {"lr_discriminator": {"log_uniform": [1e-4, 1e-1]}},
                "training": {"epochs": epochs},
            },
        }
    )


def _judged(errors: Floats, length: Ints, at: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """The decisions, rung by rung; shortens the `length` of the trials that are stopped."""
    found: list[dict[str, NDArray[Any]]] = []
    for rung in at:
        there = np.flatnonzero(length > rung)
        if not len(there):
            break
        values = errors[there, rung - 1]
        cutoff = np.sort(values)[-(-len(there) // 3) - 1]
        length[there[values > cutoff]] = rung
        columns = {"number": there, "rung": rung, "value": values, "cutoff": cutoff, "competitors": len(there)}
        found.append({name: np.broadcast_to(column, there.shape) for name, column in columns.items()})
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]} if found else {}


def _arrivals(length: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Trial and epoch of each row by seq, the seq of each (trial, epoch), and each trial's start in seconds."""
    starts = np.concatenate([np.cumsum(length[node::NODES]) - length[node::NODES] for node in range(NODES)])
    starts = starts[np.argsort(np.concatenate([np.arange(node, len(length), NODES) for node in range(NODES)]))]
    number = np.repeat(np.arange(len(length)), length)
    epoch = np.concatenate([np.empty(0, int), *(np.arange(1, epochs + 1) for epochs in length)])
    order = np.lexsort((number, starts[number] + epoch))
    number, epoch = number[order], epoch[order]
    seq = np.full((len(length), int(length.max(initial=0)) + 1), -1)
    seq[number, epoch] = np.arange(len(number))
    return number, epoch, seq, starts


def _ids(number: Ints) -> list[str]:
    return [f"t{value:04d}" for value in number.tolist()]


def _write_trials(
    study: Location,
    spec: StudySpec,
    point: dict[str, NDArray[Any]],
    errors: Floats,
    length: Ints,
    diverged: NDArray[np.bool_],
    starts: Ints,
    seq: Ints,
) -> None:
    number = np.arange(len(length))
    reached = np.where(np.arange(errors.shape[1]) < length[:, None], errors, np.inf)
    best = reached.argmin(axis=1)
    cells = {
        "seq": seq[number, length] + 1,
        "trial_id": _ids(number),
        "number": number,
        "status": np.where(diverged, "diverged", np.where(length < errors.shape[1], "stopped", "completed")).tolist(),
        "attempt": np.ones_like(number),
        "epochs": length,
        "val_error_last": errors[number, length - 1],
        "val_error_best": reached[number, best],
        "best_epoch": best + 1,
        "seed": np.zeros_like(number),
        "split_hash": ["synthetic"] * len(number),
        "seconds": length.astype(float),
        "node": [f"10.0.0.{1 + value}" for value in (number % NODES).tolist()],
        "started_at": BEGAN + starts * SECOND,
        "ended_at": BEGAN + (starts + length) * SECOND,
        "replicate_of": [None] * len(number),
        "replicate": [None] * len(number),
        "error": [
            f"loss_supervised is nan in epoch {n + 1}" if bad else None for n, bad in zip(length, diverged, strict=True)
        ],
    }
    cells |= {column: point[path] for path, column in spec.columns.items()}
    write_table(pa.table(cells, schema=trials_schema(spec.columns, spec.types)), study.join(*TRIALS))


def _write_epochs(study: Location, number: Ints, epoch: Ints, error: Floats, ramp: Floats, starts: Ints) -> None:
    half = np.full(len(number), 0.5)
    unmeasured = dict.fromkeys(MEASURES[MEASURES.index("val_balanced_error") :], [None] * len(number))
    cells: dict[str, Any] = dict.fromkeys(MEASURES, half) | unmeasured
    cells |= {
        "seq": np.arange(len(number)),
        "trial_id": pa.array(_ids(number)),
        "attempt": np.ones_like(number),
        "epoch": epoch,
        "val_error": error,
        "val_error_raw": np.minimum(error + 0.01, 1),
        "loss_supervised": 2 * error,
        "loss_adversarial": 2 - ramp,
        "ramp": ramp,
        "images_per_second": 1000 * half,
        "seconds": 2 * half,
        "entropy_generated": 4 * half,
        "error_gap": np.minimum(error + 0.01, 1) - error,
        "reported_at": BEGAN + (starts[number] + epoch) * SECOND,
    }
    table = pa.table(cells, schema=epochs_schema())
    for part, begin in enumerate(range(0, max(1, len(number)), ROWS_PER_PART)):
        write_table(table.slice(begin, ROWS_PER_PART), study.join(EPOCHS, part_name(part)))


def _write_decisions(study: Location, judged: dict[str, NDArray[Any]], seq: Ints) -> None:
    if not judged:
        write_table(decisions_schema().empty_table(), study.join(DECISIONS, part_name(0)))
        return
    seqs = seq[judged["number"], judged["rung"]]
    order = np.argsort(seqs)
    columns = {name: column[order] for name, column in judged.items()}
    stop = columns["value"] > columns["cutoff"]
    cells = {
        "seq": seqs[order],
        "trial_id": _ids(columns["number"]),
        "attempt": np.ones_like(seqs),
        "epoch": columns["rung"],
        "rung": columns["rung"],
        "value": columns["value"],
        "cutoff": columns["cutoff"],
        "competitors": columns["competitors"],
        "verdict": np.where(stop, "stop", "continue").tolist(),
        "reason": np.where(stop, "not among the best third", "among the best third").tolist(),
    }
    write_table(pa.table(cells, schema=decisions_schema()), study.join(DECISIONS, part_name(0)))
