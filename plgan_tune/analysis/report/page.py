"""The report: one self-contained HTML file that needs no network."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from plgan_tune.analysis.controls import audit, audit_in_words
from plgan_tune.analysis.curves import switches
from plgan_tune.analysis.findings import findings
from plgan_tune.analysis.front import members
from plgan_tune.analysis.importance import Importances, Unanswered, importances
from plgan_tune.analysis.overview import Overview, noise_in, overview
from plgan_tune.analysis.report import best, images, space, timeline
from plgan_tune.analysis.report.front import front_figure
from plgan_tune.analysis.report.look import Absent, Drawn, scaled, unit
from plgan_tune.analysis.report.seeds import seeds_figure
from plgan_tune.analysis.rungs import rung_table
from plgan_tune.analysis.seeds import ERROR, Outcome, beside_published, outcome_of_study, reference_of, settings_of
from plgan_tune.analysis.study import Study
from plgan_tune.console.confirmed import (
    difference_in_words,
    interval_in_words,
    told_apart,
    verdict,
    winner_in_words,
)
from plgan_tune.console.format import duration, measured, percent, range_of, word
from plgan_tune.console.front import ends_in_words
from plgan_tune.records import TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.study.race import Standing


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of the page with its own title.

    Attributes:
        name: anchor; letters and dashes.
        title: the title.
        look_for: the caption, which says what to look for.
        drawn: figures by name, side by side if the page is wide enough.
        group: `one` figure over the page's width, a `pair`, or `many` small ones.
        least: width in pixels below which its figures scroll sideways.
    """

    name: str
    title: str
    look_for: str
    drawn: Mapping[str, Drawn]
    group: str = "one"
    least: int = 0

    @property
    def figures(self) -> dict[str, Any]:
        """Figures by their name on the page, without absent ones."""
        return {f"{self.name}-{key}": made for key, made in self.drawn.items() if not isinstance(made, Absent)}

    @property
    def left_out(self) -> list[str]:
        """Sentences on what its figures do not draw because there is too much of it, each once."""
        return list(dict.fromkeys(made.layout.meta["left_out"] for made in self.figures.values()))

    @property
    def absent(self) -> list[str]:
        """Reasons why figures are absent, each once."""
        return list(dict.fromkeys(made.why for made in self.drawn.values() if isinstance(made, Absent)))


def write_report(study: Study, file: Location) -> None:
    """Write `report_html` with evaluation results and keys' importance.

    Raises:
        StoreError: if it cannot be written.
    """
    file.write_text(report_html(study, importances(study), beside_published(study), outcome_of_study(study)))


NOT_GIVEN: Final = Unanswered("This page was made without the keys' importance.")


def report_html(
    study: Study,
    found: Importances | Unanswered = NOT_GIVEN,
    seeds: pd.DataFrame | None = None,
    outcome: Outcome = ERROR,
) -> str:
    """Return a running or finished study as a page; a sentence replaces each figure without data.

    Args:
        study: the study; its sample grids are read from its store.
        found: how much each key matters, or why it is unknown.
        seeds: rows of `beside_published`.
        outcome: what they are of.

    Raises:
        StoreError: if a sample grid cannot be read.
    """
    sums = overview(study)
    panels = {
        "search": _search_panels(study),
        "space": _space_panels(study, found),
        "best": _best_panels(study),
    }
    figures = {name: made for group in panels.values() for panel in group for name, made in panel.figures.items()}
    table_of_seeds = None if seeds is None or seeds.empty else seeds
    if table_of_seeds is not None:
        figures["seeds-all"] = seeds_figure(table_of_seeds, outcome)
    data = {"figures": {name: made.to_plotly_json() for name, made in figures.items()}, "trials": _trials(study)}
    return _template().render(
        study=study,
        glance=_glance(study, sums),
        statuses=_running_last(study, sums.counts),
        findings=findings(study),
        panels=panels,
        heights={name: int(made.layout.height) for name, made in figures.items()},
        rungs=_rungs(study),
        metric=study.metric,
        searched_by=study.spec.metric,
        settings=_settings(study),
        grids=images.sample_grids(study),
        progress=images.progress(study),
        labelled=_labelled(study),
        confirmed=_confirmed(study.standing),
        told_apart=_sentence(told_apart(study.standing)),
        outcome=outcome,
        settings_of=settings_of(reference_of(study.spec)),
        seeds=table_of_seeds.to_dict("records") if table_of_seeds is not None else None,
        data=_for_script(data),
        plotly=get_plotlyjs(),
        **{name: (FOLDER / f"page.{name}").read_text(encoding="utf-8") for name in ("css", "js")},
    )


FOLDER: Final = Path(__file__).parent


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": lambda share: percent(None if math.isnan(share) else share),
        "signed": lambda share: "–" if math.isnan(share) else f"{100 * share:+.2f}",
    }
    return environment.get_template("page.html")


def _for_script(data: Mapping[str, Any]) -> str:
    """Return JSON that cannot end its script: `</script>` and `<!--` need the escaped character."""
    return json.dumps(data, cls=PlotlyJSONEncoder, separators=(",", ":")).replace("<", "\\u003c")


def _search_panels(study: Study) -> list[Panel]:
    metric = study.metric
    fell, falling, rise = ("fell", "falling", "rise") if metric.better == "lower" else ("rose", "rising", "fall")
    side = "right" if study.spec.metric.better == "lower" else "left"
    return [
        Panel(
            "best-so-far",
            "Best so far",
            f"The line is the {metric.best} {metric.noun} at a last epoch; a dot is a trial where it ended. Look for "
            f"where the line last {fell}: a long flat end means that more trials of this space would gain little.",
            {"time": timeline.best_over_time(study), "epochs": timeline.best_over_epochs(study)},
            "pair",
        ),
        *_front_panels(study),
        Panel(
            "curves",
            "Learning curves",
            f"A line is a trial, the best in the text's colour on top{_about_switches(study)}. {_about_rungs(study)}"
            f"Look for curves that were cut while still {falling}"
            f"{f', and for curves that {rise} after their switch' if _switched(study) else ''}.",
            {"all": timeline.learning_curves(study)},
        ),
        Panel(
            "rungs",
            "Early stopping, rung by rung",
            f"Trials to the {side} of the cutoff were stopped; the distance is how far they missed it. Trials that "
            "reached a rung before it had a cutoff are not drawn, and the height within a rung has no meaning. Look "
            f"for many trials just {side} of the cutoff: they were hardly worse than those that continued, and a "
            "longer grace period would judge them better."
            f"{_about_controls(study)}",
            {"misses": timeline.misses(study)},
        ),
        Panel(
            "timeline",
            "Trials on nodes",
            "A bar is an attempt of a trial, on the trial's last node; a node has a row for each trial that it ran at "
            "once. Times in which no trial trained are left out. Look for gaps, where a node trained nothing while "
            "others did, and for a ragged end, where the other nodes waited for a few long trials.",
            {"all": timeline.timeline(study)},
        ),
    ]


def _labelled(study: Study) -> bool:
    """Return whether trials see labels: without them there is no classifier, and no error."""
    return study.spec.any_trial().data.labels > 0


def _switched(study: Study) -> bool:
    return not switches(study.epochs).empty


def _about_switches(study: Study) -> str:
    if not _switched(study):
        return ""
    return "; a diamond is a trial's switch, its first epoch on the generator's final loss"


def _front_panels(study: Study) -> list[Panel]:
    """Return the panel of the front, of a search by two metrics."""
    first, second = study.spec.metric, study.spec.second
    if second is None:
        return []
    costs = "; ".join(ends_in_words(members(study), first, second))
    return [
        Panel(
            "front",
            "The front of both metrics",
            "A dot is a trial where it ended. The line runs along the front, completed trials that no other is better "
            f"than in both {first.noun} and {second.noun}; the star is its knee. Values are of one seed each, so the "
            "front is optimistic. Look for a sharp bend: there both are to be had. "
            f"{f'Here {costs}.' if costs else ''}",
            {"all": front_figure(study)},
        )
    ]


def _about_controls(study: Study) -> str:
    if (audited := audit(study)) is None:
        return ""
    return f" Diamonds are controls, trials that would have been stopped: {audit_in_words(audited)}."


def _about_rungs(study: Study) -> str:
    asha = study.spec.search.early_stopping.asha
    if asha is None:
        return "No trial was stopped early. "
    if asha.align == "switch":
        return "Rungs count from each trial's own switch. "
    return "Dotted lines with their epochs are the rungs of early stopping. "


def _space_panels(study: Study, found: Importances | Unanswered) -> list[Panel]:
    sliced: Mapping[str, Drawn] = space.slices(study)
    basis = found.basis if isinstance(found, Importances) else ""
    noun, best = study.metric.noun, study.metric.best
    valley = "valley" if study.metric.better == "lower" else "ridge"
    return [
        Panel(
            "importance",
            f"What the {noun} depends on",
            f"Bars are PED-ANOVA's shares with their 90 % intervals, {basis}. A key with a grey bar is not "
            "significant: it separates good trials from the others no better than chance. Look for the coloured bars: "
            "those keys deserve further trials; the others have shown no influence yet.",
            {"all": space.importance_bars(found)},
        ),
        Panel(
            "slices",
            "One key at a time",
            f"Each trial's last {noun} over the values of a key. Open circles were stopped early, so theirs is the "
            f"{noun} at that epoch; the star is the best. Look for a {valley}, and for a best value at the edge: then "
            "the domain is too narrow.",
            {str(place): made for place, made in enumerate(sliced.values())}
            or {"none": Absent("No key was searched: all trials have the same configuration.")},
            "many",
        ),
        *_plane_panel(study, valley),
        Panel(
            "parallel",
            "All keys together",
            f"A line is a trial; the strongest colour is the {best} {noun}. Drag along an axis to keep only the lines "
            "that pass there; click the axis to undo. Look for axes where the best lines are close together.",
            {"all": space.parallel_coordinates(study)},
            least=space.least_width(study),
        ),
    ]


def _plane_panel(study: Study, valley: str) -> Iterator[Panel]:
    """Yield the plane of alpha and beta; without labels, only if it can be drawn."""
    if not (_labelled(study) or {space.ALPHA, space.BETA} <= study.spec.domains.keys()):
        return
    yield Panel(
        "plane",
        "Alpha and beta together",
        "The colour is the mean of nearby trials, drawn or not, all at the same epoch; without trials nearby there "
        "is no colour. The star is the best. On a straight line through the origin, alpha / beta is constant. Look "
        f"for a {valley} along such a line: then only the ratio matters.",
        {"all": space.plane(study)},
    )


def _best_panels(study: Study) -> list[Panel]:
    return [
        *_image_panels(study),
        Panel("losses", "Loss terms", _about_losses(study), {"best": best.loss_terms(study)}),
        *_gradient_panel(study),
    ]


def _image_panels(study: Study) -> Iterator[Panel]:
    """Yield how the best trial's images came near to real ones, of a study that has nothing else to go by."""
    judged = best.has(study, "val_distance")
    if not _labelled(study):
        how = "in the features of the judge" if judged else "pixel by pixel"
        floor = "; a generator without fault would reach the dotted line" if judged and study.judge is not None else ""
        yield Panel(
            "distance",
            "Distance",
            f"How far the best trial's images are from validation images, {how}. The search goes by the averaged "
            f"weights{floor}. Look for a line that still falls at the end: longer trainings would come nearer.",
            {"best": images.distance(study)},
        )
    if not _labelled(study) and judged:
        yield Panel(
            "coverage",
            "Coverage",
            "The share of validation images that have a generated image near them. Look for a coverage that stays "
            "low while the distance falls: the images are good, but always the same few.",
            {"best": images.coverage(study)},
        )
    if best.has(study, "critic_gap"):
        yield Panel(
            "critic",
            "The critic's gap",
            "The critic's mean value of real images less that of generated ones, for training and for validation "
            "images. Look for a difference that grows: the critic then learns its training images by heart, and what "
            "it tells the generator holds for those alone.",
            {"best": images.critic_gap(study)},
        )


def _about_losses(study: Study) -> str:
    """Return the caption of the loss terms: what those are that the study has."""
    own = "; the others are the study's own" if best.own_terms(study) else ""
    if _labelled(study):
        return (
            "C_sup is the loss on labels, C_unsup that of real against generated images; V_log and V_feature are the "
            f"generator's terms without alpha and beta{own}. Look for a jump at the switch, the dotted line, and for a "
            "rising V_log: then the discriminator wins."
        )
    if study.spec.any_trial().loss.game == "wasserstein":
        penalty = ", C_gp its gradient penalty without its weight" if best.has(study, "loss_penalty") else ""
        return (
            "C_unsup is the critic's loss, its mean value of generated images less that of real ones"
            f"{penalty}; V_log is the generator's loss, the critic's mean value of generated images with its sign "
            f"turned{own}. Look for a C_unsup that comes closer to 0: the critic then tells the images apart less well."
        )
    return (
        f"C_unsup is the discriminator's loss on real and generated images, V_log the generator's{own}. Look for a "
        "rising V_log: then the discriminator wins."
    )


def _gradient_panel(study: Study) -> Iterator[Panel]:
    """Yield the ratio of the generator's gradients; without labels, only if it has both losses."""
    ratio = best.gradient_ratio(study)
    if _labelled(study) or not isinstance(ratio, Absent):
        yield Panel(
            "gradients",
            "Gradients of the generator",
            "alpha |∇V_log| / (beta |∇V_feature|): above 1 the adversarial loss dominates, below 1 feature matching. "
            "Look for a ratio far from 1 in all epochs: the weaker loss then hardly counts and could be left out.",
            {"best": ratio},
        )


@dataclass(frozen=True, slots=True)
class Fact:
    """A number in the header: its label, its value and a remark."""

    label: str
    value: str
    note: str


def _glance(study: Study, sums: Overview) -> list[Fact]:
    facts = [
        _best_value(study),
        Fact("Trials", f"{sums.trials:,}", f"of {study.spec.search.trials:,}"),
        Fact("Epochs trained", f"{sums.epochs:,}", _saved(sums)),
        Fact("Time", duration(sums.busy), f"{sums.epochs_per_hour:,.0f} epochs per hour of training"),
    ]
    if sums.images_per_second is not None:
        facts.append(Fact("Images per second", f"{sums.images_per_second:,.0f}", "in one trial"))
    if (judge := study.judge) is not None:
        knows = f"knows {judge.labels:,} labels and errs on {percent(judge.error)}"
        note = f"their distance, to a judge that {knows}; it trains no trial"
        facts.append(Fact("Real images", f"{judge.floor:.2f}", note))
    return facts


def _best_value(study: Study) -> Fact:
    metric, label = study.metric, f"Best {study.metric.noun}"
    if study.ranked.empty:
        return Fact(label, "–", "no trial has completed")
    if (winner := study.standing.winner) is not None:
        return Fact(label, measured(metric, winner.mean), winner_in_words(winner))
    best = float(study.ranked[study.last].iloc[0])
    interval = noise_in(study).interval(best)
    note = "one seed" if interval is None else f"one seed, 95 %: {range_of(metric, *interval, unit=' %')}"
    return Fact(label, measured(metric, best), note)


def _rungs(study: Study) -> list[dict[str, Any]]:
    """Return the rows of the table of rungs, in the unit of the metric that the search went by."""
    metric = study.spec.metric
    rows: list[dict[str, Any]] = []
    for row in rung_table(study.decisions, metric).to_dict("records"):
        words = {name: cell for name, cell in row.items() if isinstance(name, str)}
        words["cutoff"] = measured(metric, None if math.isnan(row["cutoff"]) else row["cutoff"])
        for name in ("missed_least", "missed_median", "missed_most"):
            missed = scaled(metric, row[name])  # NaN where trials were judged by two metrics, without a cutoff
            words[name] = "–" if math.isnan(missed) else f"{missed:{'.2f' if metric.is_share else '.3g'}}"
        rows.append(words)
    return rows


def _confirmed(standing: Standing) -> list[dict[str, str]]:
    """Return the rows of the table of confirmed configurations, the best first."""
    return [
        {
            "trial_id": place.trial_id,
            "mean": measured(place.metric, place.mean),
            "interval": interval_in_words(place),
            "seeds": str(len(place.judging)),
            "difference": difference_in_words(place),
            "verdict": verdict(standing, place),
        }
        for place in standing.places
    ]


def _sentence(words: str | None) -> str:
    return "" if words is None else f"The best: {words}."


def _saved(sums: Overview) -> str:
    return f"{sums.epochs_saved:,} saved, {duration(sums.time_saved)}" if sums.epochs_saved else "none saved"


def _running_last(study: Study, counts: Mapping[TrialStatus, int]) -> dict[str, int]:
    order = sorted(counts, key=lambda status: status is TrialStatus.RUNNING)
    return {word(status, searching=study.searching): counts[status] for status in order}


def _settings(study: Study) -> dict[str, str]:
    """Return the best trial's values of the searched keys."""
    if study.ranked.empty:
        return {}
    row = study.ranked.iloc[0]
    return {path: space.text(row[column], digits=4) for path, column in study.spec.columns.items()}


def _trials(study: Study) -> dict[str, Any]:
    """Return the table of all trials by column, and its order: the best first, then those that did not complete."""
    trials = study.trials
    columns = [
        {"label": "trial", "values": trials["trial_id"].tolist()},
        {"label": "status", "values": [word(TrialStatus(one), searching=study.searching) for one in trials["status"]]},
        {
            "label": f"{study.metric.noun}{unit(study.metric)}",
            "values": _numbers(scaled(study.metric, trials[study.last])),
            **({"digits": 2} if study.metric.is_share else {}),
        },
        {"label": "epochs", "values": trials["epochs"].tolist()},
    ]
    for path, column in study.spec.columns.items():
        if column in trials:
            cells = trials[column]
            numeric = pd.api.types.is_numeric_dtype(cells) and not pd.api.types.is_bool_dtype(cells)
            values = _numbers(cells) if numeric else [space.text(cell) for cell in cells]
            columns.append({"label": space.short_name(study, path), "values": values})
    columns.append({"label": "time, s", "values": _numbers(trials["seconds"]), "digits": 1})
    if trials["error"].notna().any():
        columns.append({"label": "why", "values": [cell if isinstance(cell, str) else "" for cell in trials["error"]]})
    ranked = study.ranked.index
    rest = trials.assign(cost=study.costs).drop(ranked).sort_values(["cost", "number"]).index
    return {"columns": columns, "order": [*ranked.tolist(), *rest.tolist()]}


def _numbers(cells: "pd.Series[Any]") -> list[float | None]:
    """Round to four significant digits; NaN becomes None, because JSON has no NaN."""
    numbers = cells.to_numpy(dtype=float, na_value=math.nan).tolist()
    return [None if math.isnan(number) else float(f"{number:.4g}") for number in numbers]
