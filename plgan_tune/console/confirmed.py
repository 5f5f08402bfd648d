"""Say what a search found on fresh seeds, and how sure that is."""

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plgan_tune.console.format import percent
from plgan_tune.study.race import Confirmed, Difference, Standing, out_after

SOON_OUT: Final = out_after(1)
"""What a race says of those whom it dropped after its first round, with a seed each."""


def winner_in_words(winner: Confirmed) -> str:
    """Return `mean of 5 fresh seeds, 95 %: 14.1 to 16.9 %`."""
    return f"{_seeds(winner)}{_interval(winner)}"


def told_apart(standing: Standing) -> str | None:
    """Return a sentence on the winner against the first point; None if there is none to compare with."""
    winner, first = standing.winner, standing.first
    if winner is None or first is None:
        return None
    if winner.trial_id == first:
        return f"no finalist is better than the first point, {first}"
    if winner.difference is None:
        few = len(winner.errors) < 2
        return f"{'one fresh seed' if few else 'a broken training'} cannot tell it from the first point, {first}"
    if winner.difference.is_better:
        return f"better than the first point, {first}, by {_points(winner.difference)}, on the same seeds"
    return f"not told apart from the first point, {first}: better by {_points(winner.difference)}, on the same seeds"


def confirmed_table(standing: Standing) -> RenderableType:
    """Return a line for each configuration that was confirmed, the best first; those that were soon out share one."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("confirmed", no_wrap=True)
    for name in ("mean", "95 %", "seeds", "from the first"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    soon_out = [place for place in standing.places if place.dropped == SOON_OUT]
    for place in (place for place in standing.places if place not in soon_out):
        style = "green" if place is standing.winner else "dim" if place.dropped else ""
        table.add_row(
            Text(place.trial_id, style),
            percent(place.mean),
            Text(interval_in_words(place), "dim"),
            str(len(place.judging)),
            difference_in_words(place.difference),
            Text(verdict(standing, place), "dim"),
        )
    count = len(soon_out)
    return Group(table, Text(f"{count} more {'were' if count > 1 else 'was'} {SOON_OUT}", "dim")) if count else table


def interval_in_words(place: Confirmed) -> str:
    """Return the interval of a mean in per cent; a dash if there is none."""
    interval = place.interval
    return "-" if interval is None else f"{100 * interval[0]:.1f} - {100 * interval[1]:.1f}"


def difference_in_words(difference: Difference | None) -> str:
    """Return a difference in points with its interval; a dash if there is none."""
    if difference is None:
        return "-"
    return f"{100 * difference.mean:+.2f} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})"


def verdict(standing: Standing, place: Confirmed) -> str:
    """Return what the race says of a configuration."""
    if place.dropped is not None:
        return place.dropped
    if place.trial_id == standing.first:
        return "the first point"
    if place.difference is None:
        return ""
    if place.difference.is_better:
        return "better"
    return "worse" if place.difference.low > 0 else "not told apart"


def _seeds(winner: Confirmed) -> str:
    count = len(winner.judging)
    return f"mean of {count} fresh seeds" if count > 1 else "on one fresh seed"


def _interval(winner: Confirmed) -> str:
    interval = winner.interval
    return "" if interval is None else f", 95 %: {100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def _points(difference: Difference) -> str:
    return f"{-100 * difference.mean:.2f} points (95 %: {-100 * difference.high:.2f} to {-100 * difference.low:.2f})"
