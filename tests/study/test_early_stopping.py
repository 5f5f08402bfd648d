"""A study's rule of early stopping, live and as a resume finds it again in the log."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from optuna.trial import TrialState

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import DecisionRow, EpochRow, TrialStatus, Verdict
from plgan_tune.store.read import reports as reports_of
from plgan_tune.store.schemas import epochs_table
from plgan_tune.study.early_stopping import build_rule, left_behind, replayed
from plgan_tune.study.history import History, brought_to_date
from plgan_tune.study.protocols import Rule
from plgan_tune.tuning.sampler import OptunaSampler
from tests.factories import START, make_epoch, make_metrics, make_trial

EPOCHS = 6
POINT = {"loss.alpha": 0.5, "loss.switch_epoch": 3}


def study(**asha: Any) -> StudySpec:
    return study_stopped_by({"asha": {"grace_period": 1, **asha}})


def study_stopped_by(rule: Any) -> StudySpec:
    return study_from_mapping(
        {
            "study": "test",
            "search": {"early_stopping": rule},
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 100},
                "loss": {"alpha": {"uniform": [0, 1]}, "switch_epoch": {"int": [1, 5]}},
                "training": {"epochs": EPOCHS},
            },
        }
    )


def reports() -> Iterator[tuple[str, int, float]]:
    """Nine trials side by side, the later the worse; those that were stopped would report no more."""
    for epoch in range(1, EPOCHS + 1):
        for number in range(9):
            yield f"t{number}", epoch, 0.5 + number / 100 - epoch / 1000


def live(spec: StudySpec) -> tuple[list[EpochRow], list[DecisionRow], set[str]]:
    """What a search logs of these reports, and whom it stopped."""
    rule = build_rule(spec)
    epochs: list[EpochRow] = []
    decisions: list[DecisionRow] = []
    stopped: set[str] = set()
    for trial_id, epoch, error in reports():
        if trial_id in stopped:
            continue
        epochs.append(make_epoch(len(epochs), trial_id, epoch, error))
        decision = None if epoch == EPOCHS else rule.report(epochs[-1].report(), POINT)
        if decision is not None:
            decisions.append(decision)
            if decision.verdict is Verdict.STOP:
                stopped.add(trial_id)
    return epochs, decisions, stopped


@pytest.mark.parametrize("asha", [{}, {"reduction_factor": 2, "smoothing": 2}, {"align": "switch"}])
def test_the_log_implies_what_was_decided(asha: dict[str, Any]) -> None:
    spec = study(**asha)
    epochs, decisions, stopped = live(spec)
    assert stopped == {row.trial_id for row in decisions if row.verdict is Verdict.STOP}
    assert stopped
    points = dict.fromkeys({row.trial_id for row in epochs}, POINT)
    assert list(replayed([row.report() for row in epochs], build_rule(spec), points, EPOCHS)) == decisions


def test_a_log_that_another_rule_decided_is_noticed() -> None:
    spec = study()
    epochs, decisions, _ = live(spec)
    trials = tuple(make_trial(number, params=POINT) for number in range(9))
    latest = {row.trial_id: row for row in epochs}
    known = History(trials, tuple(row.report() for row in epochs), latest, decisions=tuple(decisions))
    assert left_behind(known, spec, build_rule(spec)).disagreement is None
    assert left_behind(known, spec, build_rule(study_stopped_by("none"))).disagreement == decisions[0]
    assert left_behind(known, spec, build_rule(study(reduction_factor=9))).disagreement in decisions
    later = replace(known, rule_since=epochs[-1].seq + 1)
    assert left_behind(later, spec, build_rule(study(reduction_factor=9))).disagreement is None


def test_rungs_count_from_the_switch_where_they_are_aligned_to_it() -> None:
    _, decisions, _ = live(study(align="switch"))
    assert {(row.epoch, row.rung) for row in decisions} == {(4, 1)}
    _, decisions, _ = live(study())
    assert {(row.epoch, row.rung) for row in decisions} == {(1, 1), (3, 3)}


def test_without_early_stopping_nobody_is_judged() -> None:
    epochs, decisions, stopped = live(study_stopped_by("none"))
    assert (decisions, stopped) == ([], set())
    assert len(epochs) == 9 * EPOCHS


def test_trials_that_their_driver_did_not_live_to_end_are_ended() -> None:
    """t0 was to be stopped, t1 had trained its last epoch, t2 was under way, t3 had begun, t4 had ended."""
    epochs = (
        make_epoch(0, "t0", 1, 0.9),
        make_epoch(1, "t1", EPOCHS, 0.1),
        make_epoch(2, "t2", 2, 0.2),
        make_epoch(3, "t4", 1, 0.8),
    )
    trials = (*(make_trial(number, params=POINT) for number in range(4)), make_trial(4, TrialStatus.DIVERGED))
    stop = DecisionRow(0, "t0", 1, 1, 1, 0.9, 0.5, 3, Verdict.STOP, "place 3 of 3")
    known = History(trials, tuple(row.report() for row in epochs), {row.trial_id: row for row in epochs})
    now = brought_to_date(known, study(), [stop])
    statuses = [row.status.value for row in now.trials]
    assert statuses == ["stopped", "completed", "running", "running", "diverged"]
    assert [row.ended_at for row in now.trials[:2]] == [START, START + timedelta(seconds=1)]
    assert now.trials[2:] == trials[2:]


def test_a_trial_that_is_no_longer_searched_is_ended_and_not_told_to_the_sampler() -> None:
    spec = study()
    inside = make_trial(0, params=POINT)
    outside = make_trial(1, params={**POINT, "loss.alpha": 1.5})
    now = brought_to_date(History((inside, outside)), spec, [])
    assert [row.status.value for row in now.trials] == ["running", "stopped"]
    assert now.trials[1].error == "its point is outside the study's current domains"
    assert len(OptunaSampler(spec, now).study.get_trials(states=[TrialState.PRUNED])) == 0
    assert len(OptunaSampler(spec, History((replace(inside, status=TrialStatus.STOPPED),))).study.trials) == 1


def two_objectives(**asha: Any) -> StudySpec:
    mapping = study(**asha).as_mapping()
    search = {**mapping["search"], "metric": ["val_error", "val_distance"], "mode": None}
    return study_from_mapping({**mapping, "search": search})


def course_of_two(number: int, epoch: int) -> tuple[float, float]:
    """Error and distance of a trial: the better the one, the worse the other, but for some that are bad at both."""
    bad = 0.3 * (number % 3 == 2)
    return 0.2 + number / 40 + bad - epoch / 1000, 90.0 - 5 * number + 100 * bad + (number * epoch) % 3


def logged_by(rule: Rule, trials: int = 12) -> tuple[list[EpochRow], list[DecisionRow]]:
    """What a search by two metrics logs."""
    epochs: list[EpochRow] = []
    decisions: list[DecisionRow] = []
    stopped: set[str] = set()
    for epoch in range(1, EPOCHS):
        for number in range(trials):
            error, distance = course_of_two(number, epoch)
            metrics = make_metrics(epoch, error, val_distance=distance)
            if (name := f"t{number}") not in stopped:
                epochs.append(EpochRow(len(epochs), name, 1, metrics, START))
                decision = rule.report(epochs[-1].report("val_error", "val_distance"), POINT)
                decisions += [] if decision is None else [decision]
                stopped |= {name} if decision is not None and decision.verdict is Verdict.STOP else set()
    return epochs, decisions


@pytest.mark.parametrize("asha", [{}, {"smoothing": 2}, {"align": "switch"}, {"controls": 0.5}])
def test_a_killed_search_by_two_metrics_finds_its_decisions_in_the_log(asha: dict[str, Any]) -> None:
    """All of them, at whatever row it was killed, and those that it had not written yet."""
    spec = two_objectives(objectives="all", **asha)
    epochs, decisions = logged_by(build_rule(spec))
    assert {row.verdict for row in decisions} > {Verdict.CONTINUE}
    assert {row.cutoff for row in decisions} == {None}
    assert any(row.reason.startswith("front 2, place ") for row in decisions)
    trials = tuple(make_trial(number, params=POINT) for number in range(12))
    for cut in range(0, len(epochs) + 1, 5):
        table = epochs_table(epochs[:cut])
        read = tuple(reports_of(table, *spec.metric_names))
        assert list(read) == [row.report(*spec.metric_names) for row in epochs[:cut]]
        written = [row for row in decisions if row.seq < cut - 3]
        latest = {row.trial_id: row for row in epochs[:cut]}
        left = left_behind(History(trials, read, latest, decisions=tuple(written)), spec, rule := build_rule(spec))
        assert left.disagreement is None
        assert [*written, *left.decisions] == [row for row in decisions if row.seq < cut]
        on = [rule.report(row.report(*spec.metric_names), POINT) for row in epochs[cut:]]
        assert [row for row in on if row is not None] == [row for row in decisions if row.seq >= cut]


def test_by_the_first_of_two_metrics_is_as_by_it_alone_and_by_both_is_not() -> None:
    _, alone = logged_by(build_rule(study()))
    _, by_first = logged_by(build_rule(two_objectives()))
    _, by_both = logged_by(build_rule(two_objectives(objectives="all")))
    assert by_first == alone == logged_by(build_rule(study(objectives="all")))[1]
    assert [row.verdict for row in by_both] != [row.verdict for row in by_first]
