"""What benchmarks/stopping.py and benchmarks/sampling.py judge with."""

import numpy as np
import pytest
import stopping
from make_table import PATENT
from sampling import Landscape, fitted, place_of
from sampling import Surface as SurfaceOf
from simulate import EPOCHS, NOISE, STEP, TABLE, TRIALS, World, population_of, read_table
from stopping import PLANS, Promoting, Tried, by_fresh_seeds, by_lowest, searched, trainings
from stopping_replay import replayed
from stopping_rules import Brackets, Completed, Extrapolating, Margin, Sums

from plgan_tune.records import Report, Verdict
from plgan_tune.study.halving import Halving, NeverStop


@pytest.fixture(scope="module")
def world() -> World:
    return population_of(read_table(TABLE / "curves.parquet"), "noise").world(0)


def report(trial: int, epoch: int, error: float) -> Report:
    return Report(0, f"t{trial:04d}", 1, epoch, error)


def test_a_line_is_that_of_least_squares() -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(0.3, 0.05, 12)
    y = 0.1 + 0.4 * x + draw.normal(0, 0.01, 12)
    sums = Sums()
    for pair in zip(x, y, strict=True):
        sums.add(*map(float, pair))
    line = sums.line()
    assert line is not None
    (slope, start), left, *_ = np.polyfit(x, y, 1, full=True)
    assert (line.slope, line.start) == pytest.approx((slope, start))
    assert line.deviation == pytest.approx(float(np.sqrt(left[0] / 10)))


def test_the_chance_to_end_below_is_one_half_on_the_line_and_falls_with_the_error() -> None:
    sums = Sums()
    for x, y in ((0.2, 0.1), (0.3, 0.16), (0.4, 0.19), (0.5, 0.26), (0.6, 0.29)):
        sums.add(x, y)
    line = sums.line()
    assert line is not None
    assert line.chance_below(line.at(0.35), 0.35) == pytest.approx(0.5)
    chances = [line.chance_below(0.1, error) for error in (0.2, 0.3, 0.4, 0.6)]
    assert chances == sorted(chances, reverse=True)


def complete(rule: Margin | Extrapolating, first: int, count: int) -> None:
    for trial in range(first, first + count):
        rule.report(report(trial, 1, 0.2 + 0.01 * trial), {})
        rule.completed(f"t{trial:04d}", 0.1 + 0.005 * trial + 0.001 * (trial % 2))


@pytest.mark.parametrize(
    "rule", [Margin(Halving((1,), 2, min_competitors=1), 0.5), Extrapolating(0.1, 1)], ids=["interval", "extrapolating"]
)
def test_a_rule_that_learns_stops_none_before_five_have_completed(rule: Margin | Extrapolating) -> None:
    complete(rule, 0, 4)
    hopeless = rule.report(report(90, 1, 0.9), {})
    assert hopeless is None or hopeless.verdict is Verdict.CONTINUE
    complete(rule, 4, 1)
    hopeless = rule.report(report(91, 1, 0.9), {})
    assert hopeless is not None
    assert hopeless.verdict is Verdict.STOP


def test_an_interval_spares_a_trial_that_is_barely_behind() -> None:
    rule = Margin(Halving((1,), 2, min_competitors=1), 1.0)
    complete(rule, 0, 6)
    barely = rule.report(report(90, 1, 0.2301), {})
    assert barely is not None
    assert barely.verdict is Verdict.CONTINUE


def test_a_trial_stays_in_its_bracket() -> None:
    rule = Brackets(((1,), ()), 2)
    for trial, error in enumerate((0.1, 0.9, 0.1, 0.9, 0.1, 0.9)):
        decision = rule.report(report(trial, 1, error), {})
        assert (decision is None) == (trial % 2 == 1)  # the second bracket has no rung


def test_promotion_trains_on_from_the_rung_and_pays_nothing_for_the_paused(world: World) -> None:
    run = Promoting(world, (1, 3), 3)
    before: list[Tried] = []
    while run.trained < 300:
        run.step()
        tried = run.tried()
        assert sum(one.epochs for one in tried) == run.trained
        assert all(now.epochs >= then.epochs for then, now in zip(before, tried, strict=False))
        before = tried
    pauses = {one.epochs for one in run.if_no_more_came()}
    assert pauses == {1, 3, EPOCHS // STEP}
    reached = [sum(one.epochs >= rung for one in before) for rung in (1, 3, EPOCHS // STEP)]
    assert reached[0] > 2 * reached[1] > 4 * reached[2] > 0


def test_promotion_takes_the_best_of_a_rung(world: World) -> None:
    run = Promoting(world, (1,), 3)
    while run.trained < 200:
        run.step()
    early = {one.number: world.curve(one.number, None)[0] for one in run.tried()}
    promoted = [early[one.number] for one in run.tried() if one.epochs > 1]
    assert np.mean(promoted) < np.quantile(list(early.values()), 0.4)


@pytest.mark.parametrize("budget", PLANS)
def test_confirming_takes_its_trainings_and_no_more(budget: int, world: World) -> None:
    whole = [Tried(number, EPOCHS // STEP, world.curve(number, None)[-1]) for number in range(40)]
    outcome = by_fresh_seeds(budget, whole, world)
    assert outcome.epochs == EPOCHS * (40 + trainings(budget))
    assert searched(budget) + EPOCHS * (trainings(budget) + 1) == budget


def test_the_lowest_is_of_those_that_completed(world: World) -> None:
    tried = [Tried(0, 6, 0.2), Tried(1, 3, 0.1), Tried(2, 6, 0.15)]
    assert by_lowest(tried, world).truth == world.truths[2]


def test_completed_trials_are_known_by_their_epochs() -> None:
    known = Completed(least=2)
    for trial in (1, 2, 3):
        for epoch in (1, 2):
            known.add(report(trial, epoch, 0.1 * trial * epoch))
        known.end(f"t{trial:04d}", 0.01 * trial**2)
    first, second = known.line(1), known.line(2)
    assert first is not None
    assert second is not None
    assert (first.middle, second.middle) == pytest.approx((0.2, 0.4))
    assert known.lasts == pytest.approx([0.01, 0.04, 0.09])


def test_true_means_of_a_landscape_are_of_their_points() -> None:
    draw = np.random.default_rng(0)
    places = draw.random((60, len(PATENT)))
    process = fitted(places, 0.03 * places[:, 3])
    surface = SurfaceOf(process, explained=0.5, share=0.6, middle=0.0, deviation=0.01)
    table = population_of(read_table(TABLE / "curves.parquet"), "noise")
    population = Landscape(NOISE, table.curves, fitted=False, surface=surface)
    lands = [population.land(7), population.land(7)]
    for land in lands:
        land.settle(0, PATENT)
        land.settle(1, PATENT)
    assert lands[0].truths[:2].tolist() == lands[1].truths[:2].tolist()
    assert lands[0].curve(1, 3) == lands[1].curve(1, 3)
    assert np.isnan(lands[0].truths[2:]).sum() == TRIALS - 2
    assert place_of(PATENT).shape == (len(PATENT),)


def test_every_contender_runs(world: World) -> None:
    for begin in stopping.CONTENDERS.values():
        run = begin(world)
        for _ in range(60):
            run.step()
        assert run.trained == 60


def test_a_replay_without_a_rule_trains_as_many_as_the_budget_holds() -> None:
    curves = np.linspace(0.5, 0.1, 5)[:, None] * np.ones(EPOCHS)
    assert replayed(curves, range(5), NeverStop(), 4 * EPOCHS) == [3, 2, 1, 0]
    assert replayed(curves, range(5), NeverStop(), 10 * EPOCHS) == [4, 3, 2, 1, 0]


def test_a_replay_stops_whom_the_rule_stops() -> None:
    curves = np.array([0.1, 0.2, 0.3, 0.4])[:, None] * np.ones(EPOCHS)
    assert replayed(curves, range(4), Halving((10,), 2), 10 * EPOCHS) == [0]
    assert replayed(curves, (3, 2, 1, 0), Halving((10,), 2), 10 * EPOCHS) == [0, 1, 2, 3]  # each the best so far
