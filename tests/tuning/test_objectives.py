"""A search by two metrics: what its sampler is told, what it writes, and the front that it finds."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from plgan_tune.analysis.front import front
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import read_study
from plgan_tune.analysis.terminal import view
from plgan_tune.backends import in_process
from plgan_tune.config.load import load_study, load_trial, study_from_mapping
from plgan_tune.config.own import sha256_of
from plgan_tune.config.study import StudySpec
from plgan_tune.console.display import summary
from plgan_tune.console.format import measured
from plgan_tune.records import EpochRow, TrialRow, TrialStatus, Verdict
from plgan_tune.store.location import Location
from plgan_tune.store.own import keep_own
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.early_stopping import build_rule
from plgan_tune.study.folder import with_own_copy, write_front
from plgan_tune.study.history import History, HistoryError
from plgan_tune.study.state import StudyState
from plgan_tune.tuning.optuna_mirror import OptunaMirror
from plgan_tune.tuning.sampler import LEAST, OptunaSampler, build_sampler
from plgan_tune.tuning.warm_start import read_older
from tests.factories import (
    OWN_TERMS,
    SMALL,
    START,
    Memory,
    Search,
    make_assignment,
    make_metrics,
    make_report,
    make_trial,
)
from tests.tuning.test_optuna_mirror import opened, study_at

EPOCHS = 4
BOTH = ("val_error", "val_distance")
COMPLETED, STOPPED, DIVERGED = TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.DIVERGED

SQUARE: Mapping[str, Any] = {"alpha": {"uniform": [0.0, 1.0]}, "beta": {"uniform": [0.0, 1.0]}}

Values = tuple[float, float]
Point = Mapping[str, Any]


def spec_of(metric: Sequence[str] = BOTH, loss: Mapping[str, Any] = SQUARE, **search: Any) -> StudySpec:
    known: dict[str, Any] = {"trials": 12, "sampler": {"tpe": {"startup_trials": 3}}, "first": [], "confirm": None}
    trial = {**SMALL["trial"], "loss": loss, "optim": {}}
    return study_from_mapping({**SMALL, "search": {**known, **search, "metric": list(metric)}, "trial": trial})


def end(sampler: OptunaSampler, trial_id: str, epochs: int, values: Values, status: TrialStatus) -> None:
    """A trial that reports worse values in earlier epochs, which must not count."""
    for epoch in range(1, epochs + 1):
        worse = 1.0 if epoch == epochs else 1.5
        sampler.report(trial_id, epoch, values[0] * worse, values[1] * worse)
    sampler.tell(trial_id, status)


ENDS: Sequence[tuple[int, Values, TrialStatus]] = [
    (EPOCHS, (0.3, 20.0), COMPLETED),
    (3, (0.4, 30.0), STOPPED),
    (1, (0.2, 10.0), STOPPED),
    (3, (0.2, 10.0), DIVERGED),
    (0, (0.0, 0.0), TrialStatus.FAILED),
    (EPOCHS, (0.25, 0.0), COMPLETED),
]


def held(trial: FrozenTrial) -> Any:
    return trial.state, trial.values, trial.intermediate_values, trial.constraints, trial.params


def followed(spec: StudySpec) -> tuple[OptunaSampler, list[TrialRow]]:
    """A sampler that was told these ends as they came, and the rows that the log then has."""
    sampler, rows = OptunaSampler(spec), []
    for number, (epochs, (error, distance), status) in enumerate(ENDS):
        assignment = sampler.ask()
        assert assignment is not None
        end(sampler, assignment.trial_id, epochs, (error, distance), status)
        values = {"error": error, "second_last": distance} if epochs else {}
        rows.append(make_trial(number, status, assignment.point, epochs=epochs, **values))
    return sampler, rows


def test_what_optuna_holds_of_each_ending() -> None:
    """Both costs of whole trials, and no value of an epoch; the deeper a trial was stopped, the nearer; broken last."""
    sampler, _ = followed(spec_of())
    trials = sampler.study.trials
    assert [trial.values for trial in trials] == [
        [0.3, math.log(20.0)],
        *[None] * 4,
        [0.25, math.log(LEAST)],
    ]
    assert {trial.state for trial in trials[1:5]} == {TrialState.PRUNED}
    assert [sum(trial.constraints.values()) for trial in trials] == [0, 1, 3, EPOCHS + 1, EPOCHS + EPOCHS, 0]
    assert not any(trial.intermediate_values for trial in trials)


def test_without_constraints_broken_trials_are_told_the_worst_of_each_metric() -> None:
    sampler, _ = followed(spec_of(sampler={"gp": {"startup_trials": 20}}))
    trials = sampler.study.trials
    assert [trial.values for trial in trials[3:]] == [[1.0, math.log(20.0)]] * 2 + [[0.25, math.log(LEAST)]]
    assert not any(trial.constraints for trial in trials)


@pytest.mark.parametrize("sampler", [{"tpe": {"startup_trials": 3}}, "random"])
def test_a_resume_tells_its_sampler_what_the_last_start_had_told_it(sampler: Any) -> None:
    """With the same random numbers it then suggests the same."""
    spec = spec_of(sampler=sampler)
    live, rows = followed(spec)
    resumed = OptunaSampler(spec, History(tuple(rows)))
    assert [held(trial) for trial in resumed.study.trials] == [held(trial) for trial in live.study.trials]
    live.study.sampler = build_sampler(spec.search, len(rows))
    for _ in range(3):
        ours, theirs = resumed.ask(), live.ask()
        assert ours is not None
        assert theirs is not None
        assert ours.point == theirs.point


def searched(spec: StudySpec, course: Callable[[Point], Values | None]) -> list[Point]:
    sampler, points = OptunaSampler(spec), []
    while (assignment := sampler.ask()) is not None:
        points.append(assignment.point)
        values = course(assignment.point)
        if values is None:
            end(sampler, assignment.trial_id, 2, (0.01, 0.01), DIVERGED)
        else:
            end(sampler, assignment.trial_id, EPOCHS, values, COMPLETED)
    return points


def rivals(point: Point) -> Values:
    """Both are best at beta 0.7, the error at alpha 0 and the distance at alpha 1."""
    alpha, off = point["loss.alpha"], 10 * (point["loss.beta"] - 0.7) ** 2
    return (alpha + off) / 10, math.exp(1 - alpha + off)


def test_tpe_comes_nearer_to_a_planted_front_than_random_search() -> None:
    """On the front beta is 0.7, and alpha anything: the search must spread along it."""

    def late(sampler: Any) -> list[Point]:
        specs = [spec_of(sampler=sampler, trials=60, seed=seed) for seed in range(4)]
        return [point for spec in specs for point in searched(spec, rivals)[30:]]

    tpe, random = late({"tpe": {"startup_trials": 10}}), late("random")
    off = [sum(abs(point["loss.beta"] - 0.7) for point in points) / len(points) for points in (tpe, random)]
    assert off[0] < off[1] / 2
    places = sorted(point["loss.alpha"] for point in tpe)
    assert places[len(places) // 10] < 0.3
    assert places[-len(places) // 10] > 0.7


def test_tpe_avoids_a_diverging_half() -> None:
    def course(point: Point) -> Values | None:
        return None if point["loss.alpha"] > 0.5 else (0.3, 20 + point["loss.beta"])

    late = [point for seed in range(4) for point in searched(spec_of(trials=60, seed=seed), course)[20:]]
    assert sum(point["loss.alpha"] > 0.5 for point in late) / len(late) < 0.25


@pytest.mark.parametrize("name", ["tpe", "random", "grid", pytest.param("gp", marks=pytest.mark.slow)])
def test_every_sampler_of_two_fills_a_study_and_is_seeded(name: str) -> None:
    chosen = {name: {"startup_trials": 3}} if name in ("tpe", "gp") else name
    loss = {"alpha": {"choice": [0.1, 0.2, 0.4, 0.8]}, "beta": {"choice": [0.1, 0.2, 0.4]}}
    spec = spec_of(loss=loss, trials=8, sampler=chosen)

    def course(point: Point) -> Values | None:
        return None if point["loss.alpha"] < 0.2 else rivals(point)

    points = searched(spec, course)
    assert len({tuple(point.values()) for point in points}) == 8
    assert points == searched(spec, course)


def test_the_mirror_has_both_directions_and_values(tmp_path: Any) -> None:
    """So that optuna-dashboard draws the front; values of epochs it has none, for Optuna takes none of two."""
    path, spec = tmp_path / "optuna.log", spec_of(("val_error", "val_coverage"))
    point = {"loss.alpha": 0.5, "loss.beta": 0.5}
    before = make_trial(0, COMPLETED, point, 0.2, second_last=0.4)
    with OptunaMirror(path, spec, History((before,), curves={"t0": {1: 0.2}})) as mirror:
        for number, (error, coverage) in enumerate([(0.1, 0.3), (0.3, 0.2)], start=1):
            mirror.trial(make_trial(number, params=point))
            mirror.epoch(EpochRow(0, f"t{number}", 1, make_metrics(1, val_coverage=coverage), START))
            mirror.trial(make_trial(number, COMPLETED, point, error, second_last=coverage))
        mirror.trial(make_trial(3, STOPPED, point, 0.9, second_last=0.9))
    found, study = opened(path), study_at(path)
    assert [direction.name for direction in study.directions] == ["MINIMIZE", "MAXIMIZE"]
    assert [trial.values for trial in found] == [[0.2, 0.4], [0.1, 0.3], [0.3, 0.2], None]
    assert not any(trial.intermediate_values for trial in found)
    assert [trial.user_attrs["trial_id"] for trial in study.best_trials] == ["t0", "t1"]


@pytest.mark.parametrize(
    ("values", "status", "why"),
    [
        ({"val_distance": None}, TrialStatus.FAILED, "epoch 1 has no val_distance, search.metric"),
        ({"val_error": None}, TrialStatus.FAILED, "epoch 1 has no val_error, search.metric"),
        ({"val_distance": math.inf}, DIVERGED, "val_distance is not finite in epoch 1"),
    ],
)
def test_a_trial_that_lacks_either_value_ends_in_words_that_name_it(
    values: Mapping[str, Any], status: TrialStatus, why: str
) -> None:
    spec, log = spec_of(), Memory()
    state = StudyState("test", trials=1, epochs=EPOCHS, started_at=START, metric=spec.metric, second=spec.second)
    coordinator = Coordinator(state, log, log, lambda: START, OptunaSampler(spec), build_rule(spec), 0)
    coordinator.start(assignment := make_assignment(0))
    assert coordinator.report(assignment, make_report(make_metrics(1, **values))) is Verdict.STOP
    coordinator.check_whole("the test")
    row = state.trial(assignment.trial_id)
    assert (row.status, row.epochs) == (status, 0)
    assert str(row.error).startswith(why)
    assert log.epochs == []


def test_rows_keep_the_last_and_the_best_of_both() -> None:
    """Of a coverage, the highest is the best; `best_epoch` is that of the first metric's."""
    spec = spec_of(("val_error", "val_coverage"))
    state = StudyState("test", trials=1, epochs=EPOCHS, started_at=START, metric=spec.metric, second=spec.second)
    state.start("t0", 0, {}, 0, START)
    for epoch, (error, coverage) in enumerate([(0.5, 0.4), (0.2, 0.9), (0.3, 0.7)], start=1):
        metrics = make_metrics(epoch, error, val_coverage=coverage)
        state.epoch("t0", 1, metrics, reported_at=START, node=None, split_hash=None)
    row = state.trial("t0")
    assert (row.value_last, row.value_best, row.best_epoch) == (0.3, 0.2, 2)
    assert (row.second_last, row.second_best) == (0.7, 0.9)


class Planned:
    """A worker that trains nothing: alpha buys distance with error, and beta spoils both; seeds differ a little."""

    def __init__(self, *_: object) -> None: ...

    def begin(self, assignment: Assignment) -> None:
        self._assignment, self._epoch = assignment, 0

    def step(self) -> EpochReport:
        self._epoch += 1
        trial = self._assignment.trial
        later = 0.2 * (trial.training.epochs - self._epoch)
        off, luck = 0.3 * trial.loss.beta + later, trial.seed % 7 / 100
        error = 0.1 + 0.5 * trial.loss.alpha**2 + off / 10 + luck
        distance = 20 * (1 - trial.loss.alpha) ** 2 + 10 * off + luck
        metrics = make_metrics(self._epoch, min(error, 1.0), val_distance=distance)
        last = self._epoch == trial.training.epochs
        return make_report(metrics, TrialStatus.COMPLETED if last else TrialStatus.RUNNING)

    def save(self) -> None: ...


@pytest.fixture
def _planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "TrialWorker", Planned)


ALL: Mapping[str, Any] = {"asha": {"grace_period": 1, "reduction_factor": 2, "objectives": "all"}}


def text_of(shown: Any) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(shown)
    return console.export_text()


@pytest.mark.usefixtures("_planned")
def test_a_whole_search_by_two_writes_its_front_and_shows_it(search: Search, tmp_path: Path) -> None:
    """Also resumed from the file that it wrote, and with a trial on the front that was not there."""
    folder = tmp_path / "study"
    spec = spec_of(trials=14, early_stopping=ALL, confirm={"seeds": 3, "finalists": 4, "share": 0.5})
    first = search(spec)
    (folder / "front" / "t9999.yaml").write_text("stale")
    (folder / "front" / "mine.yaml").write_text("the user's")
    result = search(load_study(folder / "study.yaml", ["search.trials=16"]).study, resume=True)
    assert len(result.state.rows()) > len(first.state.rows())

    trials = pd.read_parquet(folder / "trials")
    assert list(trials)[-4:] == ["replicate_of", "replicate", "val_distance_last", "val_distance_best"]
    own = trials[(trials["status"] == "completed") & trials["replicate_of"].isna()]
    values = own[["val_error_last", "val_distance_last"]].to_numpy()
    undominated = [not any((other <= one).all() and (other < one).any() for other in values) for one in values]
    on_front = own[undominated].sort_values(["val_error_last", "number"])
    assert len(on_front) > 2
    assert sorted(path.name for path in (folder / "front").iterdir()) == sorted(
        [*(f"{name}.yaml" for name in on_front["trial_id"]), "mine.yaml"]
    )
    for row in on_front.to_dict("records"):
        file = folder / "front" / f"{row['trial_id']}.yaml"
        assert load_trial(file) == spec.trial({"loss.alpha": row["params_alpha"], "loss.beta": row["params_beta"]})
        assert f"val_error {row['val_error_last']} and val_distance {row['val_distance_last']}" in file.read_text()

    study = read_study(folder)
    frame = front(study)
    assert frame["trial_id"].tolist() == on_front["trial_id"].tolist()
    assert frame["val_distance_last"].tolist() == on_front["val_distance_last"].tolist()
    raced = trials[trials["replicate_of"].notna()]
    places = {place.trial_id: place for place in study.standing.places}
    assert places.keys() & set(frame["trial_id"])
    for row in frame.to_dict("records"):
        place = places.get(row["trial_id"])
        assert row["seeds"] == (0 if place is None else len(place.judging))
        if place is not None:
            assert row["val_error_mean"] == pytest.approx(place.mean)
            of_it = raced[raced["replicate_of"] == row["trial_id"]].set_index("replicate")
            judging = range(place.earlier + 1, len(place.values) + 1)
            assert row["val_distance_mean"] == pytest.approx(of_it.loc[[*judging], "val_distance_last"].mean())

    on_terminal, page = text_of(view(study, 5)), report_html(study)
    best, other = on_front.iloc[0], on_front.iloc[-1]
    gap = best["val_distance_last"] - other["val_distance_last"]
    points = 100 * (other["val_error_last"] - best["val_error_last"])
    for said in (
        f"the lowest val_error, {measured(study.metric, best['val_error_last'])} of {best['trial_id']}, costs "
        f"{gap:.3g} of val_distance",
        f"of {other['trial_id']}, costs {points:.2f} points of val_error",
    ):
        assert said in on_terminal
        assert said in page
    assert f"{len(on_front)} trials by val_error and val_distance: {best['trial_id']} (" in text_of(
        summary(result.state, START, results="here")
    )
    drawn = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["figures"]["front-all"]["data"]
    (line,) = [trace for trace in drawn if trace["mode"] == "lines"]
    assert line["line"]["shape"] == "hv"
    assert "nan" not in page.partition("<script")[0]


@pytest.mark.usefixtures("_planned")
def test_what_a_study_by_one_metric_was_started_with_it_keeps(search: Search, tmp_path: Path) -> None:
    spec = spec_of(("val_error",), trials=3)
    search(spec)
    assert not (tmp_path / "study" / "front").exists()
    assert front(read_study(tmp_path / "study")).empty
    assert "The front" not in report_html(read_study(tmp_path / "study")).partition("<script")[0]
    with pytest.raises(HistoryError, match=r"search\.metric: 'val_error' -> \['val_error', 'val_distance'\]"):
        search(spec_of(trials=3), resume=True)


@pytest.mark.usefixtures("_planned")
def test_a_study_of_two_warms_one_of_its_first_metric_but_not_the_other_way(search: Search, tmp_path: Path) -> None:
    search(spec_of(trials=4), "two")
    search(spec_of(("val_error",), trials=4), "one")
    taken = {}
    for name in ("two", "one"):
        for metric in (BOTH, ("val_error",), ("val_distance",)):
            (older,) = read_older(spec_of(metric, warm_start=[str(tmp_path / name)]))
            taken[name, metric] = len(older.trials)
    assert taken["two", BOTH] == taken["two", ("val_error",)] == taken["one", ("val_error",)] == 4
    assert taken["one", BOTH] == taken["two", ("val_distance",)] == taken["one", ("val_distance",)] == 0
    (older,) = read_older(spec_of(BOTH, warm_start=[str(tmp_path / "one")]))
    assert "because it ranks trials by val_error, and this study by val_error and val_distance" in older.note


def test_a_file_of_the_front_finds_the_user_s_own_file(tmp_path: Path) -> None:
    """Its copy lies beside the front's folder, wherever the study is moved to."""
    trial = {**SMALL["trial"], "loss": SQUARE, "optim": {}, "own": {"file": str(OWN_TERMS)}}
    spec = with_own_copy(study_from_mapping({**SMALL, "search": {"metric": list(BOTH)}, "trial": trial}))
    location, content = Location.at(tmp_path / "study"), OWN_TERMS.read_bytes()
    keep_own(location, sha256_of(content), content)
    row = make_trial(7, COMPLETED, {"loss.alpha": 0.5, "loss.beta": 0.5}, 0.25, second_last=9.5, trial_id="t0007")
    write_front(location, spec, [row], 1)
    (tmp_path / "study").rename(tmp_path / "moved")
    found = load_trial(tmp_path / "moved" / "front" / "t0007.yaml").own
    assert Path(str(found.file)).resolve() == tmp_path / "moved" / "own" / f"{sha256_of(content)}.py"
    assert found.sha256 == sha256_of(content)
