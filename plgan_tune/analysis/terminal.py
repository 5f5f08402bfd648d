"""A study on a terminal: at a glance, its best trials, what to mind, what matters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from plgan_tune.analysis.findings import findings
from plgan_tune.analysis.overview import Overview, Ranked, found, overview, ranking, ties
from plgan_tune.analysis.study import Study
from plgan_tune.records import TrialStatus
from plgan_tune.wording import STYLES, brief, duration, named, percent

if TYPE_CHECKING:  # Optuna's evaluators take a second to import
    from plgan_tune.analysis.importance import Importances

LONG = 8
"""Characters from which on a column's name is broken."""

BAR = 20
"""Characters of a whole bar."""


def view(study: Study, top: int) -> RenderableType:
    """All that is quick to work out; `importance_table` is not."""
    ranked = ranking(study, top)
    parts: list[RenderableType] = [_glance(study, overview(study), ranked)]
    if ranked:
        parts += ["", _best(study, ranked)]
    sentences = findings(study)
    if sentences:
        parts += ["", *_listed(sentences)]
    return Group(*parts)


def _glance(study: Study, sums: Overview, ranked: Sequence[Ranked]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    running = sums.counts.get(TrialStatus.RUNNING, 0)
    title = Text.assemble((study.name, "bold"), ("  running" if running else "", "cyan"))
    table.add_row("trials", _tally(sums, study.spec.search.trials))
    table.add_row("epochs", _epochs(study, sums))
    table.add_row("time", _time(sums))
    if ranked:
        table.add_row("best", _found(study, ranked[0]))
    return Group(title, table)


def _tally(sums: Overview, asked: int) -> Text:
    text = Text(f"{sums.trials:,} of {asked:,}")
    for status, count in sums.counts.items():
        text.append(" · ", "dim").append(f"{count:,} {status}", STYLES[status])
    return text


def _epochs(study: Study, sums: Overview) -> str:
    whole = sums.trials * study.last_epoch
    trained = f"{sums.epochs:,} trained"
    if not sums.epochs_saved:
        return trained
    share = f"{sums.epochs_saved / whole:.0%}".replace("%", " %")
    return f"{trained}; early stopping saved {sums.epochs_saved:,} ({share}), {duration(sums.time_saved)} of training"


def _time(sums: Overview) -> str:
    said = f"{duration(sums.took)}, {sums.epochs_per_hour:,.0f} epochs an hour"
    if sums.images_per_second is None:
        return said
    return f"{said}; a trial trains on {sums.images_per_second:,.0f} images a second"


def _found(study: Study, best: Ranked) -> Text:
    text = Text.assemble((percent(best.last), "bold green"), f" by {best.trial_id}")
    when = found(study)
    if when is not None:
        text.append(f", the {_ordinal(when.place)} trial to end, after {duration(when.after)}", "dim")
    return text


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _best(study: Study, ranked: Sequence[Ranked]) -> RenderableType:
    names = list(named(ranked[0].params))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("trial", no_wrap=True)
    table.add_column("val_error", justify="right", no_wrap=True)
    table.add_column("95 %", justify="right", no_wrap=True)
    table.add_column("lowest", justify="right", no_wrap=True)
    for name in names:
        table.add_column(name.replace("_", "_\n") if len(name) > LONG else name, justify="right", overflow="fold")
    for row in ranked:
        table.add_row(
            Text(f"{'=' if row.tied else ' '} {row.trial_id}", "green" if row is ranked[0] else ""),
            percent(row.last),
            Text(f"{100 * row.interval.low:.1f} - {100 * row.interval.high:.1f}", "dim"),
            Text(percent(row.best), "dim"),
            *(brief(value) for value in row.params.values()),
        )
    alike = ties(study)
    note = f"of {len(study.ranked)} completed; {study.validation:,} validation images"
    if alike > 1:
        note += f" cannot tell {alike} of them (=) from the best: `evaluate` them on more seeds"
    return Group(table, Text(note, "dim"))


def _listed(sentences: Sequence[str]) -> list[RenderableType]:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="yellow")
    grid.add_column(overflow="fold")
    for sentence in sentences:
        grid.add_row("!", Text(sentence))
    return [grid]


def importance_table(found: "Importances") -> RenderableType:
    """A bar for each searched key, with the interval of its resamples."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, width=BAR)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    for key in found.keys:
        bar = "━" * max(1, round(BAR * key.share))
        low, high = key.interval
        table.add_row(key.path, Text(bar, "cyan"), f"{key.share:.0%}", f"{low:.0%} - {high:.0%}")
    title = Text.assemble(
        ("what matters", "bold"), (f"  by the error of {found.trials} trials at epoch {found.epoch}", "dim")
    )
    return Group(title, table)


def comparison(studies: Sequence[Study]) -> RenderableType:
    """One line a study, and what stands against comparing them."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("study", "trials", "completed", "epochs", "time", "best", "95 %", "by"):
        table.add_column(name, justify="left" if name in ("study", "by") else "right", no_wrap=True)
    for study in studies:
        sums, ranked = overview(study), ranking(study, 1)
        best = ranked[0] if ranked else None
        table.add_row(
            Text(study.name, "bold"),
            f"{sums.trials:,}",
            f"{sums.counts.get(TrialStatus.COMPLETED, 0):,}",
            f"{sums.epochs:,}",
            duration(sums.took),
            Text(percent(best.last if best else None), "green"),
            f"{100 * best.interval.low:.1f} - {100 * best.interval.high:.1f}" if best else "-",
            best.trial_id if best else "-",
        )
    splits = {split for study in studies for split in study.trials["split_hash"].dropna().unique()}
    if len(splits) <= 1:
        return table
    note = f"their errors were counted on {len(splits)} different splits of images: they compare in part only"
    return Group(table, Text(note, "yellow"))
