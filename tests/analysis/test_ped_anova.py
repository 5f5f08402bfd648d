"""PED-ANOVA on cells is Optuna's on trials."""

from collections.abc import Sequence

import numpy as np
import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import create_trial

from plgan_tune.analysis.ped_anova import CELLS, Grid, divergence, good
from plgan_tune.config.domains import Choice, Domain, Int, LogInt, LogUniform, Scalar, Uniform
from plgan_tune.config.study import encode
from plgan_tune.tuning.distributions import distributions, to_optuna

DOMAINS: list[Domain] = [
    Uniform(-1.0, 3.0),
    LogUniform(1e-5, 1e-2),
    Int(0, 6),
    Int(-100, 200),
    LogInt(1, 6),
    LogInt(3, 5000),
    Choice(("auto", None, [1, 2], 0.5)),
    Choice((True,)),
    Uniform(0.5, 0.5),
    LogUniform(0.1, 0.1),
    Int(4, 4),
    LogInt(4, 4),
    Uniform(-1.0, 3.0, 0.25),
    Uniform(0.0, 1.0, 0.01),
    Int(10, 100, 5),
    Int(0, 300, 3),
    Choice(([8], [8, 4], "deep"), ordered=True),
]


def drawn(domain: Domain, trials: int, draw: np.random.Generator) -> Sequence[Scalar]:
    match domain:
        case Uniform(low, high, float() as step):
            places = draw.integers(round((high - low) / step), size=trials, endpoint=True)
            return [domain.nth(int(place)) for place in places]
        case Uniform(low, high):
            return list(map(float, draw.uniform(low, high, trials)))
        case LogUniform(low, high):
            return [float(value) for value in np.exp(draw.uniform(np.log(low), np.log(high), trials)).clip(low, high)]
        case Int(low, high, step):
            places = draw.integers((high - low) // step, size=trials, endpoint=True)
            return [domain.nth(int(place)) for place in places]
        case LogInt(low, high):
            return list(map(int, draw.integers(low, high, trials, endpoint=True)))
        case Choice(options):
            return [encode(domain, options[place]) for place in draw.integers(len(options), size=trials)]


def test_an_option_that_equals_another_has_its_own_cell() -> None:
    """Optuna takes True for 1."""
    assert Grid.of(Choice((True, 1, None))).places([1, None, True]).tolist() == [1, 2, 0]


@pytest.mark.filterwarnings(
    "ignore:The number of trials is too small",
    "ignore:Target and region quantiles",
    "ignore:Some regimes",
    "ignore:.*logging",
)
@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@settings(max_examples=20)
@given(trials=st.integers(2, 200), ties=st.sampled_from([1, 4, 1000]), seed=st.integers(0, 2**32 - 1))
@example(trials=11, ties=1000, seed=0)
def test_a_divergence_is_optunas(domain: Domain, trials: int, ties: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = drawn(domain, trials, draw)
    errors = draw.integers(ties, size=trials) / ties
    study = optuna.create_study()
    space = distributions({"key": domain})
    for value, error in zip(values, errors.tolist(), strict=True):
        params = to_optuna({"key": domain}, {"key": value})
        study.add_trial(create_trial(params=params, distributions=space, value=error))
    grid = Grid.of(domain)
    places, best = grid.places(values), good(errors)
    density = grid.density(grid.counts(places))
    assert density.shape == (grid.size,)
    assert grid.size <= CELLS
    assert density.sum() == pytest.approx(1)
    # Optuna's weighs by the share of good trials, which is the same for every key.
    ours = float(divergence(grid.density(grid.counts(places[best])), density)) * best.mean() ** 2
    assert ours == pytest.approx(PedAnovaImportanceEvaluator().evaluate(study)["key"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
@given(trials=st.integers(1, 60), samples=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_many_samples_at_once_are_each_by_itself(domain: Domain, trials: int, samples: int, seed: int) -> None:
    grid, draw = Grid.of(domain), np.random.default_rng(seed)
    counts = np.stack([grid.counts(grid.places(drawn(domain, trials, draw))) for _ in range(samples)])
    densities = grid.density(counts)
    np.testing.assert_allclose(densities, [grid.density(one) for one in counts], rtol=1e-12)
    by_itself = [divergence(one, densities[0]) for one in densities]
    np.testing.assert_allclose(divergence(densities, densities[0]), by_itself, rtol=1e-9, atol=1e-15)
