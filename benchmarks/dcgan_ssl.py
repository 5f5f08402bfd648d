"""The DCGAN classifier of "SSL-GAN on MNIST" with 100 and 200 honest labels: its test errors over seeds.

    OMP_NUM_THREADS=1 python benchmarks/dcgan_ssl.py ../shared/data/mnist [--labels 100 200] [--seeds 1 2 3]
    OMP_NUM_THREADS=1 python benchmarks/dcgan_ssl.py --print

Trains method dcgan_ssl at a quarter of its width for 25 epochs. A training is a folder of results/dcgan_ssl/, goes on
where it was interrupted, and takes about half an hour of a core. Its errors are in dcgan_ssl.parquet; the table of what
is there so far is dcgan_ssl.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd
import torch
from machine import machine

from plgan_tune.analysis.seeds import estimate
from plgan_tune.classifier import load_classifier
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import load_dataset, load_test
from plgan_tune.store.folder import CHECKPOINT
from plgan_tune.train import train
from plgan_tune.training.loop import plan_epoch

RESULTS: Final = Path("results/dcgan_ssl")
TABLE: Final = Path(__file__).with_suffix(".parquet")
EPOCHS: Final = 25
CLAIMS: Final = {100: "none", 200: '"99 %" accuracy (title), "best .95" (its last line)'}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mnist", nargs="?", help="folder of MNIST as Parquet")
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 200])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--print", action="store_true", help="train nothing")
    asked = parser.parse_args()
    if not asked.print:
        for seed in asked.seeds:
            for labels in asked.labels:
                train_once(trial_of(asked.mnist, labels, seed))
    text = page(pd.read_parquet(TABLE))
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


def trial_of(mnist: str, labels: int, seed: int) -> TrialSpec:
    data = {"source": "parquet", "path": mnist, "labels": labels, "validation": 5000, "split_seed": seed}
    spec = {
        "method": "dcgan_ssl",
        "seed": seed,
        "data": data,
        "model": {"width": 0.25},
        "training": {"epochs": EPOCHS},
    }
    return TrialSpec.model_validate(with_defaults(spec))


def train_once(trial: TrialSpec) -> None:
    """Train, or go on with a training, and store its errors, unless they are stored."""
    key = {"labels": trial.data.labels, "seed": trial.seed}
    held = pd.read_parquet(TABLE) if TABLE.exists() else pd.DataFrame(columns=list(key))
    if (held[list(key)] == pd.Series(key)).all(axis=1).any():
        return
    out = RESULTS / f"{trial.data.labels}-s{trial.seed}"
    rows = train(trial, out, resume=(out / CHECKPOINT).exists(), device=torch.device("cpu"))
    images, labels = load_test(trial.data)
    measured = {
        **key,
        "epochs": rows[-1].epoch,
        "test_error": load_classifier(out).error(images, labels),
        "test_error_raw": load_classifier(out, weights="raw").error(images, labels),
        "val_error": rows[-1].val_error,
        "labelled_images": distinct_labelled(trial),
        "seconds": sum(row.seconds for row in rows),
    }
    print(measured, flush=True)
    pd.concat([*([held] if len(held) else []), pd.DataFrame([measured])]).to_parquet(TABLE)


def distinct_labelled(trial: TrialSpec) -> int:
    """How many images the training has ever seen with their label."""
    data = load_dataset(trial.data)
    rows = [plan_epoch(trial, data, epoch).labelled.flatten() for epoch in range(trial.training.epochs)]
    return len(set(torch.cat(rows).tolist()))


def page(errors: pd.DataFrame) -> str:
    lines = "\n".join(table(errors))
    return f"""# The DCGAN classifier on MNIST, width 0.25, {EPOCHS} epochs, averaged weights

{lines}

Test error on the 10,000 test images; the interval is Student's over the seeds, which choose labels, weights and noise.
The published program draws its "200" labels anew from a shuffled stream: 4 batches of 50 an epoch, up to 10,000 labels
in 50 epochs. Here the labelled images are the same in all epochs, and counted. It also chooses its best epoch on the
test images; here the last one is measured.

{machine()}.
"""


def table(errors: pd.DataFrame) -> Iterator[str]:
    yield "| labels | distinct labelled images | seeds | test error, % | 95 % interval | raw weights | claimed |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for labels, rows in errors.sort_values("seed").groupby("labels"):
        error = estimate(rows.test_error.to_list())
        interval = "" if error.count < 2 else f"{100 * error.low:.2f} to {100 * error.high:.2f}"
        each = ", ".join(f"{100 * one:.2f}" for one in rows.test_error)
        seen, raw = rows.labelled_images.max(), 100 * rows.test_error_raw.mean()
        yield (
            f"| {labels} | {seen} | {error.count} ({each}) | {100 * error.mean:.2f} | {interval} | {raw:.2f} "
            f"| {CLAIMS[int(str(labels))]} |"
        )


if __name__ == "__main__":
    main()
