"""Figures of the searched space: which values did well, and which keys matter."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import ConvexHull, QhullError, cKDTree

from plgan_tune.analysis.curves import values_at_equal_epoch
from plgan_tune.analysis.importance import Importances, Unanswered
from plgan_tune.analysis.report.look import (
    FAINT,
    INK,
    MUTED,
    PAPER,
    SCALE,
    Absent,
    Drawn,
    Trace,
    belongs_to,
    by_status,
    compact,
    figure,
    scaled,
    titled,
    unit,
    value_axis,
    whole,
)
from plgan_tune.analysis.report.thin import (
    FEWER_PLACES,
    MOST_TRIALS,
    and_others,
    one_a_place,
    said_of_dots,
    spread_evenly,
    strength,
)
from plgan_tune.analysis.report.timeline import trial_dots
from plgan_tune.analysis.study import Study
from plgan_tune.config.domains import Choice, Domain, LogInt, LogUniform
from plgan_tune.config.study import encode
from plgan_tune.console.format import measured
from plgan_tune.records import TrialStatus

ALPHA, BETA = "loss.alpha", "loss.beta"
GRID = 60
NEAR = 3.0
"""So many usual distances between neighbours from a trial the plane of alpha and beta is drawn."""

LETTER = 7.5
"""Width in pixels of a letter of an axis's name, about."""

LINES = 500
"""Number of lines drawn for more than `MOST_TRIALS` trials: without a graphics card one line takes 2 ms."""


def parallel_coordinates(study: Study) -> Drawn:
    """Plot each trial as a line through its searched values, its epochs and its last value, which sets its colour."""
    metric, known = study.metric, study.trials[study.trials[study.last].notna()]
    trials = known.loc[study.costs[known.index].sort_values(ascending=False).index]
    if len(study.spec.domains) < 2:
        return Absent("Parallel coordinates need two searched keys; the slices show everything.")
    if len(trials) < 2:
        return Absent("Parallel coordinates need two trials that have trained an epoch.")
    values = trials[study.last]
    ends = [scaled(metric, end) for end in (values.min(), values.max())]  # so that hiding lines does not move the axis
    low, high = study.costs[trials.index].quantile([0, 0.9])
    count = len(trials)
    if count > MOST_TRIALS:
        trials = trials[trials.index.isin(spread_evenly(study, trials, LINES))]
    keys = [_dimension(study, path, trials) for path in study.spec.domains]
    values = trials[study.last]
    last = {"label": "epochs", "values": compact(trials["epochs"]), "range": [0, study.last_epoch]}
    label = f"{metric.noun}{unit(metric)}"
    result = {"label": label, "values": compact(scaled(metric, values)), "range": ends, "tickformat": ".3~g"}
    line = {"color": compact(metric.cost(values)), "colorscale": SCALE, "cmin": low, "cmax": high}
    trace = {
        "type": "parcoords",
        "dimensions": [*keys, last, result],
        "line": line,
        "customdata": whole(trials.index),
        "labelfont": {"color": INK, "size": 13},
        "tickfont": {"color": MUTED, "size": 12},
        "rangefont": {"color": "rgba(0,0,0,0)", "size": 1},
        "unselected": {"line": {"color": FAINT, "opacity": 0.25}},
    }
    some = f"Of {count:,} trials {len(trials):,} are drawn: the best, and others spread over each status's last "
    some += f"{metric.noun}s."
    return figure(
        [trace],
        height=420,
        margin={"l": 56, "r": 56, "t": 56, "b": 28},
        left_out=some if len(trials) < count else "",
    )


def least_width(study: Study) -> int:
    """Return the width in pixels that the parallel coordinates need so that the names of no two axes touch."""
    names = [*(short_name(study, path) for path in study.spec.domains), "epochs", f"{study.metric.noun}, %"]
    apart = max(105.0, *(LETTER * (len(one) + len(other) + 2) / 2 for one, other in pairwise(names)))
    return round(apart * len(names))


def _dimension(study: Study, path: str, trials: pd.DataFrame) -> dict[str, Any]:
    axis = Axis.of(study.spec.domains[path], trials[study.spec.columns[path]])
    ticks = axis.ticks()
    shown = {"tickvals": list(ticks), "ticktext": list(ticks.values())} if ticks else {"tickformat": ".3~g"}
    name = short_name(study, path)
    return {"label": name, "values": compact(axis.places), "range": [axis.low, axis.high]} | shown


def short_name(study: Study, path: str) -> str:
    """Return the last part of a searched key's path, or the whole path if two keys share that part."""
    return study.spec.columns[path].removeprefix("params_")


@dataclass(frozen=True, slots=True)
class Axis:
    """A searched key as an axis: decades of a logarithmic domain, a choice's options by their position.

    A resumed study may hold values outside the current domains; the axis includes them.

    Attributes:
        places: positions of a column's cells on the axis; NaN if a cell has none.
        low, high: the axis's ends, which differ.
        options: a choice's options, as text.
        log: whether positions are decades.
    """

    places: NDArray[np.float64]
    low: float
    high: float
    options: tuple[str, ...] = ()
    log: bool = False

    @classmethod
    def of(cls, domain: Domain, cells: "pd.Series[Any]") -> "Axis":
        """Return the axis of a domain and of a column of its values."""
        if isinstance(domain, Choice):
            found = [text(cell) for cell in cells]
            options = tuple(dict.fromkeys([*(text(encode(domain, option)) for option in domain.options), *found]))
            places = np.array([options.index(cell) for cell in found], dtype=float)
            return cls(places, -0.5, len(options) - 0.5, options)
        log = isinstance(domain, LogUniform | LogInt)
        values = cells.to_numpy(dtype=float, na_value=math.nan)
        ends = np.array([domain.low, domain.high], dtype=float)
        if log:
            values, ends = np.log10(np.where(values > 0, values, np.nan)), np.log10(ends)
        seen = np.concatenate([ends, values[np.isfinite(values)]])
        low, high = float(seen.min()), float(seen.max())
        return cls(values, low, high, log=log) if low < high else cls(values, low - 0.5, high + 0.5, log=log)

    def ticks(self) -> dict[float, str]:
        """Return position -> text, empty for an axis of plain numbers."""
        if self.options:
            return {float(at): option for at, option in enumerate(self.options)}
        if not self.log:
            return {}
        low, high = self.low, self.high
        for digits in ((1,), (1, 3), (1, 2, 5)):
            values = [d * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for d in digits]
            inside = [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]
            places = {math.log10(value): f"{value:g}" for value in inside}
            if len(places) >= 3:
                break
        return places

    def as_plotly(self, margin: float = 0.04) -> dict[str, Any]:
        """Return range and ticks, with `margin`, a fraction of the range, beyond both ends."""
        room = 0 if self.options else margin * (self.high - self.low)
        ticks = self.ticks()
        shown = {"tickvals": list(ticks), "ticktext": list(ticks.values())} if ticks else {"nticks": 6}
        return {"range": [self.low - room, self.high + room]} | shown


def text(value: Any, digits: int = 6) -> str:
    """Format an option or a cell; a column of numbers may hold it as another type of number."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if isinstance(value, bool | np.bool_):
        return json.dumps(bool(value))
    return f"{value:.{digits}g}"


def slices(study: Study) -> dict[str, Drawn]:
    """Plot the trials' last values of the metric over the values of each searched key."""
    trials = study.trials[study.trials[study.last].notna()]
    if trials.empty:
        return {path: Absent("No trial has trained an epoch yet.") for path in study.spec.domains}
    best = study.ranked.head(1)
    found: dict[str, Drawn] = {}
    for path, column in study.spec.columns.items():
        axis = Axis.of(study.spec.domains[path], trials[column])
        shown = trials.assign(at=axis.places)
        found[path] = figure(
            [
                *trial_dots(study, shown, "at", size=6, places=FEWER_PLACES),
                *_star(shown.loc[best.index], "at", study.last),
            ],
            height=250,
            margin={"l": 48, "r": 10, "t": 12, "b": 44},
            xaxis=titled(short_name(study, path)) | axis.as_plotly(),
            yaxis=value_axis(study.metric, trials[study.last], ""),
            left_out=said_of_dots(trials),
        )
    return found


def _star(best: pd.DataFrame, x: str, y: str) -> Iterator[Trace]:
    if best.empty:
        return
    yield {
        "type": "scatter",
        "mode": "markers",
        "x": compact(best[x]),
        "y": compact(best[y]),
        "customdata": whole(best.index),
        **belongs_to(TrialStatus.COMPLETED),
        "marker": {"symbol": "star", "size": 15, "color": INK, "line": {"width": 1.5, "color": PAPER}},
        "hovertemplate": "%{text} · the best<extra></extra>",
    }


def plane(study: Study) -> Drawn:
    """Plot the metric over alpha and beta, all trials at the same epoch, as a kernel-weighted mean of nearby trials.

    It is drawn only where trials are. The epoch is the last that at least half of them reached, because the mean needs
    trials all over the plane.
    """
    if missing := [path for path in (ALPHA, BETA) if path not in study.spec.domains]:
        return Absent(f"The plane needs both weights searched, but {' and '.join(missing)} had one value.")
    if any(isinstance(study.spec.domains[path], Choice) for path in (ALPHA, BETA)):
        return Absent("The plane needs ranges of alpha and beta, but one is a choice.")
    metric, (epoch, values) = study.metric, values_at_equal_epoch(study)
    trials = study.trials.assign(value=study.trials["trial_id"].map(values))
    trials = trials[trials["value"].notna()]
    if len(trials) < 8:
        return Absent("The plane needs eight trials that reached the same epoch.")
    alpha, beta = (Axis.of(study.spec.domains[path], trials[study.spec.columns[path]]) for path in (ALPHA, BETA))
    trials = trials.assign(alpha=alpha.places, beta=beta.places)
    x, y = (np.linspace(axis.low, axis.high, GRID) for axis in (alpha, beta))
    value = trials["value"].to_numpy(dtype=float)
    percent = " %" if metric.is_share else ""
    surface: Trace = {
        "type": "contour",
        "x": compact(x),
        "y": compact(y),
        "z": compact(scaled(metric, _smoothed(value, (alpha, beta), (x, y)))),
        "colorscale": SCALE,
        **({"reversescale": True} if metric.better == "higher" else {}),
        "ncontours": 12,
        "line": {"width": 0.5, "color": PAPER},
        "contours": {"coloring": "fill"},
        "colorbar": {
            "title": {"text": f"{metric.noun} after<br>{epoch} epochs{unit(metric)}", "font": {"size": 12}},
            "thickness": 10,
            "outlinewidth": 0,
            "tickformat": ".3~g",
            "len": 0.9,
        },
        "hovertemplate": f"about %{{z:.3~g}}{percent}<extra></extra>",
    }
    dots: list[Trace] = [
        {
            "type": "scatter",
            "mode": "markers",
            **group.label,
            "x": compact(group.rows["alpha"]),
            "y": compact(group.rows["beta"]),
            "customdata": whole(group.rows.index),
            "hovertext": [
                f"{others}<br>{metric.noun} {measured(metric, value)}"
                for others, value in zip(and_others(group.rows["others"]), group.rows["value"], strict=True)
            ],
            "marker": {
                "size": 5,
                "color": INK,
                "opacity": strength(group.rows["others"], 0.7),
                "line": {"width": 1, "color": PAPER},
            },
            "hovertemplate": "%{text}%{hovertext}<extra></extra>",
        }
        for group in by_status(study, one_a_place(trials, "alpha", "beta"))
    ]
    best = trials.loc[trials.index.intersection(study.ranked.head(1).index)]
    return figure(
        [surface, *dots, *_star(best, "alpha", "beta")],
        height=460,
        xaxis=titled("alpha, weight of V_log") | alpha.as_plotly(0),
        yaxis=titled("beta, weight of V_feature", showgrid=False) | beta.as_plotly(0),
        left_out=said_of_dots(trials),
    )


def _smoothed(
    value: NDArray[np.float64], axes: tuple[Axis, Axis], grid: tuple[NDArray[np.float64], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return Nadaraya and Watson's kernel mean on the grid, one row per y; width ~ trials^(-1/6) (Scott's rule)."""
    width = 0.35 * len(value) ** (-1 / 6)
    along_x, along_y = (
        np.exp(-0.5 * ((at[:, None] - axis.places) / ((axis.high - axis.low) * width)) ** 2)
        for axis, at in zip(axes, grid, strict=True)
    )
    weight = along_y @ along_x.T
    mean = (along_y * value) @ along_x.T / np.maximum(weight, 1e-12)
    return np.where(_among_trials(axes, grid), mean, np.nan)


def _among_trials(axes: tuple[Axis, Axis], grid: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Return which places of the grid, one row per y, are between trials and near one; the others stay transparent.

    Between trials means in their convex hull: nothing is extrapolated. Near means within three times the median
    distance of a trial to its nearest neighbour, or a cell of the grid: evenly drawn trials then leave few holes.
    """
    trials = np.unique(np.stack([_part(axis, axis.places) for axis in axes], axis=1), axis=0)
    places = np.stack(np.meshgrid(*(_part(axis, at) for axis, at in zip(axes, grid, strict=True))), axis=-1)
    tree = cKDTree(trials)
    apart = float(np.median(np.asarray(tree.query(trials, k=[2])[0]))) if len(trials) > 1 else 0.0
    near = np.asarray(tree.query(places)[0]) <= max(NEAR * apart, 1 / (GRID - 1))
    try:
        edges = ConvexHull(trials).equations  # of each, a normal outwards and an offset
    except (QhullError, ValueError):  # trials on one line have no hull
        return near
    return np.asarray(near & (places @ edges[:, :2].T + edges[:, 2] <= 1e-9).all(axis=-1))


def _part(axis: Axis, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the places as shares of the way from the axis's lower end to its upper."""
    return (places - axis.low) / (axis.high - axis.low)


def importance_bars(found: Importances | Unanswered) -> Drawn:
    """Plot each key's share of all keys' importance with its 90 % interval."""
    if isinstance(found, Unanswered):
        return Absent(found.why)
    keys = found.keys[::-1]
    share = np.array([key.share for key in keys])
    names = [key.path for key in keys]
    bars: Trace = {
        "type": "bar",
        "orientation": "h",
        "x": compact(share),
        "y": names,
        "width": 0.55,
        "marker": {"color": ["var(--middle)" if key.significant else FAINT for key in keys]},
        "hovertext": ["" if key.significant else "not significant" for key in keys],
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": compact([key.interval.high for key in keys] - share),
            "arrayminus": compact(share - [key.interval.low for key in keys]),
            "color": INK,
            "thickness": 1.2,
            "width": 4,
        },
        "hovertemplate": "%{y}<br>PED-ANOVA %{x:.1%}<br>%{hovertext}<extra></extra>",
    }
    return figure(
        [bars],
        height=90 + 38 * len(keys),
        xaxis=titled("share of importance", tickformat=".0%", rangemode="tozero"),
        yaxis={"showgrid": False, "ticklabelstandoff": 6},
    )
