"""Successive halving against its definition written out, and the ways in which stock implementations go wrong."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.config.metrics import METRICS, VAL_ERROR
from plgan_tune.records import DecisionRow, Report, Verdict
from plgan_tune.study.front import places
from plgan_tune.study.halving import Halving, by_fronts


def decide(halving: Halving, trial_id: str, epoch: int, error: float, start: int = 0) -> DecisionRow | None:
    """The decision on an epoch of a trial whose rungs count from `start`, its point."""
    return halving.report(Report(0, trial_id, 1, epoch, error), {"start": start})


def from_the_point(point: Mapping[str, Any]) -> int:
    return int(point["start"])


def stopped(judgement: DecisionRow | None) -> bool:
    assert judgement is not None
    return judgement.verdict is Verdict.STOP


def test_the_best_third_goes_on() -> None:
    halving = Halving((5,), 3)
    verdicts = [stopped(decide(halving, f"t{number}", 5, error)) for number, error in enumerate([0.5, 0.4, 0.6, 0.3])]
    # 1 of 1 goes on, 1 of 2, 1 of 3, 2 of 4.
    assert verdicts == [False, False, True, False]


def test_what_a_judgement_says() -> None:
    halving = Halving((5,), 3, min_competitors=3)
    first, _, third = (decide(halving, f"t{number}", 5, error) for number, error in enumerate([0.5, 0.4, 0.6]))
    assert first == DecisionRow(0, "t0", 1, 5, 5, 0.5, None, 1, Verdict.CONTINUE, "fewer than 3 values")
    assert third == DecisionRow(0, "t2", 1, 5, 5, 0.6, 0.4, 3, Verdict.STOP, "place 3 of 3, of which 1 continue")


def test_a_late_value_never_fills_an_early_rung() -> None:
    """Ray's ASHA files a trial that resumes at epoch 41 into its empty rungs, and the next fresh trial is stopped."""
    halving = Halving((5, 20), 3)
    assert decide(halving, "resumed", 41, 0.01) is None
    assert not stopped(decide(halving, "fresh", 5, 0.5))


def test_equal_values_all_go_on() -> None:
    halving = Halving((5,), 3)
    assert not any(stopped(decide(halving, f"t{number}", 5, 0.25)) for number in range(9))


def test_an_epoch_that_is_repeated_is_judged_once() -> None:
    halving = Halving((2, 4), 2)
    first = [decide(halving, "a", epoch, 0.5) for epoch in (1, 2, 3)]
    again = [decide(halving, "a", epoch, 0.5) for epoch in (2, 3, 4)]
    assert [judgement is not None for judgement in first + again] == [False, True, False, False, False, True]
    second = decide(halving, "b", 2, 0.4)
    assert second is not None
    assert second.competitors == 2


def test_smoothing_is_the_mean_of_the_last_epochs() -> None:
    halving = Halving((4,), 2, smoothing=3)
    for epoch, error in enumerate([0.9, 0.3, 0.4], start=1):
        decide(halving, "a", epoch, error)
    judgement = decide(halving, "a", 4, 0.5)
    assert judgement is not None
    assert judgement.value == fmean([0.3, 0.4, 0.5])


def test_smoothing_leaves_out_the_phase_before_a_trials_own_start() -> None:
    """Errors of before the switch epoch are of another loss."""
    halving = Halving((2,), 2, smoothing=3, start_of=from_the_point)
    judgements = [decide(halving, "t0", epoch, error, start=2) for epoch, error in enumerate([0.9, 0.9, 0.5, 0.3], 1)]
    assert judgements[:3] == [None] * 3
    assert judgements[3] is not None
    assert judgements[3].value == pytest.approx(0.4)


def test_smoothing_forgets_epochs_that_an_attempt_repeats() -> None:
    halving = Halving((4,), 2, smoothing=3)
    for epoch, error in [(1, 0.9), (2, 0.3), (3, 0.8), (2, 0.3), (3, 0.4)]:
        decide(halving, "a", epoch, error)
    judgement = decide(halving, "a", 4, 0.5)
    assert judgement is not None
    assert judgement.value == fmean([0.3, 0.4, 0.5])


def test_rungs_may_count_from_a_trials_own_start() -> None:
    halving = Halving((2,), 2, start_of=from_the_point)
    assert decide(halving, "early", 2, 0.9, start=7) is None
    first, second = decide(halving, "early", 9, 0.5, start=7), decide(halving, "late", 32, 0.6, start=30)
    assert first is not None
    assert second is not None
    assert (first.rung, second.rung, second.competitors) == (2, 2, 2)
    assert stopped(second)


@st.composite
def arrivals(draw: st.DrawFn) -> list[Report]:
    """Curves of several trials, interleaved at will; an attempt may fall back and repeat epochs."""
    names = [f"t{number}" for number in range(draw(st.integers(1, 8)))]
    at = dict.fromkeys(names, 0)
    reports: list[Report] = []
    for name in draw(st.lists(st.sampled_from(names), max_size=60)):
        at[name] = draw(st.integers(max(1, at[name] - 2), at[name] + 1))
        error = draw(st.integers(0, 20)) / 20
        reports.append(Report(len(reports), name, 1, at[name], error))
    return reports


@given(arrivals(), st.integers(2, 4), st.integers(1, 4))
def test_every_judgement_is_the_definition(reports: list[Report], factor: int, least: int) -> None:
    """Of the values that trials reported at a rung, the first of each, the best ceil(n / factor) go on."""
    rungs = (1, 3, 9)
    halving = Halving(rungs, factor, least)
    seen: dict[int, dict[str, float]] = defaultdict(dict)
    for report in reports:
        judgement = halving.report(report, {})
        values = seen[report.epoch]
        if report.epoch not in rungs or report.trial_id in values:
            assert judgement is None
            continue
        values[report.trial_id] = report.value
        better = sum(value < report.value for value in values.values())
        goes_on = len(values) < least or better < math.ceil(len(values) / factor)
        assert judgement is not None
        assert judgement.competitors == len(values)
        assert judgement.verdict is (Verdict.CONTINUE if goes_on else Verdict.STOP)


COVERAGE = METRICS["val_coverage"]


def with_second(reports: list[Report], others: list[int]) -> list[Report]:
    """The reports with values of a second metric, of which the higher is the better."""
    return [
        replace(report, second=others[number % len(others)] / 20 if others else 0.5)
        for number, report in enumerate(reports)
    ]


@given(arrivals(), st.lists(st.integers(0, 20), max_size=60), st.integers(2, 4), st.integers(1, 4), st.integers(1, 3))
def test_every_judgement_by_both_is_the_definition(
    reports: list[Report], others: list[int], factor: int, least: int, smoothing: int
) -> None:
    """The best ceil(n / factor) places go on, front by front; smoothing is a mean of each metric."""
    halving = Halving((1, 3, 9), factor, least, smoothing, metric=VAL_ERROR, second=COVERAGE, judge=by_fronts)
    seen: dict[int, dict[str, tuple[float, float]]] = defaultdict(dict)
    curves: dict[str, dict[int, Report]] = defaultdict(dict)
    for report in with_second(reports, others):
        curve = curves[report.trial_id]
        for later in [epoch for epoch in curve if epoch >= report.epoch]:
            del curve[later]
        curve[report.epoch] = report
        judgement = halving.report(report, {})
        if judgement is None:
            continue
        last = [curve[epoch] for epoch in sorted(curve)][-smoothing:]
        costs = seen[report.epoch]
        costs[report.trial_id] = (fmean(one.value for one in last), fmean(-(one.second or 0.0) for one in last))
        place = dict(zip(costs, places(list(costs.values())), strict=True))[report.trial_id]
        goes_on = math.ceil(len(costs) / factor)
        assert judgement.value == costs[report.trial_id][0]
        assert judgement.cutoff is None
        if len(costs) >= least:
            assert judgement.verdict is (Verdict.CONTINUE if place.number <= goes_on else Verdict.STOP)
            words = f"front {place.front}, place {place.number} of {len(costs)}, of which {goes_on} continue"
            assert judgement.reason == words


@given(arrivals(), st.integers(2, 4), st.integers(1, 4))
def test_by_fronts_of_one_metric_is_by_that_metric(reports: list[Report], factor: int, least: int) -> None:
    """Decision by decision: a front of one cost is a value, and equal values all go on."""
    by_one, by_front = Halving((1, 3, 9), factor, least), Halving((1, 3, 9), factor, least, judge=by_fronts)
    for report in reports:
        one, other = by_one.report(report, {}), by_front.report(report, {})
        assert (one and one.verdict) == (other and other.verdict)
        assert (one and one.value) == (other and other.value)
        if one is not None and other is not None:
            assert other.reason in (one.reason, f"front {other.reason[6:].partition(',')[0]}, {one.reason}")


@given(arrivals(), st.lists(st.integers(0, 20), max_size=60))
def test_by_the_first_does_not_look_at_the_second(reports: list[Report], others: list[int]) -> None:
    alone, with_other = Halving((1, 3, 9), 3), Halving((1, 3, 9), 3, second=COVERAGE)
    for one, other in zip(reports, with_second(reports, others), strict=True):
        assert alone.report(one, {}) == with_other.report(other, {})


@given(arrivals(), st.integers(0, 60))
def test_a_replay_of_the_first_reports_leaves_the_rule_where_it_stood(reports: list[Report], cut: int) -> None:
    def judged(halving: Halving, part: list[Report]) -> list[DecisionRow | None]:
        return [halving.report(report, {}) for report in part]

    straight = judged(Halving((1, 3, 9), 3, 2, smoothing=2), reports)
    resumed = Halving((1, 3, 9), 3, 2, smoothing=2)
    judged(resumed, reports[:cut])
    assert judged(resumed, reports[cut:]) == straight[cut:]


@pytest.mark.parametrize("rungs", [(), (100,)])
def test_without_a_rung_nobody_is_judged(rungs: tuple[int, ...]) -> None:
    halving = Halving(rungs, 3)
    assert [decide(halving, "a", epoch, 0.5) for epoch in range(1, 50)] == [None] * 49
