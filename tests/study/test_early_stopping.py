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
from plgan_tune.study.early_stopping import build_rule, left_behind, replayed
from plgan_tune.study.history import History, brought_to_date
from plgan_tune.tuning.sampler import OptunaSampler
from tests.factories import START, make_epoch, make_trial

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
