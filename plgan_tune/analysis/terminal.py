"""A study on a terminal: overview, best trials, findings, importance of keys."""

from collections.abc import Iterator, Sequence

import pandas as pd
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from plgan_tune.analysis.controls import audit, audit_in_words
from plgan_tune.analysis.findings import findings
from plgan_tune.analysis.front import front, members
from plgan_tune.analysis.importance import Importances
from plgan_tune.analysis.overview import Overview, Ranked, found, noise_in, overview, ranking, ties
from plgan_tune.analysis.study import Study
from plgan_tune.config.metrics import Metric
from plgan_tune.console.confirmed import confirmed_table, told_apart, winner_in_words
from plgan_tune.console.format import STYLES, Prose, brief, duration, measured, named, range_of, word
from plgan_tune.console.front import ends_in_words
from plgan_tune.console.judge import judge_in_words
from plgan_tune.records import TrialStatus

LONG = 8
"""A column's name is wrapped if it has more characters."""

BAR = 15
"""Characters of a full bar."""

GAP = 2
"""Characters between two columns."""

LIMITLESS = 10_000
"""Width of a terminal on which nothing is too wide."""


def view(study: Study, top: int) -> RenderableType:
    """Return all parts that are quick to compute; `importance_table` is not."""
    ranked = ranking(study, top)
    parts: list[RenderableType] = [_glance(study, overview(study), ranked)]
    if study.standing.places:
        parts += ["", confirmed_table(study.standing)]
    if ranked:
        parts += ["", _Best(study, ranked)]
    if (second := study.spec.second) is not None and (on_front := members(study)):
        parts += ["", _front(study, front(study)), *map(Prose, ends_in_words(on_front, study.spec.metric, second))]
    sentences = findings(study)
    if sentences:
        parts += ["", *_listed(sentences)]
    return Group(*parts)


def _glance(study: Study, sums: Overview, ranked: Sequence[Ranked]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    title = Text.assemble((study.name, "bold"), ("  running" if study.searching else "", "cyan"))
    table.add_row("trials", Prose(_tally(study, sums)))
    table.add_row("epochs", Prose(_epochs(study, sums)))
    if (audited := audit(study)) is not None:
        table.add_row("controls", Prose(audit_in_words(audited)))
    if sums.epochs:
        table.add_row("time", Prose(f"{duration(sums.busy)} in which at least one trial trained"))
        table.add_row("pace", Prose(_pace(sums)))
    if study.judge is not None:
        table.add_row("judge", Prose(judge_in_words(study.judge)))
    if ranked:
        table.add_row("best", Prose(_found(study, sums, ranked[0])))
    if (sentence := told_apart(study.standing)) is not None:
        table.add_row("", Prose(sentence))
    return Group(title, table)


def _tally(study: Study, sums: Overview) -> Text:
    text = Text(f"{sums.trials:,} of {study.spec.search.trials:,}")
    for status, count in sums.counts.items():
        told = f"{count:,} {word(status, searching=study.searching)}"
        text.append(" · ", "dim").append(told, STYLES[status])
    if sums.replicates:
        text.append(" · ", "dim").append(f"{sums.replicates:,} replicate{'s' * (sums.replicates != 1)} of the best")
    return text


def _epochs(study: Study, sums: Overview) -> str:
    whole = sums.trials * study.last_epoch
    trained = f"{sums.epochs:,} trained"
    if not sums.epochs_saved:
        return trained
    share = f"{sums.epochs_saved / whole:.0%}".replace("%", " %")
    saved = f"{sums.epochs_saved:,} ({share} of all), {duration(sums.time_saved)} one after another"
    return f"{trained}; early stopping saved {saved}"


def _pace(sums: Overview) -> str:
    said = f"{sums.epochs_per_hour:,.0f} epochs per hour of training"
    if sums.images_per_second is None:
        return said
    return f"{said}, {sums.images_per_second:,.0f} images per second in each trial"


def _found(study: Study, sums: Overview, best: Ranked) -> Text:
    winner = study.standing.winner
    if winner is not None:
        mean, words = (measured(study.metric, winner.mean), "bold green"), winner_in_words(winner)
        in_search = f"; {measured(study.metric, best.last)} in the search"
        return Text.assemble(mean, f" by {winner.trial_id}, {words}", (in_search, "dim"))
    text = Text.assemble((measured(study.metric, best.last), "bold green"), f" by {best.trial_id}, one seed")
    when = found(study, sums.clock)
    if when is not None:
        text.append(f", the {_ordinal(when.place)} trial to end, after {duration(when.after)}", "dim")
    return text


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


class _Best:
    """The best trials: one line each if that fits, else one column each, as many next to each other as fit."""

    def __init__(self, study: Study, ranked: Sequence[Ranked]) -> None:
        self._study = study
        self._ranked = ranked

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        metric = self._study.metric
        lines = _a_line_each(self._ranked, metric)
        if Measurement.get(console, options.update(width=LIMITLESS), lines).maximum <= options.max_width:
            yield lines
        else:
            yield from _a_column_each(self._ranked, options.max_width, metric)
        alike, source = ties(self._study), noise_in(self._study).source
        note = f"of {len(self._study.ranked)} completed; {metric.best}: of any epoch{'; ' * bool(source)}{source}"
        if alike > 1 and source:
            note += f" cannot tell {alike} of them (=) from the {metric.best}"
            note += "" if self._study.standing.places else ": `evaluate` them on more seeds"
        yield Prose(note, "dim")


def _a_line_each(ranked: Sequence[Ranked], metric: Metric) -> Table:
    table = _table()
    table.add_column("trial", no_wrap=True)
    for name in _figure_names(metric):
        table.add_column(name, justify="right", no_wrap=True)
    for name in named(ranked[0].params):
        table.add_column(name.replace("_", "_\n") if len(name) > LONG else name, justify="right", no_wrap=True)
    for row in ranked:
        table.add_row(_trial(row, ranked), *_figures(row, metric), *(brief(value) for value in row.params.values()))
    return table


def _a_column_each(ranked: Sequence[Ranked], width: int, metric: Metric) -> Iterator[Table]:
    names = [*_figure_names(metric), *named(ranked[0].params)]
    columns = [[*_figures(row, metric), *(Text(brief(value)) for value in row.params.values())] for row in ranked]
    cells = [_trial(row, ranked).cell_len for row in ranked] + [cell.cell_len for column in columns for cell in column]
    beside = max(1, (width - max(map(len, names)) - GAP) // (max(cells) + GAP))
    for first in range(0, len(ranked), beside):
        table = _table()
        table.add_column("trial", style="dim", no_wrap=True)
        for row in ranked[first : first + beside]:
            table.add_column(_trial(row, ranked), justify="right", no_wrap=True, min_width=max(cells))
        for place, name in enumerate(names):
            table.add_row(name, *(column[place] for column in columns[first : first + beside]))
        yield table


def _table() -> Table:
    return Table(box=None, padding=(0, GAP, 0, 0), header_style="dim", pad_edge=False)


def _trial(row: Ranked, ranked: Sequence[Ranked]) -> Text:
    told_by_noise = row.tied and row.interval is not None
    return Text(f"{'=' if told_by_noise else ' '} {row.trial_id}", "green" if row is ranked[0] else "")


def _figure_names(metric: Metric) -> tuple[str, str, str]:
    return metric.name, "95 %", metric.best


def _figures(row: Ranked, metric: Metric) -> list[Text]:
    return [
        Text(measured(metric, row.last)),
        Text(_interval(row, metric), "dim"),
        Text(measured(metric, row.best), "dim"),
    ]


def _interval(row: Ranked | None, metric: Metric) -> str:
    """Return the interval of a trial's value; a dash if there is none."""
    return "-" if row is None or row.interval is None else range_of(metric, *row.interval, to=" - ")


def _front(study: Study, frame: pd.DataFrame) -> Table:
    """Return a line for each trial of the front, with means over fresh seeds where the search has confirmed any."""
    metrics, is_raced = study.spec.objectives, bool((frame["seeds"] > 0).any())
    table = _table()
    table.add_column("front", no_wrap=True)
    for name in [*study.spec.metric_names, *(["fresh seeds", *study.spec.metric_names] if is_raced else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for row in frame.to_dict("records"):
        fresh = [measured(metric, row[f"{metric.name}_mean"] if row["seeds"] else None) for metric in metrics]
        table.add_row(
            Text(row["trial_id"], "green" if row["knee"] else ""),
            *(measured(metric, row[f"{metric.name}_last"]) for metric in metrics),
            *([str(row["seeds"] or "-"), *fresh] if is_raced else []),
            Text("knee" if row["knee"] else "", "dim"),
        )
    return table


def _listed(sentences: Sequence[str]) -> list[RenderableType]:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(style="yellow")
    grid.add_column(overflow="fold")
    for sentence in sentences:
        grid.add_row("!", Prose(sentence))
    return [grid]


def importance_table(found: Importances) -> RenderableType:
    """Return a bar for each searched key, with its interval and its significance."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, width=BAR)
    table.add_column(justify="right", no_wrap=True, min_width=len("100%"))
    table.add_column(style="dim", no_wrap=True, min_width=len("99% - 100%"))
    table.add_column(style="dim")
    for key in found.keys:
        bar = Text("━" * max(1, round(BAR * key.share)), "cyan" if key.significant else "dim")
        low, high = key.interval
        chance = "" if key.significant else "not significant"
        table.add_row(key.path, bar, f"{key.share:.0%}", f"{low:.0%} - {high:.0%}", chance)
    title = Text.assemble(("what matters", "bold"), (f"  {found.basis}; shares with 90 % intervals", "dim"))
    return Group(Prose(title), table)


def comparison(studies: Sequence[Study]) -> RenderableType:
    """Return one line per study, and a note if their values are not comparable."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("study", "trials", "completed", "epochs", "time", "best", "95 %", "by"):
        justify: JustifyMethod = "left" if name in ("study", "by") else "right"
        table.add_column(name, justify=justify, no_wrap=name != "study", overflow="fold")
    for study in studies:
        sums, ranked = overview(study), ranking(study, 1)
        best = ranked[0] if ranked else None
        table.add_row(
            Text(study.name, "bold"),
            f"{sums.trials:,}",
            f"{sums.counts.get(TrialStatus.COMPLETED, 0):,}",
            f"{sums.epochs:,}",
            duration(sums.busy),
            Text(measured(study.metric, best.last if best else None), "green"),
            _interval(best, study.metric),
            best.trial_id if best else "-",
        )
    metrics = list(dict.fromkeys(study.metric for study in studies))
    if len(metrics) > 1:
        names = ", ".join(metric.name for metric in metrics)
        note = f"they are ranked by different metrics, {names}: --metric ranks all of them by one that all have"
        return Group(table, Prose(note, "yellow"))
    splits = {split for study in studies for split in study.trials["split_hash"].dropna().unique()}
    if len(splits) <= 1:
        return table
    counted = f"their {metrics[0].noun}s were counted on {len(splits)} different splits of images"
    return Group(table, Prose(f"{counted}, so they are only partly comparable", "yellow"))
