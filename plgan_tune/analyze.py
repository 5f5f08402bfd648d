"""`python -m plgan_tune.analyze`: shows what a study found, from its Parquet files alone."""

import csv
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from plgan_tune.analysis.importance import Unanswered, importances
from plgan_tune.analysis.query import QueryError, query
from plgan_tune.analysis.study import MetricError, Study, read_study
from plgan_tune.analysis.terminal import LIMITLESS, comparison, importance_table, view
from plgan_tune.config.study import threads_of
from plgan_tune.config.trial import configuration_as_mapping
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.console.exit import Command, refuse, refuse_password, refusing
from plgan_tune.console.format import redrawn, say, terminal, visible
from plgan_tune.console.shell import typed
from plgan_tune.console.signals import signals_as_ctrl_c
from plgan_tune.store.location import Location, StoreError
from plgan_tune.store.lock import LEASE, LOCK, Owner
from plgan_tune.study.study_file import STUDY_FILE

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(cls=Command)
def main(
    results: Annotated[list[str], typer.Argument(metavar="RESULTS...", help="Folders or URLs of studies.")],
    top: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="How many of the best trials to show.")] = 10,
    sql: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY",
            help="Query the tables trials, epochs, decisions, evaluations and battles instead; as CSV in a pipe.",
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the best configuration, as train --config reads it.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report: one page that needs no network.")
    ] = None,
    trial: Annotated[str | None, typer.Option(metavar="ID", help="Export this trial instead of the best.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until the search ends.")] = False,
    metric: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Rank by this metric of the epochs instead, such as val_distance."),
    ] = None,
) -> None:
    """Show what a study found: its best trials, warnings, and which keys matter."""
    console = terminal()
    with refusing(StoreError, QueryError, MetricError):
        for place in results:
            refuse_password("RESULTS", place)
        asked = {"--sql": sql is not None, "--export": export is not None, "--html": html is not None, "--watch": watch}
        given = [option for option, is_given in asked.items() if is_given]
        _check_together(given, several=len(results) > 1, trial=trial is not None, metric=metric is not None)
        if len(results) > 1:
            _compare(console, results, metric)
            return
        if watch:
            with signals_as_ctrl_c():
                _watch(console, results[0], top, metric)
            return
        study = read_study(results[0], metric)
        if sql is not None:
            _print_query(console, study, sql)
        elif export is not None:
            _export(console, study, trial, export)
        elif html is not None:
            _write_html(console, study, html)
        else:
            console.print(view(study, top))
            _print_importance(console, study)


def _check_together(given: Sequence[str], *, several: bool, trial: bool, metric: bool) -> None:
    """Refuse options that do not go together.

    Args:
        given: those that replace the summary.
        several: whether several studies are given.
        trial: whether --trial is given.
        metric: whether --metric is given.
    """
    if len(given) > 1:
        refuse(f"{' and '.join(given)} exclude each other: each replaces the summary")
    if several and given:
        refuse("--sql, --export, --html and --watch take one study, but several are given")
    if trial and "--export" not in given:
        refuse("--trial needs --export: it names the trial to export")
    if metric and "--sql" in given:
        refuse("--metric does not go with --sql: a query names its columns")


def _compare(console: Console, results: Sequence[str], metric: str | None) -> None:
    """Compare the studies that can be read, then refuse the others with their errors."""
    studies, broken = [], []
    for place in results:
        try:
            studies.append(read_study(place, metric))
        except (StoreError, MetricError) as error:
            broken.append(str(error))
    if studies:
        console.print(comparison(studies))
    if broken:
        refuse("\n".join(broken))


def _print_importance(console: Console, study: Study) -> None:
    found = importances(study)
    console.print()
    if isinstance(found, Unanswered):
        say(console, found.why, "dim")
    else:
        console.print(importance_table(found))


def _print_query(console: Console, study: Study, sql: str) -> None:
    """Print a table on a terminal, and CSV in a file or pipe."""
    names, rows = query(study, sql)
    if not console.is_terminal:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerows([_in_csv(cell) for cell in row] for row in (names, *rows))
        return
    # As plain strings, text in brackets would be parsed as a style.
    headers = [Text(visible(name)) for name in names]
    cells = [[Text("" if cell is None else visible(str(cell))) for cell in row] for row in rows]
    table = Table(*map(Column, headers), box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for line in cells:
        table.add_row(*line)
    as_wide_as_it_is = console.options.update(width=LIMITLESS)
    if Measurement.get(console, as_wide_as_it_is, table).maximum <= console.width:
        console.print(table)
    else:
        _print_a_line_a_cell(console, headers, cells)


def _print_a_line_a_cell(console: Console, headers: Sequence[Text], rows: Sequence[Sequence[Text]]) -> None:
    """Print one line per cell, for rows that are wider than the terminal."""
    for row in rows:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column(overflow="fold")
        for header, cell in zip(headers, row, strict=True):
            grid.add_row(header, cell)
        console.print(grid)
        console.print()


_FORMULA: Final = re.compile(r"(?![+-]?[\d.]+(e[+-]?\d+)?\Z)[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", re.IGNORECASE)
"""The start of a text that a spreadsheet would run as a formula, full-width signs included. Numbers are not matched."""


def _in_csv(cell: object) -> object:
    """Return a number unchanged, and a text escaped so that no spreadsheet runs it and it cannot control a terminal."""
    if cell is None or isinstance(cell, int | float | Decimal):
        return cell
    text = str(cell)
    return visible(f"'{text}" if _FORMULA.match(text) else text)


def _export(console: Console, study: Study, trial_id: str | None, file: Path) -> None:
    """Write the full configuration of a trial to a file that `train --config` reads."""
    if trial_id is None:
        if study.ranked.empty:
            refuse(f"--export: no trial of {study.location.url} has completed; --trial ID exports one of the others")
        trial_id = str(study.ranked["trial_id"].iloc[0])
    try:
        trial = study.trial(trial_id)
    except KeyError as error:
        refuse(f"--trial: {error.args[0]}")
    try:
        with file.open("x") as stream:
            stream.write(f"# Trial {trial_id} of study {study.name}.\n")
            threads = threads_of(study.spec.resources.cpus_per_rank)
            stream.write(dump_yaml(configuration_as_mapping(study.spec.study, trial, threads)))
    except OSError as error:
        refuse(f"--export {file}: must be a new file that can be written, but: {error.strerror or error}")
    say(console, f"trial {trial_id} is in {file}")


def _write_html(console: Console, study: Study, file: Path) -> None:
    """Write the report."""
    # Imported here, because Plotly and Optuna take a second.
    from plgan_tune.analysis.report.page import write_report  # noqa: PLC0415

    with console.status("drawing the report"):
        write_report(study, Location.at(file))
    say(console, f"the report of {study.name} is in {file}")


def _watch(console: Console, place: str, top: int, metric: str | None) -> None:
    """Refresh the view until no search writes the study, or Ctrl-C. On a terminal, wait for a missing folder."""
    study = Location.at(place)
    if redrawn(console) and not study.exists():
        with console.status(Text(f"there is no {typed(study)} yet; Ctrl-C ends the wait")):
            while not study.join(STUDY_FILE).exists():
                time.sleep(1)
    writer = _Writer(study.join(LOCK))
    with Live(console=console, auto_refresh=False) as live:
        while True:
            lives = writer.lives(time.monotonic())  # before the study is read, so that the last view is whole
            live.update(view(replace(read_study(place, metric), searching=lives), top), refresh=True)
            if not lives:
                return
            time.sleep(WATCH_SECONDS)


@dataclass(slots=True)
class _Writer:
    """The holder of a study's lock. On another host, it counts as dead if it has not renewed the lock for a lease."""

    lock: Location
    seen: Owner | None = None
    since: float = 0.0

    def lives(self, now: float) -> bool:
        """Return whether the holder is alive at `now`, in seconds."""
        owner = Owner.seen(self.lock)
        if owner != self.seen:
            self.seen, self.since = owner, now
        dead = owner.is_dead() if owner else True
        return now - self.since <= LEASE if dead is None else not dead


WATCH_SECONDS = 5.0
"""Seconds between two refreshes, the interval at which a search writes."""


if __name__ == "__main__":
    app()
