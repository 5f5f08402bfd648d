"""The table of learning curves: each training once, as a search trains it, interrupted or not."""

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
from make_table import CONFIGURATIONS, PATENT, Curve, Training, make, plan, point_of, read, study, train, trial_of

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import load_study
from plgan_tune.config.study import set_paths
from plgan_tune.config.trial import TrialSpec
from plgan_tune.tuning.driver import run_study


def untimed(curves: list[Curve]) -> list[Curve]:
    return [replace(row, seconds=0.0) for row in curves]


def short(training: Training) -> TrialSpec:
    return TrialSpec.model_validate(set_paths(trial_of(training).model_dump(), {"training.epochs": 2}))


def test_the_plan_has_each_training_once() -> None:
    trainings = plan()
    assert len(set(trainings)) == len(trainings) == 256 * 12 + 64 * 12
    assert {one.configuration for one in trainings} == set(range(CONFIGURATIONS))


def test_configurations_lie_in_the_space_and_differ() -> None:
    points = [point_of(number) for number in range(CONFIGURATIONS)]
    assert points[0] == dict(PATENT)
    assert all(study().holds(point) for point in points)
    assert len({tuple(point.values()) for point in points}) == CONFIGURATIONS


def test_the_split_varies_only_where_it_should() -> None:
    by_seed, by_split = (trial_of(Training(varied, 3, 5)) for varied in ("seed", "split"))
    assert (by_seed.seed, by_seed.data.split_seed) == (5, 0)
    assert (by_split.seed, by_split.data.split_seed) == (5, 5)
    assert by_seed.loss == by_split.loss


def test_an_interrupted_table_comes_to_the_same(tmp_path: Path) -> None:
    """And to a search's own rows: configuration 0 is the first point of the digits."""
    trials = {one: short(one) for one in (Training("seed", 0, 0), Training("split", 1, 2), Training("seed", 2, 1))}
    straight = untimed([train(training, trial) for training, trial in trials.items()])
    first = next(iter(trials))
    make(tmp_path / "curves.parquet", {first: trials[first]}, 1, math.inf)
    make(tmp_path / "curves.parquet", trials, 1, math.inf, each=1)
    assert untimed(read(tmp_path / "curves.parquet")) == straight
    assert all(len(row.wrong) == 2 and row.test_wrong is not None for row in straight)

    digits = Path(__file__).parent.parent / "search_spaces" / "digits.yaml"
    changes = ["search.trials=1", "search.sampler=random", "trial.training.epochs=2"]
    spec = load_study(digits, changes).study
    run_study(spec, backend=InProcess(), results=tmp_path, name="search")
    errors = pd.read_parquet(tmp_path / "search" / "epochs")["val_error"]
    assert [round(400 * error) for error in errors] == straight[0].wrong
