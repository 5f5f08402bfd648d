"""Figures of the best trial's losses and gradients."""

from itertools import cycle

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plgan_tune.analysis.curves import switches
from plgan_tune.analysis.report.look import (
    FAINT,
    INK,
    Absent,
    Drawn,
    compact,
    figure,
    line_at,
    lines,
    titled,
    whole,
)
from plgan_tune.analysis.study import Study
from plgan_tune.records import OWN

LOSSES = {
    "loss_supervised": ("C_sup", "var(--completed)", "solid"),
    "loss_unsupervised": ("C_unsup", "var(--stopped)", "dash"),
    "loss_adversarial": ("V_log", "var(--running)", "dot"),
    "loss_feature": ("V_feature", "var(--diverged)", "dashdot"),
    "loss_self_training": ("C_self", "var(--failed)", "longdash"),
    "loss_penalty": ("C_gp", "var(--muted)", "longdashdot"),
}
"""Column -> name, colour and dash."""
WEIGHTS = {"loss_adversarial": "alpha", "loss_feature": "beta"}
"""Of the generator's terms."""
DASHES = ("solid", "dash", "dot", "dashdot")
"""Of own terms, which have one colour."""
NONE_COMPLETED = Absent("No trial has completed yet, so there is no best trial.")


def loss_terms(study: Study) -> Drawn:
    """Plot the loss terms over the best trial's epochs: those that it has."""
    if study.ranked.empty:
        return NONE_COMPLETED
    rows = epochs_of_best(study)
    told = {column: line for column, line in LOSSES.items() if _plays(study, column)} | own_terms(study)
    return lines(rows, told, titled("loss", nticks=6), _switch(rows))


def own_terms(study: Study) -> dict[str, tuple[str, str, str]]:
    """Return the columns of the study's own terms, each with its name, colour and dash."""
    columns = [column for column in study.epochs.columns if column.startswith(OWN)]
    return {column: (column, INK, dash) for column, dash in zip(columns, cycle(DASHES), strict=False)}


def _plays(study: Study, column: str) -> bool:
    """Return whether a term has a part in the best trial's losses: V_log and V_feature are measured in any case."""
    weight = WEIGHTS.get(column)
    return weight is None or _weight_of_best(study, weight) != 0


def gradient_ratio(study: Study) -> Drawn:
    """Plot alpha |grad V_log| / (beta |grad V_feature|) over the best trial's epochs: which loss drives G."""
    if study.ranked.empty:
        return NONE_COMPLETED
    alpha, beta = _weight_of_best(study, "alpha"), _weight_of_best(study, "beta")
    if alpha == 0 or beta == 0:
        return Absent("The best trial trains on only one of the two losses, so their gradients have no ratio.")
    rows = epochs_of_best(study)
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
    return float(getattr(study.trial(study.ranked["trial_id"].iloc[0]).loss, name))


def _decades(ratio: NDArray[np.float64]) -> dict[str, object]:
    """Return an axis that covers half a decade on both sides of 1, so that the line of equal parts is visible."""
    logs = np.log10(ratio[np.isfinite(ratio) & (ratio > 0)])
    low, high = min(-0.5, logs.min() - 0.1), max(0.5, logs.max() + 0.1)
    steps = (1, 3) if high - low < 4 else (1,)
    ticks = [d * 10.0**p for p in range(int(np.floor(low)), int(np.ceil(high)) + 1) for d in steps]
    return {"range": [low, high], "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def has(study: Study, column: str) -> bool:
    """Return whether an epoch of the study has a value in that column."""
    return column in study.epochs and bool(study.epochs[column].notna().any())


def epochs_of_best(study: Study) -> pd.DataFrame:
    """Return the rows of the best trial, by epoch."""
    mine = study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]
    rows: pd.DataFrame = study.epochs[mine].sort_values("epoch")
    return rows


def _switch(rows: pd.DataFrame) -> list[dict[str, object]]:
    return [line_at(epoch) for epoch in switches(rows)["epoch"].tolist()]
