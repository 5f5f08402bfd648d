"""Display a search: live on a terminal, elsewhere one line per event, and a summary at the end."""

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

from plgan_tune.console.confirmed import told_apart, winner_in_words
from plgan_tune.console.format import (
    STYLES,
    Prose,
    brief,
    duration,
    measured,
    named,
    redrawn,
    say,
    sparkline,
    visible,
    word,
)
from plgan_tune.console.front import front_in_brief
from plgan_tune.console.shell import quoted
from plgan_tune.records import MEASURES, TrialRow, TrialStatus
from plgan_tune.study.cluster_status import ClusterStatus
from plgan_tune.study.race import Standing
from plgan_tune.study.state import Ending, StudyState

Clock = Callable[[], datetime]
ClusterLook = Callable[[], ClusterStatus | None]

WIDE = 100
"""From this many columns on, bars and curves are wider."""

ECHO = len("^C^C")
"""Columns for what a terminal echoes at Ctrl-C after the last character of the display. On a full line the echo would
start another line, and the display would then be drawn one line too low."""

NOTES = 3
"""The display shows this many of the last notes, the summary of the first."""

LABELLED = 4
"""From this many lines on, the first names the columns of running trials."""


class LiveDisplay:
    """The live display: a header and one line per running trial. A context manager that clears it at the end.

    It redraws from the state four times a second, so it needs no events.
    """

    def __init__(self, console: Console, state: StudyState, now: Clock, cluster: ClusterLook) -> None:
        self._stopping = ""
        self._live = Live(
            get_renderable=lambda: Screen(state, now(), cluster(), stopping=self._stopping),
            console=console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def started(self, row: TrialRow, /) -> None:
        """Do nothing: the state has it."""

    def progressed(self, row: TrialRow, /) -> None:
        """Do nothing: the state has it."""

    def ended(self, row: TrialRow, /) -> None:
        """Do nothing: the state has it."""

    def looked(self) -> None:
        """Do nothing: the next redraw shows the cluster."""

    def silent(self, trial_id: str, /) -> None:
        """Do nothing: the state has it."""

    def noted(self, note: str, /) -> None:
        """Do nothing: the state has it."""

    def stopping(self, waits_for: str, /) -> None:
        """Show what the stop waits for at the next redraw; printing here would tear the display."""
        self._stopping = waits_for


class PlainDisplay:
    """The display for files and pipes: a line per finished trial, new best or change of nodes. A context manager."""

    def __init__(self, console: Console, state: StudyState, now: Clock, cluster: ClusterLook) -> None:
        self._console = console
        self._state = state
        self._now = now
        self._cluster = cluster
        best = state.best()
        self._best = best.trial_id if best else None
        self._nodes: tuple[str, ...] = ()
        self._waited = 0

    def __enter__(self) -> Self:
        cluster = self._cluster()
        self._nodes = cluster.nodes if cluster else ()
        where = f", {cluster.at_a_time} at a time on {cluster}" if cluster else ""
        budget = f", at most {self._state.budget:,} in all" if self._state.budget else ""
        trials = f"{self._state.trials} trials of {self._state.epochs} epochs"
        self._print(f"study {self._state.study}: {trials}{budget}{where}")
        return self

    def __exit__(self, *exc: object) -> None: ...

    def started(self, row: TrialRow, /) -> None:
        """Print a line for a trial that starts again."""
        if row.attempt > 1:
            self._print(f"{row.trial_id} starts again, attempt {row.attempt}: {row.error or 'the search had ended'}")

    def progressed(self, row: TrialRow, /) -> None:
        """Do nothing: epochs have no line."""

    def ended(self, row: TrialRow, /) -> None:
        """Print how the trial ended, and whether it is the new best."""
        left = self._state.time_left(self._now())
        how = _how_it_ended(row, self._state)
        self._print(
            f"[{self._state.ended()}/{self._state.trials}] {row.trial_id}{_of(row)} {row.status}, {how}"
            + (f"; about {duration(left)} left" if left else "")
        )
        best = self._state.best()
        if best is not None and best.trial_id != self._best:
            self._best = best.trial_id
            value = _value_of(best, self._state)
            self._print(f"new best: {best.trial_id} {value.plain} with {_point(best)}")

    def looked(self) -> None:
        """Print the nodes if they have changed, and why trials wait if their number has changed."""
        cluster = self._cluster()
        if cluster is None:
            return
        if cluster.nodes != self._nodes:
            self._nodes = cluster.nodes
            self._print(f"now on {cluster}")
        if cluster.waiting != self._waited:
            self._waited = cluster.waiting
            self._print(
                f"waiting: {cluster.why_waiting()}" if cluster.waiting else "no trial waits for resources any more"
            )

    def silent(self, trial_id: str, /) -> None:
        """Print that the trial is silent."""
        self._print(f"{trial_id} is silent: {self._state.silent[trial_id]}")

    def noted(self, note: str, /) -> None:
        """Print the note."""
        self._print(f"note: {note}")

    def stopping(self, waits_for: str, /) -> None:
        """Print what the stop waits for, bypassing the console, which may be in the middle of a line."""
        if not self._console.quiet:
            with suppress(OSError):  # the reader may be gone
                os.write(1, f"\nstopping: {visible(waits_for)}\n".encode())

    def _print(self, line: str) -> None:
        say(self._console, line)


def build_display(
    console: Console, state: StudyState, now: Clock, cluster: ClusterLook = lambda: None
) -> LiveDisplay | PlainDisplay:
    """Return a live display for a terminal that can redraw, and plain lines elsewhere.

    Args:
        console: Where to draw.
        state: Read at every redraw; the display never changes it.
        now: Returns the current time in UTC.
        cluster: Returns the cluster's status; None if it is unknown.
    """
    return LiveDisplay(console, state, now, cluster) if redrawn(console) else PlainDisplay(console, state, now, cluster)


class Screen:
    """One frame of the live display at `now`, as wide as the console and no higher.

    Args:
        state: The state to show.
        now: UTC.
        cluster: The cluster's status, if known.
        stopping: What a stop waits for; empty if the search is not stopping.
    """

    def __init__(
        self, state: StudyState, now: datetime, cluster: ClusterStatus | None = None, *, stopping: str = ""
    ) -> None:
        self._state = state
        self._now = now
        self._cluster = cluster
        self._stopping = stopping

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        header = _header(self._state, self._now, self._cluster, self._stopping)
        yield header
        used = len(console.render_lines(header, options, pad=False)) + 3
        yield _running(self._state, options, at_most=max(1, console.height - used))


def _header(state: StudyState, now: datetime, cluster: ClusterStatus | None, stopping: str) -> RenderableType:
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
        table.add_row("best", Prose(_best_line(state)))
    if cluster is not None:
        table.add_row("cluster", Prose(str(cluster)))
        if cluster.waiting:
            table.add_row("waiting", Prose(cluster.why_waiting(), "yellow"))
    for trial_id, told in sorted(state.silent.copy().items()):
        table.add_row("silent", Prose(f"{trial_id}: {told}", "yellow"))
    _add_notes(table, state.notes[-NOTES:])
    if stopping:
        table.add_row("stopping", Prose(stopping, "yellow"))
    return Group(title, table)


def _value_of(best: TrialRow, state: StudyState) -> Text:
    """Return the best trial's value: its mean over fresh seeds where it has one."""
    winner = state.standing().winner
    if winner is None or winner.trial_id != best.trial_id:
        return Text(measured(state.metric, best.value_last), "bold green")
    return Text.assemble((measured(state.metric, winner.mean), "bold green"), (f" {winner_in_words(winner)}", "dim"))


def _best_line(state: StudyState) -> Text:
    best = state.best()
    if best is None:
        return Text("none completed yet", "dim")
    return Text.assemble(
        _value_of(best, state),
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
        table.add_row("trial", "", "epoch", state.metric.name, "curve", "ramp w", style="dim")
    for row in shown:
        table.add_row(
            Text(row.trial_id, "cyan"),
            ProgressBar(total=state.epochs, completed=row.epochs, complete_style="cyan", finished_style="cyan"),
            f"{row.epochs}/{state.epochs}",
            measured(state.metric, row.value_last),
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
    """Return the last epoch's w, until the generator's loss has switched."""
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
    cluster: ClusterStatus | None = None,
    reference: str = "the patent's settings",
) -> None:
    """Print the summary of a search, then the next commands to type.

    Commands are never broken, whatever the width, so that they can be copied.

    Args:
        console: Where to print.
        state: The study's state.
        now: UTC.
        results: The study's own folder or URL.
        python: The interpreter, as the user types it.
        ending: How the search ended.
        resume: The command that resumes, if trials are unfinished.
        cluster: The cluster's status at the search's end.
        reference: What an evaluation compares the best with, in words.
    """
    console.print(summary(state, now, results=results, ending=ending, cluster=cluster))
    for what, command in _next_commands(state, results, python, resume, reference):
        say(console, what, "dim")
        say(console, f"  {command}")


def summary(
    state: StudyState,
    now: datetime,
    *,
    results: str,
    ending: Ending = Ending.DONE,
    cluster: ClusterStatus | None = None,
) -> RenderableType:
    """Return the panel at a search's end: the best configuration, its value, and what the search did."""
    best = state.best()
    ran = duration(now - state.started_at)
    title = f"{state.study}: {ending}, this run took {ran}"
    body = Group(
        _best_table(state, best) if best else Text("No trial completed, so there is no best configuration."),
        "",
        _account(state, results, cluster),
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
    metric, standing, latest = state.metric, state.standing(), state.latest(best.trial_id)
    _add_confirmed(table, standing)
    told = Text.assemble((measured(metric, best.value_last), "bold green"), f" by {best.trial_id}")
    if latest is not None and (raw := f"{metric.name}_raw") in MEASURES:
        told.append(f", averaged weights (raw {measured(metric, latest.value(raw))})", "dim")
    table.add_row("in the search" if standing.winner else metric.name, Prose(told))
    if (front := state.front()) and state.second is not None:
        table.add_row("front", Prose(front_in_brief(front, metric, state.second)))
    for name, value in named(best.params).items():
        table.add_row(name, brief(value, digits=6))
    return table


def _add_confirmed(table: Table, standing: Standing) -> None:
    winner = standing.winner
    if winner is None:
        return
    value = measured(winner.metric, winner.mean)
    mean = Text.assemble((value, "bold green"), f" by {winner.trial_id}, {winner_in_words(winner)}")
    table.add_row(winner.metric.name, Prose(mean))
    if (sentence := told_apart(standing)) is not None:
        table.add_row("", Prose(sentence, "" if winner.difference and winner.difference.is_better else "yellow"))


def _account(state: StudyState, results: str, cluster: ClusterStatus | None) -> Table:
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
    if cluster is not None and cluster.gpus:
        table.add_row("GPUs", f"at most {cluster.most_busy:g} of {cluster.gpus:g} busy")
    if cluster is not None and cluster.waiting:
        table.add_row("waiting", Prose(cluster.why_waiting()))
    _add_notes(table, state.notes[:NOTES])
    if len(state.notes) > NOTES:
        table.add_row("notes", f"{len(state.notes) - NOTES} more")
    table.add_row("results", Prose(results))
    return table


def _add_notes(table: Table, notes: Sequence[str]) -> None:
    for note in notes:
        table.add_row("note", Prose(note, "yellow"))


def _next_commands(
    state: StudyState, results: str, python: str, resume: str | None, reference: str
) -> list[tuple[str, str]]:
    interpreter = quoted(python)
    commands = [("Resume this study:", resume)] if resume else []
    if state.best() is not None:
        best = quoted(f"{results.rstrip('/')}/best.yaml")
        train = f"{interpreter} -m plgan_tune.train --config {best}"
        commands.append(("Train the best configuration again, to the same numbers:", train))
        evaluate = f"{interpreter} -m plgan_tune.evaluate {quoted(results)}"
        commands.append((f"Train the best three and {reference} on five new seeds, and test them:", evaluate))
    commands.append(("Show what was found:", f"{interpreter} -m plgan_tune.analyze {quoted(results)}"))
    return commands


def _two_columns() -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _how_it_ended(row: TrialRow, state: StudyState) -> str:
    value = f"{measured(state.metric, row.value_last)} after {row.epochs} epochs"
    return f"{value}: {row.error}" if row.error else value


def _of(row: TrialRow) -> str:
    return "" if row.replicate_of is None else f" ({row.replicate_of}, fresh seed {row.replicate})"


def _point(row: TrialRow) -> str:
    """Return `alpha 0.5, beta 0.25`, with no-break spaces that keep a name and its value on one line."""
    return ", ".join(f"{name}\N{NO-BREAK SPACE}{brief(value)}" for name, value in named(row.params).items())
