"""Tables 3 to 7 of Feng et al. 2020 at reduced size, from the rows of evaluations of scikit-learn's digits.

`python benchmarks/generator_tables.py > benchmarks/generator_tables.md` needs no training: the rows lie in
`benchmarks/generators/`, and the page names the commands that made them. `--pace` measures again what a training
takes, in CPU time, which other work on the machine changes little.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from machine import machine
from scipy.stats import t as student

from plgan_tune import load_trial, train_trial

ROWS = Path(__file__).with_name("generators")
SYSTEMS = {"gran": "GRAN", "wirgan": "WIRGAN", "gp_wirgan": "GP-WIRGAN"}
STEPS = (1, 3, 5)
LENGTHS = (1, 5)
"""Epochs of the two trainings whose difference is the pace."""
ROUNDS = 3


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--pace", action="store_true", help="measure what an epoch of each system takes")
    if asked.parse_args().pace:
        measure_pace().to_parquet(ROWS / "pace.parquet")
    print("\n".join(page()))


def page() -> Iterator[str]:
    evaluations, curves = pd.read_parquet(ROWS / "evaluations.parquet"), pd.read_parquet(ROWS / "curves.parquet")
    tables = evaluations[evaluations.study == "digits_tables"]
    pace = pd.read_parquet(ROWS / "pace.parquet").set_index("configuration").seconds
    yield from ABOUT
    yield "\n## Three systems, three numbers of steps\n"
    real = tables.iloc[0]
    yield "| | T | distance | coverage | score | doubt | CPU seconds an epoch |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for system, name in SYSTEMS.items():
        for steps in STEPS:
            rows = tables[tables.configuration == configuration(system, steps)]
            measures = [rows.test_distance, rows.test_coverage, rows.classifier_score, rows.doubt]
            told = " | ".join(with_interval(values) for values in measures)
            yield f"| {name} | {steps} | {told} | {pace[configuration(system, steps)]:.2f} |"
    yield (
        f"| real images | | {real.test_distance_real:.2f} | {real.test_coverage_real:.2f} | "
        f"{real.classifier_score_real:.2f} | {real.doubt_real:.2f} | |"
    )
    yield "\n## Is T = 3 better than 1?\n"
    yield "T = 3 less T = 1, distances, three pairs of one seed; a negative number is for T = 3.\n"
    yield "| | at equal steps, test images | at equal CPU time, validation images | T = 3 takes |"
    yield "| --- | --- | --- | --- |"
    for system, name in SYSTEMS.items():
        one, three = (configuration(system, steps) for steps in (1, 3))
        ratio = pace[three] / pace[one]
        at_steps = paired(tables, three, one)
        at_time = with_interval(pd.Series(list(equal_time(curves, three, one, ratio))), signed=True)
        yield f"| {name} | {at_steps} | {at_time} | {ratio:.1f} times as long |"
    yield "\n## Is the penalty better than clipping when both rates are searched?\n"
    yield "Distance of the test images, T = 1, four seeds, and the difference of pairs of one seed.\n"
    yield "| rates | clipped, WIRGAN | penalised, GP-WIRGAN | penalised less clipped |"
    yield "| --- | --- | --- | --- |"
    clipped, penalised = (evaluations[evaluations.study == f"generators_{one}-t1"] for one in ("clip", "penalty"))
    for rates, printed in (("searched", False), ("as printed", True)):
        of = [rows[rows.configuration.isin(SYSTEMS) == printed].set_index("seed") for rows in (clipped, penalised)]
        told = " | ".join(with_interval(rows.test_distance) for rows in of)
        yield f"| {rates} | {told} | {with_interval(of[1].test_distance - of[0].test_distance, signed=True)} |"
    yield f"\nThe CPU seconds of this page: {machine()}."


def configuration(system: str, steps: int) -> str:
    return system if (system, steps) == ("gran", 3) else f"{system}-t{steps}"


def with_interval(values: pd.Series, *, signed: bool = False) -> str:
    """Return the mean and the half width of its 95 % interval (Student's t)."""
    half = student.ppf(0.975, len(values) - 1) * values.std() / np.sqrt(len(values))
    return f"{values.mean():{'+' * signed}.2f} +- {half:.2f}"


def paired(rows: pd.DataFrame, one: str, other: str) -> str:
    values = rows.pivot_table(index="seed", columns="configuration", values="test_distance")
    return with_interval(values[one] - values[other], signed=True)


def equal_time(curves: pd.DataFrame, slow: str, fast: str, ratio: float) -> Iterator[float]:
    """Yield, seed by seed, the distance of the slow one when the fast one ends, less that of the fast one's end."""
    of_tables = curves[curves.study == "digits_tables"]
    for seed in (1, 2, 3):
        ends = {name: of_tables[of_tables.trial_id == f"{name}-s{seed}"].set_index("epoch") for name in (slow, fast)}
        last = ends[fast].index.max()
        reached = max(1, int(last / ratio))
        yield ends[slow].val_distance[reached] - ends[fast].val_distance[last]


def measure_pace() -> pd.DataFrame:
    """Return the CPU seconds of an epoch of each, the median over rounds, on one thread."""
    torch.set_num_threads(1)
    names = [(system, steps) for system in SYSTEMS for steps in STEPS]
    taken: dict[str, list[float]] = {configuration(*one): [] for one in names}
    for _ in range(ROUNDS):
        for system, steps in names:
            short, long = (seconds_of(system, steps, epochs) for epochs in LENGTHS)
            taken[configuration(system, steps)].append((long - short) / (LENGTHS[1] - LENGTHS[0]))
    return pd.DataFrame({"configuration": list(taken), "seconds": [median(each) for each in taken.values()]})


def seconds_of(system: str, steps: int, epochs: int) -> float:
    """Return the CPU seconds of a training, the judge's among them, which trainings of any length share."""
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder) / "trial.yaml"
        space.write_text(
            f"trial: {{method: {system}, data: {{source: digits, labels: 0, validation: 400}}, "
            f"model: {{width: 0.25, steps: {steps}}}, training: {{epochs: {epochs}}}}}\n",
            encoding="utf-8",
        )
        begun = time.process_time()
        train_trial(load_trial(space), Path(folder) / "trained", device=torch.device("cpu"))
        return time.process_time() - begun


ABOUT = """# Source 002's tables at reduced size

Feng et al. (2020) compare GRAN, WIRGAN and GP-WIRGAN with T = 1, 3 and 5 steps on MNIST and CIFAR-10 by battles
(tables 3 to 7) and by scores (9 and 10). Here are the three systems on scikit-learn's 8 x 8 digits, without labels:
width 0.25, 24 epochs, the printed rates, three seeds. The distance is `val_distance`'s, to the 360 test images.
Means +- half widths of 95 % intervals (Student's t) over the seeds.

```sh
python -m plgan_tune.search --in-process --space benchmarks/generators/tables.yaml --name digits_tables
python -m plgan_tune.evaluate results/digits_tables --top 1 --seeds 3 --methods --in-process
for what in clip penalty; do
  python -m plgan_tune.search --in-process --space benchmarks/generators/$what.yaml --name generators_$what-t1
  python -m plgan_tune.evaluate results/generators_$what-t1 --top 1 --seeds 4 --methods --in-process
done
python benchmarks/generator_tables.py
```

These ran with the code of commit d460564 on an AMD EPYC with 2 cores and no GPU that did other work, with torch
2.14.1 and one thread.

**What can be claimed, on these digits and at this length:**

- More steps help GRAN at equal steps, where each of its steps of training is also longer. They do not help the two
  Wasserstein systems. At equal time T = 3 is worse for all three.
- At the printed rates the penalty is far better than clipping. With both rates searched, the difference is not told
  apart from none: the printed rates suit the penalty, and do not show that it is better.

**What cannot:** the source's order of systems. No system has learned to draw at the printed rates within 24 epochs
(real images: 1.07), and its battles are then *invalid*: two Ds that tell each other's images from real ones without
error have ratios of test errors from 0.01 to 274, where a fair battle needs about 1. So tables 3 to 7 give no
winner here, whatever a GAM prints. MNIST at a pool of 10,000 and width 0.25, tables 9 and 10 with it, is not run:
an epoch of its nine trainings takes several core-minutes.""".splitlines()


if __name__ == "__main__":
    main()
