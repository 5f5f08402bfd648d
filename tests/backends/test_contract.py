"""What every back-end makes of a study: the same suite over all of them, and the same rows from each."""

import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from plgan_tune.backends.backend import Backend
from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.errors import RuleError
from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialStatus
from plgan_tune.study.state import Ending
from plgan_tune.tuning.driver import StudyResult, run_study
from tests.factories import small

UNEQUAL = ["node", "seconds", "images_per_second", "reported_at", "started_at", "ended_at"]
"""Columns that say when and where."""

TOO_WIDE = [1, 10**6, 10**6]
"""Hidden layers of four terabytes, for which no machine has the memory."""


def on_ray() -> Backend:
    from plgan_tune.backends.ray.backend import RayBackend  # noqa: PLC0415 - seconds

    return RayBackend()


BACKENDS = [pytest.param(InProcess, id="in process"), pytest.param(on_ray, id="on Ray", marks=pytest.mark.ray)]


@pytest.fixture(params=BACKENDS)
def search(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., StudyResult]:
    if request.node.get_closest_marker("ray"):
        request.getfixturevalue("embedded_ray")

    def run(spec: StudySpec, **options: Any) -> StudyResult:
        return run_study(spec, backend=request.param(), results=tmp_path, name="study", **options)

    return run


def table(folder: Path, name: str) -> pd.DataFrame:
    frame = pd.read_parquet(folder / name)
    kept = frame.drop(columns=[column for column in UNEQUAL if column in frame])
    return kept.sort_values("number" if name == "trials" else "seq", ignore_index=True)


def test_a_search_ends_and_a_resume_adds_to_it(search: Callable[..., StudyResult], tmp_path: Path) -> None:
    first = search(small(trials=2))
    assert first.ending is Ending.DONE
    before = table(tmp_path / "study", "epochs")
    result = search(small(trials=4), resume=True)
    assert result.ending is Ending.DONE
    trials, epochs = (table(tmp_path / "study", name) for name in ("trials", "epochs"))
    assert list(trials["number"]) == [0, 1, 2, 3]
    assert set(trials["status"]) <= {"completed", "stopped"}
    assert list(epochs["seq"]) == list(range(len(epochs)))
    pd.testing.assert_frame_equal(epochs.head(len(before)), before)
    best = result.state.best()
    assert best is not None
    assert (tmp_path / "study" / "best.yaml").exists()


def test_a_trial_that_fails_costs_the_search_nothing_else(search: Callable[..., StudyResult], tmp_path: Path) -> None:
    model = {"kind": "mlp", "hidden": {"choice": [TOO_WIDE, [8]]}}
    spec = small(model=model, early_stopping="none", trials=1, max_failures=1, first=[{"model.hidden": TOO_WIDE}])
    result = search(spec)
    assert result.ending is Ending.DONE
    trials = pd.read_parquet(tmp_path / "study" / "trials").set_index("number")
    assert trials.loc[0, "status"] == TrialStatus.FAILED
    assert trials.loc[0, "attempt"] == 2
    assert "memory" in str(trials.loc[0, "error"])
    assert "\n" not in str(trials.loc[0, "error"])


def test_the_rows_of_one_process_are_those_of_ray_with_one_trial_at_a_time(embedded_ray: None, tmp_path: Path) -> None:
    for backend, name in ((InProcess(), "alone"), (on_ray(), "ray")):
        run_study(small(trials=8), backend=backend, results=tmp_path, name=name)
    for name in ("trials", "epochs", "decisions"):
        alone, ray = (table(tmp_path / study, name) for study in ("alone", "ray"))
        assert len(alone) > 4
        pd.testing.assert_frame_equal(alone, ray, check_exact=True)


def test_a_process_holds_one_rank(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match="ranks must be 1 where trials train in this process"):
        run_study(small(ranks=2), backend=InProcess(), results=tmp_path, name="study")
    assert not (tmp_path / "study").exists()


def test_a_stop_keeps_what_is_done_and_a_resume_comes_to_the_same(tmp_path: Path) -> None:
    """Stopped after every epoch, and resumed until it is done."""
    first = [{"loss.alpha": alpha, "loss.ramp": "one", "optim.lr_discriminator": 0.003} for alpha in (0.2, 0.9, 0.6)]
    spec = small(trials=3, first=first)
    run_study(spec, backend=InProcess(), results=tmp_path, name="whole")
    endings: list[Ending] = []
    while Ending.DONE not in endings:
        stopping = InProcess(stop_requested=after_one_answer())
        endings.append(run_study(spec, backend=stopping, results=tmp_path, name="cut", resume=True).ending)
    epochs = table(tmp_path / "whole", "epochs")
    assert len(endings) > len(epochs) - 3  # a start an epoch, but for those that end a trial
    for name in ("epochs", "decisions"):
        whole, cut = (table(tmp_path / study, name).drop(columns=["attempt"]) for study in ("whole", "cut"))
        pd.testing.assert_frame_equal(whole, cut, check_exact=True)


def after_one_answer() -> Callable[[], bool]:
    """Whether a stop is asked for: not at first, then always."""
    asked = count()
    return lambda: next(asked) > 0


WITHOUT_RAY = """
import sys
sys.modules["ray"] = None
from plgan_tune.search import app
app()
"""


def test_a_machine_without_ray_searches_in_one_process(tmp_path: Path) -> None:
    words = ["--in-process", "--results", str(tmp_path), "--name", "mine"]
    words += [word for key in ("search.trials=2", "trial.training.epochs=2") for word in ("--set", key)]
    words += ["--set", "trial.loss.switch_epoch=1", "--set", "trial.optim.decay_epoch=1", "--set", "search.first=[]"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(pd.read_parquet(tmp_path / "mine" / "trials")) == 2
