"""Figures of a search over time: its best value, learning curves, early stopping, and when each trial ran."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from plgan_tune.analysis.curves import switches
from plgan_tune.analysis.overview import Clock, spans
from plgan_tune.analysis.report.look import (
    INK,
    MUTED,
    PAPER,
    SYMBOLS,
    Absent,
    Drawn,
    Group,
    Trace,
    belongs_to,
    by_status,
    colour,
    compact,
    elapsed,
    figure,
    hover_format,
    line_at,
    opacity,
    scaled,
    spans_decades,
    titled,
    value_axis,
    whole,
    with_trials,
)
from plgan_tune.analysis.report.thin import (
    MOST_BARS,
    MOST_TRIALS,
    PLACES,
    SPREAD,
    and_others,
    bars_together,
    one_a_place,
    parts,
    quantiles,
    said,
    said_of_dots,
    spread_evenly,
    strength,
)
from plgan_tune.analysis.study import Study
from plgan_tune.config.advice import rungs
from plgan_tune.config.metrics import Metric
from plgan_tune.console.format import duration
from plgan_tune.records import TrialStatus, Verdict

MOST_POINTS = 100_000
"""If curves have more points, evenly spaced ones are drawn."""

CURVES = 150
"""Number of curves drawn for more than `MOST_TRIALS` trials, over bands that represent all."""

BAND = 200
"""Number of epochs of a band that are drawn."""


def best_over_time(study: Study) -> Drawn:
    """Plot the best value at a last epoch so far over the time in which trials trained, without pauses."""
    if study.epochs.empty:
        return Absent("No epoch has been trained yet.")
    clock = Clock.of(study.everything.epochs)
    at = clock.by(study.trials["ended_at"])
    unit, size = elapsed(clock.whole)
    return _best_so_far(study, study.trials.assign(at=at / size), f"{unit} of training, pauses left out")


def best_over_epochs(study: Study) -> Drawn:
    """Plot the best value at a last epoch so far over the epochs that all trials together had trained by then."""
    arrived = pd.Series(np.arange(1, len(study.epochs) + 1), index=study.epochs["trial_id"].astype(str))
    at = study.trials["trial_id"].map(arrived.groupby(level=0).last())
    return _best_so_far(study, study.trials.assign(at=at), "epochs trained, by all trials together")


def _best_so_far(study: Study, trials: pd.DataFrame, title: str) -> Drawn:
    """Plot over the column `at` of `trials`, when they reached their last epoch; NaN if unknown."""
    metric, last = study.metric, study.last
    ended = trials[trials["ended_at"].notna() & trials[last].notna() & trials["at"].notna()]
    completed = ended[ended["status"] == TrialStatus.COMPLETED].sort_values("at")
    if completed.empty:
        return Absent("No trial has completed yet, so there is no best so far.")
    best = metric.cost(metric.cost(completed[last]).cummin())
    end = ended["at"].max()
    line: Trace = {
        "type": "scatter",
        "mode": "lines",
        "x": compact([*completed["at"], end]),
        "y": compact([*best, best.iloc[-1]]),
        "line": {"color": INK, "width": 2.5, "shape": "hv"},
        "hoverinfo": "skip",
    }
    axis = value_axis(metric, ended[last])
    traces = [*trial_dots(study, ended, "at"), line]
    x = titled(title, rangemode="tozero")
    return figure(traces, height=340, xaxis=x, yaxis=axis, left_out=said_of_dots(ended))


def trial_dots(
    study: Study, trials: pd.DataFrame, x: str, size: float = 7, places: tuple[int, int] = PLACES
) -> Iterator[Trace]:
    """Yield a trace per status: each trial's last value over its column `x`, one per place if there are many."""
    alone = max(0.5, opacity(len(trials) // 8))
    last, highest = study.last, study.metric.better == "higher"
    drawn = one_a_place(trials, x, last, log=spans_decades(study.metric, trials[last]), highest=highest, places=places)
    value = f"{study.metric.noun} %{{y:{hover_format(study.metric)}}}"
    for group in by_status(study, drawn):
        some = group.rows
        yield {
            "type": "scatter",
            "mode": "markers",
            **group.label,
            "x": compact(some[x]) if some[x].dtype.kind in "fiu" else some[x].tolist(),
            "y": compact(some[last]),
            "customdata": whole(some.index),
            "hovertext": and_others(some["others"]),
            "marker": {
                "color": group.colour,
                "symbol": group.symbol,
                "size": size,
                "opacity": strength(some["others"], alone),
                "line": {"width": 1.5, "color": group.colour},
            },
            "hovertemplate": f"%{{text}}%{{hovertext}} · {group.word}<br>{value}<extra></extra>",
        }


def learning_curves(study: Study) -> Drawn:
    """Plot every trial's value over its epochs: one trace per status, the best trial on top.

    If there are many trials, some are drawn, over bands that represent all.
    """
    if study.epochs.empty:
        return Absent("No epoch has been trained yet.")
    metric, value = study.metric, study.metric.name
    rows = with_trials(study, study.epochs[["trial_id", "epoch", value, "ramp"]])
    trained = study.trials[study.trials["epochs"] > 0]
    many = len(trained) > MOST_TRIALS
    curves = rows[rows["trial"].isin(spread_evenly(study, trained, CURVES))] if many else rows
    curves = curves.sort_values(["trial", "epoch"], ignore_index=True)
    every = max(1, -(-len(curves) // MOST_POINTS))
    spread = [(group, quantiles(group.rows, value, BAND)) for group in by_status(study, rows)] if many else []
    traces = [band for group, found in spread for band in _bands(group, found)]
    for group in by_status(study, curves):
        traces.append(_curves(group, metric, every))
        traces += _switches(group, metric)
    traces += [_median(group, metric, found) for group, found in spread]
    if not study.ranked.empty:
        traces += _best_curve(curves[curves["trial"] == study.ranked.index[0]], metric)
    asha = study.spec.search.early_stopping.asha
    fixed = asha is not None and asha.align == "epoch"
    lines = [line_at(rung, str(rung)) for rung in rungs(asha, study.last_epoch)] if asha and fixed else []
    return figure(
        traces,
        height=480,
        xaxis=titled("epoch", range=[0, study.last_epoch * 1.02]),
        yaxis=value_axis(metric, rows[value]),
        shapes=lines,
        left_out=_left_out(metric, len(trained), curves["trial"].nunique(), every),
    )


def _left_out(metric: Metric, trials: int, drawn: int, every: int) -> str:
    some = (
        f"Of {trials:,} trials {drawn:,} are drawn as lines: the best, and others spread over each status's last "
        f"{metric.noun}s. The bands and the dashed line show all trials of a status that trained an epoch: nine in ten "
        "of them, the middle half, and their median."
    )
    thinned = f"Of the lines one epoch in {every} is drawn, and every trial's last."
    return said(some if drawn < trials else "", thinned if every > 1 else "")


def _bands(group: Group, found: pd.DataFrame) -> Iterator[Trace]:
    """Yield the bands that hold nine in ten, and the middle half, of a status's trials at each epoch."""
    epochs = whole(found.index)
    for name, low, high in parts(found):
        yield {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            **belongs_to(group.word),
            "x": np.concatenate([epochs, epochs[::-1]]),
            "y": compact([*low, *high[::-1]]),
            "fill": "toself",
            "fillcolor": group.colour,
            "opacity": 0.16,
            "line": {"width": 0, "color": group.colour},
            "hoverinfo": "skip",
        }


def _median(group: Group, metric: Metric, found: pd.DataFrame) -> Trace:
    form = ".2%" if metric.is_share else ".4g"
    texts = [f"{low:{form}} to {high:{form}}" for low, high in zip(found[SPREAD[1]], found[SPREAD[3]], strict=True)]
    median = f"median %{{y:{hover_format(metric)}}}<br>half: %{{hovertext}}"
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "median",
        **belongs_to(group.word),
        "x": whole(found.index),
        "y": compact(found[SPREAD[2]]),
        "hovertext": texts,
        "line": {"color": group.colour, "width": 2, "dash": "dash"},
        "hovertemplate": f"{group.word}, epoch %{{x}}<br>{median}<extra></extra>",
    }


def _thinned(rows: pd.DataFrame, every: int) -> pd.DataFrame:
    """Keep one epoch in `every`, and each trial's first and last."""
    ends = ~rows["trial"].duplicated() | ~rows["trial"].duplicated(keep="last")
    return rows[ends | (rows["epoch"] % every == 0)]


def _at(metric: Metric) -> str:
    """Return the lines of a hover text on a point of a learning curve."""
    return f"epoch %{{x}}<br>{metric.noun} %{{y:{hover_format(metric)}}}"


def _curves(group: Group, metric: Metric, every: int) -> Trace:
    """Return one trace for all trials of a group; a point without a value separates two trials."""
    rows = _thinned(group.rows, every)
    count = rows["trial"].nunique()
    ends = np.flatnonzero(np.diff(rows["trial"])) + 1
    return {
        "type": "scatter",
        "mode": "lines" if len(rows) > count else "lines+markers",
        **group.label,
        "x": np.insert(whole(rows["epoch"]), ends, 0),
        "y": np.insert(compact(rows[metric.name]), ends, np.nan),
        "customdata": np.insert(whole(rows["trial"]), ends, 0),
        "connectgaps": False,
        "opacity": opacity(count),
        "line": {"color": group.colour, "width": 1.2},
        "marker": {"size": 5, "color": group.colour},
        "hovertemplate": f"%{{text}} · {group.word}<br>{_at(metric)}<extra></extra>",
    }


def _switches(group: Group, metric: Metric) -> Iterator[Trace]:
    switched = switches(group.rows)
    if switched.empty:
        return
    yield {
        "type": "scatter",
        "mode": "markers",
        **group.label,
        "x": whole(switched["epoch"]),
        "y": compact(switched[metric.name]),
        "customdata": whole(switched["trial"]),
        "opacity": max(0.5, opacity(len(switched))),
        "marker": {"symbol": "diamond", "size": 7, "color": group.colour, "line": {"width": 1, "color": PAPER}},
        "hovertemplate": f"%{{text}} switched<br>{_at(metric)}<extra></extra>",
    }


def _best_curve(rows: pd.DataFrame, metric: Metric) -> Iterator[Trace]:
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": "best",
        **belongs_to(TrialStatus.COMPLETED),
        "x": whole(rows["epoch"]),
        "y": compact(rows[metric.name]),
        "customdata": whole(rows["trial"]),
        "line": {"color": INK, "width": 2.5},
        "hovertemplate": f"%{{text}} · the best<br>{_at(metric)}<extra></extra>",
    }
    yield line
    switched = switches(rows)
    if not switched.empty:
        mark = {"symbol": "diamond", "size": 11, "color": INK, "line": {"width": 1.5, "color": PAPER}}
        yield line | {
            "mode": "markers",
            "x": whole(switched["epoch"]),
            "y": compact(switched[metric.name]),
            "customdata": whole(switched["trial"]),
            "marker": mark,
        }


def misses(study: Study) -> Drawn:
    """Plot how far each trial was above or below the cutoff at each rung, by the metric that the search went by."""
    if study.decisions.empty:
        return Absent("Early stopping has judged no trial.")
    judged = study.decisions[study.decisions["cutoff"].notna()]
    if judged.empty and study.spec.judges_by_both:
        return Absent("Trials were judged by their place by both metrics, so no rung has a cutoff to miss.")
    if judged.empty:
        return Absent("Too few trials have reached a rung for a decision.")
    judged = with_trials(study, judged)
    steps = sorted(judged["rung"].unique().tolist())
    # Spread over the rung's height in order of arrival, so that equal trials do not hide each other.
    spread = (judged.groupby("rung").cumcount() * 0.618) % 1 - 0.5
    height = judged["rung"].map({rung: step for step, rung in enumerate(steps)}) + 0.6 * spread
    metric = study.spec.metric
    judged = judged.assign(height=height, missed=scaled(metric, judged["value"] - judged["cutoff"]))
    drawn_as = "%{x:+.2f} points" if metric.is_share else "%{x:+.3~g}"
    alone = max(0.45, opacity(len(judged) // 8))
    drawn = one_a_place(judged, "missed", "height", apart=("status", "verdict"))
    traces: list[Trace] = []
    verdicts = (
        (Verdict.CONTINUE, "continued", MUTED, "circle"),
        (Verdict.STOP, "was stopped", colour(TrialStatus.STOPPED), SYMBOLS[TrialStatus.STOPPED]),
        (Verdict.CONTROL, "went on as a control", colour(TrialStatus.STOPPED), "diamond-open"),
    )
    for verdict, outcome, tint, symbol in verdicts:
        for group in by_status(study, drawn[drawn["verdict"] == verdict]):
            some = group.rows
            trace = {
                "type": "scatter",
                "mode": "markers",
                **group.label,
                "x": compact(some["missed"]),
                "y": compact(some["height"]),
                "customdata": whole(some["trial"]),
                "hovertext": and_others(some["others"]),
                "marker": {
                    "color": tint,
                    "symbol": symbol,
                    "size": 7,
                    "opacity": strength(some["others"], alone),
                    "line": {"width": 1.5, "color": tint},
                },
                "hovertemplate": f"%{{text}}%{{hovertext}} {outcome}<br>{drawn_as} from the cutoff<extra></extra>",
            }
            traces.append(trace)
    return figure(
        traces,
        height=110 + 70 * len(steps),
        xaxis=titled(f"{'percentage points' if metric.is_share else metric.noun} above the cutoff"),
        yaxis={
            "tickvals": list(range(len(steps))),
            "ticktext": [f"rung {rung}" for rung in steps],
            "showgrid": False,
            "range": [-0.6, len(steps) - 0.4],
        },
        shapes=[line_at(0, "cutoff")],
        left_out=said_of_dots(judged),
    )


def timeline(study: Study) -> Drawn:
    """Plot when each trial trained on which node: one bar per attempt, one row per trial that a node ran at once.

    Only the last node of a trial is known.
    """
    placed = _attempts(study)
    if placed.empty:
        return Absent("No trial has been placed on a node yet.")
    start, end = placed["began"], placed["until"]
    unit, size = elapsed(end.max())
    lane = _lanes(placed["node"].tolist(), start.tolist(), end.tolist())
    rows = sorted(set(lane))
    place = {at: row for row, at in enumerate(rows)}
    bars, stretch = bars_together(placed.assign(row=[place[at] for at in lane]), MOST_BARS)
    traces: list[Trace] = []
    for group in by_status(study, bars):
        some = group.rows
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                **group.label,
                "base": compact(some["began"] / size),
                "x": compact((some["until"] - some["began"]) / size),
                "y": whole(some["row"]),
                "width": 0.72,
                "customdata": whole(some["trial"]),
                "hovertext": and_others(some["others"]),
                "marker": {"color": group.colour, "opacity": 0.8, "line": {"width": 0.5, "color": PAPER}},
                "hovertemplate": f"%{{text}}%{{hovertext}} · {group.word}<br>%{{x:.3~g}} {unit}<extra></extra>",
            }
        )
    first = {node: row for row, (node, _) in reversed(list(enumerate(rows)))}
    return figure(
        traces,
        height=100 + max(40, min(26 * len(rows), 900)),
        barmode="overlay",
        xaxis=titled(f"{unit} of training, pauses left out", rangemode="tozero"),
        yaxis={
            "autorange": "reversed",
            "tickvals": list(first.values()),
            "ticktext": list(first),
            "showgrid": False,
            "ticklabelstandoff": 6,
        },
        left_out=_of_bars(len(placed), stretch) if stretch else "",
    )


def _of_bars(attempts: int, stretch: float) -> str:
    return (
        f"Of {attempts:,} attempts those of a status that began on a row within {duration(timedelta(seconds=stretch))} "
        "are drawn as one bar, as long as all of them together."
    )


def _attempts(study: Study) -> pd.DataFrame:
    """Return each attempt that trained, by its start: its `trial`'s row, node and status; `began` and `until`.

    Times are seconds of training.
    """
    everything = study.everything
    clock, (began, until) = Clock.of(everything.epochs), spans(everything.epochs)
    epochs = everything.epochs[["trial_id", "attempt"]].assign(began=began, until=until)
    attempts = epochs.groupby(["trial_id", "attempt"], observed=True).agg({"began": "min", "until": "max"})
    attempts = attempts.assign(began=clock.at(attempts["began"]), until=clock.at(attempts["until"]))
    attempts = with_trials(study, attempts.reset_index())
    attempts = attempts.assign(node=study.trials["node"].reindex(attempts["trial"]).to_numpy())
    return attempts[attempts["node"].notna()].sort_values("began", ignore_index=True)


def _lanes(nodes: list[str], starts: list[float], ends: list[float]) -> list[tuple[str, int]]:
    """Return for each attempt, by its start, its node and the first row of that node that is free then."""
    free: dict[str, list[float]] = {}
    found = []
    for node, start, end in zip(nodes, starts, ends, strict=True):
        rows = free.setdefault(node, [])
        row = next((row for row, until in enumerate(rows) if until <= start + 1e-3), len(rows))
        rows[row : row + 1] = [end]
        found.append((node, row))
    return found
