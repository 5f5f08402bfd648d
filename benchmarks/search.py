"""What early stopping and TPE bring a search, at equal numbers of trained epochs: the digits space, real trainings.

    nice python benchmarks/search.py [--seeds 10] [--epochs 2160] [--processes 2]

TPE and random sampling, each with and without ASHA as the space file has it, by the search's own sampler and early
stopping, two trials at a time, in turns of an epoch. A seed decides the sampler's draws, the split and the weights, so
the four of a seed are a pair, and their first random points are the same. A training is a function of its seed and
point: its errors are kept in search_curves/, a file a seed, and none that is there is trained again. So the command
goes on after an interruption, more epochs or seeds only add trainings, and without the folder all are made anew.

Prints a table and writes it to search.md, with a picture in search.png.
"""

import argparse
import json
import math
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from machine import machine
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from plgan_tune.config.load import default_space, load_study
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import TrialSpec
from plgan_tune.data.dataset import Dataset, load_dataset
from plgan_tune.records import Report, TrialStatus, Verdict
from plgan_tune.study.assignment import Assignment
from plgan_tune.study.early_stopping import build_rule
from plgan_tune.study.protocols import Rule
from plgan_tune.training.loop import Diverged, epochs
from plgan_tune.training.state import new_state
from plgan_tune.tuning.sampler import OptunaSampler

CURVES = Path(__file__).with_name("search_curves")
COLUMNS = ["point", "machine", "errors"]
AT_A_TIME = 2
BAR = 0.25

WITHOUT_TPE, WITHOUT_ASHA = "search.sampler=random", "search.early_stopping=none"
SEARCHES: Mapping[str, Sequence[str]] = {
    "random": [WITHOUT_TPE, WITHOUT_ASHA],  # first: the others share its whole curves
    "TPE": [WITHOUT_ASHA],
    "random + ASHA": [WITHOUT_TPE],
    "TPE + ASHA": [],
}
PLAIN, FULL = "random", "TPE + ASHA"
PANELS = {"every trial to its end": ["random", "TPE"], "trials stopped by ASHA": ["random + ASHA", "TPE + ASHA"]}
INK = "#444444"
COLOURS = {"random": "#8a8f98", "TPE": "#3b7dd8", "random + ASHA": "#e0952f", "TPE + ASHA": "#c0275d"}


def study(name: str, seed: int) -> StudySpec:
    """The space file without its first point, which would give all four the same good start."""
    seeds = [f"{key}={seed}" for key in ("search.seed", "trial.seed", "trial.data.split_seed")]
    return load_study(default_space(), [*SEARCHES[name], *seeds, "search.first=[]", "search.trials=100000"]).study


class Curves:
    """Validation errors of trainings, epoch by epoch; NaN where one diverged.

    Args:
        file: where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._machine = machine()
        self._rows: dict[str, dict[str, Any]] = {}
        if file.exists():
            for point, made_on, errors in pd.read_parquet(file)[COLUMNS].itertuples(index=False):
                self._rows[point] = {"point": point, "machine": made_on, "errors": list(errors)}

    def of(self, point: Mapping[str, Any], trial: TrialSpec, data: Dataset) -> Iterator[float]:
        """The errors at `point`: those that are known, then those of a training."""
        key = json.dumps(dict(point), sort_keys=True)
        row = self._rows.setdefault(key, {"point": key, "machine": self._machine, "errors": []})
        errors: list[float] = row["errors"]
        yield from tuple(errors)
        for error in islice(trained(trial, data), len(errors), None):
            errors.append(error)
            yield error

    def keep(self) -> None:
        """Writes them, the file whole at every moment."""
        self._file.parent.mkdir(exist_ok=True)
        scratch = self._file.with_name(f"_{self._file.name}")
        pd.DataFrame(list(self._rows.values())).to_parquet(scratch, index=False)
        scratch.replace(self._file)


def trained(trial: TrialSpec, data: Dataset) -> Iterator[float]:
    try:
        for metrics in epochs(new_state(trial, data, torch.device("cpu")), data):
            yield metrics.val_error
    except Diverged:
        yield math.nan


Errors = np.ndarray[Any, np.dtype[np.float64]]
"""Shape (seeds, epochs)."""


@dataclass(frozen=True)
class End:
    """A trial that ended when the search had trained so many epochs; its last error where it completed."""

    trained: int
    error: float | None


def search(spec: StudySpec, data: Dataset, curves: Curves, budget: int) -> list[End]:
    """What a search of `budget` epochs comes to, AT_A_TIME trials side by side, an epoch each in turn."""
    sampler, rule = OptunaSampler(spec), build_rule(spec)
    turns: deque[tuple[Assignment, Iterator[tuple[int, float]]]] = deque()
    ends: list[End] = []
    for spent in range(1, budget + 1):
        while len(turns) < AT_A_TIME and (assignment := sampler.ask()) is not None:
            turns.append((assignment, enumerate(curves.of(assignment.point, assignment.trial, data), start=1)))
        assignment, course = turns.popleft()
        epoch, error = next(course)
        sampler.report(assignment.trial_id, epoch, error)
        status = status_after(assignment, Report(spent, assignment.trial_id, 1, epoch, error), rule)
        if status is TrialStatus.RUNNING:
            turns.append((assignment, course))
            continue
        sampler.tell(assignment.trial_id, status)
        ends.append(End(spent, error if status is TrialStatus.COMPLETED else None))
        curves.keep()
    return ends


def status_after(assignment: Assignment, report: Report, rule: Rule) -> TrialStatus:
    """Where a trial stands after an epoch; NaN is a divergence."""
    if math.isnan(report.val_error):
        return TrialStatus.DIVERGED
    if report.epoch == assignment.trial.training.epochs:
        return TrialStatus.COMPLETED
    decision = rule.report(report, assignment.point)
    stops = decision is not None and decision.verdict is Verdict.STOP
    return TrialStatus.STOPPED if stops else TrialStatus.RUNNING


def searched(budget: int, seed: int) -> dict[str, list[End]]:
    """The four searches of a seed."""
    torch.set_num_threads(1)
    curves = Curves(CURVES / f"{seed:02d}.parquet")
    data = load_dataset(study(PLAIN, seed).any_trial().data)
    ends = {name: search(study(name, seed), data, curves, budget) for name in SEARCHES}
    curves.keep()
    return ends


def best_so_far(ends: Sequence[End], budget: int) -> list[float]:
    """Lowest last error of the completed trials after each epoch; infinite before the first."""
    errors = dict.fromkeys(range(1, budget + 1), math.inf)
    errors |= {end.trained: end.error for end in ends if end.error is not None}
    return list(accumulate(errors.values(), min))


@dataclass(frozen=True)
class Outcome:
    """One kind of search over all seeds.

    Attributes:
        best: shape (seeds, epochs), fractions.
        reached: epochs until the final best of random search of the same seed; infinite where it is not reached.
    """

    ends: Sequence[Sequence[End]]
    best: Errors
    reached: Sequence[float]


def outcomes(seeds: Sequence[Mapping[str, Sequence[End]]], budget: int) -> dict[str, Outcome]:
    best = {name: np.array([best_so_far(seed[name], budget) for seed in seeds]) for name in SEARCHES}
    goals = best[PLAIN][:, -1]
    reached = {
        name: [next((at for at, error in enumerate(row, start=1) if error <= goal), math.inf) for row, goal in pairs]
        for name, pairs in ((name, zip(best[name], goals, strict=True)) for name in SEARCHES)
    }
    return {name: Outcome([seed[name] for seed in seeds], best[name], reached[name]) for name in SEARCHES}


HEADER = """# Four searches of the same length

{machine};
one thread a training. {seeds} seeds, {budget:,} trained epochs a search, two trials at a time; digits space, trials of
{epochs} epochs, its ASHA and TPE as they are shipped.
`python benchmarks/search.py --seeds {seeds} --epochs {budget}`

A search's result is the lowest val_error at the LAST epoch of a trial that COMPLETED within those epochs, as
`best.yaml` has it. A trial that is stopped, or still under way at the end, has spent its epochs and has no result.
Medians over the seeds, quartiles in brackets; errors in %. "Reached" is the share of the epochs after which a search is
as good as random alone of the same seed is at its end; random alone's own says when it found that trial.

| search | best after a quarter | after half | at the end | seeds better, equal, worse than random | \
trials ended | completed | reached |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def table(found: Mapping[str, Outcome], about: str, budget: int) -> str:
    spec = study(FULL, 0)
    text = HEADER.format(
        machine=about, seeds=len(found[PLAIN].ends), budget=budget, epochs=spec.any_trial().training.epochs
    )
    for name, outcome in found.items():
        text += row(name, outcome, found[PLAIN], budget) + "\n"
    share = median(found[FULL].reached) / budget
    met = "met" if share <= BAR else "MISSED"
    tpe = spec.search.sampler.tpe
    assert tpe is not None
    random_ends = median(ends[tpe.startup_trials - 1].trained for ends in found[FULL].ends)
    return text + (
        f"\nBar: {FULL} reaches random alone's final best in at most {BAR:.0%} of the epochs (median): "
        f"{said(share)}, {met}.\n"
        f"Random alone itself had found it after {said(median(found[PLAIN].reached) / budget)} (median): where that is "
        "no later, its first draws were lucky, and a bar that is met says nothing.\n"
        f"Its first {tpe.startup_trials} trials are random, and had ended after {random_ends:.0f} epochs (median), "
        f"{random_ends / budget:.0%} of all: until then only ASHA can help it.\n"
    )


def row(name: str, outcome: Outcome, plain: Outcome, budget: int) -> str:
    at = [outcome.best[:, budget // 4 - 1], outcome.best[:, budget // 2 - 1], outcome.best[:, -1]]
    ours, theirs = outcome.best[:, -1], plain.best[:, -1]
    versus = f"{(ours < theirs).sum()}, {(ours == theirs).sum()}, {(ours > theirs).sum()}"
    ended = median(len(ends) for ends in outcome.ends)
    completed = median(sum(end.error is not None for end in ends) for ends in outcome.ends)
    reached = " to ".join(said(value / budget) for value in quartiles(outcome.reached)[::2])
    cells = [*map(percent, at), versus, f"{ended:.0f}", f"{completed:.0f}"]
    return f"| {name} | {' | '.join(cells)} | {said(median(outcome.reached) / budget)} ({reached}) |"


def quartiles(values: Sequence[float] | Errors) -> list[float]:
    """At 25, 50 and 75 %, each one of the values or a mean of two; infinite ones included."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return [median(ordered[: len(ordered) - half]), median(ordered), median(ordered[half:])]


def percent(errors: Errors) -> str:
    low, middle, high = (f"{100 * value:.2f}" if math.isfinite(value) else "none" for value in quartiles(errors))
    return f"{middle} ({low} to {high})"


def said(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "never"


def draw(found: Mapping[str, Outcome], budget: int, file: Path) -> None:
    """Best so far, each seed's above what random alone came to in the end: the zero line is what the bar asks for."""
    mpl.use("Agg")
    goals = found[PLAIN].best[:, -1:]
    above = {name: 100 * (outcome.best - goals) for name, outcome in found.items()}
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), sharey=True, layout="constrained")
    for axes, title, names in zip(panels, PANELS, PANELS.values(), strict=True):
        draw_median(axes, above[PLAIN], COLOURS[PLAIN], 1.2)  # in both, to compare with
        for name in names:
            draw_course(axes, above[name], COLOURS[name], width=2.5 if name == FULL else 1.8)
        axes.set_title(title, loc="left", fontsize=11)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
        axes.axvline(BAR * budget, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        axes.set_xlim(0, budget)
        axes.set_xlabel("trained epochs, all trials together")
        axes.spines[["top", "right"]].set_visible(False)
    for axes, names in zip(panels, PANELS.values(), strict=True):
        label_ends(axes, {name: float(np.median(above[name][:, -1])) for name in names}, budget)
        axes.text(BAR * budget, axes.get_ylim()[1], " a quarter of the epochs", va="top", color=INK, fontsize=9)
    panels[0].set_ylabel("best error so far, points above random alone's last")
    figure.suptitle(f"Digits, {len(goals)} seeds: median and quartiles", x=0.01, ha="left", fontsize=13)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def draw_course(axes: Axes, rows: Errors, colour: str, width: float) -> None:
    """Median and quartiles of rows of shape (seeds, epochs), from where each seed has a trial that completed."""
    first = int(np.isfinite(rows).all(axis=0).argmax())
    low, _, high = np.array([quartiles(column) for column in rows[:, first:].T]).T
    spent = np.arange(first + 1, rows.shape[1] + 1)
    axes.fill_between(spent, low, high, step="post", color=colour, alpha=0.16, linewidth=0)
    draw_median(axes, rows, colour, width)


def draw_median(axes: Axes, rows: Errors, colour: str, width: float) -> None:
    first = int(np.isfinite(rows).all(axis=0).argmax())
    spent = np.arange(first + 1, rows.shape[1] + 1)
    axes.step(spent, np.median(rows[:, first:], axis=0), where="post", color=colour, linewidth=width)


def label_ends(axes: Axes, heights: Mapping[str, float], budget: int) -> None:
    """Each line's name at its end, moved up where it would cover another's."""
    low, high = axes.get_ylim()
    free = -math.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        at = max(height, free)
        axes.text(budget * 1.01, at, name, color=COLOURS[name], va="center", fontweight="bold", fontsize=10)
        free = at + 0.05 * (high - low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=2160, help="at least those of 12 trials")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    seeds = []
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        for seed, ends in enumerate(pool.map(partial(searched, asked.epochs), range(asked.seeds))):
            seeds.append(ends)
            finals = (f"{name} {100 * best_so_far(ends[name], asked.epochs)[-1]:.2f} %" for name in SEARCHES)
            print(f"seed {seed}:", ", ".join(finals), flush=True)
    machines = pd.concat(pd.read_parquet(file, columns=["machine"]) for file in sorted(CURVES.glob("[0-9]*.parquet")))
    found = outcomes(seeds, asked.epochs)
    text = table(found, "; ".join(sorted(machines["machine"].unique())), asked.epochs)
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)
    draw(found, asked.epochs, Path(__file__).with_suffix(".png"))


if __name__ == "__main__":
    main()
