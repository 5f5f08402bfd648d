"""Spaces of finitely many points: steps, ordered choices, grids, and points that would be trained again."""

from pathlib import Path
from typing import Any

import pandas as pd

from tests.factories import Search, small

HIDDEN = {"choice": [[4], [8, 4], [8, 8, 4]], "ordered": True}


def stepped(**search: Any) -> Any:
    """Ten multiples of a tenth, three lists in order."""
    return small(
        {"alpha": {"uniform": [0.1, 1.0], "step": 0.1}},
        {"epochs": 1},
        model={"kind": "mlp", "hidden": HIDDEN},
        **{"first": [{"loss.alpha": 0.7, "model.hidden": [8, 4]}], **search},
    )


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "trials").sort_values("number", ignore_index=True)


# Steps and ordered choices


def test_rows_hold_what_the_space_file_says(search: Search, tmp_path: Path) -> None:
    """And a resume knows them: TPE suggests from them, within steps of another size."""
    search(stepped(trials=4, sampler={"tpe": {"startup_trials": 1}}))
    search(stepped(trials=6, sampler={"tpe": {"startup_trials": 1}}), resume=True)
    trials = table(tmp_path / "study")
    assert trials["params_alpha"].isin([tenth / 10 for tenth in range(1, 11)]).all()
    assert trials["params_hidden"].isin(["[4]", "[8, 4]", "[8, 8, 4]"]).all()
    assert (trials.loc[0, "params_alpha"], trials.loc[0, "params_hidden"]) == (0.7, "[8, 4]")
    assert (str(trials["params_alpha"].dtype), len(trials)) == ("float64", 6)
