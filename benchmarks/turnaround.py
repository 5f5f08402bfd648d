"""How long the hardware waits between trials: from a trial's last report to the next trial's first step.

    OMP_NUM_THREADS=1 python benchmarks/turnaround.py

Ours is a real search, its gaps read from the Parquet log. The plain Tune idioms train the same trials with the same
engine: a function trainable in a new actor each for one rank, a TorchTrainer nested in one for two (its ranks each
train alone: only starting them is of interest). One trial at a time, two epochs each. Ours writes a checkpoint and
sample images of each trial in its gap, theirs write none. Prints a table and writes it to turnaround.md.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import ray
import torch
from machine import machine
from ray import train, tune
from ray.train.torch import TorchTrainer

from plgan_tune.backends.ray.backend import RayBackend
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import load_dataset
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state
from plgan_tune.tuning.driver import run_study

TRIALS = 7
BARS = {1: 5.0, 2: 15.0}
EPOCHS = 2
TRIAL = {
    "data": {"source": "digits", "labels": 20, "validation": 400},
    "model": {"width": 0.25},
    "loss": {"alpha": {"uniform": [0.1, 1.0]}},
    "training": {"epochs": EPOCHS},
}


def ours(ranks: int) -> list[float]:
    search = {"trials": TRIALS, "concurrent": 1, "sampler": "random", "early_stopping": "none"}
    spec = study_from_mapping({"study": "t", "search": search, "resources": {"ranks": ranks}, "trial": TRIAL})
    with tempfile.TemporaryDirectory() as results:
        run_study(spec, backend=RayBackend(), results=results, name="t")
        rows = pd.read_parquet(Path(results) / "t" / "epochs").sort_values("reported_at")
    reported = [at.timestamp() for at in rows["reported_at"]]
    seconds = list(rows["seconds"])
    # The last epoch ends before its checkpoint and samples are written, which belongs to the gap; when, no row says:
    # the epoch began, at the earliest, when the one before it was reported.
    ended = [first + last for first, last in zip(reported[::EPOCHS], seconds[1::EPOCHS], strict=True)]
    began = [first - spent for first, spent in zip(reported[::EPOCHS], seconds[::EPOCHS], strict=True)]
    return gaps(began, ended)


def whole_trial(trial: Any) -> dict[str, float]:
    """What an idiomatic training function does: it loads, builds and trains."""
    spec = TrialSpec.model_validate(trial)
    data = load_dataset(spec.data)
    state = new_state(spec, data, torch.device("cpu"))
    began = time.time()
    list(epochs(state, data))
    return {"began": began, "ended": time.time()}


def in_new_actor(config: dict[str, Any]) -> None:
    tune.report(whole_trial(config["trial"]))


def in_torch_trainer(config: dict[str, Any]) -> None:
    """Train keeps no metrics that came without a checkpoint, so rank 0's times come back in a file."""

    def of_rank(loop: dict[str, Any]) -> None:
        times = whole_trial(loop["trial"])
        if train.get_context().get_world_rank() == 0:
            Path(loop["times"]).write_text(json.dumps(times))
        train.report({})

    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.json"
        TorchTrainer(
            of_rank,
            train_loop_config={**config, "times": str(times)},
            scaling_config=train.ScalingConfig(num_workers=2, use_gpu=False),
        ).fit()
        tune.report(json.loads(times.read_text()))


def plain(trainable: Callable[[dict[str, Any]], None]) -> list[float]:
    spec = study_from_mapping({"study": "t", "trial": {**TRIAL, "loss": {"alpha": 0.5}}})
    with tempfile.TemporaryDirectory() as scratch:
        results = tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"trial": spec.any_trial().model_dump(mode="json")},
            tune_config=tune.TuneConfig(num_samples=TRIALS, max_concurrent_trials=1),
            run_config=tune.RunConfig(storage_path=scratch, verbose=0),
        ).fit()
    metrics = sorted((result.metrics or {} for result in results), key=lambda row: row["began"])
    return gaps([row["began"] for row in metrics], [row["ended"] for row in metrics])


def gaps(began: Sequence[float], ended: Sequence[float]) -> list[float]:
    """Seconds between each trial and the next."""
    return [after[0] - before[1] for before, after in pairwise(zip(began, ended, strict=True))]


def main() -> None:
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    lines = [
        "# Between trials",
        "",
        f"{machine()}; load {os.getloadavg()[0]:.1f}. Medians of {TRIALS - 1} gaps.",
    ]
    lines += ["", "| ranks | ours | plain Tune | ratio | bar |", "| --- | --- | --- | --- | --- |"]
    for ranks, idiom in {1: in_new_actor, 2: in_torch_trainer}.items():
        own, theirs = median(ours(ranks)), median(plain(idiom))
        ratio, bar = theirs / own, BARS[ranks]
        met = "met" if ratio >= bar else "MISSED"
        lines.append(f"| {ranks} | {own:.3f} s | {theirs:.2f} s | {ratio:.1f} x | {bar:.0f} x {met} |")
        print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
