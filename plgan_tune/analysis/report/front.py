"""The figure of a search by two metrics: all trials by both, the front, and its knee."""

import pandas as pd

from plgan_tune.analysis.front import members
from plgan_tune.analysis.report.look import (
    INK,
    PAPER,
    Absent,
    Drawn,
    Trace,
    belongs_to,
    by_status,
    compact,
    figure,
    hover_format,
    opacity,
    spans_decades,
    value_axis,
    whole,
)
from plgan_tune.analysis.report.thin import and_others, one_a_place, said_of_dots, strength
from plgan_tune.analysis.study import Study
from plgan_tune.config.metrics import Metric
from plgan_tune.records import TrialStatus

MARGIN = {"l": 64, "r": 16, "t": 20, "b": 52}


def front_figure(study: Study) -> Drawn:
    """Plot each trial's last values of both metrics, and the front as the edge of what no trial is better than."""
    first, second = study.spec.metric, study.spec.second
    if second is None:
        return Absent("The study searches by one metric, so it has no front.")
    x, y = f"{first.name}_last", f"{second.name}_last"
    trials = study.trials[study.trials[x].notna() & study.trials[y].notna()]
    if trials.empty:
        return Absent("No trial has trained an epoch yet.")
    return figure(
        [*_front(study), *_dots(study, trials, x, y, first, second), *_knee(study, first, second)],
        height=420,
        margin=MARGIN,
        xaxis=value_axis(first, trials[x]),
        yaxis=value_axis(second, trials[y]),
        left_out=said_of_dots(trials),
    )


def _dots(study: Study, trials: pd.DataFrame, x: str, y: str, first: Metric, second: Metric) -> list[Trace]:
    alone = max(0.5, opacity(len(trials) // 8))
    log, highest = spans_decades(second, trials[y]), second.better == "higher"
    return [
        {
            "type": "scatter",
            "mode": "markers",
            **group.label,
            "x": compact(group.rows[x]),
            "y": compact(group.rows[y]),
            "customdata": whole(group.rows.index),
            "hovertext": and_others(group.rows["others"]),
            "marker": {
                "color": group.colour,
                "symbol": group.symbol,
                "size": 7,
                "opacity": strength(group.rows["others"], alone),
                "line": {"width": 1.5, "color": group.colour},
            },
            "hovertemplate": f"%{{text}}%{{hovertext}} · {group.word}<br>{_values(first, second)}<extra></extra>",
        }
        for group in by_status(study, one_a_place(trials, x, y, log=log, highest=highest))
    ]


def _front(study: Study) -> list[Trace]:
    """Return the front as steps: up to the next trial of it, nothing is better in the second metric."""
    on_front = members(study)
    if not on_front:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": compact([one.first for one in on_front]),
            "y": compact([one.second for one in on_front]),
            **belongs_to(TrialStatus.COMPLETED),
            "line": {"color": INK, "width": 1.5, "shape": "hv"},
            "hoverinfo": "skip",
        }
    ]


def _knee(study: Study, first: Metric, second: Metric) -> list[Trace]:
    place = pd.Series(study.trials.index, index=study.trials["trial_id"])
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": compact([one.first]),
            "y": compact([one.second]),
            "customdata": whole([place[one.trial_id]]),
            **belongs_to(TrialStatus.COMPLETED),
            "marker": {"symbol": "star", "size": 15, "color": INK, "line": {"width": 1.5, "color": PAPER}},
            "hovertemplate": f"%{{text}} · the knee<br>{_values(first, second)}<extra></extra>",
        }
        for one in members(study)
        if one.is_knee
    ]


def _values(first: Metric, second: Metric) -> str:
    return f"{first.noun} %{{x:{hover_format(first)}}}<br>{second.noun} %{{y:{hover_format(second)}}}"
