"""Races of which two trainings run at a time: their studies, and what a log must imply."""

from pathlib import Path
from typing import Any

from plgan_tune.config.study import StudySpec
from plgan_tune.config.yaml import read_yaml
from plgan_tune.records import DecisionRow, TrialRow, Verdict
from plgan_tune.store.location import Location
from plgan_tune.study.early_stopping import build_rule, left_behind
from plgan_tune.study.history import read_history
from plgan_tune.study.race import race_of
from plgan_tune.study.ranking import rank
from plgan_tune.tuning.driver import StudyResult
from tests.factories import small

EPOCHS = 2
CONFIRM = {"seeds": 3, "finalists": 2, "share": 0.8}


def spec_of(*alphas: float, **changes: Any) -> StudySpec:
    first = [{"loss.alpha": alpha, "optim.lr_discriminator": 0.003} for alpha in alphas]
    known: dict[str, Any] = {
        "trials": len(alphas),
        "first": first,
        "concurrent": 2,
        "early_stopping": "none",
        "confirm": CONFIRM,
    }
    return small({"alpha": {"uniform": [0.0, 1.0]}}, {"epochs": EPOCHS}, **known | changes)


def split(rows: tuple[TrialRow, ...]) -> tuple[list[TrialRow], list[TrialRow]]:
    """The search's own, and the replicates."""
    return [row for row in rows if row.replicate_of is None], [row for row in rows if row.replicate_of is not None]


def check_replay(folder: Path, spec: StudySpec, result: StudyResult) -> list[DecisionRow]:
    """The log implies what the search came to; its decisions."""
    location, race = Location.at(folder / "study"), race_of(spec)
    assert race is not None
    history = read_history(location, spec)
    left = left_behind(history, spec, build_rule(spec))
    assert left.decisions == ()
    assert left.disagreement is None
    assert left.history.trials == history.trials
    assert sorted(result.state.rows(), key=lambda row: row.number) == list(history.trials)
    assert [report.seq for report in history.reports] == list(range(len(history.reports)))
    drops = [row for row in history.decisions if row.verdict is Verdict.DROP]
    assert sorted(drops, key=str) == sorted(race.standing(history.trials).decisions, key=str)
    assert race.standing(history.trials) == result.state.standing()
    best = rank(history.trials, race)[0]
    said = read_yaml((folder / "study" / "best.yaml").read_text()).value
    assert isinstance(said, dict)
    assert said["trial"]["loss"]["alpha"] == best.params["loss.alpha"]
    return drops
