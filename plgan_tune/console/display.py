"""What the user sees of a search: live on a terminal, elsewhere a line an event, and a summary at the end."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from plgan_tune.console.format import (
    STYLES,
    Prose,
    brief,
    duration,
    named,
    percent,
    redrawn,
    say,
    sparkline,
    visible,
    word,
)
from plgan_tune.console.shell import quoted
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.state import Ending, StudyState

Clock = Callable[[], datetime]
Rooms = Callable[[], ClusterStatus | None]

WIDE = 100
"""From this many columns on, bars and curves get more room."""

ECHO = len("^C^C")
"""What a terminal writes after the last character of the picture. On a full line it would begin another, and the
picture be drawn one line too low from then on."""

NOTES = 3
"""The last so many stand in the picture, the first in the summary."""

LABELLED = 4
"""From this many lines on, one of them says what the columns of running trials are."""


class LiveDisplay:
    """The study in place: a header and one line a running trial. A context manager; leaves nothing behind.

    It redraws from the state four times a second, so events only mark what they changed by changing the
    state.
    """

    def __init__(self, console: Console, state: StudyState, now: Clock, room: Rooms) -> None:
        self._stopping = ""
        self._live = Live(
            get_renderable=lambda: Screen(state, now(), room(), stopping=self._stopping),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def started(self, row: TrialRow, /) -> None: ...
    def progressed(self, row: TrialRow, /) -> None: ...
    def ended(self, row: TrialRow, /) -> None: ...
    def looked(self) -> None: ...
    def silent(self, trial_id: str, /) -> None: ...
    def noted(self, note: str, /) -> None: ...

    def stopping(self, waits_for: str, /) -> None:
        """Nothing is printed here, which would tear the picture."""
        self._stopping = waits_for


class PlainDisplay:
    """One line a finished trial, a new best and a change of the nodes, for files and pipes. A context manager."""

    def __init__(self, console: Console, state: StudyState, now: Clock, room: Rooms) -> None:
        self._console = console
        self._state = state
        self._now = now
        self._room = room
        best = state.best()
        self._best = best.trial_id if best else None
        self._nodes: tuple[str, ...] = ()
        self._waited = 0

    def __enter__(self) -> Self:
        room = self._room()
        self._nodes = room.nodes if room else ()
        where = f", {room.at_a_time} at a time on {room}" if room else ""
        budget = f", at most {self._state.budget:,} in all" if self._state.budget else ""
        trials = f"{self._state.trials} trials of {self._state.epochs} epochs"
        self._print(f"study {self._state.study}: {trials}{budget}{where}")
        return self

    def __exit__(self, *exc: object) -> None: ...

    def started(self, row: TrialRow, /) -> None:
        if row.attempt > 1:
            self._print(f"{row.trial_id} starts again, attempt {row.attempt}: {row.error or 'the search had ended'}")

    def progressed(self, row: TrialRow, /) -> None: ...

    def ended(self, row: TrialRow, /) -> None:
        left = self._state.time_left(self._now())
        self._print(
            f"[{self._state.ended()}/{self._state.trials}] {row.trial_id} {row.status}, {_how_it_ended(row)}"
            + (f"; about {duration(left)} left" if left else "")
        )
        best = self._state.best()
        if best is not None and best.trial_id != self._best:
            self._best = best.trial_id
            self._print(f"new best: {best.trial_id} {percent(best.val_error_last)} with {_point(best)}")

    def looked(self) -> None:
        """Says which nodes there are where that has changed, and how many trials wait where it is not as last time."""
        room = self._room()
        if room is None:
            return
        if room.nodes != self._nodes:
            self._nodes = room.nodes
            self._print(f"now on {room}")
        if room.waiting != self._waited:
            self._waited = room.waiting
            self._print(f"waiting: {room.why_waiting()}" if room.waiting else "no trial waits for resources any more")

    def silent(self, trial_id: str, /) -> None:
        self._print(f"{trial_id} is silent: {self._state.silent[trial_id]}")

    def noted(self, note: str, /) -> None:
        self._print(f"note: {note}")

    def stopping(self, waits_for: str, /) -> None:
        """Written past the console, which may be in the middle of a line of its own."""
        if not self._console.quiet:
            with suppress(OSError):  # whoever reads it may be gone
                os.write(1, f"\nstopping: {visible(waits_for)}\n".encode())

    def _print(self, line: str) -> None:
        say(self._console, line)


def build_display(
    console: Console, state: StudyState, now: Clock, room: Rooms = lambda: None
) -> LiveDisplay | PlainDisplay:
    """Live on a terminal that can go back in its text, plain lines elsewhere.

    Args:
        console: where to draw.
        state: read at every redraw; the display never changes it.
        now: UTC.
        room: how full the cluster is; None where that is not known.
    """
    return LiveDisplay(console, state, now, room) if redrawn(console) else PlainDisplay(console, state, now, room)


class Screen:
    """One picture of the study at `now`, as wide as the console and no higher.

    Args:
        stopping: what it waits for where it is asked to stop.
    """

    def __init__(
        self, state: StudyState, now: datetime, room: ClusterStatus | None = None, *, stopping: str = ""
    ) -> None:
        self._state = state
        self._now = now
        self._room = room
        self._stopping = stopping

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        header = _header(self._state, self._now, self._room, self._stopping)
        yield header
        used = len(console.render_lines(header, options, pad=False)) + 3
        yield _running(self._state, options, at_most=max(1, console.height - used))


def _header(state: StudyState, now: datetime, room: ClusterStatus | None, stopping: str) -> RenderableType:
    counts = state.counts()
    ended = sum(counts.values()) - counts[TrialStatus.RUNNING]
    tally = Text(f"{ended} of {state.trials}", "bold", overflow="fold")
    for status in (
        TrialStatus.COMPLETED,
        TrialStatus.STOPPED,
        TrialStatus.DIVERGED,
        TrialStatus.FAILED,
        TrialStatus.RUNNING,
    ):
        if counts[status]:
            tally.append(" · ", "dim").append(f"{counts[status]}\N{NO-BREAK SPACE}{status}", STYLES[status])
    if not state.rows():
        tally.append(" · ", "dim").append("the first are starting", STYLES[TrialStatus.RUNNING])
    left = state.time_left(now)
    title = Text.assemble((state.study, "bold"), f"  running for {duration(now - state.started_at)}")
    if left is not None:
        title.append(" · ", "dim").append(f"about {duration(left)} left")
    table = _two_columns()
    table.add_row("trials", Prose(tally))
    if state.competing:
        table.add_row("best", Prose(_best_line(state.best())))
    if room is not None:
        table.add_row("cluster", Prose(str(room)))
        if room.waiting:
            table.add_row("waiting", Prose(room.why_waiting(), "yellow"))
    for trial_id, told in sorted(state.silent.copy().items()):
        table.add_row("silent", Prose(f"{trial_id}: {told}", "yellow"))
    _add_notes(table, state.notes[-NOTES:])
    if stopping:
        table.add_row("stopping", Prose(stopping, "yellow"))
    return Group(title, table)


def _best_line(best: TrialRow | None) -> Text:
    if best is None:
        return Text("none completed yet", "dim")
    return Text.assemble(
        (percent(best.val_error_last), "bold green"),
        f" by {best.trial_id}",
        ("  ", ""),
        (_point(best), "dim"),
    )


def _running(state: StudyState, options: ConsoleOptions, at_most: int) -> RenderableType:
    rows = sorted(state.running(), key=lambda row: row.number)
    labelled = bool(rows) and at_most >= LABELLED
    at_most -= labelled
    shown = rows if len(rows) <= at_most else rows[: at_most - 1]
    wide = options.max_width >= WIDE
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.width = options.max_width - ECHO
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True, min_width=len("12.34 %"))
    table.add_column(no_wrap=True, width=24 if wide else 12)
    table.add_column(no_wrap=True, width=len("switched"))
    if labelled:
        table.add_row("trial", "", "epoch", "val_error", "its course", "ramp w", style="dim")
    for row in shown:
        table.add_row(
            Text(row.trial_id, "cyan"),
            ProgressBar(total=state.epochs, completed=row.epochs, complete_style="cyan", finished_style="cyan"),
            f"{row.epochs}/{state.epochs}",
            percent(row.val_error_last),
            Text(
                sparkline(state.curve(row.trial_id), 24 if wide else 12, ascii_only=options.ascii_only),
                "cyan",
            ),
            _phase(state, row),
        )
    if len(shown) < len(rows):
        return Group("", table, Text(f"and {len(rows) - len(shown)} more", "dim"))
    return Group("", table)


def _phase(state: StudyState, row: TrialRow) -> Text:
    """w of the last epoch until the generator's loss has switched over."""
    if row.trial_id in state.silent:
        return Text("silent", "yellow")
    latest = state.latest(row.trial_id)
    if latest is None:
        return Text("starting", "dim")
    if latest.ramp is None:
        return Text("training", "dim")
    return Text("switched") if latest.ramp >= 1 else Text(f"w {latest.ramp:.2f}", "dim")


def print_summary(
    console: Console,
    state: StudyState,
    now: datetime,
    *,
    results: str,
    python: str = "python",
    ending: Ending = Ending.DONE,
    resume: str | None = None,
    room: ClusterStatus | None = None,
) -> None:
    """What a search leaves the user with, then the commands to type next.

    Commands are printed whole, whatever the width, to be copied.

    Args:
        console: where to print.
        state: of the study.
        now: UTC.
        results: the study's own folder or URL.
        python: how the user calls the interpreter.
        ending: how the search came to its end.
        resume: the command that goes on, where trials have not ended.
        room: the cluster at the search's end.
    """
    console.print(summary(state, now, results=results, ending=ending, room=room))
    for what, command in _next_commands(state, results, python, resume):
        say(console, what, "dim")
        say(console, f"  {command}")


def summary(
    state: StudyState, now: datetime, *, results: str, ending: Ending = Ending.DONE, room: ClusterStatus | None = None
) -> RenderableType:
    """The panel at a search's end: the best configuration, its error, and what the search did."""
    best = state.best()
    ran = duration(now - state.started_at)
    title = f"{state.study}: {ending}, this run took {ran}"
    body = Group(
        _best_table(state, best) if best else Text("No trial completed, so there is no best configuration."),
        "",
        _account(state, results, room),
    )
    return Panel(
        Padding(body, (0, 1)),
        title=Text(title, "bold"),
        title_align="left",
        border_style="yellow" if ending is not Ending.DONE else "green" if best else "red",
        expand=False,
    )


def _best_table(state: StudyState, best: TrialRow) -> Table:
    table = _two_columns()
    latest = state.latest(best.trial_id)
    error = Text.assemble((percent(best.val_error_last), "bold green"), f" by {best.trial_id}")
    if latest is not None:
        error.append(f", averaged weights (raw {percent(latest.val_error_raw)})", "dim")
    table.add_row("val_error", Prose(error))
    for name, value in named(best.params).items():
        table.add_row(name, brief(value, digits=6))
    return table


def _account(state: StudyState, results: str, room: ClusterStatus | None) -> Table:
    counts = state.counts()
    tally = Text(", ").join(
        Text(
            f"{counts[status]} {word(status, searching=False)}",
            STYLES[status] if counts[status] else "dim",
        )
        for status in TrialStatus
        if status is not TrialStatus.RUNNING or counts[status]
    )
    trained, saved = state.epochs_trained(), state.epochs_saved()
    most = state.trials * state.epochs
    epochs = f"{trained:,} trained of at most {most if state.budget is None else min(most, state.budget):,}"
    table = _two_columns()
    table.add_row("trials", Prose(tally))
    table.add_row("epochs", Prose(f"{epochs}; early stopping saved {saved:,}" if saved else epochs))
    trained_on = Counter(row.node for row in state.rows() if row.node)
    if trained_on:
        each = (f"{node} ({count} trial{'s' * (count != 1)})" for node, count in sorted(trained_on.items()))
        table.add_row("nodes", Prose(", ".join(each)))
    if room is not None and room.gpus:
        table.add_row("GPUs", f"at most {room.most_busy:g} of {room.gpus:g} busy")
    if room is not None and room.waiting:
        table.add_row("waiting", Prose(room.why_waiting()))
    _add_notes(table, state.notes[:NOTES])
    if len(state.notes) > NOTES:
        table.add_row("notes", f"{len(state.notes) - NOTES} more")
    table.add_row("results", Prose(results))
    return table


def _add_notes(table: Table, notes: Sequence[str]) -> None:
    for note in notes:
        table.add_row("note", Prose(note, "yellow"))


def _next_commands(state: StudyState, results: str, python: str, resume: str | None) -> list[tuple[str, str]]:
    interpreter = quoted(python)
    commands = [("Go on with this study:", resume)] if resume else []
    if state.best() is not None:
        best = quoted(f"{results.rstrip('/')}/best.yaml")
        train = f"{interpreter} -m plgan_tune.train --config {best}"
        commands.append(("Train the best configuration again, to the same numbers:", train))
        evaluate = f"{interpreter} -m plgan_tune.evaluate {quoted(results)}"
        commands.append(("Train the best three and the patent's settings on five new seeds, and test them:", evaluate))
    commands.append(("Say what was found:", f"{interpreter} -m plgan_tune.analyze {quoted(results)}"))
    return commands


def _two_columns() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _how_it_ended(row: TrialRow) -> str:
    error = f"{percent(row.val_error_last)} after {row.epochs} epochs"
    return f"{error}: {row.error}" if row.error else error


def _point(row: TrialRow) -> str:
    """`alpha 0.5, beta 0.25`; no-break spaces keep a name and its value on one line."""
    return ", ".join(f"{name}\N{NO-BREAK SPACE}{brief(value)}" for name, value in named(row.params).items())
