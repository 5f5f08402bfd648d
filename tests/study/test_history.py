"""What a log says of a study that ended at a bad moment, and what a resume refuses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import DecisionRow, EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.store import read as read_module
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.log import StudyLog
from plgan_tune.store.read import EPOCHS, part_name, read_epochs
from plgan_tune.store.read import TRIALS as SNAPSHOT
from plgan_tune.study.folder import write_study
from plgan_tune.study.history import (
    RULE_SINCE,
    HistoryError,
    brought_to_date,
    read_history,
    read_rows,
    unwritten_decisions,
)
from plgan_tune.study.study_file import STUDY_FILE
from plgan_tune.tuning.sampler import OptunaSampler
from tests.factories import START, make_epoch, make_trial

LAST = 12
TRIALS = 5
POINT = {"loss.alpha": 0.5}


def study(alpha: Any = None, factor: int = 2, first: Sequence[Mapping[str, Any]] = ()) -> StudySpec:
    return study_from_mapping(
        {
            "study": "test",
            "search": {
                "early_stopping": {"asha": {"grace_period": 2, "reduction_factor": factor}},
                "sampler": "random",
                "trials": TRIALS,
                "first": list(first),
            },
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 100},
                "loss": {"alpha": alpha or {"uniform": [0, 1]}},
                "training": {"epochs": LAST},
            },
        }
    )


def stop(seq: int, trial_id: str) -> DecisionRow:
    return DecisionRow(seq, trial_id, 1, 2, 2, 0.5, 0.4, 3, Verdict.STOP, "place 3 of 3, of which 2 continue")


def leave(
    folder: Path, trials: list[TrialRow], epochs: list[EpochRow], decisions: list[DecisionRow], spec: StudySpec
) -> Location:
    location = Location.at(folder)
    write_study(location, spec, START)
    with StudyLog(location, spec.columns, spec.types) as log:
        log.open_tables()
        for trial in trials:
            log.trial(trial)
        for epoch in epochs:
            log.epoch(epoch)
        for row in decisions:
            log.decision(row)
    return location


@pytest.mark.parametrize("status", ["completed", "stopped", "diverged", "failed"])
def test_a_trial_whose_end_is_there_and_whose_last_epochs_are_not_goes_on(tmp_path: Path, status: str) -> None:
    """The driver died between the two files. Its checkpoint has the epochs, and is removed after both are there."""
    row = replace(make_trial(0, TrialStatus(status), POINT, 0.5), seq=5, epochs=5, ended_at=START, error="broken")
    spec = study()
    location = leave(tmp_path, [row], [make_epoch(seq, "t0", seq + 1) for seq in range(4)], [], spec)
    history = brought_to_date(read_history(location, spec), spec, ())
    (now,) = history.unfinished
    assert (now.seq, now.status, now.ended_at, now.error) == (4, TrialStatus.RUNNING, None, None)
    assignment = OptunaSampler(spec, history).ask()
    assert assignment is not None
    assert (assignment.number, assignment.attempt, assignment.logged) == (0, 2, 4)


@pytest.mark.parametrize(("factor", "unwritten"), [(2, [6]), (3, [])])
def test_another_rule_takes_back_no_decision_and_makes_none_for_what_was_logged(
    tmp_path: Path, factor: int, unwritten: list[int]
) -> None:
    """The log holds the decisions up to seq 5; the epochs imply one at 3 that was never taken, and one at 6."""
    trials = [replace(make_trial(number, params=POINT), epochs=2) for number in range(4)]
    epochs = [make_epoch(2 * number + epoch - 1, f"t{number}", epoch) for number in range(4) for epoch in (1, 2)]
    location = leave(tmp_path, trials, epochs, [stop(5, "t2")], study())
    spec = study(factor=factor)
    history = read_history(location, spec)
    missing = unwritten_decisions(history, [stop(3, "t1"), stop(5, "t2"), stop(6, "t3")])
    assert [row.seq for row in missing] == unwritten
    now = brought_to_date(history, spec, missing)
    assert [row.status.value for row in now.trials] == [
        "running",
        "running",
        "stopped",
        "stopped" if unwritten else "running",
    ]


def test_a_new_rule_judges_nothing_of_before_at_any_later_resume(tmp_path: Path) -> None:
    """Its driver dies before its first decision: to the next resume it is no longer new."""
    epochs = [make_epoch(seq, "t0", seq + 1) for seq in range(4)]
    location = leave(tmp_path, [replace(make_trial(0, params=POINT), epochs=4)], epochs, [], study())
    spec = study(factor=3)
    for _ in range(2):
        history = read_history(location, spec)
        assert history.rule_since == 4
        implied = [stop(1, "t0"), stop(4, "t0"), stop(5, "t0")]
        assert [row.seq for row in unwritten_decisions(history, implied)] == [4, 5]
        write_study(location, spec, START, history.starts, {RULE_SINCE: history.rule_since})


def test_trials_that_are_gone_are_named(tmp_path: Path) -> None:
    spec = study()
    location = leave(tmp_path, [make_trial(0, params=POINT)], [make_epoch(0, "t0", 1)], [], spec)
    location.join(*SNAPSHOT).remove()
    with pytest.raises(StoreError, match=r"trials\.parquet must have a row of every trial .* none of t0"):
        read_history(location, spec)


def test_a_number_that_was_never_logged_is_handed_out_with_its_first_point(tmp_path: Path) -> None:
    """Of two trials that began together, the driver lived to log the later alone."""
    later = replace(make_trial(1, TrialStatus.COMPLETED, POINT, 0.5), epochs=LAST)
    epochs = [make_epoch(seq, "t1", seq + 1) for seq in range(LAST)]
    spec = study(first=[{"loss.alpha": 0.25}, {"loss.alpha": 0.5}])
    history = read_history(leave(tmp_path, [later], epochs, [], spec), spec)
    assert history.to_come(4) == (0, 2, 3)
    sampler = OptunaSampler(spec, history)
    assignments = [sampler.ask() for _ in range(TRIALS)]
    assert assignments.pop() is None
    assert [(one.number, one.attempt) for one in assignments if one] == [(number, 1) for number in (0, 2, 3, 4)]
    assert assignments[0] is not None
    assert assignments[0].point == {"loss.alpha": 0.25}


def test_rows_without_the_study_s_file_are_refused(tmp_path: Path) -> None:
    spec = study()
    location = leave(tmp_path, [make_trial(0, params=POINT)], [make_epoch(0, "t0", 1)], [], spec)
    location.join(STUDY_FILE).remove()
    with pytest.raises(HistoryError, match=r"holds the rows of a study, but no study\.yaml.*put a copy of it back"):
        read_history(location, spec)


def test_epochs_that_are_gone_are_named(tmp_path: Path) -> None:
    """All trials would go on from their checkpoints, or begin anew."""
    spec = study()
    location = leave(tmp_path, [make_trial(0, params=POINT)], [make_epoch(0, "t0", 1)], [], spec)
    location.join(EPOCHS, part_name(0)).remove()
    with pytest.raises(StoreError, match=r"epochs must hold every part, but part-00000\.parquet is not there"):
        read_history(location, spec)


def test_a_last_part_of_epochs_that_is_gone_is_found_out_by_the_decisions(tmp_path: Path) -> None:
    spec = study()
    epochs = [make_epoch(seq, "t0", seq + 1) for seq in range(3)]
    rows = [make_trial(0, params=POINT)]
    assert read_history(leave(tmp_path / "whole", rows, epochs, [stop(2, "t0")], spec), spec).next_seq == 3
    location = leave(tmp_path / "cut", rows, epochs[:2], [stop(2, "t0")], spec)
    with pytest.raises(StoreError, match=r"ends at seq 1, before the decision of seq 2: its last part is not there"):
        read_history(location, spec)


def test_a_reader_that_a_search_overtakes_sees_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm start or a dry run may read while the study grows; here it does between any two of its tables."""
    spec, place = study(), Location.at(tmp_path)
    with StudyLog(place, spec.columns, spec.types) as log:
        log.open_tables()

        def grow() -> None:
            seq = len(read_epochs(place))
            log.trial(make_trial(seq, params=POINT))
            log.epoch(make_epoch(seq, f"t{seq}", 1))
            log.decision(stop(seq, f"t{seq}"))
            log.flush()

        def overtaken(read: Callable[..., Any]) -> Callable[..., Any]:
            def reading(location: Location, *of_study: str | None) -> Any:
                found = read(location, *of_study)
                grow()
                return found

            return reading

        grow()
        for name in ("read_decisions", "read_epochs", "read_trials"):
            monkeypatch.setattr(read_module, name, overtaken(getattr(read_module, name)))
        found = read_rows(place, spec.columns, None)
    assert (len(found.decisions), len(found.reports), len(found.trials)) == (1, 2, 3)


@pytest.mark.parametrize("wider", [{"choice": [0, 1, 0.5]}, {"uniform": [0, 1]}])
def test_a_domain_s_values_stay_of_their_kind(tmp_path: Path, wider: Any) -> None:
    location = leave(tmp_path, [], [], [], study({"choice": [0, 1]}))
    with pytest.raises(HistoryError, match=r"keep their type: trial\.loss\.alpha holds int, not float"):
        read_history(location, study(wider))


def test_a_trial_that_goes_on_is_known_to_the_sampler_as_if_it_had_never_been_left(tmp_path: Path) -> None:
    """It diverges in its sixth epoch, right after the resume, or after a second one."""
    spec = study()
    row = replace(make_trial(0, params=POINT), epochs=5)
    epochs = [make_epoch(seq, "t0", seq + 1) for seq in range(5)]
    history = read_history(leave(tmp_path / "a", [row], epochs, [], spec), spec)
    live = OptunaSampler(spec, history)
    assignment = live.ask()
    assert assignment is not None
    live.tell(assignment.trial_id, TrialStatus.DIVERGED)
    diverged = replace(row, status=TrialStatus.DIVERGED)
    later = OptunaSampler(spec, read_history(leave(tmp_path / "b", [diverged], epochs, [], spec), spec))
    (one,), (other,) = live.study.trials, later.study.trials
    assert one.state == other.state
    assert one.intermediate_values == other.intermediate_values == dict.fromkeys(range(1, 6), 0.5)
    assert one.constraints == other.constraints
