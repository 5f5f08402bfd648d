"""A race in two slots that take turns: its rows are those that its log implies, whichever training ends first."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from plgan_tune.backends.backend import Workload
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import Verdict
from plgan_tune.study.assignment import NONE_YET, Assignment, NoneYet
from plgan_tune.study.backpressure import Backpressure
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.state import Ending
from plgan_tune.training.ranks import ALONE
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.backends.planted import Planned
from tests.backends.racing import CONFIRM, check_replay, spec_of, split

Waits = Mapping[int, int]
"""The number of a trial -> that of another, which has its first epoch before the trial has its second."""


class TwoSlots:
    """A back-end of two slots: the trial that has been waiting for longest trains its next epoch.

    Each asks for more whenever it is free, until there is no more: as Tune does.
    """

    threads = 1
    cluster = None

    def __init__(self, waits: Waits) -> None:
        self._waits = waits

    def check(self) -> None: ...

    @contextmanager
    def open(self, workload: Workload, console: Console) -> Iterator["TwoSlots"]:
        self._idle = [Planned(ALONE, torch.device("cpu"), "here", workload.study, 1) for _ in range(2)]
        yield self

    def train(self, coordinator: Coordinator, backpressure: Backpressure, on_look: Callable[[], None]) -> bool:
        busy: list[tuple[Planned, Assignment]] = []
        begun: set[int] = set()
        asked: Assignment | NoneYet | None = NONE_YET
        while True:
            while self._idle and asked is not None and isinstance(asked := coordinator.ask(), Assignment):
                worker = self._idle.pop()
                worker.begin(asked)
                coordinator.start(asked)
                busy.append((worker, asked))
            if not busy:
                return False
            free = [one for one in busy if one[1].number not in begun or self._may_go_on(one[1], begun)]
            worker, assignment = (free or busy)[0]
            busy.remove((worker, assignment))
            begun.add(assignment.number)
            if coordinator.report(assignment, worker.step()) is Verdict.STOP:
                self._idle.append(worker)
            else:
                busy.append((worker, assignment))

    def _may_go_on(self, assignment: Assignment, begun: set[int]) -> bool:
        return self._waits.get(assignment.number, assignment.number) in begun


def search(folder: Path, spec: StudySpec, waits: Waits | None = None) -> StudyResult:
    return run_study(spec, backend=TwoSlots(waits or {}), results=folder, name="study", resume=True)


def test_a_race_of_the_clearly_different_logs_whom_it_drops(tmp_path: Path) -> None:
    spec = spec_of(0.5, 0.1, 0.9, 0.2, confirm={**CONFIRM, "seeds": 5, "finalists": 3, "share": 0.9})
    result = search(tmp_path, spec)
    assert {row.trial_id for row in check_replay(tmp_path, spec, result)} == {"t0002"}
    assert result.best is not None
    assert result.best.loss.alpha == 0.1
    assert result.state.standing().is_over


@pytest.mark.parametrize("alphas", [(0.3,), (0.3, 0.2)])
def test_a_search_of_fewer_trials_than_slots_waits_for_its_race(tmp_path: Path, alphas: tuple[float, ...]) -> None:
    """A slot is free from the start, and there is nothing to train in it before the trials have ended."""
    spec = spec_of(*alphas, trials=len(alphas), confirm={"seeds": 2, "finalists": 1, "share": 0.8})
    if len(alphas) == 1:
        spec = replace(spec, search=spec.search.model_copy(update={"first": ()}))
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    own, again = split(result.state.rows())
    assert len(own) == len(alphas)
    assert len(again) >= len(alphas)
    assert result.state.standing().is_over
    check_replay(tmp_path, spec, result)


def test_a_search_whose_sampler_is_out_of_points_races_in_the_slots_that_are_left(tmp_path: Path) -> None:
    mapping = spec_of(0.3).as_mapping()
    mapping["search"] |= {"first": [], "sampler": "grid", "trials": 9}
    mapping["trial"]["loss"]["alpha"] = {"choice": [0.2, 0.3, 0.4]}
    mapping["trial"]["optim"]["lr_discriminator"] = 0.003
    spec = study_from_mapping(mapping)
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    own, again = split(result.state.rows())
    assert len(own) == 3
    assert len(again) >= 2
    check_replay(tmp_path, spec, result)


def test_a_finalist_that_ends_last_is_confirmed_whatever_was_trained_before(tmp_path: Path) -> None:
    """The first point has all two seeds in the other slot before the third trial ends."""
    spec = spec_of(0.5, 0.3, 0.1, confirm={"seeds": 2, "finalists": 1, "share": 0.9})
    result = search(tmp_path, spec, {0: 1, 2: 4})
    _, again = split(result.state.rows())
    pairs = sorted((row.replicate_of or "", row.replicate or 0) for row in again)
    assert pairs == [(f"t{of:04d}", which) for of in (0, 2) for which in (1, 2)]
    assert result.ending is Ending.DONE
    assert result.best is not None
    assert result.best.loss.alpha == 0.1
    check_replay(tmp_path, spec, result)
