"""A search by any metric: what it decides, tells its sampler, writes and shows."""

import math
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from rich.console import Console
from scipy.stats import t
from typer.testing import CliRunner

from plgan_tune.analysis.findings import findings
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import MetricError, read_study
from plgan_tune.analysis.terminal import comparison, view
from plgan_tune.analyze import app as analyze
from plgan_tune.backends import in_process
from plgan_tune.config.study import StudySpec
from plgan_tune.console.display import Screen, summary
from plgan_tune.console.format import measured
from plgan_tune.records import DecisionRow, TrialStatus, Verdict
from plgan_tune.study.assignment import Assignment, EpochReport
from plgan_tune.study.confirming import Confirming
from plgan_tune.study.coordinator import Coordinator
from plgan_tune.study.early_stopping import build_rule
from plgan_tune.study.history import History
from plgan_tune.study.patience import Patience
from plgan_tune.study.race import race_of
from plgan_tune.study.state import StudyState
from plgan_tune.tuning.driver import StudyResult
from plgan_tune.tuning.sampler import LEAST, OptunaSampler
from tests.factories import START, Memory, Search, make_assignment, make_metrics, make_report, make_trial, small

EPOCHS = 4
RACED: Mapping[str, Any] = {"seeds": 3, "finalists": 4, "share": 0.5}


def spec_of(metric: str, **search: Any) -> StudySpec:
    known: dict[str, Any] = {
        "trials": 12,
        "sampler": {"tpe": {"startup_trials": 3}},
        "confirm": RACED,
        "metric": metric,
    }
    return small({"alpha": {"uniform": [0.0, 1.0]}}, **known | search)


class Course:
    """A search that trains nothing, to its end: a trial's values follow from its number, the epoch and a seed.

    Args:
        metric: What it searches by.
        sign: The values are from 1 to 20, with this sign.
        seed: Of the values.
        patience: See `search.patience`.
    """

    def __init__(self, metric: str, sign: int, seed: int, patience: int | None) -> None:
        self.spec = spec_of(metric)
        self.log, race = Memory(), race_of(self.spec)
        stop = None if patience is None else Patience(patience, 100, self.spec.metric)
        self.state = StudyState(
            "test", trials=12, epochs=EPOCHS, started_at=START, race=race, metric=self.spec.metric, patience=stop
        )
        assert race is not None
        self.points: list[Mapping[str, Any]] = []
        suggestions = Confirming(OptunaSampler(self.spec), race, self.spec, self.state, History())
        rule = build_rule(self.spec)
        coordinator = Coordinator(self.state, self.log, self.log, lambda: START, suggestions, rule, 0)
        while isinstance(assignment := coordinator.ask(), Assignment):
            self.points.append(assignment.point)
            self._train(coordinator, assignment, sign, Random(f"{seed} {assignment.number}"))
        coordinator.check_whole("the test")

    def _train(self, coordinator: Coordinator, assignment: Assignment, sign: int, draw: Random) -> None:
        coordinator.start(assignment)
        diverges = assignment.replicate_of is None and draw.random() < 0.15
        for epoch in range(1, EPOCHS + 1):
            status = TrialStatus.COMPLETED if epoch == EPOCHS else TrialStatus.RUNNING
            metrics = make_metrics(epoch, **{self.spec.metric.name: sign * draw.uniform(1, 20)})
            report = (
                make_report(None, TrialStatus.DIVERGED) if diverges and epoch == 2 else make_report(metrics, status)
            )
            if coordinator.report(assignment, report) is Verdict.STOP:
                return

    def decisions(self) -> list[DecisionRow]:
        return self.log.decisions

    def turned(self) -> Any:
        """All that it decided, in costs."""
        cost = self.spec.metric.cost
        decided = [
            (row.trial_id, row.rung, cost(row.value), row.cutoff and cost(row.cutoff), row.verdict, row.reason)
            for row in self.decisions()
        ]
        places = [(one.trial_id, cost(one.mean), one.dropped, one.difference) for one in self.state.standing().places]
        ranked = [(row.trial_id, cost(row.value_best or 0.0), row.best_epoch) for row in self.state.ranked()]
        return self.points, decided, ranked, places, self.state.epochs_trained()


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from([None, 3]))
def test_higher_is_better_decides_as_lower_is_better_does_on_the_negative(seed: int, patience: int | None) -> None:
    """The same suggestions, rungs, stops, finalists, drops, differences from the first point and best epochs."""
    higher, lower = Course("val_score", 1, seed, patience), Course("val_distance", -1, seed, patience)
    assert higher.turned() == lower.turned()
    assert {row.value for row in higher.decisions()} == {-row.value for row in lower.decisions()}  # in their own units
    whole = [row for row in higher.state.rows() if row.status is TrialStatus.COMPLETED and row.replicate_of is None]
    if whole and not higher.state.standing().places:
        best = higher.state.best()
        assert best is not None
        assert best.value_last == max(row.value_last or 0.0 for row in whole)


def coordinated(metric: str, *, competing: bool) -> tuple[Coordinator, Memory, Assignment]:
    state = StudyState(
        "test", trials=1, epochs=EPOCHS, started_at=START, metric=spec_of(metric).metric, competing=competing
    )
    log, spec = Memory(), spec_of(metric)
    coordinator = Coordinator(state, log, log, lambda: START, OptunaSampler(spec), build_rule(spec), 0)
    assignment = make_assignment(0)
    coordinator.start(assignment)
    return coordinator, log, assignment


@pytest.mark.parametrize(
    ("value", "status", "why"),
    [
        (
            None,
            TrialStatus.FAILED,
            "epoch 2 has no val_distance, search.metric: the trial's data or method cannot have",
        ),
        (math.nan, TrialStatus.DIVERGED, "val_distance is not finite in epoch 2"),
        (math.inf, TrialStatus.DIVERGED, "val_distance is not finite in epoch 2"),
    ],
)
def test_a_trial_without_a_value_ends_in_words_and_its_row_is_not_logged(
    value: float | None, status: TrialStatus, why: str
) -> None:
    coordinator, log, assignment = coordinated("val_distance", competing=True)
    assert coordinator.report(assignment, make_report(make_metrics(1, val_distance=3.0))) is Verdict.CONTINUE
    assert coordinator.report(assignment, make_report(make_metrics(2, val_distance=value))) is Verdict.STOP
    coordinator.check_whole("the test")
    row = coordinator.state.trial(assignment.trial_id)
    assert (row.status, row.epochs, row.value_last) == (status, 1, 3.0)
    assert row.error is not None
    assert row.error.startswith(why)
    assert len(log.epochs) == 1


def test_a_trial_that_does_not_compete_needs_no_value() -> None:
    """As in an evaluation, whose judge makes no images."""
    coordinator, log, assignment = coordinated("val_distance", competing=False)
    for epoch in range(1, 3):
        assert coordinator.report(assignment, make_report(make_metrics(epoch, val_distance=None))) is Verdict.CONTINUE
    coordinator.check_whole("the test")
    row = coordinator.state.trial(assignment.trial_id)
    assert (row.epochs, row.value_last, row.value_best, row.best_epoch) == (2, None, None, None)
    assert len(log.epochs) == 2
    assert "2/4" in text_of(Screen(coordinator.state, START))


def told(metric: str, sampler: str, ends: list[tuple[float | None, TrialStatus]]) -> list[tuple[TrialState, Any]]:
    """What Optuna holds of trials of one epoch that ended so."""
    spec = spec_of(metric, sampler=sampler, trials=len(ends), early_stopping="none", confirm=None)
    spec = small(
        {"alpha": {"uniform": [0.0, 1.0]}}, {"epochs": 1}, **spec.search.model_dump(exclude={"trials"}), trials=9
    )
    asked = OptunaSampler(spec, build=lambda search, already, known: RandomSampler(seed=0))
    for value, status in ends:
        assignment = asked.ask()
        assert assignment is not None
        if value is not None:
            asked.report(assignment.trial_id, 1, value)
        asked.tell(assignment.trial_id, status)
    return [(one.state, one.value) for one in asked.study.trials]


WHOLE, BROKEN = TrialStatus.COMPLETED, TrialStatus.DIVERGED


def test_the_gaussian_process_is_told_the_logarithm_of_what_has_no_upper_bound() -> None:
    """Broken trials are told as the worst whole one so far, and ignored before there is one."""
    ends = [(None, BROKEN), (100.0, WHOLE), (None, BROKEN), (0.0, WHOLE), (None, BROKEN)]
    logs = [None, math.log(100), math.log(100), math.log(LEAST), math.log(100)]
    states = [TrialState.FAIL, *[TrialState.COMPLETE] * 4]
    assert told("val_distance", "gp", ends) == list(zip(states, logs, strict=True))


def test_a_sampler_without_constraints_is_told_the_metric_s_worst_value() -> None:
    ends = [(None, BROKEN), (0.75, WHOLE)]
    states = [TrialState.COMPLETE] * 2
    assert told("val_error", "gp", ends) == list(zip(states, [1.0, 0.75], strict=True))
    assert told("val_coverage", "gp", ends) == list(zip(states, [0.0, -0.75], strict=True))
    assert told("val_score", "gp", [(None, BROKEN), (5.0, WHOLE)]) == list(zip(states, [-1.0, -5.0], strict=True))


def test_patience_counts_every_improvement_of_what_is_no_share() -> None:
    """A share that improves by less than its binomial noise does not; nothing is known of the noise of a distance."""
    shares, distances = Patience(1, 100), Patience(1, 100, spec_of("val_distance").metric)
    for number, error in enumerate((0.5, 0.499)):
        shares.take(make_trial(number, WHOLE, error=error))
        distances.take(make_trial(number, WHOLE, error=error))
    assert shares.is_over()
    assert not distances.is_over()


class Planned:
    """A worker that trains nothing: what it measures follows from alpha, the seed and the epoch."""

    def __init__(self, *_: object) -> None: ...

    def begin(self, assignment: Assignment) -> None:
        self._assignment, self._epoch = assignment, 0

    def step(self) -> EpochReport:
        self._epoch += 1
        trial = self._assignment.trial
        good = trial.loss.alpha * self._epoch / trial.training.epochs * 0.9 + trial.seed / 100
        distance, coverage = 100 - 90 * good, 0.1 + 0.8 * good
        by_name = {"val_distance": distance, "val_distance_raw": distance - 1, "val_coverage": coverage}
        about = dict.fromkeys(("error_gap", "val_balanced_error", "val_transport"), None)
        measured: dict[str, Any] = about | by_name | {"val_score": None}
        metrics = make_metrics(self._epoch, **measured)
        last = self._epoch == trial.training.epochs
        return make_report(metrics, TrialStatus.COMPLETED if last else TrialStatus.RUNNING)

    def save(self) -> None: ...


def planned(search: Search, metric: str, **options: Any) -> StudyResult:
    spec = spec_of(
        metric, trials=8, first=[{"loss.alpha": 0.5}], early_stopping={"asha": {"grace_period": 1, "controls": 0.5}}
    )
    return search(spec, **options)


@pytest.fixture
def _planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "TrialWorker", Planned)


def text_of(shown: Any) -> str:
    console = Console(width=200, record=True, file=StringIO())
    console.print(shown)
    return console.export_text()


@pytest.mark.usefixtures("_planned")
@pytest.mark.parametrize(("metric", "best"), [("val_distance", "lowest"), ("val_coverage", "highest")])
def test_a_whole_search_speaks_of_its_metric_and_of_no_error(
    search: Search, tmp_path: Path, metric: str, best: str
) -> None:
    result, noun = planned(search, metric), metric.removeprefix("val_")
    folder = tmp_path / "study"
    trials = pd.read_parquet(folder / "trials")
    assert {f"{metric}_last", f"{metric}_best"} <= set(trials)
    assert not [name for name in trials if str(name).startswith("val_error")]
    own = trials[(trials["status"] == "completed") & trials["replicate_of"].isna()]
    winner = result.state.best()
    assert winner is not None
    assert winner.params["loss.alpha"] == own["params_alpha"].max()  # the greater, the better, by any of them
    assert f"# Mean {metric} on" in (folder / "best.yaml").read_text()
    study = read_study(folder)
    assert study.ranked["trial_id"].iloc[0] == winner.trial_id
    by_point = trials[trials["replicate_of"].notna()].groupby("replicate_of")[f"{metric}_last"]
    free = by_point.size().sum() - len(by_point)
    pooled = (by_point.var().fillna(0) * (by_point.size() - 1)).sum() / free
    assert study.reach == pytest.approx(t.ppf(0.975, free) * math.sqrt(pooled))

    page = report_html(study).partition("<script")[0]
    on_terminal = text_of(view(study, 5)) + text_of(summary(result.state, START, results="here"))
    for said in (page, on_terminal, text_of(comparison([study]))):
        of_the_judge = r"error\s+[\d.]+\s%\s+on\s+the\s+validation\s+images"
        assert "error" not in re.sub(of_the_judge, "", said.replace("search.max_failures", ""))
    assert f"Best {noun}" in page
    assert f"the {best} {noun} at a last epoch" in page
    assert metric in on_terminal
    assert best in on_terminal
    confirmed = study.standing.winner
    assert confirmed is not None
    assert f"{measured(study.metric, confirmed.mean)} by {confirmed.trial_id}" in on_terminal
    # It goes on, by a file that gives the direction or leaves it out.
    planned(search, metric, resume=True)
    assert len(pd.read_parquet(folder / "trials")) == len(trials)


@pytest.mark.usefixtures("_planned")
def test_an_old_study_is_ranked_by_another_metric_of_its_rows(search: Search, tmp_path: Path) -> None:
    planned(search, "val_error")
    folder = tmp_path / "study"
    by_error, by_distance = read_study(folder), read_study(folder, "val_distance")
    assert by_error.ranked["val_error_last"].nunique() == 1  # nothing tells them apart by the error
    completed = by_distance.trials[by_distance.trials["status"] == "completed"]
    best = by_distance.ranked.iloc[0]
    assert best["params_alpha"] == completed["params_alpha"].max()
    assert best["val_distance_last"] == best["val_distance_best"] == completed["val_distance_last"].min()
    assert not by_distance.standing.places
    assert findings(by_distance)[0] == (
        "ranked by val_distance: the search, its early stopping and what it confirmed went by val_error"
    )
    assert "averaged weights are worse than raw ones" in " ".join(findings(by_distance))
    page = report_html(by_distance)
    assert "Best distance" in page
    assert "validation distance" in page
    shown = CliRunner().invoke(analyze, [str(folder), "--metric", "val_distance"])
    assert shown.exit_code == 0, shown.output
    assert "val_distance" in shown.output
    with pytest.raises(MetricError, match=r"have: val_error, val_distance, val_coverage$"):
        read_study(folder, "val_transport")
    refused = CliRunner().invoke(analyze, [str(folder), "--metric", "accuracy"])
    assert refused.exit_code == 2
    assert "--metric accuracy: must be one that the rows of" in " ".join(refused.output.split())
