"""The look of all figures. Colours are the page's custom properties (page.css), so that plots follow light and dark."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from plgan_tune.analysis.study import Study
from plgan_tune.config.metrics import Metric
from plgan_tune.console.format import word
from plgan_tune.records import TrialStatus

Trace = Mapping[str, Any]
"""A Plotly trace in the form of its JSON."""

INK: Final = "var(--ink)"
MUTED: Final = "var(--muted)"
FAINT: Final = "var(--faint)"
PAPER: Final = "var(--paper)"
SCALE: Final = [[0.0, "var(--low)"], [0.5, "var(--middle)"], [1.0, "var(--high)"]]
"""Costs: the lowest, which is the best, stands out from the page, the highest fades into it."""

SYMBOLS: Final = {
    TrialStatus.STOPPED: "circle-open",
    TrialStatus.DIVERGED: "x",
    TrialStatus.FAILED: "triangle-up",
    TrialStatus.RUNNING: "square-open",
    TrialStatus.COMPLETED: "circle",
}
"""Statuses in drawing order, the last on top. Symbols distinguish them without colour."""


def belongs_to(status: str) -> Trace:
    """Return the part of a trace by which the page's buttons find what to hide."""
    return {"meta": {"status": status}}


def with_trials(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with columns `trial`, the trial's row in `study.trials`, and `status`, that trial's status."""
    place = pd.Series(study.trials.index, index=study.trials["trial_id"])
    codes, names = pd.factorize(rows["trial_id"])
    trial = place.reindex(names.astype(str)).to_numpy()[codes]
    return rows.assign(trial=trial, status=study.trials["status"].reindex(trial).to_numpy())


@dataclass(frozen=True, slots=True)
class Group:
    """What a figure shows of the trials of one status.

    Attributes:
        word: name of the status.
        colour: its colour.
        symbol: its symbol.
        rows: its rows of the grouped frame.
    """

    word: str
    colour: str
    symbol: str
    rows: pd.DataFrame

    @property
    def label(self) -> Trace:
        """The parts of a trace that name it."""
        return {"name": self.word, **belongs_to(self.word)}


def by_status(study: Study, rows: pd.DataFrame) -> Iterator[Group]:
    """Yield the groups of `rows`, which have a column `status`, in drawing order."""
    for status, symbol in SYMBOLS.items():
        some = rows[rows["status"] == status]
        if not some.empty:
            yield Group(word(status, searching=study.searching), colour(status), symbol, some)


@dataclass(frozen=True, slots=True)
class Absent:
    """Replaces a figure for which the study has no data.

    Attributes:
        why: the reason, in a sentence.
    """

    why: str


Drawn = go.Figure | Absent


def colour(status: TrialStatus) -> str:
    """Return the colour of a status."""
    return f"var(--{status})"


def figure(
    traces: Iterable[Trace],
    *,
    height: int = 380,
    xaxis: dict[str, Any] | None = None,
    yaxis: dict[str, Any] | None = None,
    left_out: str = "",
    **layout: Any,
) -> go.Figure:
    """Make a figure in the report's style.

    Args:
        traces: the figure's traces.
        height: in pixels.
        xaxis: settings that override the style's.
        yaxis: likewise.
        left_out: sentences on what is not drawn because there is too much of it.
        **layout: more settings that override the style's.

    Raises:
        ValueError: if Plotly does not know a name or value.
    """
    style = {
        "template": {},
        "height": height,
        "autosize": True,
        "margin": {"l": 56, "r": 16, "t": 28, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"size": 12.5, "color": MUTED},
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": FAINT, "font": {"color": INK, "size": 13}, "align": "left"},
        "hovermode": "closest",
        "showlegend": False,
        "meta": {"left_out": left_out},
        "xaxis": _AXIS | {"showgrid": False, "showline": True} | (xaxis or {}),
        "yaxis": _AXIS | (yaxis or {}),
    }
    return go.Figure(list(traces), style | layout)


_AXIS: Final[dict[str, Any]] = {
    "gridcolor": "var(--line)",
    "linecolor": FAINT,
    "ticks": "",
    "zeroline": False,
    "automargin": True,
}


def titled(text: str, **axis: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": text, "font": {"size": 12.5, "color": MUTED}, "standoff": 10}} | axis


def compact(values: Any) -> NDArray[np.float32]:
    """Convert `values` to numbers of four bytes: seven digits, more than a plot shows."""
    return np.asarray(values, dtype=float).astype(np.float32)


def whole(values: Any) -> NDArray[np.unsignedinteger]:
    """Convert whole numbers from 0 to the smallest type that holds the largest."""
    numbers = np.asarray(values, dtype=np.uint64)
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


def hover_format(metric: Metric) -> str:
    """Return the format of a metric's value in a figure's text."""
    return ".2%" if metric.is_share else ".4~g"


def scaled(metric: Metric, values: Any) -> Any:
    """Return a metric's values as axes without a format have them: shares in per cent."""
    return 100 * values if metric.is_share else values


def unit(metric: Metric) -> str:
    """Return what stands behind the name of such an axis: `, %` for a share."""
    return ", %" if metric.is_share else ""


def value_axis(metric: Metric, values: Any, title: str | None = None) -> dict[str, Any]:
    """Return an axis of a metric's values: see `spans_decades`.

    Args:
        metric: the metric.
        values: in its own unit; a share is drawn in per cent.
        title: the default is `validation` and the metric's noun.
    """
    title = f"validation {metric.noun}" if title is None else title
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    if not spans_decades(metric, found):
        zero = {"rangemode": "tozero"} if len(found) and found.max() > 4 * found.min() else {}
        return titled(title, tickformat=".3~p" if metric.is_share else ".4~g", nticks=6, **zero)
    low, high = found.min() / 1.12, found.max() * 1.12
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = (1, 1.5, 2, 3, 5, 7) if high < 12 * low else (1, 2, 5) if high < 200 * low else (1,)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return titled(
        title,
        type="log",
        range=[math.log10(low), math.log10(high)],
        tickvals=ticks,
        ticktext=[f"{scaled(metric, tick):.4g}{'%' * metric.is_share}" for tick in ticks],
    )


def spans_decades(metric: Metric, values: Any) -> bool:
    """Return whether an axis of these values is logarithmic: if the best, the lowest, would else lie together."""
    found = np.asarray(values, dtype=float)
    found = found[np.isfinite(found)]
    return metric.better == "lower" and len(found) > 0 and bool(found.max() > 4 * found.min() > 0)


def elapsed(seconds: float) -> tuple[str, float]:
    """Return the unit that suits this duration, and its length in seconds."""
    units = (("days", 86400.0, 3), ("hours", 3600.0, 2), ("minutes", 60.0, 2))
    return next(((unit, size) for unit, size, least in units if seconds >= least * size), ("seconds", 1.0))


def line_at(x: float, text: str = "") -> dict[str, Any]:
    """Return a thin vertical line over a figure's height, with `text` at the top."""
    return {
        "type": "line",
        "x0": x,
        "x1": x,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "layer": "below",
        "line": {"color": FAINT, "width": 1, "dash": "dot"},
        "label": {"text": text, "textposition": "end", "textangle": 0, "yanchor": "bottom", "font": {"color": MUTED}},
    }


def level_at(y: float, text: str) -> dict[str, Any]:
    """Return a thin horizontal line over a figure's width, with `text` at its left end."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "layer": "below",
        "line": {"color": FAINT, "width": 1.5, "dash": "dot"},
        "label": {"text": text, "textposition": "start", "yanchor": "bottom", "font": {"color": MUTED}},
    }


def lines(
    rows: pd.DataFrame,
    told: Mapping[str, tuple[str, str, str]],
    yaxis: dict[str, Any],
    shapes: Iterable[Mapping[str, Any]] = (),
) -> go.Figure:
    """Plot columns of a trial's epochs as lines, those that have a value.

    Args:
        rows: the epochs in order.
        told: column -> name, colour and dash.
        yaxis: settings of their axis.
        shapes: what else is drawn.
    """
    traces: list[Trace] = [
        {
            "type": "scatter",
            "mode": "lines" if len(rows) > 1 else "markers",
            "name": name,
            "x": whole(rows["epoch"]),
            "y": compact(rows[column]),
            "line": {"color": tint, "dash": dash, "width": 2},
            "marker": {"color": tint},
            "hovertemplate": f"{name}<br>epoch %{{x}}: %{{y:.4g}}<extra></extra>",
        }
        for column, (name, tint, dash) in told.items()
        if rows[column].notna().any()
    ]
    return figure(
        traces,
        height=380,
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"color": INK}},
        margin={"l": 56, "r": 16, "t": 44, "b": 48},
        xaxis=titled("epoch", rangemode="tozero"),
        yaxis=yaxis,
        shapes=list(shapes),
    )


def opacity(count: int) -> float:
    """Return the opacity of each of `count` overlapping marks."""
    return float(np.clip(5 / math.sqrt(max(count, 1)), 0.35, 0.9))
