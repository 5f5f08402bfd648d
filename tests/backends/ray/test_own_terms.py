"""A user's own terms on Ray: the ranks load the study's copy, and train as one process does."""

from pathlib import Path

import pandas as pd
import pytest

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import study_from_mapping
from plgan_tune.records import TrialStatus
from plgan_tune.tuning.driver import run_study
from tests.factories import OWN_TERMS, SMALL, UNTIMED, Search


@pytest.mark.ray
@pytest.mark.slow
def test_two_ranks_train_an_own_term_as_one_does(search: Search, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_bytes(OWN_TERMS.read_bytes())
    trial = {
        **SMALL["trial"],
        "loss": {"switch_epoch": 1},
        "optim": {},
        "training": {"epochs": 2, "precision": "float64"},
        "own": {"file": str(mine), "entropy": {"uniform": [0.0, 1.0]}},
    }
    asked = {"trials": 2, "concurrent": 1, "sampler": "random", "confirm": None}
    one, two = (
        study_from_mapping({"study": "own", "search": asked, "trial": trial, "resources": {"ranks": ranks}})
        for ranks in (1, 2)
    )
    run_study(one, backend=InProcess(), results=tmp_path, name="one")
    result = search(two, "two")
    assert [(row.status, row.error) for row in result.state.rows()] == [(TrialStatus.COMPLETED, None)] * 2
    rows, expected = (pd.read_parquet(tmp_path / name / "epochs") for name in ("two", "one"))
    columns = [*UNTIMED, *(name for name in map(str, expected) if name.startswith("own_"))]
    assert len(columns) == len(UNTIMED) + 6
    pd.testing.assert_frame_equal(rows[columns], expected[columns], rtol=0, atol=1e-6)
