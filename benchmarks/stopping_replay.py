"""Rules of early stopping on real learning curves of the digits, judged by what the other splits say of a point.

    OMP_NUM_THREADS=1 python benchmarks/stopping_replay.py [--orders 100]

The 36 random whole trainings of each of split_curves.py's ten splits, in random orders, two at a time, an epoch of
each in turn, until the budget is spent or all are tried. The true mean of a point is not known; the Gaussian process of
sampling.py says what the nine other splits have near it. Its noise is theirs, not that of the curves that are replayed.

Prints a table and writes it to stopping_replay.md.
"""

import argparse
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from machine import machine
from sampling import fitted, place_of
from scipy.special import stdtrit
from simulate import AT_A_TIME, EPOCHS, Errors
from split_curves import random_trainings
from stopping import write

from plgan_tune.records import Report, Verdict
from plgan_tune.study.halving import Halving, NeverStop
from plgan_tune.study.protocols import Rule

BUDGETS: Final = (540, 1080)
FINALISTS: Final = 4

SHIPPED: Final = "10 and 30, factor 3 (shipped)"
RULES: Final[Mapping[str, Callable[[], Rule]]] = {
    SHIPPED: partial(Halving, (10, 30), 3, 3),
    "none: whole trainings": NeverStop,
    "10, 20 and 40, factor 2": partial(Halving, (10, 20, 40), 2, 3),
    "10 and 40, factor 4": partial(Halving, (10, 40), 4, 3),
    "10, factor 3": partial(Halving, (10,), 3, 3),
    "20 and 40, factor 2": partial(Halving, (20, 40), 2, 3),
    "5, 15 and 45, factor 3": partial(Halving, (5, 15, 45), 3, 3),
    "5, 10, 20 and 40, factor 2": partial(Halving, (5, 10, 20, 40), 2, 3),
    "10 and 30, factor 3, means of 5 epochs": partial(Halving, (10, 30), 3, 3, 5),
}


@dataclass(frozen=True, slots=True)
class Split:
    """Trainings of a split.

    Attributes:
        curves: Shape (trainings, epochs).
        elsewhere: Error of each one's point, less the mean of random points, as the nine other splits have it.
    """

    curves: Errors
    elsewhere: Errors


def splits() -> list[Split]:
    known = [(np.array([place_of(point) for point in points]), curves) for points, curves in random_trainings()]
    found = []
    for out, (places, curves) in enumerate(known):
        others = [pair for which, pair in enumerate(known) if which != out]
        lasts = np.concatenate([theirs[:, -1] - theirs[:, -1].mean() for _, theirs in others])
        process = fitted(np.concatenate([theirs for theirs, _ in others]), lasts)
        found.append(Split(curves, process.predict(places)))
    return found


def replayed(curves: Errors, order: Sequence[int], rule: Rule, budget: int) -> list[int]:
    """Return those that complete, the lowest last error first."""
    left, turns, completed = deque(order), deque[tuple[int, int]](), list[int]()
    for spent in range(budget):
        while left and len(turns) < AT_A_TIME:
            turns.append((left.popleft(), 0))
        if not turns:
            break
        number, before = turns.popleft()
        epoch = before + 1
        if epoch == EPOCHS:
            completed.append(number)
            continue
        decision = rule.report(Report(spent, f"t{number:04d}", 1, epoch, curves[number, epoch - 1]), {})
        if decision is None or decision.verdict is not Verdict.STOP:
            turns.append((number, epoch))
    return sorted(completed, key=lambda number: (curves[number, -1], number))


def judged(split: Split, completed: Sequence[int]) -> tuple[float, float, float]:
    """Return the choice's own error and its error elsewhere, and the lowest error elsewhere of the finalists."""
    finalists = list(completed[:FINALISTS])
    elsewhere = split.elsewhere[finalists]
    return float(split.curves[finalists[0], -1] - split.curves[:, -1].mean()), elsewhere[0], elsewhere.min()


def outcomes(split: Split, budget: int, rule: Callable[[], Rule], orders: int) -> Errors:
    """Return the means of `judged` and how many completed, over the orders."""
    draw = np.random.default_rng(20261130)
    found = []
    for _ in range(orders):
        completed = replayed(split.curves, draw.permutation(len(split.curves)).tolist(), rule(), budget)
        found.append((*judged(split, completed), len(completed)))
    means: Errors = np.mean(found, axis=0)
    return means


ABOUT: Final = """# Rules of early stopping on real curves of the digits

{machine}.
`OMP_NUM_THREADS=1 python benchmarks/stopping_replay.py --orders {orders}`

360 real trainings of 60 epochs (`search_curves/`): 36 random points of each of ten splits, in {orders} random orders,
two at a time, until the budget is spent or all are tried. Points of error, less the mean of the split's 36; lower is
better.

- own error: of the choice, the completed trial of lowest last error. It is partly luck.
- elsewhere: what the nine other splits say of the choice's point, by the Gaussian process of [sampling.md](sampling.md)
  fitted to them alone. It is drawn to the mean, so differences are smaller than true ones.
- best of {finalists} elsewhere: the lowest such error among the {finalists} best completed trials: what
  perfect confirming would find.
- below the shipped rule: paired by split and order; positive is better. ± are Student's 95 % intervals over the ten
  splits.
"""


HEAD: Final = f"""| ASHA with rungs at | own error | elsewhere | below the shipped rule | \
best of {FINALISTS} elsewhere | below the shipped rule | completed |
| --- | --- | --- | --- | --- | --- | --- |
"""


def paired(differences: Errors) -> str:
    half = stdtrit(len(differences) - 1, 0.975) * differences.std(ddof=1) / math.sqrt(len(differences))
    return f"{100 * differences.mean():.2f} ± {100 * half:.2f}"


def table(known: Sequence[Split], budget: int, orders: int) -> str:
    found = {name: np.array([outcomes(split, budget, rule, orders) for split in known]) for name, rule in RULES.items()}
    text = f"\n## {budget:,} epochs\n\n{HEAD}"
    for name, ours in found.items():
        own, elsewhere, best, completed = ours.mean(axis=0)
        better = found[SHIPPED] - ours
        bold = f"**{name}**" if name == SHIPPED else name
        text += f"| {bold} | {100 * own:.2f} | {100 * elsewhere:.2f} | {paired(better[:, 1])} "
        text += f"| {100 * best:.2f} | {paired(better[:, 2])} | {completed:.0f} |\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--orders", type=int, default=100)
    orders = parser.parse_args().orders
    known = splits()
    text = ABOUT.format(machine=machine(), orders=orders, finalists=FINALISTS)
    text += "".join(table(known, budget, orders) for budget in BUDGETS)
    print(text)
    write(Path(__file__).with_suffix(".md"), text)


if __name__ == "__main__":
    main()
