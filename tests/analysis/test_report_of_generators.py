"""The report of a study without labels: what there is to see of generators, and no word of what there is not."""

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from plgan_tune import analyze as analyze_command
from plgan_tune.analysis.report import images
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.seeds import DISTANCE
from plgan_tune.analysis.study import Study, read_study
from plgan_tune.store.checkpoints import TrialFiles
from tests.analysis.conftest import Synthetic, seeds_table
from tests.analysis.test_report import Elements, held, numbers, traces

OF_NO_GENERATOR = re.compile(
    r"errors?\b|classif|C_sup|on labels|for labels|alpha|beta|switch|patent|PL-GAN|V_feature|published", re.IGNORECASE
)
"""What a study without labels has not."""

OF_THE_JUDGE = re.compile(r"errs on [\d.]+\s%|error [\d.]+ %\s+on\s+the\s+validation\s+images")


@pytest.fixture(scope="module")
def gan(searched_gan: Path) -> tuple[Study, str]:
    """A study of generators, and its report."""
    study = read_study(searched_gan)
    return study, report_html(study)


@pytest.fixture
def copied(searched_gan: Path, tmp_path: Path) -> Path:
    """The study's folder, to be changed."""
    return Path(shutil.copytree(searched_gan, tmp_path / "gan"))


def said(html: str) -> str:
    """All words that a reader of the page may meet, those at the pointer and of the axes among them."""
    figures = json.dumps(held(html)["figures"])
    labels = [
        str(attributes[name])
        for _, attributes in Elements(html).tags
        for name in ("alt", "title", "aria-label")
        if name in attributes
    ]
    return " ".join([Elements(html).text, *labels, *re.findall(r'"(?:text|name|hovertemplate)": ?"([^"]*)"', figures)])


def test_no_panel_speaks_of_what_a_generator_has_not(gan: tuple[Study, str]) -> None:
    study, html = gan
    found = OF_NO_GENERATOR.findall(OF_THE_JUDGE.sub("", said(html)))
    assert found == []
    assert "Search of a generator" in Elements(html).text
    with_seeds = report_html(study, seeds=seeds_table().head(1), outcome=DISTANCE)
    assert "the settings of gp_wirgan" in Elements(with_seeds).text
    assert "other seeds for weights and validation images" in Elements(with_seeds).text
    assert OF_NO_GENERATOR.findall(OF_THE_JUDGE.sub("", Elements(with_seeds).text)) == []


def test_analyze_speaks_of_no_error_either(gan: tuple[Study, str]) -> None:
    shown = CliRunner().invoke(analyze_command.app, [gan[0].location.path])
    assert shown.exit_code == 0
    assert "val_distance" in shown.output
    assert OF_NO_GENERATOR.findall(OF_THE_JUDGE.sub("", shown.output)) == []


def column(html: str, figure: str, name: str) -> list[float]:
    (trace,) = (one for one in traces(html, figure) if one["name"] == name)
    return list(numbers(trace["y"]).tolist())


def test_the_best_trial_s_measures_are_the_log_s(gan: tuple[Study, str]) -> None:
    study, html = gan
    best = study.epochs[study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]]
    for figure, name, logged in (
        ("distance-best", "averaged weights", "val_distance"),
        ("distance-best", "raw weights", "val_distance_raw"),
        ("coverage-best", "averaged weights", "val_coverage"),
        ("critic-best", "training images", "critic_gap"),
        ("critic-best", "validation images", "critic_gap_val"),
        ("losses-best", "C_gp", "loss_penalty"),
    ):
        assert column(html, figure, name) == best[logged].astype(np.float32).tolist(), logged
    assert study.judge is not None
    (level,) = held(html)["figures"]["distance-best"]["layout"]["shapes"]
    assert level["y0"] == level["y1"] == study.judge.floor
    assert {trace["name"] for trace in traces(html, "losses-best")} == {"C_unsup", "V_log", "C_gp"}
    drawn = {name.partition("-")[0] for name in held(html)["figures"]}
    assert not drawn & {"plane", "gradients"}


def pictures(html: str, section: str) -> list[tuple[bytes, int]]:
    """Content and width of the pictures of a section."""
    (inside,) = re.findall(rf'<section id="{section}">(.*?)</section>', html, re.DOTALL)
    found = re.findall(r'<img src="data:image/png;base64,([^"]*)" width="(\d+)"', inside)
    return [(base64.b64decode(png), int(width)) for png, width in found]


def test_the_best_trial_s_images_are_shown_epoch_by_epoch_and_step_by_step(gan: tuple[Study, str]) -> None:
    study, html = gan
    files = TrialFiles.of(study.location, study.ranked["trial_id"].iloc[0])
    grids = files.grids()
    assert list(grids) == [2, 3, 4, 5, 6]
    assert [png for png, _ in pictures(html, "progress")] == list(grids.values())
    assert [png for png, _ in pictures(html, "steps")] == [files.steps()]
    for png, width in [*pictures(html, "progress"), *pictures(html, "steps")]:
        assert width % int.from_bytes(png[16:20], "big") == 0  # no pixel is wider than another
    distance = study.epochs[study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]].set_index("epoch")
    shown = " ".join(Elements(html).text.split())
    for epoch in grids:
        assert f"epoch {epoch} distance {distance['val_distance'][epoch]:.4g}" in shown


def test_only_trials_that_keep_a_checkpoint_keep_pictures(gan: tuple[Study, str]) -> None:
    study, _ = gan
    stopped = set(study.trials["trial_id"][study.trials["status"] == "stopped"])
    assert stopped
    kept = study.location.join("checkpoints").list()
    assert not stopped & set(kept)
    for trial_id in kept:
        files = TrialFiles.of(study.location, trial_id)
        assert (len(files.grids()), next(files.newest_first(), None) is not None) == (5, True)


def test_a_study_without_pictures_lacks_their_panels_and_nothing_else(gan: tuple[Study, str], copied: Path) -> None:
    for picture in (copied / "checkpoints").glob("*/samples-*.png"):
        picture.unlink()
    html = report_html(read_study(copied))
    assert held(html)["figures"].keys() == held(gan[1])["figures"].keys()
    titles = re.findall(r"<h3>(.*?)</h3>", gan[1])
    assert [title for title in titles if title not in ("How it came to draw", "Step by step")] == re.findall(
        r"<h3>(.*?)</h3>", html
    )


def test_a_best_trial_that_was_stopped_early_is_shown_by_a_replicate(copied: Path) -> None:
    study = read_study(copied)
    best = study.ranked["trial_id"].iloc[0]
    replicates = study.race.trials[study.race.trials["replicate_of"] == best]
    last = replicates.sort_values("replicate")["trial_id"].iloc[-1]
    shutil.rmtree(copied / "checkpoints")
    TrialFiles.of(study.location, last).write_grid(6, b"\x89PNG" + bytes(20))
    found = images.progress(study)
    assert found is not None
    assert (found.trial_id, found.steps, len(found.grids)) == (last, None, 1)


def test_without_a_judge_the_distance_is_that_of_pixels(gan: tuple[Study, str]) -> None:
    study, _ = gan
    unjudged = ["val_distance", "val_distance_raw", "val_coverage", "val_score"]
    html = report_html(replace(study, judge=None, epochs=study.epochs.assign(**dict.fromkeys(unjudged, np.nan))))
    best = study.epochs[study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]]
    assert column(html, "distance-best", "averaged weights") == best["val_transport"].astype(np.float32).tolist()
    assert "pixel by pixel" in Elements(html).text
    assert "coverage-best" not in held(html)["figures"]
    assert not re.search("(the|a) judge|dotted line", Elements(html).text)


def test_own_terms_are_drawn_beside_the_others(synthetic: Synthetic) -> None:
    study = synthetic(20, 10)
    own = np.arange(len(study.epochs), dtype=float)
    html = report_html(replace(study, epochs=study.epochs.assign(own_likeness=own, own_unused=np.nan)))
    mine = study.epochs["trial_id"] == study.ranked["trial_id"].iloc[0]
    assert column(html, "losses-best", "own_likeness") == own[mine].tolist()
    assert "own_unused" not in {trace["name"] for trace in traces(html, "losses-best")}
    assert "the others are the study's own" in Elements(html).text
