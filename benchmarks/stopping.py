"""Rules of early stopping, judged by the true means of what searches choose, with confirming and without.

    OMP_NUM_THREADS=1 python benchmarks/stopping.py [--searches 1000] [--others 400]

Each search draws its configurations anew from a super-population, as in simulate.py; every rule meets the same ones.
A rule is judged twice: the lowest error wins; or a part of the same epochs confirms the best on fresh seeds. Rules that
only stop run in the driver's own parts (`simulate.Search`); ASHA that pauses and promotes has a loop of its own here.

Prints tables and writes them to stopping.md.
"""

import argparse
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final, Protocol

import numpy as np
import optuna
from machine import machine
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import WilcoxonPruner
from optuna.samplers import RandomSampler
from simulate import (
    AT_A_TIME,
    BUDGETS,
    EPOCHS,
    MOST_SEEDS,
    NOISE,
    STEP,
    TABLE,
    TRIALS,
    Errors,
    Population,
    RandomPoints,
    Search,
    World,
    mean_of,
    points,
    population_of,
    read_table,
    study,
)
from split_curves import random_trainings
from stopping_rules import Brackets, Extrapolating, Margin, Median

from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialRow
from plgan_tune.study.halving import Halving
from plgan_tune.study.protocols import Rule

LAST: Final = EPOCHS // STEP

# Super-populations


@dataclass(frozen=True, slots=True)
class Informed(Population):
    """Draws worlds whose early errors know the true means better than the last error does.

    A curve is that of a training that ends near the true mean; from half of its epochs on it bends to its drawn error.
    So what is luck in the last error is not in the rungs.
    """

    def world(self, search: int) -> World:
        draw = np.random.default_rng([search, 20261130])
        truths, _ = self._truths(draw)
        seeds = draw.normal(0, self.components.seed, 1 + MOST_SEEDS)
        finals = truths[:, None] + seeds + draw.normal(0, self.components.residual, (TRIALS, 1 + MOST_SEEDS))
        towards = truths + seeds[0]
        curves = self._ending_near(draw, towards)
        bend = np.clip(np.arange(1, EPOCHS + 1) / EPOCHS * 2 - 1, 0, 1)
        curves = curves + (towards - curves[:, -1])[:, None] + bend * (finals[:, 0] - towards)[:, None]
        return World(truths, curves[:, STEP - 1 :: STEP], finals[:, 1:])


def curves_of_ten_splits() -> Errors:
    """Return their curves, less what their splits' means differ; shape (trainings, 1, epochs)."""
    return np.concatenate([curves - curves[:, -1].mean() + NOISE.mean for _, curves in random_trainings()])[:, None]


def populations() -> dict[str, Population]:
    table = population_of(read_table(TABLE / "curves.parquet"), "noise")
    return {
        "as noise.md has it": table,
        "curves of ten splits": Population(NOISE, curves_of_ten_splits(), fitted=False),
        "rungs that know the truth": Informed(NOISE, table.curves, fitted=False),
    }


# A search


@dataclass(frozen=True, slots=True)
class Tried:
    """Where a configuration of a search stands.

    Attributes:
        number: Of the configuration.
        epochs: Simulated ones.
        error: At the last of them.
    """

    number: int
    epochs: int
    error: float

    @property
    def has_completed(self) -> bool:
        return self.epochs == LAST


class Run(Protocol):
    """A search under way."""

    @property
    def trained(self) -> int:
        """Simulated epochs so far."""

    def step(self) -> bool:
        """Train a simulated epoch; return whether there was one to train."""

    def tried(self) -> list[Tried]:
        """Return where all configurations stand."""

    def if_no_more_came(self) -> list[Tried]:
        """Return where they would stand if none started any more and those under way trained on."""


class Stopping:
    """A search by the driver's own parts.

    Args:
        search: The driver's parts.
    """

    def __init__(self, search: Search) -> None:
        self._search = search

    @property
    def trained(self) -> int:
        return self._search.trained

    def step(self) -> bool:
        return self._search.step()

    def tried(self) -> list[Tried]:
        return tried_of(self._search.state.rows())

    def if_no_more_came(self) -> list[Tried]:
        return tried_of(self._search.if_no_more_came())


def tried_of(rows: Sequence[TrialRow]) -> list[Tried]:
    return [Tried(row.number, row.epochs, row.value_last or 0.0) for row in rows if row.epochs]


@dataclass(slots=True)
class Job:
    """A configuration that trains to an epoch, where it pauses."""

    number: int
    epoch: int
    until: int


@dataclass(slots=True)
class Rung:
    errors: dict[int, float] = field(default_factory=dict)
    promoted: set[int] = field(default_factory=set)


class Promoting:
    """ASHA that pauses each configuration at its rung and promotes the best from their checkpoints (Li et al. 2020).

    A free worker promotes a configuration of the highest rung that has one among its best floor(n / factor); if none
    has, it starts a new one.

    Args:
        world: What trainings come to.
        rungs: Simulated epochs at which configurations pause.
        factor: One in this many is promoted.
    """

    def __init__(self, world: World, rungs: Sequence[int], factor: int) -> None:
        self._world, self._ends, self._factor = world, (*rungs, LAST), factor
        self._rungs = [Rung() for _ in rungs]
        self._tried: list[Tried] = []
        self._jobs: deque[Job] = deque()
        self.trained = 0

    def step(self) -> bool:
        while len(self._jobs) < AT_A_TIME:
            self._jobs.append(self._promotion() or self._new())
        self._train(self._jobs.popleft())
        return True

    def tried(self) -> list[Tried]:
        return list(self._tried)

    def if_no_more_came(self) -> list[Tried]:
        """Those under way end at their rungs."""
        found = self.tried()
        for job in self._jobs:
            found[job.number] = Tried(job.number, job.until, self._world.curve(job.number, None)[job.until - 1])
        return found

    def _train(self, job: Job) -> None:
        self.trained += 1
        job.epoch += 1
        error = self._world.curve(job.number, None)[job.epoch - 1]
        self._tried[job.number] = Tried(job.number, job.epoch, error)
        if job.epoch < job.until:
            self._jobs.append(job)
        elif job.epoch < LAST:
            self._rungs[self._ends.index(job.epoch)].errors[job.number] = error

    def _promotion(self) -> Job | None:
        for place in reversed(range(len(self._rungs))):
            rung = self._rungs[place]
            best = sorted(rung.errors, key=lambda number: (rung.errors[number], number))
            for number in best[: len(best) // self._factor]:
                if number not in rung.promoted:
                    rung.promoted.add(number)
                    return Job(number, self._ends[place], self._ends[place + 1])
        return None

    def _new(self) -> Job:
        job = Job(len(self._tried), 0, self._ends[0])
        self._tried.append(Tried(job.number, 0, 1.0))
        return job


# The contenders


class Learns(Rule, Protocol):
    """A rule that learns from trials that have completed; the coordinator tells rules nothing of last epochs."""

    def completed(self, trial_id: str, error: float) -> None: ...


class Telling(RandomPoints):
    """Random points, and tells a rule the last errors of those that completed."""

    def __init__(self, spec: StudySpec, rule: Learns) -> None:
        super().__init__(spec)
        self._rule = rule

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:  # noqa: ARG002
        if epoch == LAST:
            self._rule.completed(trial_id, value)


Begin = Callable[[World], Run]
"""Begins a search of the longest budget."""

NEVER: Final = ("search.early_stopping=none",)


def asha(grace: int, factor: int) -> tuple[str, ...]:
    return tuple(
        f"search.early_stopping.asha.{key}={value}"
        for key, value in (("grace_period", grace), ("reduction_factor", factor))
    )


def as_set(settings: Sequence[str], world: World) -> Run:
    """A search by a rule that a space file can name."""
    return Stopping(Search(study(max(BUDGETS), None, tuple(settings)), world))


def by_rule(make: Callable[[], Rule], world: World) -> Run:
    return Stopping(Search(study(max(BUDGETS), None, NEVER), world, stop=lambda _: make()))


def learning(make: Callable[[], Learns], world: World) -> Run:
    rule = make()
    spec = study(max(BUDGETS), None, NEVER)
    return Stopping(Search(spec, world, stop=lambda _: rule, suggest=lambda spec: Telling(spec, rule)))


def promoting(rungs: Sequence[int], factor: int, world: World) -> Run:
    return Promoting(world, rungs, factor)


def margin(width: float) -> Margin:
    return Margin(Halving((1, 3), 3, min_competitors=3), width)


SHIPPED: Final = "ASHA: 10 and 30, factor 3 (shipped)"

CONTENDERS: Final[Mapping[str, Begin]] = {
    SHIPPED: partial(as_set, asha(1, 3)),
    "none: whole trainings": partial(as_set, NEVER),
    "ASHA: 10, 20 and 40, factor 2": partial(as_set, asha(1, 2)),
    "ASHA: 10 and 40, factor 4": partial(as_set, asha(1, 4)),
    "ASHA: 10, factor 6": partial(as_set, asha(1, 6)),
    "ASHA: 10, factor 9": partial(as_set, asha(1, 9)),
    "ASHA: 20 and 40, factor 2": partial(as_set, asha(2, 2)),
    "ASHA: 20, factor 3": partial(as_set, asha(2, 3)),
    "ASHA: 30, factor 2": partial(as_set, asha(3, 2)),
    "ASHA: 30, factor 3": partial(as_set, asha(3, 3)),
    "2 brackets: 10 and 30; 30; factor 3": partial(by_rule, partial(Brackets, ((1, 3), (3,)), 3)),
    "3 brackets: 10 and 30; 30; none; factor 3": partial(by_rule, partial(Brackets, ((1, 3), (3,), ()), 3)),
    "promotion: 10, 20 and 40, factor 2": partial(promoting, (1, 2, 4), 2),
    "promotion: 10 and 30, factor 3": partial(promoting, (1, 3), 3),
    "promotion: 10 and 40, factor 4": partial(promoting, (1, 4), 4),
    "promotion: 10, factor 3": partial(promoting, (1,), 3),
    "promotion: 10, factor 6": partial(promoting, (1,), 6),
    "promotion: 20, factor 3": partial(promoting, (2,), 3),
    "median, from 10": partial(by_rule, Median),
    "interval: ASHA, beyond 0.5 deviations": partial(learning, partial(margin, 0.5)),
    "interval: ASHA, beyond 1 deviation": partial(learning, partial(margin, 1.0)),
    "extrapolating: top 1, below 10 %": partial(learning, partial(Extrapolating, 0.1, 1)),
    "extrapolating: top 4, below 10 %": partial(learning, partial(Extrapolating, 0.1, 4)),
    "extrapolating: top 4, below 20 %": partial(learning, partial(Extrapolating, 0.2, 4)),
    "extrapolating: top 16, below 20 %": partial(learning, partial(Extrapolating, 0.2, 16)),
}
"""What is compared on the first worlds."""

AGAIN: Final[Mapping[str, Begin]] = {
    **{
        name: CONTENDERS[name]
        for name in (
            SHIPPED,
            "none: whole trainings",
            "ASHA: 10, 20 and 40, factor 2",
            "promotion: 10, factor 3",
            "median, from 10",
            "interval: ASHA, beyond 0.5 deviations",
        )
    },
    "ASHA, one rung: 10, factor 3": partial(by_rule, partial(Halving, (1,), 3, 3)),
    "ASHA, one rung: 10, factor 2": partial(by_rule, partial(Halving, (1,), 2, 3)),
    "promotion: 10, factor 2": partial(promoting, (1,), 2),
}
"""What did best there, and what that suggests, compared on fresh worlds: of many rows, the best one is lucky, too."""


# What a search came to

PLANS: Final[Mapping[int, Sequence[tuple[int, int]]]] = {
    2160: ((4, 1), (2, 3)),
    6480: ((16, 1), (8, 1), (4, 2), (2, 4)),
}
"""Finalists, and the fresh seeds that each gets, and the first point, before the next fewer are chosen."""

WILCOXON_SEEDS: Final[Mapping[int, int]] = {2160: 4, 6480: 8}
"""Fresh seeds of a finalist that WilcoxonPruner does not prune; in all as many trainings as by PLANS."""


def trainings(budget: int) -> int:
    return sum((count + 1) * seeds for count, seeds in PLANS[budget])


def searched(budget: int) -> int:
    """Return the epochs of the search before its best are confirmed; one training is left for those under way."""
    return budget - EPOCHS * (trainings(budget) + 1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search, judged by the truth.

    Attributes:
        printed: The error that it prints for its choice.
        truth: True mean of its choice.
        best: Lowest true mean that it tried.
        tried: Configurations.
        completed: Of them, those that trained to their last epoch.
        epochs: Trained in all.
    """

    printed: float
    truth: float
    best: float
    tried: int
    completed: int
    epochs: int


def judged(choice: int, printed: float, tried: Sequence[Tried], fresh: int, world: World) -> Outcome:
    return Outcome(
        printed=printed,
        truth=float(world.truths[choice]),
        best=min(float(world.truths[one.number]) for one in tried),
        tried=len(tried),
        completed=sum(one.has_completed for one in tried),
        epochs=STEP * sum(one.epochs for one in tried) + EPOCHS * fresh,
    )


def ranked(tried: Sequence[Tried]) -> list[Tried]:
    """Return those that completed, the lowest error first."""
    return sorted((one for one in tried if one.has_completed), key=lambda one: (one.error, one.number))


def by_lowest(tried: Sequence[Tried], world: World) -> Outcome:
    """The lowest last error wins, and is printed; the first point if none completed."""
    choice = next(iter(ranked(tried)), tried[0])
    return judged(choice.number, choice.error, tried, 0, world)


def by_fresh_seeds(budget: int, tried: Sequence[Tried], world: World) -> Outcome:
    """Halve the finalists by PLANS; the mean over them and the own error decides, that over them is printed."""
    left = [one for one in ranked(tried) if one.number > 0]
    fresh: dict[int, list[float]] = {one.number: [] for one in left}
    spent = seeds = 0
    for count, more in PLANS[budget]:
        left = left[:count]
        for one in left:
            fresh[one.number] += errors_of(one, range(seeds + 1, seeds + more + 1), world)
        seeds += more
        spent += (len(left) + 1) * more
        left.sort(key=lambda one: fmean([one.error, *fresh[one.number]]))
    if not left:
        return judged(0, tried[0].error, tried, spent, world)
    return judged(left[0].number, fmean(fresh[left[0].number]), tried, spent, world)


def errors_of(one: Tried, seeds: Sequence[int], world: World) -> list[float]:
    return [world.curve(one.number, seed)[-1] for seed in seeds]


def by_wilcoxon(budget: int, tried: Sequence[Tried], world: World) -> Outcome:
    """Confirm as Optuna's users do: a trial's steps are seeds, and WilcoxonPruner prunes it against the best so far.

    The first point is the first trial; then come the finalists, the lowest own error first, while trainings are left.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings(category=ExperimentalWarning, action="ignore"):
        pruner = WilcoxonPruner(p_threshold=0.1)
    found = optuna.create_study(pruner=pruner, sampler=RandomSampler(0))
    left, means = trainings(budget), dict[int, float]()
    for one in [tried[0], *(one for one in ranked(tried) if one.number > 0)]:
        trial, errors = found.ask(), list[float]()
        while left and len(errors) < WILCOXON_SEEDS[budget] and not (errors and trial.should_prune()):
            errors += errors_of(one, [len(errors) + 1], world)
            trial.report(errors[-1], len(errors))
            left -= 1
        if not errors:
            break
        is_whole = len(errors) == WILCOXON_SEEDS[budget]
        found.tell(trial, fmean(errors))
        if is_whole:
            means[one.number] = fmean(errors)
    choice = min((number for number in means if number > 0), key=lambda number: means[number], default=0)
    return judged(choice, means[choice], tried, trainings(budget) - left, world)


Key = tuple[int, str]
"""Budget, and what decides: LOWEST, FRESH or WILCOXON."""

LOWEST: Final = "lowest error wins"
FRESH: Final = "confirmed on fresh seeds"
WILCOXON: Final = "confirmed by WilcoxonPruner"
WITH_WILCOXON: Final = 200
"""Searches that are also confirmed so: it is slow."""


def outcomes_of(run: Run, world: World, *, wilcoxon: bool = False) -> dict[Key, Outcome]:
    """All budgets and both ways to choose, on the course of one search."""
    found: dict[Key, Outcome] = {}
    while STEP * run.trained < max(BUDGETS) and run.step():
        at = STEP * run.trained
        for budget in BUDGETS:
            if at == budget:
                found[budget, LOWEST] = by_lowest(run.tried(), world)
            if at == searched(budget):
                ended = run.if_no_more_came()
                found[budget, FRESH] = by_fresh_seeds(budget, ended, world)
                if wilcoxon:
                    found[budget, WILCOXON] = by_wilcoxon(budget, ended, world)
    return found


def outcomes(population: Population, contenders: Mapping[str, Begin], search: int) -> dict[str, dict[Key, Outcome]]:
    """All contenders in one world."""
    world = population.world(search)
    return {
        name: outcomes_of(begin(world), world, wilcoxon=name == SHIPPED and search < WITH_WILCOXON)
        for name, begin in contenders.items()
    }


# The page

HEAD: Final = """| rule | prints | it is | optimism | below the shipped rule's choice by | regret | tried | completed \
| epochs |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def row_of(name: str, ours: Sequence[Outcome], shipped: Sequence[Outcome]) -> str:
    """Return a line of the table; `shipped` has the same worlds."""
    cells = [
        f"{100 * fmean(one.printed for one in ours):.2f}",
        points(mean_of([one.truth for one in ours])),
        points(mean_of([one.truth - one.printed for one in ours])),
        points(mean_of([other.truth - one.truth for one, other in zip(ours, shipped, strict=True)])),
        f"{100 * fmean(one.truth - one.best for one in ours):.2f}",
        f"{fmean(one.tried for one in ours):.0f}",
        f"{fmean(one.completed for one in ours):.0f}",
        f"{fmean(one.epochs for one in ours):,.0f}",
    ]
    return f"| {name} | {' | '.join(cells)} |\n"


Found = Sequence[Mapping[str, Mapping[Key, Outcome]]]
"""A mapping a search's number, from 0."""


def tables(found: Found, budgets: Sequence[int] = BUDGETS) -> str:
    return "".join(table(found, (budget, how)) for budget in budgets for how in (LOWEST, FRESH))


def table(found: Found, key: Key) -> str:
    budget, how = key
    shipped = [one[SHIPPED][key] for one in found]
    text = f"\n### {budget:,} epochs, {how}\n\n{HEAD}"
    for name in found[0]:
        bold = f"**{name}**" if name == SHIPPED else name
        text += row_of(bold, [one[name][key] for one in found], shipped)
    if how == FRESH and (budget, WILCOXON) in found[0][SHIPPED]:
        pruned = [one[SHIPPED][budget, WILCOXON] for one in found[:WITH_WILCOXON]]
        name = f"{SHIPPED}, {WILCOXON} ({len(pruned)} searches)"
        text += row_of(name, pruned, shipped[:WITH_WILCOXON])
    return text


def knowledge(population: Population, worlds: int = 50) -> str:
    """Say how errors at rungs correlate with last errors and with true means."""
    found = []
    for search in range(worlds):
        world = population.world(search)
        curves = np.array([world.curve(number, None) for number in range(TRIALS)]).T
        pairs = [(curves[at - 1], other) for other in (curves[-1], world.truths) for at in (1, 3)]
        found.append([float(np.corrcoef(*pair)[0, 1]) for pair in pairs])
    last_10, last_30, true_10, true_30 = np.mean(found, axis=0)
    return (
        f"The error at 10 and 30 epochs correlates with the last error by {last_10:.2f} and {last_30:.2f}, "
        f"with the true mean by {true_10:.2f} and {true_30:.2f}.\n"
    )


ABOUT: Final = """# Rules of early stopping, judged by the true means of what searches choose

{machine}.
`OMP_NUM_THREADS=1 python benchmarks/stopping.py --searches {searches} --others {others}`

No training: as in [noise.md](noise.md), each search meets configurations of its own from a super-population, and is
judged by their true means. Deviations in points: between configurations {between:.2f}, residual of a training
{residual:.2f}, shared by all trainings of a seed {seed:.2f}. All rules meet the same worlds: random points, the
patent's first, two at a time. A simulated epoch stands for {step}, so no rung is before 10 epochs.

Three super-populations differ in the curves of the search's own trials. As noise.md has it: of 64 trainings of the
table, all of one seed, that which ends near the drawn error. Curves of ten splits: of 360 random trainings
(split_curves.py) instead, less their splits' means. Rungs that know the truth: of the table's trainings that which ends
near the true mean; it bends to the drawn error from epoch 30 on. So luck of the last error is not in the rungs.

- prints: the error that the search shows for its choice, in %. It is: the choice's true mean. Optimism is this less
  what it prints. Regret is this less the lowest true mean that it tried.
- below the shipped rule's choice by: true mean of the shipped rule's choice in the same world less this one's;
  positive is better. ± are 95 % intervals, of each row alone: with so many rows, one in twenty excludes 0 by luck.
- confirmed on fresh seeds: the search ends earlier, and the rest of the epochs trains its best again. At 2,160 epochs
  {plan_short}; at 6,480
  {plan_long}. The first point gets every seed, too.
  The mean over fresh seeds and the own error decides; that over fresh seeds is printed.
- tried, completed: configurations.
- promotion: a configuration pauses at its rung and costs nothing; a free worker promotes one that is among the best
  floor(n / factor) of the highest such rung, and starts a new one if there is none (Li et al. 2020).
- interval: ASHA's decision to stop holds only if the regression of last errors on the rung's, over the search's own
  completed trials, puts the trial beyond one at the cutoff by so many deviations. Before five have completed, none is
  stopped. ASHA's rungs are 10 and 30, its factor 3.
- extrapolating: the same regression at every 10 epochs; a trial is stopped if the probability to end below the n-th
  best completed one is under the level.
- median: above the median of all errors so far at 10, 20, ... epochs, of at least five.
- WilcoxonPruner: as its users have it, the steps of a trial are seeds. A finalist is pruned once a signed-rank test
  over the seeds that it shares with the best puts it behind (p < 0.1).
"""

FINDINGS: Final = "\n## What follows\n"
"""From here on the page is written by hand and kept."""


def plan_of(budget: int) -> str:
    return ", then ".join(f"{count} get {seeds}" for count, seeds in PLANS[budget])


def about(searches: int, others: int) -> str:
    return ABOUT.format(
        machine=machine(),
        searches=searches,
        others=others,
        between=100 * NOISE.between,
        residual=100 * NOISE.residual,
        seed=100 * NOISE.seed,
        step=STEP,
        plan_short=plan_of(2160),
        plan_long=plan_of(6480),
    )


def write(file: Path, text: str) -> None:
    """Write the page; keep what was written by hand at its end."""
    kept = file.read_text().partition(FINDINGS)[2] if file.exists() else ""
    file.write_text(text + (FINDINGS + kept if kept else ""))


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the page: contenders in the same worlds."""

    title: str
    population: Population
    contenders: Mapping[str, Begin]
    worlds: range

    def text(self) -> str:
        found = [outcomes(self.population, self.contenders, search) for search in self.worlds]
        return f"\n## {self.title} ({len(self.worlds):,} searches)\n\n{knowledge(self.population)}{tables(found)}"


def parts(searches: int, others: int) -> Iterator[Part]:
    all_populations = populations()
    first = next(iter(all_populations))
    yield Part("All rules", all_populations[first], CONTENDERS, range(searches))
    for name, population in all_populations.items():
        worlds = range(FRESH_WORLDS, FRESH_WORLDS + (searches if name == first else others))
        yield Part(f"The best of them, fresh worlds: {name}", population, AGAIN, worlds)


FRESH_WORLDS: Final = 10_000
"""The number of the first one."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=1000, help="in the super-population of noise.md")
    parser.add_argument("--others", type=int, default=500, help="in each other one")
    asked = parser.parse_args()
    text = about(asked.searches, asked.others)
    for part in parts(asked.searches, asked.others):
        began = time.perf_counter()
        text += part.text()
        print(f"{part.title}: {time.perf_counter() - began:,.0f} s", flush=True)
    print(text)
    write(Path(__file__).with_suffix(".md"), text)


if __name__ == "__main__":
    main()
