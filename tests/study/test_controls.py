"""Controls cost the other trials nothing, are drawn alike by every start, and are as many as was asked for."""

from collections import defaultdict
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.backends.in_process import InProcess
from plgan_tune.records import DecisionRow, Report, Verdict
from plgan_tune.study.controls import Audited, draw_controls
from plgan_tune.study.halving import Halving
from plgan_tune.tuning.driver import run_study
from tests.factories import small

RUNGS = (1, 2, 4)
LAST = 5
CURVES = st.lists(st.lists(st.integers(0, 20), min_size=LAST, max_size=LAST), min_size=1, max_size=12)


def decisions(rule: Audited | Halving, curves: list[list[int]]) -> list[DecisionRow]:
    """What the rule decides where trials train side by side, an epoch each in turn; stopped ones report no more."""
    stopped: set[int] = set()
    found: list[DecisionRow] = []
    for epoch in range(1, LAST):
        for number, curve in enumerate(curves):
            if number in stopped:
                continue
            row = rule.report(Report(0, f"t{number}", 1, epoch, curve[epoch - 1] / 20), {})
            if row is not None:
                found.append(row)
                stopped |= {number} if row.verdict is Verdict.STOP else set()
    return found


@given(CURVES, st.sets(st.integers(0, 11)))
def test_the_other_trials_are_judged_as_without_controls(curves: list[list[int]], drawn: set[int]) -> None:
    audited = decisions(Audited(Halving(RUNGS, 2), {f"t{number}" for number in drawn}.__contains__), curves)
    plain = decisions(Halving(RUNGS, 2), curves)
    assert [row.reason for row in audited] == [row.reason for row in plain]
    for one, other in zip(audited, plain, strict=True):
        is_control = other.verdict is Verdict.STOP and int(other.trial_id[1:]) in drawn
        assert one.verdict is (Verdict.CONTROL if is_control else other.verdict)


@given(CURVES)
def test_no_share_is_no_control(curves: list[list[int]]) -> None:
    none = draw_controls(0.0, seed=1)
    assert decisions(Audited(Halving(RUNGS, 3), none), curves) == decisions(Halving(RUNGS, 3), curves)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_share_is_kept_and_seeds_differ(share: float) -> None:
    drawn = defaultdict(set)
    for seed in range(20):
        is_control = draw_controls(share, seed)
        drawn[seed] = {number for number in range(2000) if is_control(f"t{number:04d}")}
        assert len(drawn[seed]) == pytest.approx(2000 * share, abs=5 * (2000 * share * (1 - share)) ** 0.5)
    assert len({frozenset(one) for one in drawn.values()}) == 20
    both = len(drawn[0] & drawn[1])
    assert both == pytest.approx(2000 * share**2, abs=5 * (2000 * share**2) ** 0.5)


def test_a_search_trains_its_controls_to_the_end_and_a_resume_agrees(tmp_path: Path) -> None:
    """Where all are controls, none is stopped; a resume finds nothing to add or to dispute."""
    spec = small(
        trials=6,
        sampler="random",
        early_stopping={"asha": {"grace_period": 1, "reduction_factor": 2, "min_competitors": 1, "controls": 0.999999}},
    )
    run = partial(run_study, spec, backend=InProcess(), results=tmp_path, name="audited")
    run()
    trials, judged = (pd.read_parquet(tmp_path / "audited" / name) for name in ("trials", "decisions"))
    controls = set(judged.loc[judged["verdict"] == "control", "trial_id"])
    assert controls
    assert set(judged["verdict"]) == {"continue", "control"}
    assert set(trials["status"]) == {"completed"}
    assert not judged.duplicated(["trial_id", "rung"]).any()
    run(resume=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "audited" / "decisions"), judged)
