"""Numbers, times and searched values as people read them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise

from rich.console import Console

from plgan_tune.records import TrialStatus, Value

STYLES: Mapping[TrialStatus, str] = {
    TrialStatus.COMPLETED: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.DIVERGED: "magenta",
    TrialStatus.FAILED: "red",
    TrialStatus.RUNNING: "cyan",
}
"""A terminal's colour of each status."""


def word(status: TrialStatus, *, searching: bool) -> str:
    """A status as people are told of it: a trial that has not ended is unfinished where no search trains it."""
    return "unfinished" if status is TrialStatus.RUNNING and not searching else status.value


def redrawn(console: Console) -> bool:
    """Whether what the console shows can be drawn anew; what a dumb terminal has printed stays."""
    return console.is_terminal and not console.is_dumb_terminal


def percent(error: float | None) -> str:
    """A fraction as a percentage, `15.28 %`; a dash for none."""
    return "-" if error is None else f"{100 * error:.2f} %"


def duration(time: timedelta) -> str:
    """`42 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = max(0, round(time.total_seconds()))
    for size, unit, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part} {small}"
    return f"{seconds} s"


def named(params: Mapping[str, Value]) -> dict[str, Value]:
    """Searched values by their leaf; by the full path where two leaves share a name."""
    leaves = [path.rpartition(".")[2] for path in params]
    return {
        path if leaves.count(leaf) > 1 else leaf: value
        for leaf, (path, value) in zip(leaves, params.items(), strict=True)
    }


def brief(value: Value, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """The curve of `values` between its own lowest and highest, at most `width` characters, oldest first.

    A longer curve is averaged in `width` equal stretches.
    """
    glyphs = "_.-=*#" if ascii_only else "▁▂▃▄▅▆▇█"
    if len(values) > width:
        edges = [place * len(values) // width for place in range(width + 1)]
        values = [sum(values[start:stop]) / (stop - start) for start, stop in pairwise(edges)]
    if not values:
        return ""
    low, spread = min(values), max(values) - min(values)
    top = len(glyphs) - 1
    return "".join(glyphs[round(top * (value - low) / spread) if spread else 0] for value in values)
