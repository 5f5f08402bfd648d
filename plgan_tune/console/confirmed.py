"""Say what a search found on fresh seeds, and how sure that is."""

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plgan_tune.config.metrics import Metric
from plgan_tune.console.format import measured, range_of
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
        few = len(winner.values) < 2
        return f"{'one fresh seed' if few else 'a broken training'} cannot tell it from the first point, {first}"
    if winner.difference.is_better:
        return f"better than the first point, {first}, by {_gain(winner.difference, winner.metric)}, on the same seeds"
    gain = _gain(winner.difference, winner.metric)
    return f"not told apart from the first point, {first}: better by {gain}, on the same seeds"


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
            measured(place.metric, place.mean),
            Text(interval_in_words(place), "dim"),
            str(len(place.judging)),
            difference_in_words(place),
            Text(verdict(standing, place), "dim"),
        )
    count = len(soon_out)
    return Group(table, Text(f"{count} more {'were' if count > 1 else 'was'} {SOON_OUT}", "dim")) if count else table


def interval_in_words(place: Confirmed) -> str:
    """Return the interval of a mean, of a share in per cent; a dash if there is none."""
    interval = place.interval
    return "-" if interval is None else range_of(place.metric, *interval, to=" - ")


def difference_in_words(place: Confirmed) -> str:
    """Return the value minus the first point's with its interval, of a share in points; a dash if there is none."""
    if place.difference is None:
        return "-"
    turned = place.metric.cost
    mean, ends = turned(place.difference.mean), (turned(place.difference.low), turned(place.difference.high))
    low, high = min(ends), max(ends)
    if place.metric.is_share:
        return f"{100 * mean:+.2f} ({100 * low:+.1f} to {100 * high:+.1f})"
    return f"{mean:+.3g} ({low:+.3g} to {high:+.3g})"


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
    return "" if interval is None else f", 95 %: {range_of(winner.metric, *interval, unit=' %')}"


def _gain(difference: Difference, metric: Metric) -> str:
    """Return by how much the winner is better, whatever the direction."""
    if metric.is_share:
        return (
            f"{-100 * difference.mean:.2f} points (95 %: {-100 * difference.high:.2f} to {-100 * difference.low:.2f})"
        )
    return f"{-difference.mean:.3g} (95 %: {-difference.high:.3g} to {-difference.low:.3g})"
