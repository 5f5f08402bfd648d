"""SMAC3 in the worlds of sampling.py: trainings to their last epochs, and each configuration raced over seeds.

    pip install smac                                    # in an environment of its own: nothing else here needs it
    OMP_NUM_THREADS=1 python benchmarks/with_smac.py [--searches 30]

SMAC chooses by means over seeds as it goes, so there is nothing to confirm: what it has after all epochs is judged.
Prints its rows; none is in sampling.md yet, for a search takes a minute. A seed of SMAC's is a replicate of a
configuration; all configurations share them.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ConfigSpace import Configuration, ConfigurationSpace, Float, Integer  # type: ignore[import-not-found]
from make_table import PATENT
from make_table import study as table_study
from sampling import CONTENDERS, Land, begin, landscape
from simulate import BUDGETS, EPOCHS
from smac import HyperparameterOptimizationFacade, Scenario  # type: ignore[import-not-found]
from smac.runhistory import TrialValue  # type: ignore[import-not-found]
from stopping import HEAD, LAST, LOWEST, SHIPPED, Outcome, Tried, judged, outcomes_of, row_of

from plgan_tune.config.domains import Int, LogUniform, Uniform

NAME: Final = "SMAC3, whole trainings, at most 3 seeds each"


def space() -> ConfigurationSpace:
    found = ConfigurationSpace()
    for path, domain in table_study().domains.items():
        assert isinstance(domain, Uniform | LogUniform | Int)
        kind = Integer if isinstance(domain, Int) else Float
        found.add(kind(path, (domain.low, domain.high), log=isinstance(domain, LogUniform)))
    return found


def outcomes_of_smac(land: Land, search: int) -> dict[int, Outcome]:
    """Its choice at each budget, on the course of one search."""
    domains, found = space(), dict[int, Outcome]()
    numbers: dict[Configuration, int] = {}
    replicates: dict[int, int | None] = {}
    tried: list[Tried] = []
    with TemporaryDirectory() as folder:
        scenario = Scenario(domains, n_trials=max(BUDGETS) // EPOCHS, seed=search, output_directory=Path(folder))
        smac = HyperparameterOptimizationFacade(
            scenario,
            lambda config, seed: 0.0,  # noqa: ARG005 - asked and told
            initial_design=HyperparameterOptimizationFacade.get_initial_design(
                scenario, additional_configs=[Configuration(domains, dict(PATENT))]
            ),
            logging_level=False,
        )
        for count in range(1, scenario.n_trials + 1):
            asked = smac.ask()
            if asked.config not in numbers:
                numbers[asked.config] = len(numbers)
                land.settle(numbers[asked.config], point_of(asked.config))
                tried.append(Tried(numbers[asked.config], LAST, 0.0))
            replicate = replicates.setdefault(asked.seed, len(replicates) or None)
            smac.tell(asked, TrialValue(cost=land.curve(numbers[asked.config], replicate)[-1]))
            if count * EPOCHS in BUDGETS:
                best = smac.intensifier.get_incumbent()
                again = count - len(tried)
                found[count * EPOCHS] = judged(numbers[best], smac.runhistory.get_cost(best), tried, again, land)
    return found


def point_of(config: Mapping[str, Any]) -> dict[str, Any]:
    return {path: config[path] for path in table_study().domains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--searches", type=int, default=30)
    asked = parser.parse_args()
    population, began = landscape(), time.perf_counter()
    shipped, ours = [], []
    for search in range(asked.searches):
        land = population.land(search)
        shipped.append(outcomes_of(begin(CONTENDERS[SHIPPED], land, search), land))
        ours.append(outcomes_of_smac(population.land(search), search))
    for budget in BUDGETS:
        theirs = [one[budget, LOWEST] for one in shipped]
        print(f"\n## {budget:,} epochs\n\n{HEAD}{row_of(NAME, [one[budget] for one in ours], theirs)}")
    print(f"{asked.searches} searches, {time.perf_counter() - began:,.0f} s")


if __name__ == "__main__":
    main()
