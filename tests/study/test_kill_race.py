"""A search whose driver is killed time and again while it confirms its best."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import pytest

from plgan_tune.config.load import load_study
from plgan_tune.records import Verdict
from plgan_tune.store.location import Location
from plgan_tune.study.early_stopping import build_rule, left_behind
from plgan_tune.study.history import History, read_history
from plgan_tune.study.race import race_of
from plgan_tune.study.ranking import rank
from tests.waiting import held_search, wait_for_epochs

pytestmark = pytest.mark.slow

EPOCHS = 8
TRIALS = 4
SPACE = f"""
study: killed
search:
  trials: {TRIALS}
  sampler: random
  early_stopping: none
  confirm: {{seeds: 5, finalists: 3, share: 0.9}}
  first: [{{loss.alpha: 0.5}}, {{loss.alpha: 0.3}}, {{loss.alpha: 0.7}}, {{loss.alpha: 0.4}}]
resources: {{gpus_per_rank: 0}}
trial:
  data: {{source: digits, labels: 20, validation: 400}}
  model: {{width: 0.25}}
  loss: {{alpha: {{uniform: [0.1, 1.0]}}, switch_epoch: 4}}
  training: {{epochs: {EPOCHS}, batch_size: 20, checkpoint_every: 1}}
"""
WHEN = ["seconds", "images_per_second", "reported_at", "started_at", "ended_at", "node", "attempt"]
"""Columns that say when, where, and in which attempt. A search that was killed shows further attempts."""

Started = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


def words(name: str) -> list[str]:
    return ["--space", "space.yaml", "--name", name, "--resume"]


def search_for(name: str) -> list[str]:
    return [sys.executable, "-m", "plgan_tune.search", "--in-process", *words(name)]


def logged(study: Path) -> History:
    return read_history(Location.at(study), load_study(study / "study.yaml").study)


def table(study: Path, name: str) -> pd.DataFrame:
    frame = pd.read_parquet(study / name)
    kept = frame.drop(columns=[column for column in WHEN if column in frame])
    order = {"trials": ["number"], "decisions": ["seq", "trial_id"]}.get(name, ["seq"])
    return kept.sort_values(order, ignore_index=True)


def test_a_race_whose_driver_is_killed_loses_nothing_and_decides_the_same(tmp_path: Path, started: Started) -> None:
    """Every other time it has logged new epochs before; in between it is killed while it starts.

    Until the last kill it waits before the last epoch of the last fresh seed, where that kill finds it.
    """
    (tmp_path / "space.yaml").write_text(SPACE)
    said = tmp_path / "said.txt"
    with started(tmp_path, *search_for("whole")) as search:
        assert search.wait(timeout=600) == 0, said.read_text()
    whole, study = (tmp_path / "results" / name for name in ("whole", "mine"))
    last, epochs = table(whole, "trials").trial_id.iloc[-1], len(table(whole, "epochs"))
    moments = random.Random(0)
    known = History()
    while len(known.reports) < epochs - 1:
        for logs in (True, False):
            with started(tmp_path, *held_search(last, EPOCHS, *words("mine"))) as search:
                if logs:
                    at_least = max(TRIALS * EPOCHS, len(known.reports)) + 4 * EPOCHS
                    wait_for_epochs(search, study, min(at_least, epochs - 1), said)
                time.sleep(moments.uniform(0.0, 0.5 if logs else 3.0))
                os.killpg(search.pid, signal.SIGKILL)
                search.wait(timeout=30)
            before, known = known, logged(study)
            assert known.reports[: len(before.reports)] == before.reports
            assert known.decisions[: len(before.decisions)] == before.decisions
    with started(tmp_path, *search_for("mine")) as search:
        assert search.wait(timeout=600) == 0, said.read_text()

    for name in ("trials", "epochs", "decisions"):
        pd.testing.assert_frame_equal(table(study, name), table(whole, name), check_exact=True)
    one, other = ((folder / "best.yaml").read_text() for folder in (study, whole))
    assert one.replace("study mine", "study whole") == other

    spec, history = load_study(tmp_path / "space.yaml").study, logged(study)
    race = race_of(spec)
    assert race is not None
    assert max(row.attempt for row in history.trials if row.replicate_of is not None) > 1
    left = left_behind(history, spec, build_rule(spec))
    assert left.decisions == ()
    assert left.history.trials == history.trials
    standing = race.standing(history.trials)
    drops = [row for row in history.decisions if row.verdict is Verdict.DROP]
    assert sorted(drops, key=str) == sorted(standing.decisions, key=str)
    assert standing.ended == 2
    assert drops
    assert rank(history.trials, race)[0].trial_id in one
