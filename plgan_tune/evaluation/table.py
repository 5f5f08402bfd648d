"""Prints an evaluation: tables of its configurations, published results, and how it was measured."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isnan
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plgan_tune.analysis.published import Setting, published
from plgan_tune.analysis.seeds import Outcome, outcome_of, settings_of, summarise, verdict
from plgan_tune.config.metrics import Metric
from plgan_tune.console.format import measured, say
from plgan_tune.console.judge import ERRS_OFTEN
from plgan_tune.evaluation.battle import FAIR, Battle, wins
from plgan_tune.evaluation.measure import JudgeOnTest, Measured
from plgan_tune.evaluation.plan import Evaluation
from plgan_tune.evaluation.published import published_tables, warnings
from plgan_tune.records import EvaluationRow, TrialRow, TrialStatus

NONE = "-"
SCORES = {"classifier_score": "classifier score", "inception_score": "Inception score", "fid": "FID"}
VERDICT_STYLES = {"better": "green", "worse": "red"}


def print_evaluation(console: Console, evaluation: Evaluation, result: Measured, searched: Sequence[TrialRow]) -> None:
    """Print the tables, each of at most 80 columns, and sentences that explain them.

    Args:
        console: where to print.
        evaluation: what was trained.
        result: rows of the evaluation measured so far, at least one, and the judge of their scores.
        searched: the search's trials, whose values by its metric are shown next to those of the seeds.
    """
    rows = result.rows
    frame = pd.DataFrame([asdict(row) for row in rows])
    measure = outcome_of(frame)
    lines = summarise(frame, evaluation.reference, measure).to_dict("records")
    in_search = {row.trial_id: row.value_last for row in searched}
    data = evaluation.trial.data
    setting = published(data.source, data.path, data.labels)
    for title, table in (
        (f"{evaluation.name}: {measure.words}{measure.unit}", _errors(lines, measure)),
        (
            f"difference from {settings_of(evaluation.reference)}, seed by seed{measure.unit}",
            _differences(lines, measure),
        ),
        *_published(setting),
        (
            f"validation {evaluation.metric.noun}s and scores: means over the seeds",
            _beside(frame, lines, in_search, evaluation.metric),
        ),
        ("scores: deviations over ten parts of the images, and over the seeds", _scores(frame, lines)),
        *_published_scores(setting, frame),
        ("generated images and, last, real ones: means over the seeds", _images(frame, lines)),
        ("time of a step, ms", _times(evaluation, frame, lines)),
        ("battles: each one's D on the other's images (GAM)", _battles(result.battles)),
        ("battles won and lost", _wins(result.battles)),
        *published_tables(evaluation, frame, result.battles),
    ):
        if table.row_count:
            say(console, title, "bold")  # a table's own title would wrap at the width of a narrow table
            console.print(table)
            console.print()
    for sentence in _sentences(evaluation, result, setting):
        say(console, sentence)


def _errors(lines: Sequence[Mapping[Any, Any]], measure: Outcome) -> Table:
    table = _table("configuration", "seeds", "mean", "deviation")
    for column in ("95 % interval", "raw weights"):
        table.add_column(column, justify="right")
    for line in lines:
        whole = line["count"] == line["seeds"]
        table.add_row(
            line["configuration"],
            str(line["seeds"]) if whole else f"{line['count']} of {line['seeds']}",
            measure.shown(line["mean"]),
            measure.shown(line["deviation"]),
            _interval(measure.shown(line["low"]), measure.shown(line["high"])),
            measure.shown(line["raw_mean"]),
        )
    return table


def _differences(lines: Sequence[Mapping[Any, Any]], measure: Outcome) -> Table:
    """Return the paired differences, of errors in percentage points; no row if nothing is paired."""
    table = _table("configuration", "pairs", "mean")
    for column in ("95 % interval", ""):
        table.add_column(column, justify="right")
    for line in lines:
        if line["pairs"]:
            low, high = line["difference_low"], line["difference_high"]
            table.add_row(
                line["configuration"],
                str(line["pairs"]),
                measure.shown(line["difference"], "+"),
                _interval(measure.shown(low, "+"), measure.shown(high, "+")),
                Text(said := verdict(low, high), VERDICT_STYLES.get(said, "dim")),
            )
    return table


def _published(setting: Setting | None) -> Iterator[tuple[str, Table]]:
    if setting is None:
        return
    table = _table("method", "mean", "deviation")
    for row in setting.rows:
        table.add_row(row.method, _percent(row.error), "" if row.deviation is None else _percent(row.deviation))
    yield f"published: {setting.data}, {setting.labels} labels, test error, %", table


def _beside(
    frame: pd.DataFrame, lines: Sequence[Mapping[Any, Any]], in_search: Mapping[str, float | None], metric: Metric
) -> Table:
    """Return the values by which the search chose, and scores of generated images."""
    scores = [name for name in SCORES if frame[name].notna().any()]
    unit = ", %" if metric.is_share else ""
    table = _table("configuration", f"{metric.name} in the search{unit}", f"here{unit}")
    for name in scores:
        table.add_column(SCORES[name], justify="right")
    means = frame.groupby("configuration")[list(SCORES)].mean()
    for line in lines:
        name = line["configuration"]
        searched = in_search.get(name)
        own = means.loc[name]
        table.add_row(
            name,
            "" if searched is None else _number(metric, searched),
            _number(metric, line["val_mean"]),
            *("" if isnan(own[score]) else f"{own[score]:.2f}" for score in scores),
        )
    if "classifier_score" in scores:
        table.add_row("the test images", "", "", f"{frame.classifier_score_real.mean():.2f}")
    return table


def _scores(frame: pd.DataFrame, lines: Sequence[Mapping[Any, Any]]) -> Table:
    """Return how far scores of generated images deviate, in two ways; no row without a deviation."""
    table = _table("configuration", "score", "mean", "over parts", "over seeds")
    by_name = frame.groupby("configuration")
    for column in ("classifier_score", "inception_score"):
        if frame[f"{column}_deviation"].isna().all():
            continue
        for name in (line["configuration"] for line in lines):
            scores = by_name.get_group(name)[[column, f"{column}_deviation"]].astype(float)
            mean, parts = scores.mean()
            seeds = float(scores[column].std())
            table.add_row(name, SCORES[column], *(_decimals(value) for value in (mean, parts, seeds)))
    return table


def _published_scores(setting: Setting | None, frame: pd.DataFrame) -> Iterator[tuple[str, Table]]:
    if setting is None or not setting.scores or frame["inception_score"].isna().all():
        return
    table = _table("images", "Inception score", "deviation")
    for row in setting.scores:
        table.add_row(row.method, _decimals(row.mean), _decimals(row.deviation))
    yield f"published: {setting.data}, the patent's table 6", table


def _images(frame: pd.DataFrame, lines: Sequence[Mapping[Any, Any]]) -> Table:
    """Return what is measured of generators beside their distance; no row for other studies."""
    table = _table("configuration", "distance", "coverage, %", "doubt, %", "transport")
    if frame.test_transport.isna().all():
        return table
    columns = ["test_distance", "test_coverage", "doubt", "test_transport"]
    means = frame.groupby("configuration")[columns].mean()
    real = frame[["test_distance_real", "test_coverage_real", "doubt_real", "test_transport_real"]].astype(float).mean()
    named = [(line["configuration"], means.loc[line["configuration"]]) for line in lines]
    for name, (distance, coverage, doubt, moved) in (*named, ("real images", real)):
        table.add_row(name, _plain(distance), _percent(coverage), _percent(doubt), _plain(moved))
    return table


def _times(evaluation: Evaluation, frame: pd.DataFrame, lines: Sequence[Mapping[Any, Any]]) -> Table:
    """Return how long steps of generators' trainings take; no row for other studies."""
    table = _table("configuration", "of D", "of G", "steps of D for each of G", "all, in training")
    if not evaluation.generators:
        return table
    columns = ["seconds_per_discriminator_step", "seconds_per_generator_step", "seconds_per_step"]
    means = 1000 * frame[columns].astype(float).groupby(frame.configuration).mean()
    trainings = {one.name: one.trial.training for one in evaluation.configurations}
    for name in (line["configuration"] for line in lines):
        of_d, of_g, whole = means.loc[name]
        k = trainings[name].discriminator_steps / trainings[name].generator_steps
        table.add_row(name, _plain(of_d), _plain(of_g), f"{k:g}", _plain(whole))
    return table


def _battles(battles: Mapping[tuple[str, str], Battle]) -> Table:
    """Return a row for each pair of configurations."""
    table = _table("first : second", "seeds", "r_test", "r_sample", "95 % interval", "accuracy", "winner")
    for (one, other), battle in battles.items():
        winner = {"one": one, "other": other}.get(battle.verdict, battle.verdict)
        table.add_row(
            f"{one} : {other}",
            str(battle.seeds),
            _plain(battle.r_test),
            _plain(battle.r_sample),
            _interval(_plain(battle.low), _plain(battle.high)),
            _plain(battle.accuracy_sample),
            Text(winner, "dim" if winner == battle.verdict else "green"),
        )
    return table


def _wins(battles: Mapping[tuple[str, str], Battle]) -> Table:
    table = _table("configuration", "won", "lost")
    for name, (won, lost) in wins(battles).items():
        table.add_row(name, str(won), str(lost))
    return table


def _sentences(evaluation: Evaluation, result: Measured, setting: Setting | None) -> Iterator[str]:
    rows, judge = result.rows, result.judge
    trial, images = evaluation.trial, rows[0].test_images
    if evaluation.generators:
        yield f"Averaged weights at epoch {trial.training.epochs}, against {images:,} test images; no labels."
        yield "Deviations and intervals (Student's t) are over the seeds; differences are paired by seed."
        yield (
            "Distance, coverage and transport of real images are those of training images, doubt that of test images."
        )
        yield (
            "Steps of D and of G are timed on one rank, in turns with those of the other configurations. In training, "
            "a step is one of G with those of D before it, on whatever machine trained."
        )
        if result.battles:
            yield (
                "r_sample below 1: the first one wins, for its images fool the other's D more often than the other's "
                f"fool its own. Without a winner: not told apart, if the interval contains 1; invalid, if r_test is "
                f"outside {FAIR[0]} to {FAIR[1]}. Ratios do not chain: only wins give an order."
            )
        broken = [row for row in rows if row.status is not TrialStatus.COMPLETED]
        if broken:
            yield f"Without a generator, so in no mean; the means are therefore too low: {_named(broken)}."
        yield from _about_judge(judge, rows)
        yield from warnings(evaluation)
        return
    trained = "the labelled AND the validation images (--refit)" if evaluation.refit else "the labelled images"
    yield (
        f"Averaged weights at epoch {trial.training.epochs}, on {images:,} test images. {trial.data.labels} labels; "
        f"trained on {trained}{'' if evaluation.refit else '; --refit adds the validation images'}."
    )
    yield "Deviations and intervals (Student's t) are over the seeds; differences are paired by seed."
    broken = [row for row in rows if row.test_error is None]
    if broken:
        yield f"Without an error, so in no mean; the means are therefore too low: {_named(broken)}."
    yield from _about_judge(judge, rows)
    if setting is None:
        yield f"No results are published for these data with {trial.data.labels} labels."
        return
    if setting.scores and any(row.inception_score is not None for row in rows):
        yield (
            "The patent's table 6 does not say whether its deviation is over parts of the images, as is usual, or over "
            "trainings."
        )
    if setting.epochs != trial.training.epochs:
        yield f"The published PL-GAN was trained for {setting.epochs} epochs, these for {trial.training.epochs}."


def _about_judge(judge: JudgeOnTest | None, rows: Sequence[EvaluationRow]) -> Iterator[str]:
    if judge is not None and any(row.classifier_score is not None for row in rows):
        labels, error = judge.judge.labels, _percent(judge.error)
        often = "" if judge.error <= ERRS_OFTEN else " It errs often, so its score says little."
        yield f"The judge of the classifier score learned from {labels:,} labels; its test error is {error} %.{often}"


def _named(rows: Sequence[EvaluationRow]) -> str:
    return ", ".join(f"{row.trial_id} ({row.status})" for row in rows)


def _table(*columns: str) -> Table:
    first, *others = columns
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right")
    return table


def _interval(low: str, high: str) -> str:
    return low if low == NONE else f"{low} to {high}"


def _number(metric: Metric, value: float) -> str:
    """Return a metric's value as the columns with its unit in their heads have it."""
    return NONE if isnan(value) else _percent(value) if metric.is_share else measured(metric, value)


def _plain(value: float) -> str:
    return NONE if isnan(value) else f"{value:.3g}"


def _decimals(value: float) -> str:
    return NONE if isnan(value) else f"{value:.2f}"


def _percent(fraction: float) -> str:
    return NONE if isnan(fraction) else f"{100 * fraction:.2f}"
