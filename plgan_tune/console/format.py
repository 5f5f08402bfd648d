"""Format numbers, times and searched values for people, and print them safely on a terminal."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import accumulate, pairwise
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.segment import Segment
from rich.text import Span, Text

from plgan_tune.config.metrics import Metric
from plgan_tune.records import TrialStatus, Value

STYLES: Mapping[TrialStatus, str] = {
    TrialStatus.COMPLETED: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.DIVERGED: "magenta",
    TrialStatus.FAILED: "red",
    TrialStatus.RUNNING: "cyan",
}
"""The colour of each status on a terminal."""


_STEERING: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move, colour or clear a terminal, reorder a line, or cannot be written. No script's letters."""


def visible(text: str) -> str:
    r"""Return the text with terminal control characters escaped, ESC as `\x1b`. Line ends and tabs are kept."""
    return _STEERING.sub(lambda found: escaped(found[0]), text)


def escaped(character: str) -> str:
    r"""Return a character as `\x1b` or `\u202e`, which bash reads back in `$'...'`."""
    return f"\\x{ord(character):02x}" if character.isascii() else f"\\u{ord(character):04x}"


def terminal(**options: Any) -> Console:
    """Return the console of a command. It escapes control characters in all text, whatever its source.

    Text is not parsed as rich's markup. Warnings that Python's last-resort handler prints are escaped, too.

    Args:
        options: Options of rich's `Console`.
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_VisibleFormatter())
    return _Terminal(markup=False, emoji=False, **options)


class _Terminal(Console):
    """Escapes strings and texts before they are measured and wrapped, and anything else at the end."""

    picture: Live | None = None
    """The latest live display on it."""

    def set_live(self, live: Live) -> bool:
        self.picture = live
        return super().set_live(live)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        if isinstance(renderable, Text):
            renderable = _visible_text(renderable)
        for segment in super().render(renderable, options):
            yield segment if segment.is_control else segment._replace(text=visible(segment.text))


class Prose:
    """Text that wraps only between words, for a terminal or a column of a table.

    Text to be typed is not broken if it fits: a line that begins with spaces, and text in backticks or in quotes after
    an option. A number stays with its unit. No-break spaces are respected, unlike in rich.
    """

    def __init__(self, text: str | Text, style: str = "") -> None:
        self._lines = _as_text(text, style).split("\n", allow_blank=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self._lines:
            for part in [line] if line.plain.startswith(" ") else _broken(line, options.max_width):
                part.no_wrap = options.overflow == "ignore"
                yield part

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        whole = max((line.cell_len for line in self._lines), default=0)
        return Measurement(min(whole, options.max_width), min(whole, options.max_width))


_WORD: Final = re.compile(r"(?:`[^`]*`|--[a-z-]+ '[^']*'|(?<=\d) x (?=\d)|(?<=\d) (?=(?:s|min|h|d|%)(?!\w))|[^ ])+ *")


def _broken(line: Text, width: int) -> Iterator[Text]:
    ends, used = [], 0
    for found in _WORD.finditer(line.plain):
        word = line[found.start() : found.end()].cell_len
        if used and used + line[found.start() : found.start() + len(found[0].rstrip(" "))].cell_len > width:
            ends.append(found.start())
            used = 0
        used += word
    for part in line.divide(ends):
        part.rstrip()
        yield part


def say(console: Console, text: str | Text, style: str = "") -> None:
    """Print prose: wrapped between words on a terminal, unwrapped in a file or pipe, which programs read."""
    if console.is_terminal:
        console.print(Prose(text, style), overflow="ignore", crop=False, highlight=False)
    else:
        console.print(_as_text(text, style), soft_wrap=True, highlight=False)


def _as_text(text: str | Text, style: str) -> Text:
    return Text(visible(text), style) if isinstance(text, str) else _visible_text(text)


def close_picture(console: Console) -> None:
    """Stop the live display on a command's console, from any thread. A display that has ended is not changed."""
    if isinstance(console, _Terminal) and console.picture is not None:
        console.picture.stop()


class _VisibleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _visible_text(text: Text) -> Text:
    """Escape a text; styles keep their characters. Rich has dropped backspaces and carriage returns already."""
    if not _STEERING.search(text.plain):
        return text
    starts = list(accumulate((len(visible(character)) for character in text.plain), initial=0))
    shown = text.copy()
    shown.plain = visible(text.plain)
    shown.spans = [Span(starts[span.start], starts[span.end], span.style) for span in text.spans]
    return shown


def word(status: TrialStatus, *, searching: bool) -> str:
    """Return a status for people: a running trial is `unfinished` if no search trains it."""
    return "unfinished" if status is TrialStatus.RUNNING and not searching else status.value


def redrawn(console: Console) -> bool:
    """Return whether the console can redraw what it shows, which a dumb terminal cannot."""
    return console.is_terminal and not console.is_dumb_terminal


def percent(error: float | None) -> str:
    """Return a fraction as a percentage, `15.28 %`; a dash for None."""
    return "-" if error is None else f"{100 * error:.2f} %"


def measured(metric: Metric, value: float | None, digits: int = 4) -> str:
    """Return a metric's value: a share as a percentage, any other with so many digits; a dash for None."""
    if metric.is_share or value is None:
        return percent(value)
    return f"{value:.{digits}g}"


def range_of(metric: Metric, low: float, high: float, to: str = " to ", unit: str = "") -> str:
    """Return an interval of a metric's values: shares in per cent, with `unit` behind them, such as `14.1 to 16.9`."""
    if metric.is_share:
        return f"{100 * low:.1f}{to}{100 * high:.1f}{unit}"
    return f"{low:.3g}{to}{high:.3g}"


def duration(time: timedelta) -> str:
    """Return a time as text: `42 s`, `3 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    seconds = max(0, round(time.total_seconds()))
    for size, unit, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // part} {small}"
    return f"{seconds} s"


def named(params: Mapping[str, Value]) -> dict[str, Value]:
    """Return searched values by leaf, or by full path if two leaves share a name."""
    leaves = [path.rpartition(".")[2] for path in params]
    return {
        path if leaves.count(leaf) > 1 else leaf: value
        for leaf, (path, value) in zip(leaves, params.items(), strict=True)
    }


def brief(value: Value, digits: int = 3) -> str:
    """Return a searched value as text, a float with so many significant digits."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def sparkline(values: Sequence[float], width: int, *, ascii_only: bool = False) -> str:
    """Draw `values` between their minimum and maximum in at most `width` characters, oldest first.

    A longer curve is averaged over `width` equal parts.
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
