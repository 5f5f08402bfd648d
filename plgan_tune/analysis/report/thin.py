"""What is drawn of more than a browser draws at once. What a figure leaves out, its caption says."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from plgan_tune.analysis.study import Study

MOST_DOTS: Final = 1500
"""So many dots of a figure are all drawn: a browser takes half a millisecond for one."""

PLACES: Final = (48, 32)
"""Columns and rows of a figure with more dots. A place is about as large as a dot."""

FEWER_PLACES: Final = (32, 24)
"""Of a small figure."""

MOST_TRIALS: Final = 1000
"""So many trials are all drawn as lines."""

SPREAD: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles that stand for trials whose lines are not drawn."""

MOST_BARS: Final = 1500
"""So many attempts of trials are all drawn as bars."""


def one_a_place(
    rows: pd.DataFrame,
    x: str,
    y: str,
    *,
    apart: Sequence[str] = ("status",),
    log: bool = False,
    places: tuple[int, int] = PLACES,
) -> pd.DataFrame:
    """One row for each place of a figure, with `others`: how many more lie there.

    All rows, where they are few. Each status by itself, so that taking one off shows what was below it.

    Args:
        rows: with columns of these names.
        x, y: where they are drawn.
        apart: by what else than their place rows differ.
        log: whether the figure's y axis is logarithmic.
        places: columns and rows of the figure.
    """
    if len(rows) <= MOST_DOTS:
        return rows.assign(others=0)
    height = rows[y].to_numpy(dtype=float)
    column = _columns(rows[x].to_numpy(dtype=float), places[0])
    row = _cells(np.log10(height) if log else height, places[1])
    placed = rows[list(apart)].astype(str).assign(column=column, row=row)
    # The lowest of a column stay, as an error's best are looked for; elsewhere the first, so that no pattern shows.
    lowest = row == placed.groupby("column")["row"].transform("min")
    placed["key"] = np.where(lowest, height, np.arange(len(rows)))
    here = placed.groupby([*apart, "column", "row"])["key"]
    return rows.assign(others=here.transform("size") - 1).loc[here.idxmin().sort_values()]


def _columns(values: Any, count: int) -> Any:
    """Cells, or one for each value of few: whole numbers two of which fell into a cell would make stripes."""
    found, place = np.unique(values, return_inverse=True)
    return place if len(found) <= 2 * count else _cells(values, count)


def _cells(values: Any, count: int) -> Any:
    """Which of `count` equal parts of the values' range each is in; values without a place are together in one more."""
    known = np.isfinite(values)
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    part = (values - low) / (high - low or 1.0) * count
    return np.where(known, np.clip(np.nan_to_num(part), 0, count - 1).astype(int), count)


def strength(others: Any, alone: float) -> Any:
    """The opacity of a dot that stands for others: what all of them drawn over one another would have.

    Args:
        others: how many more lie at each dot's place.
        alone: the opacity of a single dot.
    """
    counts = np.asarray(others)
    return alone if not counts.any() else np.minimum(1 - (1 - alone) ** (1 + counts), 0.95).astype(np.float32)


def and_others(others: Any) -> list[str]:
    """What follows a trial's name where it stands for others."""
    return [f" and {count:,} more" if count else "" for count in np.asarray(others).tolist()]


def spread_evenly(study: Study, trials: pd.DataFrame, most: int) -> "pd.Index[int]":
    """Rows of about `most` trials: the best third, and of each status others, evenly over their last errors.

    A status has at least 20 of them, if it has that many trials.

    Args:
        trials: rows of `study.trials` with a last error.
    """
    best = study.ranked.index.intersection(trials.index, sort=False)[: most // 3]
    rest = trials.drop(best).sort_values("val_error_last")
    share = (most - len(best)) / max(len(rest), 1)
    return best.append([_evenly(some.index, share) for _, some in rest.groupby("status", observed=True)])


def _evenly(ordered: "pd.Index[int]", share: float) -> "pd.Index[int]":
    count = min(len(ordered), max(20, math.floor(share * len(ordered))))
    return ordered[np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def bars_together(bars: pd.DataFrame, most: int) -> tuple[pd.DataFrame, float]:
    """Bars that began on a row within one stretch of time, a status as one; and the stretch, 0 where all are few.

    Such a bar is as long as what it stands for was together, so that the time in which a row was empty stays empty;
    where it begins may be wrong by a stretch.

    Args:
        bars: with columns `row`, `status`, `trial`, `began` and `until`, those of a row apart from one another.
        most: so many bars of each status are drawn, or 20 a row.
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
    # The one that began last may go on beyond the stretch, so it comes last.
    found = found.reset_index().sort_values(["row", "cell", "last"], ignore_index=True)
    here = found.groupby(["row", "cell"])
    began = here["first"].transform("min") + here["length"].cumsum() - found["length"]
    return found.assign(began=began, until=began + found["length"], others=found["others"] - 1), stretch


def quantiles(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """The errors' `SPREAD` at each epoch, or at about `most` of them, with the last one.

    Args:
        rows: of one status, with columns `epoch` and `val_error`.
    """
    found: pd.DataFrame = rows.groupby("epoch")["val_error"].quantile(np.array(SPREAD)).unstack().dropna()
    kept = np.arange(0, len(found), max(1, -(-len(found) // most)))
    return found.iloc[np.union1d(kept, [len(found) - 1])] if len(found) else found


def said(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def said_of_dots(rows: pd.DataFrame) -> str:
    """What a figure of `one_a_place` of these rows leaves out."""
    if len(rows) <= MOST_DOTS:
        return ""
    return f"Of {len(rows):,} dots those of a status at one place are drawn as one, the stronger the more they are."


def parts(frame: pd.DataFrame) -> Iterator[tuple[str, Any, Any]]:
    """The bands of `quantiles` from the widest: what each holds, its lower and its upper edge."""
    yield "nine in ten", frame[SPREAD[0]], frame[SPREAD[4]]
    yield "the middle half", frame[SPREAD[1]], frame[SPREAD[3]]
