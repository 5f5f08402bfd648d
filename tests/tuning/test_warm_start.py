"""What older studies bring to a new one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialStatus
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.log import StudyLog
from plgan_tune.study.folder import write_study
from plgan_tune.tuning.sampler import OptunaSampler
from plgan_tune.tuning.warm_start import read_older
from tests.factories import OWN_TERMS, START, make_trial


def study(
    loss: dict[str, Any],
    warm_start: list[str] | None = None,
    epochs: int = 6,
    own: dict[str, Any] | None = None,
) -> StudySpec:
    return study_from_mapping(
        {
            "study": "test",
            "search": {"sampler": "random", "warm_start": warm_start or []},
            "trial": {
                "data": {"source": "digits", "labels": 20, "validation": 100},
                "loss": loss,
                "training": {"epochs": epochs},
                "own": own or {},
            },
        }
    )


Leave = Callable[[Path, StudySpec, list[dict[str, Any]]], str]


@pytest.fixture
def leave() -> Leave:
    """Writes a study of these points, each with an error of its number in hundredths; the last is still running."""

    def written(folder: Path, spec: StudySpec, points: list[dict[str, Any]]) -> str:
        location = Location.at(folder)
        write_study(location, spec, START)
        with StudyLog(location, spec.columns, spec.types) as log:
            log.open_tables()
            for number, point in enumerate(points):
                last = number == len(points) - 1
                status = TrialStatus.RUNNING if last else TrialStatus.COMPLETED
                log.trial(make_trial(number, status, point, number / 100))
        return str(folder)

    return written


def test_an_ordered_choice_and_a_step_take_what_lies_in_them(tmp_path: Path, leave: Leave) -> None:
    older = study({"ramp": {"choice": ["clamp", "zero", "one"]}, "alpha": {"uniform": [0, 1]}})
    points = [{"loss.alpha": alpha, "loss.ramp": ramp} for alpha, ramp in ((0.5, "one"), (0.3, "zero"), (0.75, "zero"))]
    place = leave(tmp_path / "older", older, [*points, points[0]])
    ramp = {"choice": ["zero", "clamp", "one"], "ordered": True}
    spec = study({"ramp": ramp, "alpha": {"uniform": [0, 1], "step": 0.25}}, [place])
    assert told(spec) == [
        ({"loss.alpha": 0.5, "loss.ramp": 2}, 0.0),
        ({"loss.alpha": 0.75, "loss.ramp": 0}, 0.02),
    ]


def told(spec: StudySpec) -> list[tuple[dict[str, Any], float | None]]:
    trials = OptunaSampler(spec, older=read_older(spec)).study.get_trials(states=[TrialState.COMPLETE])
    return [(found.params, found.value) for found in trials]


UNIT = {"uniform": [0.0, 1.0]}


def test_finished_trials_of_the_same_keys_are_told(tmp_path: Path, leave: Leave) -> None:
    points = [{"loss.alpha": 0.25}, {"loss.alpha": 0.75}, {"loss.alpha": 0.5}]
    path = leave(tmp_path / "older", study({"alpha": UNIT}), points)
    spec = study({"alpha": UNIT}, [path])
    assert told(spec) == [({"loss.alpha": 0.25}, 0.0), ({"loss.alpha": 0.75}, 0.01)]
    assert [older.note for older in read_older(spec)] == [f"warm start from {path}: took 2 of 2 finished trials"]


def test_a_key_that_was_fixed_has_its_value(tmp_path: Path, leave: Leave) -> None:
    path = leave(tmp_path / "older", study({"alpha": UNIT, "beta": 0.125}), [{"loss.alpha": 0.25}] * 2)
    spec = study({"alpha": UNIT, "beta": UNIT}, [path])
    assert told(spec) == [({"loss.alpha": 0.25, "loss.beta": 0.125}, 0.0)]


def test_a_default_that_hangs_on_a_searched_key_is_the_trials_own(tmp_path: Path, leave: Leave) -> None:
    """The switch epoch of an mlp is 60, of a convolutional pair 100."""
    kinds = {"choice": ["mlp", "conv"]}
    points = [{"model.kind": kind} for kind in ("mlp", "conv", "mlp")]

    def searching(**more: Any) -> StudySpec:
        trial = {
            "data": {"source": "digits", "labels": 20, "validation": 100},
            "model": {"kind": kinds},
            "training": {"epochs": 200},
        }
        return study_from_mapping({"study": "test", "search": {"sampler": "random"}, "trial": trial | more})

    path = leave(tmp_path / "older", searching(), points)
    newer = searching(loss={"switch_epoch": {"int": [1, 200]}})
    spec = replace(newer, search=newer.search.model_copy(update={"warm_start": (path,)}))
    (older,) = read_older(spec)
    assert [(row.params["model.kind"], row.params["loss.switch_epoch"]) for row in older.trials] == [
        ("mlp", searching().trial({"model.kind": "mlp"}).loss.switch_epoch),
        ("conv", searching().trial({"model.kind": "conv"}).loss.switch_epoch),
    ]
    assert older.trials[0].params["loss.switch_epoch"] != older.trials[1].params["loss.switch_epoch"]


def test_what_lies_outside_is_not_taken_and_what_differs_is_said(tmp_path: Path, leave: Leave) -> None:
    points = [{"loss.alpha": 0.25}, {"loss.alpha": 0.75}, {"loss.alpha": 0.5}]
    path = leave(tmp_path / "older", study({"alpha": UNIT}, epochs=6), points)
    spec = study({"alpha": {"uniform": [0.5, 1.0]}}, [path], epochs=9)
    assert told(spec) == [({"loss.alpha": 0.75}, 0.01)]
    (older,) = read_older(spec)
    assert older.note == (
        f"warm start from {path}: took 1 of 2 finished trials; 1 lie outside the current domains; "
        "their errors may not be comparable, since it has training.epochs 6"
    )


def test_a_study_of_other_keys_brings_nothing(tmp_path: Path, leave: Leave) -> None:
    path = leave(tmp_path / "older", study({"beta": UNIT}), [{"loss.beta": 0.25}] * 2)
    (older,) = read_older(study({"alpha": UNIT}, [path]))
    assert older.trials == ()
    assert older.note.endswith("took none, because it searches loss.beta, which this study does not")


def test_an_own_key_without_a_value_brings_nothing(tmp_path: Path, leave: Leave) -> None:
    path = leave(tmp_path / "older", study({"alpha": UNIT}), [{"loss.alpha": 0.25}] * 2)
    (older,) = read_older(study({"alpha": UNIT}, [path], own={"file": str(OWN_TERMS), "entropy": UNIT}))
    assert older.trials == ()
    assert older.note.endswith(
        "took none, because it gives own.entropy no value: the default is known to the user's own file alone"
    )


def test_an_own_file_of_the_same_content_is_the_same(tmp_path: Path, leave: Leave) -> None:
    copy, edited = tmp_path / "copy.py", tmp_path / "edited.py"
    copy.write_bytes(OWN_TERMS.read_bytes())
    edited.write_bytes(OWN_TERMS.read_bytes() + b"\n")
    points = [{"loss.alpha": 0.25}] * 2
    path = leave(tmp_path / "older", study({"alpha": UNIT}, own={"file": str(OWN_TERMS), "entropy": 0.5}), points)
    (same,) = read_older(study({"alpha": UNIT}, [path], own={"file": str(copy), "entropy": UNIT}))
    assert same.note.endswith("took 1 of 1 finished trials")
    assert same.trials[0].params == {"loss.alpha": 0.25, "own.entropy": 0.5}
    (other,) = read_older(study({"alpha": UNIT}, [path], own={"file": str(edited), "entropy": UNIT}))
    assert "may not be comparable, since it has own.sha256" in other.note


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"search\.warm_start: a study's folder holds study\.yaml, but"):
        read_older(study({"alpha": UNIT}, [str(tmp_path)]))


def test_a_study_that_went_by_another_metric_brings_nothing(tmp_path: Path, leave: Leave) -> None:
    older = study({"alpha": {"uniform": [0.0, 1.0]}})
    place = leave(tmp_path / "older", older, [{"loss.alpha": 0.25}, {"loss.alpha": 0.5}])
    newer = study_from_mapping(
        {
            **older.as_mapping(),
            "search": {"sampler": "random", "warm_start": [place], "metric": "val_coverage"},
        }
    )
    (found,) = read_older(newer)
    assert found.trials == ()
    assert found.note.endswith("took none, because it ranks trials by val_error, and this study by val_coverage")
