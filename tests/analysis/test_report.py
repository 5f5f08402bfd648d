"""The report as a file: what it holds, and that it holds it for any study."""

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs
from scipy.spatial import Delaunay
from synthetic import synthetic_spec
from typer.testing import CliRunner

from plgan_tune import analyze as analyze_command
from plgan_tune.analysis.findings import findings
from plgan_tune.analysis.importance import Importance, Importances, Unanswered, importances
from plgan_tune.analysis.intervals import Interval
from plgan_tune.analysis.overview import overview
from plgan_tune.analysis.report import page as page_module
from plgan_tune.analysis.report import space, thin, timeline
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.report.space import Axis
from plgan_tune.analysis.rungs import rung_table
from plgan_tune.analysis.study import Study, read_study
from plgan_tune.config.advice import rungs
from plgan_tune.config.domains import Choice, Int, LogUniform
from plgan_tune.config.study import StudySpec
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.store.checkpoints import TrialFiles
from tests.analysis.conftest import Synthetic, seeds_table

STATUSES = ("completed", "stopped", "diverged", "failed", "running")
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Elements(HTMLParser):
    """Start tags of a page with their attributes, and its text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.text += data


def held(html: str) -> Any:
    """The data of a page's figures and table."""
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(data)


def numbers(array: Any) -> NDArray[Any]:
    """A trace's array, as Plotly writes it or as a list."""
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]) if "bdata" in array else np.array(array)


def traces(html: str, figure: str) -> list[Any]:
    return list(held(html)["figures"][figure]["data"])


@pytest.fixture(scope="module")
def sixty(shared: Synthetic) -> tuple[Study, str]:
    """A study of 60 trials, and its report."""
    study = shared(60, 20)
    return study, report_html(study)


@pytest.fixture(scope="module")
def thinned_400(shared: Synthetic) -> tuple[Study, str]:
    """A study of 400 trials, and its report as if they were too many for a browser."""
    study = shared(400, 20)
    with pytest.MonkeyPatch.context() as patched:
        return study, thinned(study, patched)


# What it shows is what the log holds


def test_of_very_many_epochs_some_are_drawn_and_it_is_said(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = synthetic(60, 20, early_stopping=False)
    monkeypatch.setattr(timeline, "MOST_POINTS", 400)
    html = report_html(study)
    assert "one epoch in 3 is drawn, and every trial's last" in " ".join(Elements(html).text.split())
    drawn: set[tuple[int, int]] = set()
    for trace in traces(html, "curves-all"):
        if trace["mode"].startswith("lines") and trace["name"] != "best":
            row, epoch, error = (numbers(trace[name]) for name in ("customdata", "x", "y"))
            there = ~np.isnan(error)
            drawn |= set(zip(row[there].astype(int).tolist(), epoch[there].astype(int).tolist(), strict=True))
    lengths = study.trials["epochs"]
    assert drawn == {
        (number, epoch)
        for number, length in enumerate(lengths)
        for epoch in range(1, length + 1)
        if epoch in (1, length) or epoch % 3 == 0
    }


def and_others(trace: Any) -> int:
    """How many more than it draws a trace stands for."""
    found = (re.match(r" and ([\d,]+) more", text) for text in trace["hovertext"])
    return sum(int(match[1].replace(",", "")) for match in found if match)


def thinned(study: Study, monkeypatch: pytest.MonkeyPatch) -> str:
    """The report as if the study's trials were too many for a browser."""
    monkeypatch.setattr(thin, "MOST_DOTS", 100)
    monkeypatch.setattr(timeline, "MOST_BARS", 100)
    for module in (timeline, space):
        monkeypatch.setattr(module, "MOST_TRIALS", 60)
    monkeypatch.setattr(timeline, "CURVES", 60)
    monkeypatch.setattr(space, "LINES", 60)
    return report_html(study)


def test_a_report_of_many_trials_is_no_more_to_draw(synthetic: Synthetic) -> None:
    """As many traces, and at most a dot a place and status, a line a curve; the page says of which it draws some."""
    html = report_html(synthetic(4000, 10))
    places = math.prod(thin.PLACES)
    for figure in ("best-so-far-time", "best-so-far-epochs", "rungs-misses", "slices-0", "plane-all"):
        dots = [trace for trace in traces(html, figure) if trace.get("mode") == "markers"]
        assert all(len(numbers(trace["x"])) <= places for trace in dots)
        assert sum(len(numbers(trace["x"])) for trace in dots) < 2 * places
    lines = [trace for trace in traces(html, "curves-all") if trace["mode"] == "lines" and "customdata" in trace]
    drawn = {row for trace in lines for row in numbers(trace["customdata"])[~np.isnan(numbers(trace["y"]))].tolist()}
    assert len(drawn) <= timeline.CURVES + 20 * len(STATUSES)
    (parallel,) = traces(html, "parallel-all")
    assert len(numbers(parallel["customdata"])) <= space.LINES + 20 * len(STATUSES)
    assert sum(len(numbers(trace["x"])) for trace in traces(html, "timeline-all")) <= len(STATUSES) * thin.MOST_BARS
    text = " ".join(Elements(html).text.split())
    assert text.count("Of 4,000 dots those of a status at one place are drawn as one") == 3
    assert f"Of 4,000 trials {len(drawn)} are drawn as lines" in text
    assert f"Of 4,000 trials {len(numbers(parallel['customdata'])):,} are drawn: the best" in text
    assert "Of 4,000 attempts those of a status that began on a row within" in text


def test_of_a_thousand_trials_every_one_is_drawn(synthetic: Synthetic) -> None:
    html = report_html(synthetic(1000, 10))
    for figure in ("best-so-far-time", "slices-0", "timeline-all"):
        shown = [trace for trace in traces(html, figure) if "hovertext" in trace]
        assert sum(len(numbers(trace["x"])) for trace in shown) == 1000
    assert len(numbers(traces(html, "parallel-all")[0]["customdata"])) == 1000
    assert not re.search("Of [0-9,]+ (dots|trials|attempts|the lines)", Elements(html).text)


@pytest.mark.parametrize("figure", ["best-so-far-time", "slices-0", "plane-all", "timeline-all"])
def test_what_is_drawn_as_one_says_how_many_it_stands_for(thinned_400: tuple[Study, str], figure: str) -> None:
    """Together they are every trial of their status."""
    study, html = thinned_400
    found = dict.fromkeys(study.trials["status"].unique(), 0)
    drawn = 0
    for trace in traces(html, figure):
        if "hovertext" in trace:
            drawn += len(numbers(trace["x"]))
            found[trace["meta"]["status"]] += len(numbers(trace["x"])) + and_others(trace)
            status = study.trials["status"][numbers(trace["customdata"])]
            assert set(status) == {trace["meta"]["status"]}
    assert found == study.trials["status"].value_counts().to_dict()
    assert drawn < 400


def test_a_dot_is_as_strong_as_those_it_stands_for(thinned_400: tuple[Study, str]) -> None:
    dots = traces(thinned_400[1], "slices-0")
    strong, counts = (
        np.concatenate(parts)
        for parts in zip(
            *(
                (numbers(trace["marker"]["opacity"]), [len(text) > 0 for text in trace["hovertext"]])
                for trace in dots
                if isinstance(trace["marker"].get("opacity"), dict)
            ),
            strict=True,
        )
    )
    assert strong[counts].min() > strong[~counts].max()
    assert strong.max() <= 0.95


def test_the_best_of_many_is_drawn_everywhere(thinned_400: tuple[Study, str]) -> None:
    study, html = thinned_400
    best = study.ranked.index[0]
    for figure in ("best-so-far-time", "best-so-far-epochs", "curves-all", "slices-0", "slices-1", "parallel-all"):
        rows = [numbers(trace["customdata"]) for trace in traces(html, figure) if "customdata" in trace]
        assert best in np.concatenate(rows), figure


def test_every_whole_number_of_many_trials_keeps_a_dot(synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more than a small figure has columns."""
    study = synthetic(400, 100)
    place = list(study.spec.columns).index("loss.switch_epoch")
    searched = set(study.trials["params_switch_epoch"])
    assert len(searched) > thin.FEWER_PLACES[0]
    dots = [numbers(trace["x"]) for trace in traces(thinned(study, monkeypatch), f"slices-{place}")]
    assert sum(len(some) for some in dots) < 400
    assert set(np.concatenate(dots).tolist()) == searched


def test_bars_drawn_as_one_take_as_long_as_their_trials(thinned_400: tuple[Study, str]) -> None:
    """They do not overlap, so that the time in which a node trained nothing stays empty."""
    study, html = thinned_400
    assert len(study.trials["node"].unique()) == 8
    whole = traces(report_html(study), "timeline-all")
    some = traces(html, "timeline-all")
    bars = sum(len(numbers(trace["x"])) for trace in some)
    assert bars < 300
    for before, after in zip(whole, some, strict=True):
        assert before["name"] == after["name"]
        assert numbers(after["x"]).sum() == pytest.approx(numbers(before["x"]).sum(), rel=1e-4)
    spans = sorted(
        (row, start, start + length)
        for trace in some
        for row, start, length in zip(*(numbers(trace[name]) for name in ("y", "base", "x")), strict=True)
    )
    for (row, _, end), (other, start, _) in pairwise(spans):
        assert row != other or end <= start + 1e-3


def test_bands_are_the_quantiles_of_all_trials_and_go_with_their_status(
    thinned_400: tuple[Study, str],
) -> None:
    study, html = thinned_400
    found = traces(html, "curves-all")
    of = dict(zip(study.trials["trial_id"], study.trials["status"], strict=True))
    epochs = study.epochs.assign(status=study.epochs["trial_id"].astype(str).map(of))
    for status, rows in epochs.groupby("status"):
        mine = [trace for trace in found if trace.get("meta") == {"status": status}]
        errors = rows.groupby("epoch")["val_error"]
        (median,) = (trace for trace in mine if trace["name"] == "median")
        np.testing.assert_allclose(numbers(median["y"]), errors.median(), rtol=1e-5)
        for name, low, high in (("nine in ten", 0.05, 0.95), ("the middle half", 0.25, 0.75)):
            (band,) = (trace for trace in mine if trace["name"] == name)
            lower, upper = np.split(numbers(band["y"]), 2)
            np.testing.assert_allclose(lower, errors.quantile(low), rtol=1e-5)
            np.testing.assert_allclose(upper[::-1], errors.quantile(high), rtol=1e-5)


def test_a_rare_status_of_many_trials_keeps_its_lines(thinned_400: tuple[Study, str]) -> None:
    """A hundredth of the lines would be none of the eight trials that diverged."""
    study, html = thinned_400
    diverged = set(study.trials.index[study.trials["status"] == "diverged"])
    assert len(diverged) == 8
    assert diverged <= set(numbers(traces(html, "parallel-all")[0]["customdata"]).tolist())
    (lines,) = (
        trace for trace in traces(html, "curves-all") if trace["name"] == "diverged" and "lines" in trace["mode"]
    )
    assert set(numbers(lines["customdata"]).tolist()) - {0} == diverged - {0}


@pytest.mark.parametrize("kind", ["running", "none completed", "errors of 0", "no key"])
def test_many_trials_of_any_study_are_thinned(synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    html = thinned(CHANGES[kind](synthetic(200, 12)), monkeypatch)
    assert "are drawn as lines" in Elements(html).text
    json.dumps(held(html), allow_nan=False)  # as a browser reads it


def test_the_curves_have_the_rungs_and_the_best_on_top(sixty: tuple[Study, str]) -> None:
    study, html = sixty
    asha = study.spec.search.early_stopping.asha
    assert asha is not None
    lines = held(html)["figures"]["curves-all"]["layout"]["shapes"]
    assert [line["x0"] for line in lines] == list(rungs(asha, 20))
    names = [trace.get("name") for trace in traces(html, "curves-all")]
    assert names.index("best") > max(place for place, name in enumerate(names) if name in STATUSES)
    best = traces(html, "curves-all")[names.index("best")]
    logged = study.epochs[study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]]
    assert numbers(best["y"]).tolist() == logged["val_error"].astype(np.float32).tolist()


def test_every_figure_has_words_that_say_what_to_look_for(sixty: tuple[Study, str]) -> None:
    html = sixty[1]
    sections = re.findall(r'<section id="[\w-]+">.*?</section>', html, re.DOTALL)
    drawn = [section for section in sections if 'class="figure"' in section]
    assert len(drawn) > 8
    for section in drawn:
        (caption,) = re.findall(r'<p class="caption">(.*?)</p>', section, re.DOTALL)
        assert "Look for" in caption, caption


def test_the_curves_are_the_epochs(sixty: tuple[Study, str]) -> None:
    study, html = sixty
    drawn: dict[Any, Any] = {}
    for trace in traces(html, "curves-all"):
        if trace["mode"].startswith("lines") and trace["name"] != "best":
            row, epoch, error = (numbers(trace[name]) for name in ("customdata", "x", "y"))
            there = ~np.isnan(error)
            ends = np.flatnonzero(np.diff(row[there].astype(int)))
            assert (~there).sum() == len(ends)  # the pen is lifted between two trials and nowhere else
            status = study.trials["status"][row[there]]
            assert set(status) == {trace["meta"]["status"]}
            drawn |= dict(zip(zip(row[there], epoch[there], strict=True), error[there], strict=True))
    number = study.epochs["trial_id"].astype(str).str[1:].astype(int)
    logged = dict(
        zip(zip(number, study.epochs["epoch"], strict=True), study.epochs["val_error"].astype(np.float32), strict=True)
    )
    assert drawn == logged


def test_the_number_of_traces_does_not_grow_with_the_trials(shared: Synthetic, sixty: tuple[Study, str]) -> None:
    few, many = (len(traces(html, "curves-all")) for html in (sixty[1], report_html(shared(300, 20))))
    assert few == many <= 2 * len(STATUSES) + 2


@pytest.mark.parametrize("axis", ["time", "epochs"])
def test_the_best_so_far_falls_to_the_best(sixty: tuple[Study, str], axis: str) -> None:
    study, html = sixty
    *dots, line = traces(html, f"best-so-far-{axis}")
    x, best = numbers(line["x"]), numbers(line["y"])
    assert (np.diff(x) >= 0).all()
    assert (np.diff(best) <= 0).all()
    assert best[-1] == np.float32(study.ranked["val_error_last"].iloc[0])
    assert sum(len(numbers(trace["x"])) for trace in dots) == len(study.trials)
    if axis == "epochs":
        assert x[-1] == len(study.epochs)


def test_bars_of_a_row_do_not_overlap(sixty: tuple[Study, str]) -> None:
    bars = traces(sixty[1], "timeline-all")
    spans = [
        (row, start, start + length)
        for trace in bars
        for row, start, length in zip(*(numbers(trace[name]) for name in ("y", "base", "x")), strict=True)
    ]
    assert len(spans) == 60
    for (row, _, end), (other, start, _) in zip(sorted(spans), sorted(spans)[1:], strict=False):
        assert row != other or end <= start + 1e-3


def test_a_pause_is_no_time_of_the_timeline_nor_of_the_best_so_far(synthetic: Synthetic) -> None:
    """An hour without a driver after the sixth epoch of each trial, which then goes on as another attempt."""
    study = synthetic(30, 12, early_stopping=False)
    epochs, hour = study.epochs, pd.Timedelta(hours=1)
    late = epochs["epoch"] > 6
    began = epochs["reported_at"].min()
    shifted = epochs["reported_at"].where(~late, epochs["reported_at"] + hour)
    paused = replace(
        study,
        epochs=epochs.assign(reported_at=shifted, attempt=1 + late),
        trials=study.trials.assign(ended_at=study.trials["ended_at"] + hour, attempt=2),
    )
    found = held(report_html(paused))["figures"]
    assert found["timeline-all"]["layout"]["xaxis"]["title"]["text"] == "seconds of training, pauses left out"
    bars = found["timeline-all"]["data"]
    spans = [span for trace in bars for span in zip(*(numbers(trace[name]) for name in ("base", "x")), strict=True)]
    assert len(spans) == 2 * 30
    whole = (study.epochs["reported_at"].max() - began).total_seconds()
    assert max(length for _, length in spans) == pytest.approx(6)
    assert max(start + length for start, length in spans) == pytest.approx(whole + 1)
    best = found["best-so-far-time"]
    assert best["layout"]["xaxis"]["title"]["text"] == "seconds of training, pauses left out"
    assert numbers(best["data"][-1]["x"])[-1] == pytest.approx(whole + 1)


def test_an_epoch_that_a_later_attempt_reports_took_no_time_of_it(synthetic: Synthetic) -> None:
    """It was trained before its search died, ten minutes before; the trial's bars do not overlap, the pause is none."""
    study = synthetic(1, 4, early_stopping=False)
    report = study.epochs["reported_at"].min() + pd.to_timedelta([600, 1200, 1800, 2500], unit="s")
    epochs = study.epochs.assign(reported_at=report, seconds=600.0, attempt=[1, 1, 2, 2])
    epochs.loc[2, "reported_at"] = report[1] + pd.Timedelta(seconds=100)
    paused = replace(study, epochs=epochs)
    (bars,) = traces(report_html(paused), "timeline-all")
    (one, other), (long, short) = numbers(bars["base"]) * 60, numbers(bars["x"]) * 60
    assert (long, short) == pytest.approx((1200, 600))
    assert other == pytest.approx(one + 1200)
    assert overview(paused).busy.total_seconds() == 600 + 600 + 600


def test_the_plane_lies_lowest_where_it_was_planted(shared: Synthetic) -> None:
    surface, *_ = traces(report_html(shared(300, 20)), "plane-all")
    alpha, beta = numbers(surface["x"]), numbers(surface["y"])
    error = numbers(surface["z"]).reshape(len(beta), len(alpha))
    row, column = np.unravel_index(np.nanargmin(error), error.shape)
    assert alpha[column] == pytest.approx(0.6, abs=0.1)
    assert beta[row] < 0.2


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.55, 0.65)])
def test_the_plane_is_drawn_only_where_trials_are(synthetic: Synthetic, low: float, high: float) -> None:
    """Between them, and no further from one than thrice what neighbours usually are."""
    study = synthetic(60, 20)
    columns = ["params_alpha", "params_beta"]
    study.trials[columns] = low + (high - low) * study.trials[columns]
    surface, *_ = traces(report_html(study), "plane-all")
    alpha, beta = np.meshgrid(numbers(surface["x"]), numbers(surface["y"]))
    drawn = np.isfinite(numbers(surface["z"]).reshape(alpha.shape))
    trials = study.trials[columns].to_numpy()
    apart = np.linalg.norm(trials[:, None] - trials, axis=-1)
    np.fill_diagonal(apart, np.inf)
    limit = max(3 * np.median(apart.min(axis=0)), 1 / 59)
    places = np.stack([alpha, beta], axis=-1)
    away = np.linalg.norm(places[:, :, None] - trials, axis=-1).min(axis=-1)
    between = Delaunay(trials).find_simplex(places) >= 0
    assert (drawn == (between & (away <= limit))).mean() > 0.999  # on the limit rounding decides
    assert 0 < drawn.mean() < high - low


@pytest.mark.parametrize("beta", [0.5, None])
def test_a_plane_of_trials_on_one_line_is_drawn_there(synthetic: Synthetic, beta: float | None) -> None:
    study = synthetic(60, 20)
    alpha = study.trials["params_alpha"]
    on_line = replace(study, trials=study.trials.assign(params_beta=alpha if beta is None else beta))
    surface, *_ = traces(report_html(on_line), "plane-all")
    drawn = np.isfinite(numbers(surface["z"])).mean()
    assert 0 < drawn < 0.5
    at_once = replace(study, trials=study.trials.assign(params_alpha=0.5, params_beta=0.5))
    surface, *_ = traces(report_html(at_once), "plane-all")
    assert np.isfinite(numbers(surface["z"])).mean() < 0.01


def test_a_plane_of_equal_errors_is_flat(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    flat = replace(study, epochs=study.epochs.assign(val_error=0.25))
    surface, *_ = traces(report_html(flat), "plane-all")
    error = numbers(surface["z"])
    assert np.isfinite(error).any()
    np.testing.assert_allclose(error[np.isfinite(error)], 25, rtol=1e-5)


def test_the_table_lists_every_trial_once_the_best_first(sixty: tuple[Study, str]) -> None:
    study, html = sixty
    table = held(html)["trials"]
    columns = {column["label"]: column["values"] for column in table["columns"]}
    assert sorted(table["order"]) == list(range(60))
    assert table["order"][: len(study.ranked)] == study.ranked.index.tolist()
    assert columns["trial"] == study.trials["trial_id"].tolist()
    np.testing.assert_allclose(columns["error, %"], 100 * study.trials["val_error_last"], rtol=1e-3)
    np.testing.assert_allclose(columns["alpha"], study.trials["params_alpha"], rtol=1e-3)


def test_rungs_count_who_came_and_who_went(synthetic: Synthetic) -> None:
    study = synthetic(60, 20)
    rungs = rung_table(study.decisions)
    assert rungs["rung"].tolist() == [1, 3, 9]
    assert (rungs["came"] == rungs["went_on"] + rungs["stopped"]).all()
    assert rungs["stopped"].sum() == study.trials["epochs"].isin(rungs["rung"]).sum()
    assert (rungs["missed_least"] <= rungs["missed_median"]).all()
    assert (rungs["missed_median"] <= rungs["missed_most"]).all()
    judged = {(row["rung"], row["trial_id"]): row for row in study.decisions.to_dict("records")}
    for rung in rungs.to_dict("records"):
        nearest = judged[rung["rung"], rung["nearest"]]
        assert nearest["verdict"] == "stop"
        assert nearest["value"] - nearest["cutoff"] == rung["missed_least"]


def test_no_decision_makes_an_empty_rung_table(synthetic: Synthetic) -> None:
    rungs = rung_table(synthetic(4, 4, early_stopping=False).decisions)
    assert rungs.empty
    assert {"rung", "came", "cutoff", "nearest"} <= set(rungs.columns)


def test_the_gradient_ratio_is_that_of_the_weighted_norms(sixty: tuple[Study, str]) -> None:
    study, html = sixty
    best = study.ranked.iloc[0]
    (line,) = traces(html, "gradients-best")
    rows = study.epochs[study.epochs["trial_id"] == best["trial_id"]]
    ratio = best["params_alpha"] * rows["grad_norm_adversarial"] / (best["params_beta"] * rows["grad_norm_feature"])
    np.testing.assert_allclose(numbers(line["y"]), ratio, rtol=1e-5)


def test_a_switch_is_drawn_where_a_trial_trained_on_another_loss_before(synthetic: Synthetic) -> None:
    """The same in the curves and in the best trial's own figures."""
    study = synthetic(60, 20, early_stopping=False)
    for ramp, switched in ((study.epochs["epoch"].ge(7).astype(float), 7), (1.0, None)):
        html = report_html(replace(study, epochs=study.epochs.assign(ramp=ramp)))
        best = [trace for trace in traces(html, "curves-all") if trace["name"] == "best"]
        marks = [numbers(trace["x"])[-1] for trace in best if trace["mode"] == "markers"]
        lines = [shape["x0"] for shape in held(html)["figures"]["losses-best"]["layout"].get("shapes", [])]
        assert marks == lines == ([switched] if switched else [])


# What others work out stands beside it


def test_importance_seeds_and_findings_stand_where_there_are_some(sixty: tuple[Study, str]) -> None:
    study, without = sixty
    keys = (
        Importance("loss.alpha", 0.75, Interval(0.5, 0.875), significant=True),
        Importance("loss.beta", 0.25, Interval(0.125, 0.5), significant=False),
    )
    html = report_html(study, Importances(keys, 3, 60), seeds_table())
    (bars,) = traces(html, "importance-all")
    assert dict(zip(bars["y"], numbers(bars["x"]), strict=True)) == {"loss.alpha": 0.75, "loss.beta": 0.25}
    assert dict(zip(bars["y"], bars["hovertext"], strict=True))["loss.beta"] == "not significant"
    assert len(set(bars["marker"]["color"])) == 2
    assert "90 % intervals, by the errors of 60 trials at epoch 3. A key with a grey bar" in Elements(html).text
    assert numbers(bars["error_x"]["array"]).tolist() == [0.25, 0.125]
    assert numbers(bars["error_x"]["arrayminus"]).tolist() == [0.125, 0.25]
    (points,) = traces(html, "seeds-all")
    assert points["marker"]["symbol"] == ["circle-open", "circle"]  # the published one is hollow, and drawn below
    text = Elements(html).text
    for said in ("0.90 %", "deviation 0.06 %", "3 of 5", "-1.00", "-1.25", "-0.75", "better"):
        assert said in text
    assert "the means are therefore too low: best-s2 (diverged), best-s4 (failed)." in text
    assert findings(study)
    for sentence in findings(study):
        assert sentence in text
    assert held(html)["figures"].keys() - held(without)["figures"].keys() == {"importance-all", "seeds-all"}
    assert "With other seeds" not in Elements(without).text


@pytest.mark.parametrize("trials", [19, 60])
def test_terminal_and_report_say_the_same_of_importance(synthetic: Synthetic, trials: int) -> None:
    study = synthetic(trials, 20)
    found = importances(study)
    sentence = found.why if isinstance(found, Unanswered) else found.basis
    assert " ".join(sentence.split()) in " ".join(Elements(report_html(study, found)).text.split())
    result = CliRunner().invoke(analyze_command.app, [study.location.path])
    assert " ".join(sentence.split()) in " ".join(result.output.split())
    if isinstance(found, Importances):
        (bars,) = traces(report_html(study, found), "importance-all")
        shown = dict(re.findall(r"(?m)^(\S+)\s+━+\s+(\d+)%", result.output))
        assert shown == {
            path: f"{100 * share:.0f}" for path, share in zip(bars["y"], numbers(bars["x"]).tolist(), strict=True)
        }


# It stands alone


def test_nothing_is_loaded_from_elsewhere(synthetic: Synthetic) -> None:
    study = synthetic(20, 10)
    TrialFiles.of(study.location, study.ranked["trial_id"].iloc[0]).write_samples(PIXEL)
    html = report_html(study)
    assert html.count(get_plotlyjs()) == 1
    elements = Elements(html)
    places = [attributes[name] for _, attributes in elements.tags for name in ("src", "href") if name in attributes]
    assert any(str(place).startswith("data:image/png;base64,") for place in places)
    assert [place for place in places if not str(place).startswith(("data:", "#"))] == []
    (policy,) = (a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in str(policy)
    css = (Path(page_module.__file__).parent / "page.css").read_text()
    assert "url(" not in css
    assert "@import" not in css


def test_what_a_trial_says_is_text_and_nothing_else(sixty: tuple[Study, str]) -> None:
    study, as_it_is = sixty
    said = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)>"
    nasty = replace(study, trials=study.trials.assign(error=said, node=said), location=study.location.join("<i>name"))
    html = report_html(nasty)
    plain, spoilt = Elements(as_it_is), Elements(html)
    assert [tag for tag, _ in spoilt.tags] == [tag for tag, _ in plain.tags]
    assert "<i>name" in spoilt.text
    why = next(column for column in held(html)["trials"]["columns"] if column["label"] == "why")
    assert set(why["values"]) == {said}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, relative luminance of sRGB."""

    def luminance(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_and_statuses_stand_out_from_the_page(theme: int) -> None:
    css = (Path(page_module.__file__).parent / "page.css").read_text()
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", css, re.DOTALL)[theme]))
    assert set(STATUSES) < set(colours)
    for name in ("ink", "muted"):
        assert contrast(colours[name], colours["paper"]) >= 4.5
    for status in STATUSES:
        assert contrast(colours[status], colours["paper"]) >= 3


# Any study has a report


def kept(spec: StudySpec, paths: set[str]) -> StudySpec:
    """The study with fewer searched keys."""
    fixed = {"loss.alpha": 0.5, "loss.beta": 0.5, "loss.switch_epoch": 3, "optim.lr_discriminator": 0.001}
    template: dict[str, Any] = json.loads(json.dumps(spec.template))
    for path in spec.domains.keys() - paths:
        section, _, leaf = path.partition(".")
        template.setdefault(section, {})[leaf] = fixed[path]
    return replace(spec, template=template, domains={p: d for p, d in spec.domains.items() if p in paths})


def running(study: Study) -> Study:
    """The same study at an hour when its last trials had not ended: one has begun, one has trained."""
    late = study.trials.index >= len(study.trials) - 2
    trials = study.trials.assign(
        status=study.trials["status"].mask(late, "running"),
        ended_at=study.trials["ended_at"].mask(late),
    )
    begun = trials["number"] == len(trials) - 1
    trials = trials.assign(
        node=trials["node"].mask(begun, None),
        epochs=trials["epochs"].mask(begun, 0),
        val_error_last=trials["val_error_last"].mask(begun),
        val_error_best=trials["val_error_best"].mask(begun),
    )
    last = study.trials["trial_id"].iloc[-1]
    epochs = study.epochs[study.epochs["trial_id"] != last]
    return replace(study, trials=trials, epochs=epochs, searching=True)


def none_completed(study: Study) -> Study:
    done = study.trials["status"] == "completed"
    return replace(study, trials=study.trials.assign(status=study.trials["status"].mask(done, "failed")))


def aligned_at_the_switch(study: Study) -> Study:
    search = study.spec.search.model_dump(mode="json")
    search["early_stopping"]["asha"]["align"] = "switch"
    return replace(study, spec=replace(study.spec, search=type(study.spec.search).model_validate(search)))


def without_errors(study: Study) -> Study:
    trials = study.trials.assign(val_error_last=0.0, val_error_best=0.0)
    return replace(study, trials=trials, epochs=study.epochs.assign(val_error=0.0))


CHANGES: Mapping[str, Callable[[Study], Study]] = {
    "whole": lambda study: study,
    "running": running,
    "interrupted": lambda study: replace(running(study), searching=False),
    "none completed": none_completed,
    "one key": lambda study: replace(study, spec=kept(study.spec, {"loss.alpha"})),
    "no key": lambda study: replace(study, spec=kept(study.spec, set())),
    "aligned at the switch": aligned_at_the_switch,
    "errors of 0": without_errors,
}


def made(synthetic: Synthetic, kind: str, folder: Path) -> Study:
    if kind == "no trial":
        (folder / "study.yaml").write_text(dump_yaml(synthetic_spec(3, 4).as_mapping()))
        return read_study(folder)
    if kind == "no early stopping":
        return synthetic(30, 12, early_stopping=False)
    if kind == "one trial of one epoch":
        return synthetic(1, 1)
    return CHANGES[kind](synthetic(30, 12))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("whole", []),
        ("running", []),
        ("interrupted", ["no search writes here, but 2 trials have not ended"]),
        ("none completed", ["No trial has completed yet"]),
        ("no trial", ["No trial has completed yet", "No epoch has been trained yet", "No trial has been placed"]),
        ("no early stopping", ["Early stopping has judged no trial", "No trial was stopped early"]),
        ("one key", ["need two searched keys", "loss.beta had one value"]),
        ("no key", ["No key was searched", "loss.alpha and loss.beta had one value"]),
        ("aligned at the switch", ["Rungs count from each trial's own switch"]),
        ("one trial of one epoch", ["need two trials"]),
        ("errors of 0", []),
    ],
)
def test_any_study_has_a_report_without_an_empty_plot(
    synthetic: Synthetic, tmp_path: Path, kind: str, says: list[str]
) -> None:
    html = report_html(made(synthetic, kind, tmp_path))
    for name, figure in held(html)["figures"].items():
        assert f'id="figure-{name}"' in html
        assert any(size(trace) for trace in figure["data"]), name
    elements = Elements(html)
    for sentence in [*says, "No completed trial has left a grid"]:
        assert sentence in elements.text
    drawn = {attributes["data-name"] for _, attributes in elements.tags if "data-name" in attributes}
    assert drawn == held(html)["figures"].keys()


def size(trace: Mapping[str, Any]) -> int:
    if trace["type"] == "parcoords":
        return min(len(numbers(dimension["values"])) for dimension in trace["dimensions"])
    return int(np.isfinite(numbers(trace["y"] if trace["type"] != "bar" else trace["x"]).astype(float)).sum())


# Axes


def test_a_choice_s_options_have_places_by_what_they_are() -> None:
    axis = Axis.of(Choice(([64, 32], "auto", None, 16, 0.5)), pd.Series(["[64, 32]", "auto", None, "16", "0.5"]))
    assert axis.places.tolist() == [0, 1, 2, 3, 4]
    assert axis.options == ("[64, 32]", "auto", "null", "16", "0.5")
    numeric = Axis.of(Choice((16, 0.5, 1)), pd.Series([0.5, 16.0, 1.0]))
    assert numeric.places.tolist() == [1, 0, 2]


def test_an_axis_reaches_to_values_of_an_older_domain() -> None:
    axis = Axis.of(LogUniform(1e-3, 1e-1), pd.Series([1e-5, 1e-2, 0.0]))
    assert (axis.low, axis.high) == (-5, -1)
    assert np.isnan(axis.places).tolist() == [False, False, True]
    assert Axis.of(Choice((1, 2)), pd.Series([3, 1])).options == ("1", "2", "3")


def test_an_axis_of_one_value_has_a_length() -> None:
    axis = Axis.of(Int(5, 5), pd.Series([5, 5]))
    assert axis.low < 5 < axis.high


@pytest.mark.parametrize(
    ("kind", "word", "other"), [("running", "running", "unfinished"), ("interrupted", "unfinished", "running")]
)
def test_trials_that_no_search_trains_are_unfinished_wherever_they_are_shown(
    synthetic: Synthetic, tmp_path: Path, kind: str, word: str, other: str
) -> None:
    html = report_html(made(synthetic, kind, tmp_path))
    data = held(html)
    for figure in ("curves-all", "timeline-all", "slices-0"):
        assert word in {trace["meta"]["status"] for trace in data["figures"][figure]["data"] if "meta" in trace}
    assert data["trials"]["columns"][1]["values"].count(word) == 2
    assert word in [tag.get("data-status") for _, tag in Elements(html).tags]
    assert other not in json.dumps(data).replace("var(--running)", "")
