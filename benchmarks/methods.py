"""Every method, and each technique alone on top of PL-GAN, on digits with 20 labels: test errors on paired seeds.

    OMP_NUM_THREADS=1 python benchmarks/methods.py [--seeds 10]      # trains what the table lacks, then prints
    python benchmarks/methods.py --print                             # prints the table of the stored errors

The seed gives weights, noise and split, so a row's difference from PL-GAN is taken seed by seed. Rates, switch epoch,
decay and width are those of the default search's first point (search_spaces/digits.yaml) for all rows but the DCGAN's,
which has its own, and images enlarged to 20 x 20. Weights of the losses are the method's. Nothing is tuned for a row. A
training takes 5 to 15 s of a core, the DCGAN's a minute.

Errors are in methods.parquet, seconds of CPU time in methods_seconds.parquet: medians of some short trainings that take
turns. The table also stands in docs/method.md, between two comments.
"""

import argparse
import re
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Final

import pandas as pd
import torch
from machine import machine

from plgan_tune.analysis.seeds import Estimate, estimate, paired_difference
from plgan_tune.config.defaults import with_defaults
from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.study import set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import load_dataset, load_test
from plgan_tune.training.evaluate import classify
from plgan_tune.training.loop import epochs
from plgan_tune.training.state import new_state

TABLE: Final = Path(__file__).with_suffix(".parquet")
SECONDS: Final = TABLE.with_stem("methods_seconds")
TURNS, TURN_EPOCHS = 5, 3
OF_THE_METHOD: Final = frozenset({"loss.alpha", "loss.beta"})
"""Keys of the default search's first point that a method decides."""

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "method.md"
MARKS: Final = ("<!-- printed by benchmarks/methods.py -->", "<!-- to here -->")
REFERENCE: Final = "pl_gan"

Keys = Mapping[str, Any]
"""Dotted keys of a trial."""

METHODS: Final[Mapping[str, Keys]] = {
    name: {"method": name}
    for name in (
        "pl_gan",
        "patent",
        "regular_gan",
        "feature_wise_gan",
        "saturating_gan",
        "sgan",
        "self_training",
        "supervised",
    )
}
DCGAN: Final = "dcgan_ssl, 20 x 20"
TECHNIQUES: Final[Mapping[str, Keys]] = {
    "minibatch discrimination, 25 kernels": {"model.minibatch_kernels": 25},
    "historical averaging, h 0.001": {"loss.history": 1e-3},
    "one-sided smoothing, 0.1": {"loss.smoothing": 0.1},
    "virtual batch norm": {"model.generator_norm": "virtual"},
    "logit of generated learned": {"model.fake_logit": "learned"},
    "C_sup joint": {"loss.supervised": "joint"},
    "self-training, unlabelled images": {"loss.self_scale": 0.5, "loss.self_images": "unlabelled"},
    "3 steps of G": {"training.generator_steps": 3},
    "weight decay, 0.0001": {"loss.weight_decay": 1e-4},
}
"""Improved Techniques (Salimans et al. 2016) first; each with one value, chosen before any was tried."""

ROWS: Final[Mapping[str, Keys]] = {
    **METHODS,
    DCGAN: {},
    **{f"+ {name}": keys for name, keys in TECHNIQUES.items()},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--print", action="store_true", help="train nothing")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.print:
        for seed in range(1, asked.seeds + 1):
            for name in ROWS:
                train_once(name, seed)
        seconds_in_turns().to_parquet(SECONDS)
    text = "\n".join(table(pd.read_parquet(TABLE), pd.read_parquet(SECONDS)))
    print(text)
    print(f"\n{machine()}")
    PAGE.write_text(with_table(PAGE.read_text(), text))


def train_once(name: str, seed: int) -> None:
    """Train a row with a seed and store its errors, unless they are stored."""
    held = pd.read_parquet(TABLE) if TABLE.exists() else pd.DataFrame(columns=["row", "seed"])
    if ((held.row == name) & (held.seed == seed)).any():
        return
    measured = {"row": name, "seed": seed, **errors_of(trial_of(name, seed))}
    print(measured, flush=True)
    pd.concat([held, pd.DataFrame([measured])] if len(held) else [pd.DataFrame([measured])]).to_parquet(TABLE)


def trial_of(name: str, seed: int) -> TrialSpec:
    """The trial of a row."""
    study = load_study(default_space()).study
    common = {"seed": seed, "data.split_seed": seed, "training.epochs": study.template["training"]["epochs"]}
    shared = {"data": study.template["data"], "model": {"width": study.template["model"]["width"]}}
    if name == DCGAN:
        own = {"method": "dcgan_ssl", "data.size": 20}
        return TrialSpec.model_validate(with_defaults(set_paths(shared, {**common, **own})))
    first = {key: value for key, value in study.search.first[0].items() if key not in OF_THE_METHOD}
    return TrialSpec.model_validate(with_defaults(set_paths(shared, {**common, **first, **ROWS[name]})))


def errors_of(trial: TrialSpec) -> Mapping[str, float]:
    """The errors of the averaged weights after the last epoch, fractions."""
    data, (images, labels) = load_dataset(trial.data), load_test(trial.data)
    state = new_state(trial, data, torch.device("cpu"))
    *_, last = epochs(state, data)
    error = classify(state.averaged, images, labels, state.precision).error
    assert last.val_error is not None
    return {"test_error": error, "val_error": last.val_error}


def seconds_in_turns() -> pd.DataFrame:
    """Seconds of CPU time of a whole training of each row, from short ones that take turns."""
    turns = [{name: epoch_seconds(trial_of(name, 1)) for name in ROWS} for _ in range(TURNS)]
    length = trial_of(REFERENCE, 1).training.epochs
    return pd.DataFrame([{"row": name, "seconds": length * median(turn[name] for turn in turns)} for name in ROWS])


def epoch_seconds(trial: TrialSpec) -> float:
    """Seconds of CPU time of one epoch, the median of some after the first."""
    data = load_dataset(trial.data)
    running = epochs(new_state(trial, data, torch.device("cpu")), data, clock=time.process_time)
    _, *timed = [row.seconds for row in islice(running, TURN_EPOCHS + 1)]
    return median(timed)


def table(errors: pd.DataFrame, times: pd.DataFrame) -> Iterator[str]:
    """The lines of the table in Markdown."""
    seconds = times.set_index("row").seconds
    by_seed = {name: rows.set_index("seed") for name, rows in errors.groupby("row")}
    plain = by_seed[REFERENCE]
    yield "| digits, 20 labels | seeds | test error, % | 95 % interval | less `pl_gan` | 95 % interval | CPU s |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name in (name for name in ROWS if name in by_seed):
        rows = by_seed[name]
        difference = paired_difference(rows.test_error, plain.test_error)
        apart = ["", ""] if name == REFERENCE else [f"{100 * difference.mean:+.2f}", interval(difference, "+.2f")]
        error = estimate(rows.test_error.to_list())
        label = f"`{name}`" if name in METHODS else name
        cells = [label, f"{error.count}", f"{100 * error.mean:.2f}", interval(error, ".2f"), *apart]
        yield f"| {' | '.join(cells)} | {seconds[name]:.1f} |".replace("|  |", "| |").replace("|  |", "| |")


def interval(found: Estimate, form: str) -> str:
    return f"{100 * found.low:{form}} to {100 * found.high:{form}}"


def with_table(page: str, lines: str) -> str:
    """The page with these lines between its marks."""
    begin, end = MARKS
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", f"{begin}\n\n{lines}\n\n{end}", page, flags=re.DOTALL)


if __name__ == "__main__":
    main()
