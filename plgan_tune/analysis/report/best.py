"""Figures of the best trial's losses and gradients, and the best trials' generated images."""

import base64
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plgan_tune.analysis.curves import switches
from plgan_tune.analysis.report.look import (
    FAINT,
    INK,
    Absent,
    Drawn,
    Trace,
    compact,
    figure,
    line_at,
    titled,
    whole,
)
from plgan_tune.analysis.study import Study
from plgan_tune.console.format import measured
from plgan_tune.store.checkpoints import TrialFiles

LOSSES = {
    "loss_supervised": ("C_sup", "var(--completed)", "solid"),
    "loss_unsupervised": ("C_unsup", "var(--stopped)", "dash"),
    "loss_adversarial": ("V_log", "var(--running)", "dot"),
    "loss_feature": ("V_feature", "var(--diverged)", "dashdot"),
    "loss_self_training": ("C_self", "var(--failed)", "longdash"),
}
"""Column -> name, colour and dash."""
GRIDS = 3
NONE_COMPLETED = Absent("No trial has completed yet, so there is no best trial.")


def loss_terms(study: Study) -> Drawn:
    """Plot the loss terms over the best trial's epochs: those that it has."""
    if study.ranked.empty:
        return NONE_COMPLETED
    rows = _epochs_of_best(study)
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": whole(rows["epoch"]),
            "y": compact(rows[column]),
            "line": {"color": tint, "dash": dash, "width": 2},
            "hovertemplate": f"{name}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        }
        for column, (name, tint, dash) in LOSSES.items()
        if rows[column].notna().any()
    ]
    return figure(
        traces,
        height=380,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"color": INK}},
        margin={"l": 56, "r": 16, "t": 44, "b": 48},
        xaxis=titled("epoch", rangemode="tozero"),
        yaxis=titled("loss", nticks=6),
        shapes=_switch(rows),
    )


def gradient_ratio(study: Study) -> Drawn:
    """Plot alpha |grad V_log| / (beta |grad V_feature|) over the best trial's epochs: which loss drives G."""
    if study.ranked.empty:
        return NONE_COMPLETED
    alpha, beta = _weight_of_best(study, "alpha"), _weight_of_best(study, "beta")
    if alpha == 0 or beta == 0:
        return Absent("The best trial trains on only one of the two losses, so their gradients have no ratio.")
    rows = _epochs_of_best(study)
    feature = (beta * rows["grad_norm_feature"]).to_numpy(dtype=float)
    log = (alpha * rows["grad_norm_adversarial"]).to_numpy(dtype=float)
    ratio = np.divide(log, feature, out=np.full(len(rows), np.nan), where=feature > 0)
    if not (np.isfinite(ratio) & (ratio > 0)).any():
        return Absent("The best trial's epochs have no gradient norms to compare.")
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": whole(rows["epoch"]),
        "y": compact(np.where(ratio > 0, ratio, np.nan)),
        "line": {"color": INK, "width": 2},
        "hovertemplate": "epoch %{x}: %{y:.3g}<extra></extra>",
    }
    even = {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": 1,
        "y1": 1,
        "line": {"color": FAINT, "width": 1.5},
    }
    return figure(
        [trace],
        height=380,
        margin={"l": 56, "r": 16, "t": 44, "b": 48},
        xaxis=titled("epoch", rangemode="tozero"),
        yaxis=titled("V_log's part / V_feature's", type="log", **_decades(ratio)),
        shapes=[even, *_switch(rows)],
    )


def _weight_of_best(study: Study, name: str) -> float:
    column = study.spec.columns.get(f"loss.{name}")
    return float(study.ranked[column].iloc[0] if column else getattr(study.spec.any_trial().loss, name))


def _decades(ratio: NDArray[np.float64]) -> dict[str, object]:
    """Return an axis that covers half a decade on both sides of 1, so that the line of equal parts is visible."""
    logs = np.log10(ratio[np.isfinite(ratio) & (ratio > 0)])
    low, high = min(-0.5, logs.min() - 0.1), max(0.5, logs.max() + 0.1)
    steps = (1, 3) if high - low < 4 else (1,)
    ticks = [d * 10.0**p for p in range(int(np.floor(low)), int(np.ceil(high)) + 1) for d in steps]
    return {"range": [low, high], "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def _epochs_of_best(study: Study) -> pd.DataFrame:
    mine = study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]
    rows: pd.DataFrame = study.epochs[mine].sort_values("epoch")
    return rows


def _switch(rows: pd.DataFrame) -> list[dict[str, object]]:
    return [line_at(epoch) for epoch in switches(rows)["epoch"].tolist()]


@dataclass(frozen=True, slots=True)
class Grid:
    """A trial's generated images.

    Attributes:
        trial_id: the trial.
        value: its value at the last epoch, in words.
        uri: the PNG as a data URI.
        width: width in pixels at which it is shown, an integer multiple of its own.
    """

    trial_id: str
    value: str
    uri: str
    width: int


def sample_grids(study: Study) -> list[Grid]:
    """Return at most `GRIDS` grids of completed trials that have one, the best trial's first."""
    found: list[Grid] = []
    best = study.ranked.head(4 * GRIDS)  # a search keeps only the files of its best trials
    for trial_id, value in zip(best["trial_id"], best[study.last], strict=True):
        png = TrialFiles.of(study.location, trial_id).samples()
        if png is not None and len(found) < GRIDS:
            width = int.from_bytes(png[16:20], "big")  # the PNG's header
            uri = "data:image/png;base64," + base64.b64encode(png).decode()
            found.append(
                Grid(trial_id, measured(study.metric, float(value)), uri, width * max(1, 300 // max(width, 1)))
            )
    return found
