"""Thins out figures with more marks than a browser can draw. The caption says what a figure leaves out."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from plgan_tune.analysis.study import Study

MOST_DOTS: Final = 1500
"""Highest number of dots that are all drawn: a browser takes half a millisecond for one."""

PLACES: Final = (48, 32)
"""Columns and rows of places in a figure with more dots. A place is about as large as a dot."""

FEWER_PLACES: Final = (32, 24)
"""The same for a small figure."""

MOST_TRIALS: Final = 1000
"""Highest number of trials that are all drawn as lines."""

SPREAD: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Quantiles that represent trials whose lines are not drawn."""

MOST_BARS: Final = 1500
"""Highest number of attempts that are all drawn as bars."""


def one_a_place(
    rows: pd.DataFrame,
    x: str,
    y: str,
    *,
    apart: Sequence[str] = ("status",),
    log: bool = False,
    highest: bool = False,
    places: tuple[int, int] = PLACES,
) -> pd.DataFrame:
    """Return one row per place of a figure, with a column `others`: how many more lie there.

    If rows are few, all are returned. Each status is thinned separately, so that hiding one shows what was below it.

    Args:
        rows: the rows to draw.
        x: column of the horizontal position.
        y: column of the vertical position.
        apart: columns in which rows at one place must agree.
        log: whether the figure's y axis is logarithmic.
        highest: whether the highest of a place is the best, not the lowest.
        places: columns and rows of the figure.
    """
    if len(rows) <= MOST_DOTS:
        return rows.assign(others=0)
    height = rows[y].to_numpy(dtype=float)
    column = _columns(rows[x].to_numpy(dtype=float), places[0])
    row = _cells(np.log10(height) if log else height, places[1])
    placed = rows[list(apart)].astype(str).assign(column=column, row=row)
    # Keep the best of a column, because those matter; elsewhere the first, so that no pattern appears.
    best = row == placed.groupby("column")["row"].transform("max" if highest else "min")
    placed["key"] = np.where(best, -height if highest else height, np.arange(len(rows)))
    here = placed.groupby([*apart, "column", "row"])["key"]
    return rows.assign(others=here.transform("size") - 1).loc[here.idxmin().sort_values()]


def _columns(values: Any, count: int) -> Any:
    """Return each value's cell; few distinct values get one each: integers that share a cell would make stripes."""
    found, place = np.unique(values, return_inverse=True)
    return place if len(found) <= 2 * count else _cells(values, count)


def _cells(values: Any, count: int) -> Any:
    """Return which of `count` equal parts of the values' range each is in; NaN and infinity share an extra part."""
    known = np.isfinite(values)
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    part = (values - low) / (high - low or 1.0) * count
    return np.where(known, np.clip(np.nan_to_num(part), 0, count - 1).astype(int), count)


def strength(others: Any, alone: float) -> Any:
    """Return the opacity of a dot that represents others: that of all of them drawn on top of each other.

    Args:
        others: how many more lie at each dot's place.
        alone: the opacity of a single dot.
    """
    counts = np.asarray(others)
    return alone if not counts.any() else np.minimum(1 - (1 - alone) ** (1 + counts), 0.95).astype(np.float32)


def and_others(others: Any) -> list[str]:
    """Return the text after a trial's name if it represents others."""
    return [f" and {count:,} more" if count else "" for count in np.asarray(others).tolist()]


def spread_evenly(study: Study, trials: pd.DataFrame, most: int) -> "pd.Index[int]":
    """Choose about `most` trials: the best, up to a third, and others of each status, spread over their last values.

    A status gets at least 20, if it has that many trials.

    Args:
        study: the study.
        trials: rows of `study.trials` with a last value.
        most: about how many to choose.

    Returns:
        Their index in `trials`.
    """
    best = study.ranked.index.intersection(trials.index, sort=False)[: most // 3]
    rest = trials.drop(best).sort_values(study.last)
    share = (most - len(best)) / max(len(rest), 1)
    return best.append([_evenly(some.index, share) for _, some in rest.groupby("status", observed=True)])


def _evenly(ordered: "pd.Index[int]", share: float) -> "pd.Index[int]":
    count = min(len(ordered), max(20, math.floor(share * len(ordered))))
    return ordered[np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def bars_together(bars: pd.DataFrame, most: int) -> tuple[pd.DataFrame, float]:
    """Merge bars of a status that began on a row within one stretch of time; return them and the stretch in seconds.

    If bars are few, all are kept and the stretch is 0. A merged bar is as long as its bars together, so that idle time
    of a row stays empty; its start may be wrong by a stretch.

    Args:
        bars: columns `row`, `status`, `trial`, `began` and `until`; bars of a row do not overlap.
        most: number of bars of each status that are drawn, or 20 per row.
    """
    if len(bars) <= most:
        return bars.assign(others=0), 0.0
    stretch = float(bars["until"].max()) / max(most // bars["row"].nunique(), 20)
    keyed = bars.assign(cell=bars["began"] // stretch, length=bars["until"] - bars["began"])
    found = keyed.groupby(["row", "cell", "status"], observed=True).agg(
        trial=("trial", "first"),
        first=("began", "min"),
        last=("began", "max"),
        length=("length", "sum"),
        others=("trial", "size"),
    )
    # The bar that began last may extend beyond the stretch, so it comes last.
    found = found.reset_index().sort_values(["row", "cell", "last"], ignore_index=True)
    here = found.groupby(["row", "cell"])
    began = here["first"].transform("min") + here["length"].cumsum() - found["length"]
    return found.assign(began=began, until=began + found["length"], others=found["others"] - 1), stretch


def quantiles(rows: pd.DataFrame, value: str, most: int) -> pd.DataFrame:
    """Return the quantiles `SPREAD` of the values at each epoch, or at about `most` epochs including the last.

    Args:
        rows: rows of one status, with a column `epoch`.
        value: the column of their values.
        most: about how many epochs to return.
    """
    found: pd.DataFrame = rows.groupby("epoch")[value].quantile(np.array(SPREAD)).unstack().dropna()
    kept = np.arange(0, len(found), max(1, -(-len(found) // most)))
    return found.iloc[np.union1d(kept, [len(found) - 1])] if len(found) else found


def said(*sentences: str) -> str:
    """Join the sentences that are not empty."""
    return " ".join(sentence for sentence in sentences if sentence)


def said_of_dots(rows: pd.DataFrame) -> str:
    """Return a sentence on what a figure of `one_a_place` of these rows leaves out."""
    if len(rows) <= MOST_DOTS:
        return ""
    return f"Of {len(rows):,} dots those of a status at one place are drawn as one; a stronger dot represents more."


def parts(frame: pd.DataFrame) -> Iterator[tuple[str, Any, Any]]:
    """Yield the bands of `quantiles`, the widest first: name, lower edge and upper edge."""
    yield "nine in ten", frame[SPREAD[0]], frame[SPREAD[4]]
    yield "the middle half", frame[SPREAD[1]], frame[SPREAD[3]]
