"""What a backend reports, and what the log, the display and the sampler hear of it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.records import DecisionRow, EpochMetrics, Report, TrialRow, TrialStatus, Value, Verdict
from plgan_tune.study.coordinator import Coordinator, RecordingError
from plgan_tune.study.state import StudyState
from tests.factories import START, Memory, make_assignment, make_metrics, make_report

EPOCHS = 5
CONTINUE, STOP = Verdict.CONTINUE, Verdict.STOP


class Heard:
    """Suggestions that remember what they hear."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def ask(self) -> None: ...

    def report(self, trial_id: str, epoch: int, value: float, *others: float) -> None:
        self.events.append((trial_id, epoch, value))

    def tell(self, trial_id: str, status: TrialStatus) -> None:
        self.events.append((trial_id, status))


class StopAbove:
    """A rule that decides at every epoch, and stops a trial whose error is above a half."""

    def report(self, report: Report, point: Mapping[str, Value]) -> DecisionRow:
        verdict = STOP if report.value > 0.5 else CONTINUE
        return DecisionRow(
            report.seq, report.trial_id, report.attempt, report.epoch, 1, report.value, 0.5, 1, verdict, "0.5"
        )


def clock() -> Iterator[datetime]:
    moment = START
    while True:
        yield moment
        moment += timedelta(seconds=1)


def new_state() -> StudyState:
    return StudyState("test", trials=9, epochs=EPOCHS, started_at=START)


class Backend:
    """Calls a coordinator as a backend does, and keeps each trial's assignment as it does."""

    def __init__(self, memory: Memory, max_failures: int = 3) -> None:
        ticks = clock()
        self.memory, self.heard = memory, Heard()
        self.coordinator = Coordinator(
            new_state(), memory, memory, lambda: next(ticks), self.heard, StopAbove(), max_failures
        )
        self.assignments = {number: make_assignment(number) for number in range(9)}

    def start(self, number: int) -> None:
        self.coordinator.start(self.assignments[number])

    def epoch(
        self, number: int, metrics: EpochMetrics, status: TrialStatus = TrialStatus.RUNNING, **about: Any
    ) -> Verdict:
        return self.coordinator.report(self.assignments[number], make_report(metrics, status, **about))

    def diverge(self, number: int, error: str, **about: Any) -> Verdict:
        report = make_report(None, TrialStatus.DIVERGED, error=error, **about)
        return self.coordinator.report(self.assignments[number], report)

    def retry(self, number: int, error: str) -> None:
        self.assignments[number] = self.coordinator.retry(self.assignments[number], error)

    def hang(self, number: int) -> None:
        self.assignments[number] = self.coordinator.retry_hung(self.assignments[number], "it reported nothing")

    def fail(self, number: int, error: str) -> None:
        self.coordinator.fail(self.assignments[number], error)


@pytest.fixture
def backend() -> Backend:
    return Backend(Memory())


def train(backend: Backend, number: int, errors: Sequence[float]) -> None:
    """A whole training with these errors."""
    backend.start(number)
    for epoch, error in enumerate(errors, start=1):
        last = epoch == len(errors)
        backend.epoch(number, make_metrics(epoch, error), TrialStatus.COMPLETED if last else TrialStatus.RUNNING)


def test_a_study_has_as_many_trials_as_were_handed_out(backend: Backend) -> None:
    """Nine were asked for; after the second nothing is left to try."""
    left = [backend.assignments[0], replace(backend.assignments[1], notes=("t0001: skipped",))]
    backend.heard.ask = lambda: left.pop(0) if left else None  # type: ignore[method-assign, assignment]
    assert backend.coordinator.ask() is not None
    train(backend, 0, [0.5] * EPOCHS)
    assert backend.coordinator.ask() is not None
    assert backend.coordinator.state.trials == 9
    assert backend.coordinator.ask() is None
    assert backend.coordinator.ask() is None
    assert backend.coordinator.state.trials == 2
    assert backend.coordinator.state.notes == [
        "t0001: skipped",
        "no further point is left to try: 2 trials instead of 9",
    ]


def test_a_trial_from_its_start_to_its_completion(backend: Backend) -> None:
    backend.start(3)
    (row,) = backend.memory.trials
    assert (row.trial_id, row.number, row.seed, row.params) == ("t0003", 3, 0, {"loss.alpha": 0.3})
    assert (row.status, row.attempt, row.epochs, row.value_last) == (TrialStatus.RUNNING, 1, 0, None)
    metrics = [make_metrics(1, 0.5), make_metrics(2, 0.2), make_metrics(3, 0.3, seconds=4.0)]
    verdicts = [backend.epoch(3, metrics[0]), backend.epoch(3, metrics[1])]
    assert [*verdicts, backend.epoch(3, metrics[2], TrialStatus.COMPLETED)] == [CONTINUE, CONTINUE, STOP]
    row = backend.memory.trials[-1]
    assert (row.status, row.epochs, row.seconds) == (TrialStatus.COMPLETED, 3, 8.0)
    assert (row.value_last, row.value_best, row.best_epoch) == (0.3, 0.2, 2)
    assert (row.node, row.split_hash, row.error) == ("n1", "abc", None)
    assert (row.started_at, row.ended_at) == (START, START + timedelta(seconds=1))
    assert [epoch.metrics for epoch in backend.memory.epochs] == metrics
    assert {epoch.trial_id for epoch in backend.memory.epochs} == {"t0003"}
    assert [row.epochs for row in backend.memory.trials] == [0, 1, 2, 3, 3]
    assert [row.epoch for row in backend.memory.decisions] == [1, 2]  # the last epoch is judged by nobody
    assert [what for what, _ in backend.memory.news] == ["started", *["progressed"] * 3, "completed"]
    assert backend.heard.events == [
        ("t0003", 1, 0.5),
        ("t0003", 2, 0.2),
        ("t0003", 3, 0.3),
        ("t0003", TrialStatus.COMPLETED),
    ]


def test_the_rule_stops_a_trial_whose_epoch_and_decision_are_logged_before_its_end(backend: Backend) -> None:
    backend.start(0)
    assert backend.epoch(0, make_metrics(1, 0.6)) is STOP
    assert (backend.memory.trials[-1].status, backend.memory.trials[-1].epochs) == (TrialStatus.STOPPED, 1)
    assert [(row.seq, row.verdict) for row in backend.memory.decisions] == [(0, STOP)]
    assert backend.heard.events == [("t0000", 1, 0.6), ("t0000", TrialStatus.STOPPED)]


def test_a_divergence_is_no_epoch_and_says_why(backend: Backend) -> None:
    backend.start(0)
    backend.epoch(0, make_metrics(1))
    assert backend.diverge(0, "loss_feature is nan in epoch 2") is STOP
    row = backend.memory.trials[-1]
    assert (row.status, row.epochs, row.error) == (TrialStatus.DIVERGED, 1, "loss_feature is nan in epoch 2")
    assert len(backend.memory.epochs) == len(backend.memory.decisions) == 1


def test_a_failure_keeps_the_error_of_the_latest_attempt(backend: Backend) -> None:
    backend.start(0)
    backend.epoch(0, make_metrics(1))
    backend.epoch(0, make_metrics(2, 0.4))
    backend.retry(0, "OSError: the disk is gone")
    row = backend.memory.trials[-1]
    assert (row.status, row.error) == (TrialStatus.RUNNING, "OSError: the disk is gone")
    assert (backend.assignments[0].attempt, backend.assignments[0].logged) == (2, 2)
    backend.start(0)
    assert backend.memory.trials[-1].attempt == 2
    backend.epoch(0, make_metrics(2, 0.4), attempt=2, node="n2")
    backend.fail(0, "RuntimeError: out of memory")
    row = backend.memory.trials[-1]
    assert (row.status, row.attempt, row.error) == (TrialStatus.FAILED, 2, "RuntimeError: out of memory")
    assert (row.epochs, row.seconds, row.node) == (2, 6.0, "n2")
    assert [(epoch.attempt, epoch.metrics.epoch) for epoch in backend.memory.epochs] == [(1, 1), (1, 2), (2, 2)]


def test_a_retried_trial_that_completes_has_no_error(backend: Backend) -> None:
    backend.start(0)
    backend.retry(0, "OSError: gone")
    backend.start(0)
    backend.epoch(0, make_metrics(1, 0.4), TrialStatus.COMPLETED, attempt=2)
    assert (backend.memory.trials[-1].status, backend.memory.trials[-1].error) == (TrialStatus.COMPLETED, None)


def test_a_trial_that_ends_before_it_starts_has_a_row(backend: Backend) -> None:
    backend.fail(4, "ValueError: no such accelerator")
    assert (backend.memory.trials[-1].trial_id, backend.memory.trials[-1].status) == ("t0004", TrialStatus.FAILED)


def test_a_trial_whose_set_up_fails_may_start_again(backend: Backend) -> None:
    """Of a start that never was, nobody hears."""
    for _ in range(2):
        backend.retry(4, "OSError: the images are gone for now")
    assert backend.memory.trials[-1].attempt == 2
    backend.start(4)
    assert backend.memory.trials[-1].attempt == 3
    backend.epoch(4, make_metrics(1, 0.4), TrialStatus.COMPLETED, attempt=3)
    backend.coordinator.check_whole("results/test")
    row = backend.memory.trials[-1]
    assert (row.status, row.attempt) == (TrialStatus.COMPLETED, 3)


def test_a_trial_may_fail_as_often_as_it_may() -> None:
    backend = Backend(Memory(), max_failures=1)
    backend.retry(0, "OSError: gone")
    assert backend.coordinator.may_try(backend.assignments[0])
    backend.retry(0, "OSError: gone")
    assert not backend.coordinator.may_try(backend.assignments[0])


def test_where_three_trials_fail_before_any_starts_none_will(backend: Backend) -> None:
    for number in range(3):
        assert backend.coordinator.why_none_starts() is None
        backend.retry(number, f"OSError: no images, {number}")
        backend.fail(number, "OSError")
    assert backend.coordinator.why_none_starts() == (
        "no trial can start: 3 trials failed in 3 attempts before any started, the last with OSError: no images, 2"
    )
    backend.start(3)
    assert backend.coordinator.why_none_starts() is None


def test_a_hang_counts_only_where_no_epoch_came_since_the_last(backend: Backend) -> None:
    def now() -> tuple[int, int, int]:
        assignment = backend.assignments[0]
        return assignment.attempt, assignment.failures, assignment.logged

    backend.hang(0)  # before it has begun
    assert now() == (2, 0, 0)
    backend.start(0)
    backend.epoch(0, make_metrics(1), attempt=2)
    backend.hang(0)
    assert now() == (3, 0, 1)
    backend.start(0)
    backend.epoch(0, make_metrics(1), attempt=3)  # trained again
    backend.hang(0)
    assert now() == (4, 1, 1)
    backend.start(0)
    backend.epoch(0, make_metrics(2), attempt=4)
    backend.hang(0)
    assert now() == (5, 1, 2)
    assert backend.assignments[0].last_error == "it reported nothing"
    assert backend.memory.trials[-1].error == "it reported nothing"


def test_a_silence_lasts_until_the_next_sign_of_life(backend: Backend) -> None:
    backend.start(0)
    state = backend.coordinator.state
    backend.coordinator.silent("t0000", "no report for 40 s")
    assert state.silent == {"t0000": "no report for 40 s"}
    backend.epoch(0, make_metrics(1))
    assert state.silent == {}
    assert backend.memory.news == [("started", "t0000"), ("silent", "t0000"), ("progressed", "t0000")]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1)), max_size=30))
def test_seq_counts_the_epochs_of_all_trials_in_order_of_arrival(arrivals: list[tuple[int, float]]) -> None:
    state = new_state()
    for number in range(4):
        state.start(f"t{number}", number, {}, 0, START)
    rows = []
    for number, error in arrivals:
        epoch = state.trial(f"t{number}").epochs + 1
        row = state.epoch(f"t{number}", 1, make_metrics(epoch, error), reported_at=START, node=None, split_hash=None)
        rows.append(row)
        now = state.trial(f"t{number}")
        mine = [done.report().value for done in rows if done.trial_id == now.trial_id]
        assert (now.value_last, now.value_best, now.epochs) == (mine[-1], min(mine), len(mine))
        assert mine[(now.best_epoch or 0) - 1] == min(mine)
        assert state.curve(now.trial_id) == tuple(mine)
        assert now.seq == row.seq + 1
    assert [row.seq for row in rows] == list(range(len(rows)))


def test_the_best_is_the_lowest_last_error_of_a_completed_trial(backend: Backend) -> None:
    state = backend.coordinator.state
    assert state.best() is None
    train(backend, 0, [0.1, 0.4])  # a lucky epoch does not count
    train(backend, 3, [0.5, 0.3])
    train(backend, 2, [0.5, 0.3])
    backend.start(1)
    backend.epoch(1, make_metrics(1, 0.05))
    backend.epoch(1, make_metrics(2, 0.6))  # stopped
    best = state.best()
    assert best is not None
    assert (best.trial_id, best.value_last) == ("t0002", 0.3)


def test_a_failing_log_neither_ends_the_search_nor_floods_it(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Memory):
        def trial(self, row: TrialRow) -> None:
            raise OSError("no space left on device")

    backend = Backend(Broken())
    with caplog.at_level(logging.ERROR):
        train(backend, 0, [0.5, 0.3])
        backend.retry(1, "OSError")
        backend.fail(1, "OSError")
    assert len(caplog.records) == 1
    assert "no space left" in caplog.text
    with pytest.raises(RecordingError, match="the results in results/test are incomplete") as broken:
        backend.coordinator.check_whole("results/test")
    assert isinstance(broken.value.__cause__, OSError)
    best = backend.coordinator.state.best()
    assert best is not None
    assert best.value_last == 0.3


def test_what_a_report_notes_is_told_whatever_else_it_says(backend: Backend) -> None:
    backend.start(0)
    backend.epoch(0, make_metrics(1), notes=("its checkpoint is damaged",))
    backend.diverge(0, "nan", notes=("another",))
    assert [said for kind, said in backend.memory.news if kind == "noted"] == [
        "t0000: its checkpoint is damaged",
        "t0000: another",
    ]
