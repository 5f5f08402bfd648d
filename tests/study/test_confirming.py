"""A search that confirms its best on fresh seeds: what it trains, logs and keeps, wherever it is cut short."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from plgan_tune.backends import in_process
from plgan_tune.backends.in_process import InProcess
from plgan_tune.backends.trial_worker import TrialWorker
from plgan_tune.classifier import load_classifier
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.evaluation.configurations import best_configurations, fresh_seeds, with_seed
from plgan_tune.records import DecisionRow, EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.store.checkpoints import TrialFiles, trials_with_files
from plgan_tune.store.location import Location
from plgan_tune.store.read import decision_rows, read_decisions
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.checkpoint_retention import CheckpointKeeper
from plgan_tune.study.early_stopping import build_rule, left_behind
from plgan_tune.study.history import History, HistoryError, read_history
from plgan_tune.study.race import Race, Round, race_of
from plgan_tune.study.ranking import trained_whole
from plgan_tune.study.state import Ending, StudyState
from plgan_tune.tuning.driver import StudyResult, run_study
from plgan_tune.tuning.sampler import OptunaSampler
from tests.backends.planted import Planned
from tests.factories import START, make_metrics, make_trial, small

EPOCHS = 2
ALPHAS = (0.2, 0.3, 0.4, 0.5)
"""Of the search's trials. In `Planned` a trial's error is about its alpha."""

UNEQUAL = ["node", "seconds", "images_per_second", "reported_at", "started_at", "ended_at"]


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> type[Planned]:
    """Its copy of `Planned`, in whose place nothing is trained."""
    copy = type("Planned", (Planned,), {})
    monkeypatch.setattr(in_process, "TrialWorker", copy)
    return copy


def point(alpha: float) -> dict[str, float]:
    return {"loss.alpha": alpha, "optim.lr_discriminator": 0.003}


def spec_of(
    alphas: Sequence[float] = ALPHAS,
    confirm: Mapping[str, Any] | None = {"seeds": 4, "finalists": 2, "share": 0.8},
    **search: Any,
) -> StudySpec:
    known = {
        "trials": len(alphas),
        "first": [point(alpha) for alpha in alphas],
        "early_stopping": "none",
        "sampler": "random",
        **search,
    }
    return small({"alpha": {"uniform": [0.0, 1.0]}}, {"epochs": EPOCHS}, confirm=confirm, **known)


class Stopping:
    """Asks for a stop once so many more epochs are logged."""

    def __init__(self, after: int) -> None:
        self._left = after

    def requested(self) -> bool:
        return self._left <= 0

    def epoch(self, row: EpochRow, /) -> None:
        self._left -= 1

    def decision(self, row: DecisionRow, /) -> None: ...
    def trial(self, row: TrialRow, /) -> None: ...


def search(folder: Path, spec: StudySpec, after: int | None = None, **options: Any) -> StudyResult:
    """Search in `folder`, or go on there, until the end or until so many more epochs are logged."""
    stopping = Stopping(10**9 if after is None else after)
    backend = InProcess(stop_requested=stopping.requested)
    known = {"resume": True, "name": "study", "listeners": [stopping], **options}
    return run_study(spec, backend=backend, results=folder, **known)


def table(folder: Path, name: str) -> pd.DataFrame:
    """Without what says when and where."""
    frame = pd.read_parquet(folder / "study" / name)
    kept = frame.drop(columns=[column for column in UNEQUAL if column in frame])
    return kept.sort_values(
        {"trials": ["number"], "decisions": ["seq", "trial_id"]}.get(name, ["seq"]), ignore_index=True
    )


def replicates(result: StudyResult) -> list[TrialRow]:
    return [row for row in result.state.rows() if row.replicate_of is not None]


def own(result: StudyResult) -> list[TrialRow]:
    return [row for row in result.state.rows() if row.replicate_of is None]


def decisions(folder: Path) -> list[DecisionRow]:
    return decision_rows(read_decisions(Location.at(folder / "study")))


def check_equal(one: Path, other: Path) -> None:
    """But for the attempts, of which a search that was cut short has more."""
    for name in ("trials", "epochs", "decisions"):
        left, right = (table(folder, name).drop(columns=["attempt"]) for folder in (one, other))
        pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert (one / "study" / "best.yaml").read_text() == (other / "study" / "best.yaml").read_text()


# What is trained


@pytest.mark.usefixtures("planned")
def test_the_best_and_the_first_point_are_trained_again_with_fresh_seeds(tmp_path: Path) -> None:
    result = search(tmp_path, spec_of((0.5, 0.4, 0.3, 0.2)))
    assert result.ending is Ending.DONE
    assert [row.trial_id for row in own(result)] == ["t0000", "t0001", "t0002", "t0003"]
    seeds: dict[int, set[int]] = {}
    for row in replicates(result):
        assert row.replicate is not None
        seeds.setdefault(row.replicate, set()).add(row.seed)
        (of,) = [one for one in own(result) if one.trial_id == row.replicate_of]
        assert row.params == of.params
        assert row.seed != of.seed
        assert (row.status, row.epochs) == (TrialStatus.COMPLETED, EPOCHS)
    assert seeds.keys() >= {1, 2}
    assert all(len(found) == 1 for found in seeds.values())
    assert len({*set[int]().union(*seeds.values()), *(row.seed for row in own(result))}) == len(seeds) + 1
    assert {row.replicate_of for row in replicates(result)} == {"t0000", "t0002", "t0003"}
    numbers = [row.number for row in result.state.rows()]
    assert numbers == list(range(len(numbers)))
    assert result.best is not None
    assert result.best.loss.alpha == 0.2
    best = (tmp_path / "study" / "best.yaml").read_text()
    assert "trial t0003" in best
    winner = result.state.standing().winner
    assert winner is not None
    assert f"Mean val_error on {len(winner.judging)} fresh seeds that had chosen nothing before: {winner.mean}." in best


@pytest.mark.usefixtures("planned")
def test_replicates_are_judged_by_no_rung(tmp_path: Path) -> None:
    """Under a rule that stops half of the search's trials after an epoch."""
    rule = {"asha": {"grace_period": 1, "reduction_factor": 2, "min_competitors": 1}}
    result = search(tmp_path, spec_of((0.5, 0.2, 0.6, 0.7, 0.3), early_stopping=rule))
    assert TrialStatus.STOPPED in {row.status for row in own(result)}
    assert len(replicates(result)) >= 4
    assert {(row.status, row.epochs) for row in replicates(result)} == {(TrialStatus.COMPLETED, EPOCHS)}
    assert {row.trial_id for row in decisions(tmp_path)} <= {row.trial_id for row in own(result)}
    assert {row.verdict for row in decisions(tmp_path) if row.epoch == 1} <= {Verdict.STOP, Verdict.CONTINUE}


class Noting(Planned):
    """Keeps what it is given to train."""

    given: list[Assignment]

    def begin(self, assignment: Assignment) -> None:
        self.given.append(assignment)
        super().begin(assignment)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Assignment]:
    """What is given to a worker that trains nothing."""
    found: list[Assignment] = []
    monkeypatch.setattr(in_process, "TrialWorker", type("Noting", (Noting,), {"given": found}))
    return found


@pytest.mark.parametrize("vary", ["seed", "split"])
def test_a_fresh_seed_draws_the_split_anew_where_that_is_asked_for(
    given: list[Assignment], tmp_path: Path, vary: str
) -> None:
    search(tmp_path, spec_of(confirm={"seeds": 3, "finalists": 2, "share": 0.8, "vary": vary}))
    own_trial = given[0].trial
    drawn = [(one.replicate, one.trial.seed, one.trial.data.split_seed) for one in given if one.replicate is not None]
    assert drawn
    for which, seed, split_seed in drawn:
        assert which is not None
        assert seed == own_trial.seed + which
        assert split_seed == own_trial.data.split_seed + (which if vary == "split" else 0)
    for one in given:
        assert with_seed(one.trial, 0) == with_seed(spec_of().trial(one.point), 0)  # nothing else differs


def test_a_replicate_has_the_same_seed_in_each_configuration_though_seeds_are_searched(
    given: list[Assignment], tmp_path: Path
) -> None:
    """Pairs need it; and no replicate repeats the seed that its own configuration was chosen by."""
    mapping = spec_of().as_mapping()
    mapping["trial"]["seed"] = {"int": [0, 1000]}
    mapping["search"]["first"] = [{**point(alpha), "seed": n} for n, alpha in enumerate(ALPHAS)]
    search(tmp_path, study_from_mapping(mapping))
    seeds: dict[int, set[int]] = {}
    for one in given:
        if one.replicate is not None:
            seeds.setdefault(one.replicate, set()).add(one.trial.seed)
            assert one.trial.seed != one.point["seed"]
    assert seeds
    assert all(len(found) == 1 for found in seeds.values())


# Cut short


def noisy(planned: type[Planned]) -> StudySpec:
    """Three alike and one that is far off, so that a race goes over two rounds and drops one."""
    planned.noise = 0.03
    return spec_of((0.31, 0.30, 0.32, 0.6), {"seeds": 3, "finalists": 3, "share": 0.8})


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_a_race_that_is_cut_short_after_any_epoch_comes_to_the_same(
    planned: type[Planned], tmp_path: Path, every: int
) -> None:
    spec = noisy(planned)
    whole = search(tmp_path / "whole", spec)
    assert whole.ending is Ending.DONE
    assert whole.state.standing().ended == 2
    assert Verdict.DROP in {row.verdict for row in decisions(tmp_path / "whole")}
    searched, in_all = (sum(row.epochs for row in rows) for rows in (own(whole), whole.state.rows()))
    for after in range(searched, in_all, every):
        folder = tmp_path / f"cut{after}"
        search(folder, spec, after)
        assert len(table(folder, "epochs")) == after
        assert search(folder, spec).ending is Ending.DONE
        check_equal(tmp_path / "whole", folder)


@pytest.mark.slow
def test_a_search_that_is_cut_short_after_every_epoch_comes_to_the_same(planned: type[Planned], tmp_path: Path) -> None:
    spec = noisy(planned)
    whole = search(tmp_path / "whole", spec)
    for epochs in range(1, whole.state.epochs_trained() + 1):
        search(tmp_path / "cut", spec, 1)
        assert len(table(tmp_path / "cut", "epochs")) == epochs
    assert search(tmp_path / "cut", spec).ending is Ending.DONE  # nothing is left to train
    check_equal(tmp_path / "whole", tmp_path / "cut")


def test_a_race_that_is_stopped_between_two_trainings_is_not_done(planned: type[Planned], tmp_path: Path) -> None:
    """Whether in the middle of one, at its end, before the first, or with the last still to come."""
    spec = noisy(planned)
    whole = search(tmp_path / "whole", spec)
    searched, in_all = (sum(row.epochs for row in rows) for rows in (own(whole), whole.state.rows()))
    for after in (searched, searched + 1, searched + EPOCHS, in_all - EPOCHS):
        cut = search(tmp_path / f"cut{after}", spec, after)
        assert cut.ending is Ending.INTERRUPTED


@pytest.mark.parametrize("broken", [("t0000", 1), ("t0001", 1), ("t0001", 2)])
def test_a_replicate_that_diverges_is_dropped_and_the_log_says_so(
    planned: type[Planned], tmp_path: Path, broken: tuple[str, int]
) -> None:
    planned.diverging = frozenset({broken})
    spec = noisy(planned)
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    again = [row.replicate for row in replicates(result) if row.replicate_of == broken[0]]
    assert again == list(range(1, broken[1] + 1))
    drops = {row.trial_id: row.reason for row in decisions(tmp_path) if row.verdict is Verdict.DROP}
    assert drops[broken[0]] == f"dropped: its replicate {broken[1]} diverged"
    before = table(tmp_path, "decisions")
    search(tmp_path, spec)
    pd.testing.assert_frame_equal(table(tmp_path, "decisions"), before)


def test_a_lone_finalist_s_first_replicate_diverges_and_the_log_says_so_before_any_resume(
    planned: type[Planned], tmp_path: Path
) -> None:
    planned.diverging = frozenset({("t0000", 1), ("t0001", 1)})
    spec = spec_of((), {"seeds": 2, "finalists": 1, "share": 0.9}, trials=2)
    result = search(tmp_path, spec)
    assert [row.status for row in replicates(result)] == [TrialStatus.DIVERGED]
    assert [row.verdict for row in decisions(tmp_path)] == [Verdict.DROP]


def unfinished(folder: Path) -> tuple[StudySpec, History]:
    """A race that has dropped one, while a trial of the search still runs.

    A back-end of several trials at a time may leave it so: a race begins in slots that the search leaves free. Here a
    race is over, and the log forgets the end of the search's last trial.
    """
    spec = spec_of((0.5, 0.2, 0.3, 0.4), {"seeds": 4, "finalists": 3, "share": 0.8})
    search(folder, spec)
    history = read_history(Location.at(folder / "study"), spec)
    drops = race_of(spec).standing(history.trials).decisions  # type: ignore[union-attr]
    assert drops  # the example is one
    last = history.reports[2 * 3 + 1]
    assert (last.trial_id, last.epoch) == ("t0003", EPOCHS)
    trials = [
        replace(row, status=TrialStatus.RUNNING, epochs=1, ended_at=None) if row.trial_id == last.trial_id else row
        for row in history.trials
    ]
    latest = {**history.latest}
    latest[last.trial_id] = replace(latest[last.trial_id], metrics=make_metrics(1, 0.4))
    reports = tuple(report for report in history.reports if report != last)
    return spec, replace(history, trials=tuple(trials), latest=latest, reports=reports, decisions=())


@pytest.mark.usefixtures("planned")
def test_a_start_writes_no_decision_that_a_running_trial_of_the_search_may_change(tmp_path: Path) -> None:
    """Rows of the log are never taken back."""
    spec, known = unfinished(tmp_path)
    left = left_behind(known, spec, build_rule(spec))
    assert [row.trial_id for row in left.history.unfinished] == ["t0003"]
    assert [row.trial_id for row in left.decisions if row.verdict is Verdict.DROP] == []


@pytest.mark.usefixtures("planned")
def test_a_start_decides_nothing_before_the_search_s_unfinished_trials_have_ended(tmp_path: Path) -> None:
    """They may wait to start, while an unfinished replicate ends."""
    spec, known = unfinished(tmp_path)
    race = race_of(spec)
    assert race is not None
    state = StudyState("test", trials=99, epochs=EPOCHS, started_at=START, history=known, race=race)
    assert race.standing(known.trials).decisions == ()
    assert state.standing() == race.standing(known.trials)
    assert state.new_drops() == []
    assert state.ranked()[0].trial_id == "t0001"


# Changed between starts


def test_more_trials_are_searched_after_a_race_and_race_in_their_turn(planned: type[Planned], tmp_path: Path) -> None:
    spec = spec_of((0.5, 0.4, 0.3))
    before = search(tmp_path, spec)
    rows = table(tmp_path, "trials")
    assert before.state.standing().is_over
    assert before.best is not None
    assert before.best.loss.alpha == 0.3
    more = spec_of((0.5, 0.4, 0.3, 0.1, 0.2))
    result = search(tmp_path, more)
    assert result.ending is Ending.DONE
    assert [row.params["loss.alpha"] for row in own(result)] == [0.5, 0.4, 0.3, 0.1, 0.2]
    assert len({row.number for row in result.state.rows()}) == len(result.state.rows())
    standing = result.state.standing()
    assert standing.ended == len(standing.rounds) >= 1
    assert result.best is not None
    assert result.best.loss.alpha == 0.1
    pairs = [(row.replicate_of, row.replicate) for row in replicates(result)]
    assert len(set(pairs)) == len(pairs)  # what the first race trained of the first point is not trained again
    after = table(tmp_path, "trials")
    kept = after[after["trial_id"].isin(rows["trial_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, rows)
    ids = {row.trial_id for row in own(result)}
    assert {row.trial_id for row in decisions(tmp_path)} <= ids


@pytest.mark.parametrize("every", [9, pytest.param(2, marks=pytest.mark.slow)])
def test_an_extension_that_is_cut_short_anywhere_comes_to_the_same(
    planned: type[Planned], tmp_path: Path, every: int
) -> None:
    less, more = spec_of((0.5, 0.4, 0.3)), spec_of((0.5, 0.4, 0.3, 0.1, 0.2))
    search(tmp_path / "whole", less)
    first = len(table(tmp_path / "whole", "epochs"))
    whole = search(tmp_path / "whole", more)
    for after in range(1, whole.state.epochs_trained() - first, every):
        folder = tmp_path / f"cut{after}"
        search(folder, less)
        search(folder, more, after)
        assert search(folder, more).ending is Ending.DONE
        check_equal(tmp_path / "whole", folder)


def test_while_an_extension_searches_the_winner_is_that_of_the_race_before(
    planned: type[Planned], tmp_path: Path
) -> None:
    """A lower error in the search is no reason to prefer what no fresh seed has confirmed."""
    before = search(tmp_path, spec_of((0.5, 0.4, 0.3)))
    more = spec_of((0.5, 0.4, 0.3, 0.1, 0.2))
    for _ in range(2 * EPOCHS - 1):
        result = search(tmp_path, more, 1)
        assert result.ending is Ending.INTERRUPTED
        assert result.best is not None
        assert result.best.loss.alpha == 0.3
        assert result.state.standing() == before.state.standing()
    result = search(tmp_path, more)
    assert result.best is not None
    assert result.best.loss.alpha == 0.1


@pytest.mark.usefixtures("planned")
def test_a_search_that_confirmed_nothing_confirms_once_it_is_told_to(tmp_path: Path) -> None:
    plain = search(tmp_path / "later", spec_of(confirm=None))
    assert replicates(plain) == []
    result = search(tmp_path / "later", spec_of())
    assert result.ending is Ending.DONE
    assert replicates(result)
    search(tmp_path / "at once", spec_of())
    check_equal(tmp_path / "at once", tmp_path / "later")


@pytest.mark.usefixtures("planned")
def test_a_race_that_is_called_off_leaves_a_search_that_is_done(tmp_path: Path) -> None:
    """Between two epochs of a replicate, which stays as it is."""
    search(tmp_path, spec_of(), len(ALPHAS) * EPOCHS + 1)
    result = search(tmp_path, spec_of(confirm=None))
    assert result.ending is Ending.DONE
    assert result.best is not None
    assert result.best.loss.alpha == min(ALPHAS)
    assert search(tmp_path, spec_of()).ending is Ending.DONE


@pytest.mark.usefixtures("planned")
def test_what_a_fresh_seed_draws_must_not_change_between_starts(tmp_path: Path) -> None:
    """Replicates of a number would no longer be pairs."""
    confirm = {"seeds": 4, "finalists": 2, "share": 0.8}
    search(tmp_path, spec_of(confirm=confirm), len(ALPHAS) * EPOCHS + EPOCHS)
    with pytest.raises(HistoryError, match=r"search\.confirm\.vary"):
        search(tmp_path, spec_of(confirm={**confirm, "vary": "split"}))


@pytest.mark.usefixtures("planned")
def test_more_seeds_go_on_with_the_race(tmp_path: Path) -> None:
    alike = (0.3, 0.3001, 0.3002, 0.2999)
    search(tmp_path / "later", spec_of(alike, {"seeds": 2, "finalists": 2, "share": 0.8}))
    assert search(tmp_path / "later", spec_of(alike, {"seeds": 4, "finalists": 2, "share": 0.8})).ending is Ending.DONE
    result = search(tmp_path / "at once", spec_of(alike, {"seeds": 4, "finalists": 2, "share": 0.8}))
    rows = [table(tmp_path / name, "epochs") for name in ("later", "at once")]
    common = min(map(len, rows))
    assert common >= len(replicates(result))
    pd.testing.assert_frame_equal(rows[0].head(common), rows[1].head(common))


# Limits


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize("budget", [10, 15, 20, 24, 25])
def test_the_search_leaves_the_race_its_share_of_the_epochs(tmp_path: Path, budget: int) -> None:
    alphas = tuple(0.5 - n / 100 for n in range(20))
    spec = spec_of(alphas, {"seeds": 5, "finalists": 3, "share": 0.4}, epochs=budget)
    result = search(tmp_path, spec)
    searched = sum(row.epochs for row in own(result))
    most = -(-budget * 6 // 10)  # 1 - share, rounded up
    assert most - EPOCHS < searched <= most
    assert {row.status for row in result.state.rows()} == {TrialStatus.COMPLETED}
    assert replicates(result)
    assert searched < result.state.epochs_trained() <= budget
    assert result.ending in (Ending.DONE, Ending.OUT_OF_EPOCHS)
    before = table(tmp_path, "trials")
    assert search(tmp_path, spec).ending is result.ending
    pd.testing.assert_frame_equal(table(tmp_path, "trials"), before)


def test_a_search_within_a_budget_that_is_cut_short_comes_to_the_same(planned: type[Planned], tmp_path: Path) -> None:
    alphas = tuple(0.5 - n / 100 for n in range(20))
    spec = spec_of(alphas, {"seeds": 5, "finalists": 2, "share": 0.4}, epochs=24)
    whole = search(tmp_path / "whole", spec)
    for after in range(1, whole.state.epochs_trained(), 4):
        folder = tmp_path / f"cut{after}"
        search(folder, spec, after)
        assert search(folder, spec).ending is whole.ending
        check_equal(tmp_path / "whole", folder)


def test_a_search_that_has_stopped_improving_races(planned: type[Planned], tmp_path: Path) -> None:
    """Errors on 100 images: 0.3 and 0.28 are alike."""
    planned.noise = 0.001
    spec = spec_of((0.5, 0.3, 0.29, 0.28, 0.27, 0.05), patience=2)
    result = search(tmp_path / "whole", spec)
    assert [row.params["loss.alpha"] for row in own(result)] == [0.5, 0.3, 0.29, 0.28]
    assert {row.replicate_of for row in replicates(result)} == {"t0000", "t0002", "t0003"}
    assert result.state.standing().is_over
    assert result.ending in (Ending.DONE, Ending.STOPPED_IMPROVING)
    again = search(tmp_path / "whole", spec)
    assert again.ending is result.ending
    assert len(again.state.rows()) == len(result.state.rows())
    for after in (7, 8, 9, 10, 13):
        folder = tmp_path / f"cut{after}"
        search(folder, spec, after)
        search(folder, spec)
        check_equal(tmp_path / "whole", folder)


def test_time_that_is_over_ends_the_search_and_then_the_race(planned: type[Planned], tmp_path: Path) -> None:
    """An hour, of which an epoch takes six minutes: a share of 0.6 leaves the search two trials."""
    stopping = Stopping(10**9)

    def now() -> datetime:
        return START + timedelta(minutes=6) * (10**9 - stopping._left)

    spec = spec_of(confirm={"seeds": 5, "finalists": 1, "share": 0.6}, hours=1.0)
    result = search(tmp_path, spec, now=now, listeners=[stopping])
    assert len(own(result)) == 2
    assert len(replicates(result)) == 2 * 3 // 2 - 1


# What is kept


class Hours(Planned):
    """A worker whose first epoch of the search's first trial takes an hour."""

    def _report(self, error: float | None, status: TrialStatus, why: str | None = None) -> EpochReport:
        report = super()._report(error, status, why)
        if self._assignment.number or report.metrics is None:
            return report
        return replace(report, metrics=replace(report.metrics, seconds=3600.0))


def kept(folder: Path) -> list[str]:
    return trials_with_files(Location.at(folder / "study"))


@pytest.mark.usefixtures("planned")
@pytest.mark.parametrize("keep", [0, 1, 2, 50])
def test_as_many_checkpoints_are_kept_as_are_asked_for_once_the_race_is_over(tmp_path: Path, keep: int) -> None:
    alike = (0.3, 0.301, 0.302, 0.303, 0.6)
    result = search(tmp_path, spec_of(alike, {"seeds": 3, "finalists": 3, "share": 0.8}, keep_checkpoints=keep))
    assert result.state.standing().is_over
    assert len(result.state.standing().active) > 2
    ranked = [row.trial_id for row in result.state.ranked()]
    assert kept(tmp_path) == sorted(ranked[:keep])


@pytest.mark.usefixtures("planned")
def test_as_many_checkpoints_are_kept_as_are_asked_for_once_the_share_is_used_up(tmp_path: Path) -> None:
    alike = (0.3, 0.301, 0.302, 0.303, 0.304, 0.305)
    result = search(tmp_path, spec_of(alike, {"seeds": 9, "finalists": 2, "share": 0.5}, keep_checkpoints=1))
    assert result.ending is Ending.DONE
    assert result.state.standing().rounds == (Round(2, 2),)
    assert kept(tmp_path) == [result.state.ranked()[0].trial_id]


def test_all_that_still_race_keep_their_checkpoints_meanwhile(planned: type[Planned], tmp_path: Path) -> None:
    """Any of them may win."""
    planned.noise = 0.0
    alike = (0.3, 0.301, 0.302, 0.303, 0.6)
    spec = spec_of(alike, {"seeds": 4, "finalists": 3, "share": 0.8}, keep_checkpoints=1)
    searched = EPOCHS * len(alike)
    for after in (searched, searched + 1, searched + EPOCHS, searched + 4 * EPOCHS):
        cut = search(tmp_path / str(after), spec, after)
        assert cut.state.race is not None
        active = set(cut.state.race.standing(cut.state.all_rows()).active)
        assert len(active) >= 2
        assert active <= set(kept(tmp_path / str(after)))


@pytest.fixture
def first_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "TrialWorker", Hours)


@pytest.mark.usefixtures("first_is_slow")
def test_a_first_point_that_was_stopped_has_a_whole_training_to_keep_at_any_time(tmp_path: Path) -> None:
    """From the end of its first replicate on, whatever else has ended by then."""
    spec = spec_of((0.1, 0.3, 0.4, 0.5), {"seeds": 3, "finalists": 2, "share": 0.8}, trial_hours=1, keep_checkpoints=1)
    searched = 1 + 3 * EPOCHS
    for after in (searched + EPOCHS, searched + 2 * EPOCHS, searched + 3 * EPOCHS, None):
        folder = tmp_path / str(after)
        result = search(folder, spec, after)
        (first,) = [row for row in own(result) if row.number == 0]
        assert (first.status, first.epochs) == (TrialStatus.STOPPED, 1)
        whole = trained_whole(first, result.state.rows())
        assert whole is not None
        assert (whole.replicate_of, whole.replicate) == ("t0000", 1)
        assert whole.trial_id in kept(folder)
        if after is None:
            assert result.best is not None
            assert result.best.loss.alpha == 0.1
            assert kept(folder) == [whole.trial_id]


@pytest.mark.parametrize("begun", [True, False])
def test_nothing_that_may_win_loses_its_checkpoint_while_the_search_s_last_trial_is_unfinished(
    tmp_path: Path, begun: bool
) -> None:
    """Whether it runs in another slot or waits to start again: two rounds are trained, and none can be added yet."""
    confirm = spec_of(confirm={"seeds": 5, "finalists": 1, "share": 0.9}).search.confirm
    assert confirm is not None
    race = Race(confirm, EPOCHS, {"loss.alpha": 0.1})
    known = partial(make_trial, status=TrialStatus.COMPLETED, epochs=EPOCHS)
    searched = [
        known(0, status=TrialStatus.STOPPED, params={"loss.alpha": 0.1}, error=0.9, trial_id="t0000"),
        known(1, params={"loss.alpha": 0.3}, error=0.3, trial_id="t0001"),
        known(2, params={"loss.alpha": 0.5}, error=0.4, trial_id="t0002"),
        known(3, status=TrialStatus.RUNNING, params={"loss.alpha": 0.4}, trial_id="t0003", epochs=1),
    ]
    again = [
        known(4 + n, error=0.1 + n / 100, trial_id=f"t{4 + n:04d}", replicate_of=of, replicate=which)
        for n, (which, of) in enumerate((which, of) for which in (1, 2) for of in ("t0000", "t0001"))
    ]
    history = History((*searched, *again))
    state = StudyState("test", trials=9, epochs=EPOCHS, started_at=START, history=history, race=race)
    if begun:
        state.start("t0003", 3, {"loss.alpha": 0.4}, 0, START)
    study = Location.at(tmp_path)
    for row in history.trials:
        TrialFiles.of(study, row.trial_id).write(1, 1, b"")
    with CheckpointKeeper(study, state, SimpleNamespace(flush=lambda: None), 1) as keeper:
        keeper.trial_ended()
    assert {"t0001", "t0003", "t0004"} <= set(trials_with_files(study))


class Trained(TrialWorker):
    """Trains, but reports errors as `Hours` does, and the hour."""

    def begin(self, assignment: Assignment) -> None:
        super().begin(assignment)
        self._given = assignment

    def step(self) -> EpochReport:
        report = super().step()
        assert report.metrics is not None
        draw = Random(f"{self._given.trial.seed} {self._given.point['loss.alpha']}")
        error = float(str(self._given.point["loss.alpha"])) + draw.uniform(-0.01, 0.01)
        seconds = 1.0 if self._given.number else 3600.0
        return replace(report, metrics=replace(report.metrics, val_error=error, seconds=seconds))


def test_a_study_won_by_a_first_point_that_was_stopped_has_a_classifier_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_process, "TrialWorker", Trained)
    spec = spec_of((0.1, 0.3, 0.4), {"seeds": 2, "finalists": 1, "share": 0.8}, trial_hours=1, keep_checkpoints=1)
    result = search(tmp_path, spec)
    assert result.ending is Ending.DONE
    assert result.best == spec.trial(own(result)[0].params)
    assert own(result)[0].status is TrialStatus.STOPPED
    assert len(load_classifier(tmp_path / "study").classes) == 10
    assert (tmp_path / "study" / "samples.png").exists()


@pytest.mark.usefixtures("first_is_slow")
def test_the_best_s_file_says_of_what_it_is_the_best(tmp_path: Path) -> None:
    """The error of the search's own trial after an epoch is no result of a training that `train` would repeat."""
    spec = spec_of((0.1, 0.3, 0.4, 0.5), {"seeds": 3, "finalists": 2, "share": 0.8}, trial_hours=1)
    result = search(tmp_path, spec)
    assert own(result)[0].epochs == 1
    said = (tmp_path / "study" / "best.yaml").read_text()
    assert "at epoch 1." not in said


# Who uses it


@pytest.mark.usefixtures("planned")
def test_an_evaluation_takes_the_best_in_the_order_of_the_race(tmp_path: Path) -> None:
    spec = spec_of((0.5, 0.4, 0.3, 0.2))
    result = search(tmp_path, spec)
    rows = result.state.rows()
    places = [place.trial_id for place in result.state.standing().places]
    assert len(places) == 3
    found = [one.name for one in best_configurations(spec, rows, 4)]
    assert found == [*places, *(row.trial_id for row in own(result) if row.trial_id not in places)]


@pytest.mark.parametrize("vary", ["seed", "split"])
@pytest.mark.parametrize("split_seed", [0, 7])
def test_an_evaluation_s_seeds_are_none_that_the_race_has_chosen_by(
    given: list[Assignment], tmp_path: Path, vary: str, split_seed: int
) -> None:
    """An evaluation's seed draws weights and split alike."""
    mapping = spec_of(confirm={"seeds": 3, "finalists": 2, "share": 0.8, "vary": vary}).as_mapping()
    mapping["trial"]["data"]["split_seed"] = split_seed
    spec = study_from_mapping(mapping)
    result = search(tmp_path, spec)
    used = {seed for one in given for seed in (one.trial.seed, one.trial.data.split_seed)}
    assert len(used) > 2
    assert used.isdisjoint(fresh_seeds(spec, result.state.rows(), 20))


@pytest.mark.usefixtures("planned")
def test_a_sampler_is_told_of_replicates_at_a_resume_and_repeats_no_point(tmp_path: Path) -> None:
    made: list[OptunaSampler] = []

    def keeping(*given: Any) -> OptunaSampler:
        made.append(OptunaSampler(*given))
        return made[-1]

    spec = spec_of((0.5, 0.4, 0.3))
    before = search(tmp_path, spec)
    told = len(before.state.rows())
    result = search(tmp_path, spec_of((0.5, 0.4, 0.3), trials=6), suggest=keeping)
    (sampler,) = made
    assert [trial.value for trial in sampler.study.trials[:told]] == [row.value_last for row in before.state.rows()]
    points = [tuple(row.params.items()) for row in own(result)]
    assert len(points) == len(set(points)) == 6
    asked = [trial.params["loss.alpha"] for trial in sampler.study.trials[told:]]
    assert asked == [row.params["loss.alpha"] for row in own(result)[3:]]


@pytest.mark.usefixtures("planned")
def test_a_sampler_continues_the_points_that_it_would_have_had_without_a_race(tmp_path: Path) -> None:
    """Those of Sobol's sequence have a trial's place among the search's own."""
    sampler = {"tpe": {"startup_trials": 6, "startup": "sobol"}}
    known = {"first": [], "sampler": sampler}
    plain = search(tmp_path / "plain", spec_of((), None, trials=5, **known))
    confirm = {"seeds": 2, "finalists": 1, "share": 0.5}
    search(tmp_path / "raced", spec_of((), confirm, trials=2, **known))
    result = search(tmp_path / "raced", spec_of((), confirm, trials=5, **known))
    assert [row.params for row in own(result)] == [row.params for row in own(plain)]


@pytest.mark.usefixtures("planned")
def test_a_space_of_few_points_is_searched_whole_and_then_raced(tmp_path: Path) -> None:
    """Replicates are at points that have been tried; the sampler knows them once."""
    mapping = spec_of(ALPHAS, None).as_mapping()
    mapping["search"] |= {"first": [], "sampler": "grid", "trials": 20, "confirm": {"seeds": 2, "share": 0.6}}
    mapping["trial"]["loss"]["alpha"] = {"choice": [0.2, 0.3, 0.4]}
    mapping["trial"]["optim"]["lr_discriminator"] = 0.003
    spec = study_from_mapping(mapping)
    for _ in range(2):
        result = search(tmp_path, spec)
        assert result.ending is Ending.DONE
        assert len(own(result)) == 3
        assert replicates(result)
        assert result.state.standing().ended >= 1


@pytest.mark.usefixtures("planned")
def test_that_no_further_point_is_left_to_try_is_said_before_the_race(tmp_path: Path) -> None:
    mapping = spec_of(ALPHAS).as_mapping()
    mapping["search"] |= {"first": [], "sampler": "grid", "trials": 20}
    mapping["trial"]["loss"]["alpha"] = {"choice": [0.2, 0.3, 0.4]}
    mapping["trial"]["optim"]["lr_discriminator"] = 0.003
    result = search(tmp_path, study_from_mapping(mapping))
    assert "no further point is left to try: 3 trials instead of 20" in result.state.notes
