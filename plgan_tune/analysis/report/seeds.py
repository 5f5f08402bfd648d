"""Figure of configurations that were trained with other seeds, and of published numbers."""

from typing import Any

import numpy as np
import pandas as pd

from plgan_tune.analysis.report.look import Trace, compact, figure, titled
from plgan_tune.analysis.seeds import ERROR, Outcome


def seeds_figure(seeds: pd.DataFrame, outcome: Outcome = ERROR) -> Any:
    """Plot each row as a point with its 95 % interval; published ones are hollow, with their printed deviation.

    Args:
        seeds: rows of `beside_published`.
        outcome: what they are of.
    """
    rows, scale = seeds.iloc[::-1], 100 if outcome.is_share else 1
    ours = rows["seeds"].notna().to_numpy()
    tint = np.where(ours, "var(--completed)", "var(--muted)").tolist()
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "x": compact(scale * rows["error"]),
        "y": rows["name"].tolist(),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": compact(scale * (rows["high"] - rows["error"]).fillna(0)),
            "arrayminus": compact(scale * (rows["error"] - rows["low"]).fillna(0)),
            "color": "var(--muted)",
            "thickness": 1.5,
            "width": 4,
        },
        "marker": {
            "color": tint,
            "symbol": np.where(ours, "circle", "circle-open").tolist(),
            "size": 10,
            "line": {"width": 2, "color": tint},
        },
        "hovertext": np.where(ours, "95 % interval of the mean", "deviation as printed").tolist(),
        "hovertemplate": f"%{{y}}<br>%{{x:.2f}}{' %' * outcome.is_share}<br>whisker: %{{hovertext}}<extra></extra>",
    }
    return figure(
        [trace],
        height=100 + 30 * len(rows),
        xaxis=titled(f"test {outcome.noun}{outcome.unit}", showgrid=True),
        yaxis={"type": "category", "ticklabelstandoff": 6},
    )
