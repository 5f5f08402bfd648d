"""Feature matching on MNIST with 100 labels, from two ways in which weights may start: ours, and improved-gan's.

    OMP_NUM_THREADS=1 python benchmarks/feature_matching.py ../shared/data/mnist improved_gan --seed 1

trains the recipe with alpha 0 and beta 1, measures the test error after every epoch and writes the rows so far to
feature_matching_curves/<start>-<alpha>-<beta>-s<seed>.parquet; with --eps-root, --decay-epoch and --whole-pool the name
says so, too. About 25 s an epoch on a core. An interrupted run goes on from its checkpoint in
results/feature_matching/, which is written every ten epochs.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset, load_test
from plgan_tune.training.checkpoint import decode_checkpoint, encode_checkpoint, restore_state
from plgan_tune.training.evaluate import classify
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state

CHECKPOINTS = Path("results/feature_matching")
CHECKPOINT_EVERY = 10
CURVES = Path(__file__).with_name("feature_matching_curves")
STARTS: Mapping[str, Mapping[str, Any]] = {
    "recipe": {"initial_spread": 0.4, "generator_initial_spread": 0.4, "generator_weight_norm_init": "data"},
    "improved_gan": {"initial_spread": 0.1, "generator_initial_spread": "xavier", "generator_weight_norm_init": "one"},
}
"""Keys of `trial.model`. The recipe's are those of edition 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mnist", help="folder of MNIST as Parquet")
    parser.add_argument("start", choices=list(STARTS), help="how the weights start")
    parser.add_argument("--seed", type=int, default=1, help="of weights, noise and split")
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument(
        "--alpha", type=float, default=0.0, help="0.5, with beta 0.5, is PL-GAN at the patent's settings"
    )
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--eps-root", type=float, default=0.0, help="1e-8 is improved-gan's Adam, with no eps")
    parser.add_argument(
        "--decay-epoch", type=int, default=250, help="rates fall from here on, to 0 at twice as many epochs"
    )
    parser.add_argument(
        "--whole-pool", action="store_true", help="the validation images are unlabelled ones too, as in improved-gan"
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    root = f"-root{asked.eps_root:g}" if asked.eps_root else ""
    pool = "-pool60000" if asked.whole_pool else ""
    decay = f"-decay{asked.decay_epoch}" if asked.decay_epoch != 250 else ""
    name = f"{asked.start}-{asked.alpha:g}-{asked.beta:g}{root}{decay}{pool}-s{asked.seed}"
    trial = trial_of(asked)
    data = load_dataset(trial.data)
    train(trial, with_whole_pool(data) if asked.whole_pool else data, name)


def trial_of(asked: argparse.Namespace) -> TrialSpec:
    root = {"eps_root": asked.eps_root, "eps": 1e-12} if asked.eps_root else {}
    return TrialSpec.model_validate(
        with_defaults(
            {
                "seed": asked.seed,
                "data": {
                    "source": "parquet",
                    "path": asked.mnist,
                    "labels": 100,
                    "validation": 5000,
                    "split_seed": asked.seed,
                },
                "model": STARTS[asked.start],
                "loss": {"alpha": asked.alpha, "beta": asked.beta},
                "optim": {"decay_epoch": asked.decay_epoch, **root},
                "training": {"epochs": asked.epochs},
            }
        )
    )


def with_whole_pool(data: Dataset) -> Dataset:
    """The same data, all of their images in the unlabelled pool."""
    return replace(data, split=replace(data.split, pool=torch.arange(len(data.images))))


def train(trial: TrialSpec, data: Dataset, name: str) -> None:
    """One row an epoch, with the errors on the test images; prints each, and keeps all until then in the curves."""
    images, labels = load_test(trial.data)
    device, file, checkpoint = torch.device("cpu"), CURVES / f"{name}.parquet", CHECKPOINTS / f"{name}.pt"
    saved = decode_checkpoint(checkpoint.read_bytes(), checkpoint.name) if checkpoint.exists() else None
    state = new_state(trial, data, device) if saved is None else restore_state(saved, trial, data, device)
    measured = [] if saved is None else list(saved.rows)
    rows: list[Mapping[Any, Any]] = []
    if saved is not None:
        rows += pd.read_parquet(file).head(len(measured)).to_dict("records")
    for folder in (CURVES, CHECKPOINTS):
        folder.mkdir(parents=True, exist_ok=True)
    for metrics in epochs(state, data):
        errors = {
            error: classify(D, images, labels, state.precision).error
            for error, D in (("test_error", state.averaged), ("test_error_raw", state.D.network))
        }
        measured.append(metrics)
        rows.append(metrics.cells() | errors)
        print(f"epoch {metrics.epoch}: val_error {metrics.val_error:.4f}, test {errors['test_error']:.4f}", flush=True)
        pd.DataFrame(rows).to_parquet(file)
        if metrics.epoch % CHECKPOINT_EVERY == 0:
            checkpoint.write_bytes(encode_checkpoint(state, measured))


if __name__ == "__main__":
    main()
