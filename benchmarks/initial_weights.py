"""How large the MLP pair's weights should start: MNIST with 100 labels, METHOD's settings, three epochs each.

    OMP_NUM_THREADS=1 python benchmarks/initial_weights.py ../shared/data/mnist

trains the recipe from weights of several deviations, both networks' alike and calibrated on data, prints a table and
writes it to initial_weights.md. About two minutes a deviation on a core.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from machine import machine

from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.records import EpochMetrics
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state

EPOCHS = 3
HEADER = """# How large the weights start

{machine}; one thread. MNIST, 100 labels, alpha = beta = 0.5,
T = 60, both learning rates 0.003, MLP pair under data-dependent initialisation. Errors on 5,000 validation images,
averaged weights.

| deviation | after epoch 1 | 2 | 3 | C_unsup in epoch 3 | V_log | V_feature | entropy of G's classes |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""
FOOTER = """
A healthy game has C_unsup in the tenths: near 0, D tells every fake. The entropy of the classes that D sees in G's
images is 2.30 nats where they are even, and 0 where G makes one image only.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("mnist", help="folder of MNIST as Parquet")
    parser.add_argument("--deviations", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4, 1.0])
    asked = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset(trial_of(asked.mnist, asked.deviations[0]).data)
    table = HEADER.format(machine=machine())
    for deviation in asked.deviations:
        table += row(deviation, train(trial_of(asked.mnist, deviation), data)) + "\n"
        print(table.splitlines()[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text(table + FOOTER)


def trial_of(mnist: str, deviation: float) -> TrialSpec:
    start = {
        "initial_spread": deviation,
        "weight_norm_init": "data",
        "generator_initial_spread": deviation,
        "generator_weight_norm_init": "data",
    }
    settings = {
        "data": {"source": "parquet", "path": mnist, "labels": 100, "validation": 5000},
        "model": {"kind": "mlp", **start},
        "loss": {"switch_epoch": 60},
        "optim": {"lr_discriminator": 3e-3, "lr_generator": 3e-3, "decay_epoch": 250},
        "training": {"epochs": EPOCHS},
    }
    return TrialSpec.model_validate(with_defaults(settings))


def train(trial: TrialSpec, data: Dataset) -> list[EpochMetrics]:
    return list(epochs(new_state(trial, data, torch.device("cpu")), data))


def row(deviation: float, curve: Sequence[EpochMetrics]) -> str:
    last = curve[-1]
    cells = [f"{deviation:g}", *(f"{100 * (epoch.val_error or 0):.1f} %" for epoch in curve)]
    cells += [f"{last.loss_unsupervised:.3f}", f"{last.loss_adversarial:.2f}", f"{last.loss_feature:.3f}"]
    return f"| {' | '.join([*cells, f'{last.entropy_generated:.2f}'])} |"


if __name__ == "__main__":
    main()
