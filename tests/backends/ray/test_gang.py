"""Trials of several ranks."""

import os
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import ray

from plgan_tune.backends.errors import ClusterError
from plgan_tune.backends.in_process import InProcess
from plgan_tune.backends.ray import tune_run
from plgan_tune.backends.ray.gang import Gang, RankActor
from plgan_tune.backends.ray.trainable import PlganTrainable
from plgan_tune.config.load import study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.records import TrialStatus
from plgan_tune.tuning.driver import run_study
from tests.factories import OWN_TERMS, UNTIMED, Search, small


class LosingARank(PlganTrainable):
    """A Trainable of two ranks, of which rank 1 fails while rank 0 waits for it.

    In the first trial's third epoch its process dies, once. In the second trial's it raises, in every attempt.
    """

    def _take_up(self, config: dict[str, Any]) -> None:
        super()._take_up(config)
        self._assignment = config["assignment"]
        self._epoch = self._assignment.logged

    def step(self) -> dict[str, Any]:
        if self._next is not None:
            config, self._next = self._next, None
            self._take_up(config)
        self._epoch += 1
        if self._epoch == 3 and self._assignment.number == 1:
            self._plant(raise_planted)
        elif self._epoch == 3 and self._assignment.attempt == 1:
            self._plant(die)
        return super().step()

    def _plant(self, step: Any) -> None:
        def plant(actor: RankActor) -> None:
            assert actor._worker is not None
            actor._worker.step = step  # type: ignore[method-assign]

        assert isinstance(self._worker, Gang)
        ray.get(self._worker._actors[1].__ray_call__.remote(plant))


def die() -> None:
    os._exit(1)


def raise_planted() -> None:
    raise RuntimeError("planted in rank 1")


@pytest.mark.ray
@pytest.mark.slow
def test_two_ranks_report_the_epochs_of_one_and_so_does_the_gang_after_one_that_lost_a_rank(
    search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a user's own terms, of which each rank loads the study's copy. The failure of a rank is what its trial says.

    More ranks than the cluster holds are refused with the numbers.
    """
    (tmp_path / "mine.py").write_bytes(OWN_TERMS.read_bytes())

    def of_ranks(count: int) -> StudySpec:
        training = {"epochs": 4, "checkpoint_every": 1, "precision": "float64"}
        options: dict[str, Any] = {"early_stopping": "none", "trials": 2, "max_failures": 1}
        mapping = small(training=training, **options, ranks=count).as_mapping()
        mapping["trial"]["own"] = {"file": str(tmp_path / "mine.py"), "entropy": 0.5}
        return study_from_mapping(mapping)

    run_study(of_ranks(1), backend=InProcess(), results=tmp_path, name="one")
    search(of_ranks(2), "two")
    monkeypatch.setattr(tune_run, "PlganTrainable", LosingARank)
    began = time.monotonic()
    search(of_ranks(2), "broken")
    assert time.monotonic() - began < 540  # no rank waits out a collective's ten minutes
    one, two, broken = (pd.read_parquet(tmp_path / name / "epochs") for name in ("one", "two", "broken"))
    own = [name for name in map(str, one) if name.startswith("own_")]
    assert len(own) == 6
    pd.testing.assert_frame_equal(one[[*UNTIMED, *own]], two[[*UNTIMED, *own]], rtol=0, atol=1e-6)
    assert list(broken["trial_id"]) == ["t0000"] * 4 + ["t0001"] * 2
    assert list(broken["attempt"]) == [1, 1, 2, 2, 1, 1]
    pd.testing.assert_frame_equal(two[UNTIMED].head(6), broken[UNTIMED])
    trials = pd.read_parquet(tmp_path / "broken" / "trials").set_index("number")
    assert list(trials["status"]) == [TrialStatus.COMPLETED, TrialStatus.FAILED]
    assert list(trials["attempt"]) == [2, 2]
    assert "planted in rank 1" in str(trials.loc[1, "error"])
    with pytest.raises(ClusterError, match=r"3 x \(1 CPU\).*2 CPU"):
        search(of_ranks(3), "three")
    assert not (tmp_path / "three").exists()
