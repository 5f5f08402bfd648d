"""Newer defaults change what a space file leaves out, and nothing that an earlier version has written."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from typer.testing import CliRunner

from plgan_tune.analysis.study import read_study
from plgan_tune.analyze import app as analyze
from plgan_tune.classifier import load_classifier
from plgan_tune.config.defaults import latest_edition
from plgan_tune.config.edition import ALLOWED, YOUNGER
from plgan_tune.config.errors import SpecError
from plgan_tune.config.load import in_edition, load_study, load_trial, study_from_mapping
from plgan_tune.config.study import StudySpec
from plgan_tune.config.trial import ModelSpec, TrialSpec
from plgan_tune.evaluation.plan import plan_evaluation, write_evaluation
from plgan_tune.store.location import Location
from plgan_tune.store.read import read_trials, trial_rows
from plgan_tune.study.study_file import StudyFile, read_study_file
from plgan_tune.train import app as train_command
from plgan_tune.train import train
from plgan_tune.training.checkpoint import decode_checkpoint

FIRST_MLP: Final = {"initial_spread": 0.4, "generator_initial_spread": 0.4, "generator_weight_norm_init": "data"}
FIRST_CONV: Final = {"initial_spread": 0.05, "generator_initial_spread": 0.05, "generator_weight_norm_init": "data"}
AS_DRAWN: Final = dict.fromkeys(FIRST_MLP, "xavier")
LEAVES_OUT: Final[Mapping[str, Any]] = {
    "study": "plain",
    "trial": {"data": {"source": "digits", "labels": 20, "validation": 100}},
}

Start = Mapping[str, Any]


def start_of(trial: TrialSpec | ModelSpec) -> dict[str, Any]:
    model = trial.model if isinstance(trial, TrialSpec) else trial
    return {path.removeprefix("model."): getattr(model, path.removeprefix("model.")) for path in YOUNGER}


def starts_at(study: StudySpec, **model: str) -> dict[str, Any]:
    return start_of(study.trial({f"model.{key}": value for key, value in model.items()}))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({}, FIRST_MLP),
        ({"kind": "conv"}, FIRST_CONV),
        ({"weight_norm_init": "xavier"}, AS_DRAWN),
        ({"kind": "conv", "weight_norm_init": "xavier"}, AS_DRAWN),
        ({"initial_spread": 0.2}, {**FIRST_MLP, "initial_spread": 0.2}),
    ],
)
@pytest.mark.parametrize("method", ["pl_gan", "patent"])
def test_a_space_file_that_names_the_first_edition_keeps_its_defaults(
    newer_edition: Start, method: str, model: dict[str, Any], expected: Start
) -> None:
    """The patent's data-dependent start is the recipe's: what decides is how the scale starts, not the method."""
    named = {"weight_norm_init": "data", **model} if method == "patent" else model
    trial = {**LEAVES_OUT["trial"], "method": method, "model": named}
    first = study_from_mapping({**LEAVES_OUT, "edition": 1, "trial": trial})
    assert start_of(first.any_trial()) == expected
    assert start_of(study_from_mapping({**LEAVES_OUT, "trial": trial}).any_trial()) == {
        **newer_edition,
        **{key: value for key, value in model.items() if key in newer_edition},
    }


def test_a_space_file_that_leaves_them_out_takes_the_newest(earlier: Path, newer_edition: Start) -> None:
    study = load_study(earlier / "earlier.yaml").study
    assert start_of(study.any_trial()) == newer_edition
    assert study.as_mapping()["edition"] == latest_edition()
    pinned = load_study(earlier / "earlier.yaml", ["edition=1"]).study
    assert start_of(pinned.any_trial()) == FIRST_MLP
    assert start_of(load_trial(earlier / "earlier.yaml", ["trial.loss.alpha=1"])) == newer_edition


def test_an_earlier_study_keeps_the_defaults_of_its_time(earlier: Path, newer_edition: Start) -> None:
    folder = earlier / "earlier"
    assert start_of(read_study_file(Location.at(folder)).spec.any_trial()) == FIRST_MLP
    as_space = load_study(folder / "study.yaml").study
    assert start_of(as_space.any_trial()) == FIRST_MLP
    assert start_of(load_trial(folder / "study.yaml", ["trial.loss.alpha=1"])) == FIRST_MLP
    assert start_of(read_study(folder).trial("t0001")) == FIRST_MLP


def test_where_searched_keys_decide_defaults_each_trial_has_those_of_its_study_s_time(
    earlier: Path, newer_edition: Start
) -> None:
    """And so it stays when a later version has written the study's file again."""
    folder = Location.at(earlier / "start_searched")
    for _ in range(2):
        file = read_study_file(folder)
        assert starts_at(file.spec, kind="mlp", weight_norm_init="data") == FIRST_MLP
        assert starts_at(file.spec, kind="conv", weight_norm_init="data") == FIRST_CONV
        assert starts_at(file.spec, kind="conv", weight_norm_init="xavier") == AS_DRAWN
        file.write(folder)


def test_a_study_of_today_keeps_its_defaults_in_later_editions(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    searched = {**LEAVES_OUT["trial"], "model": {"weight_norm_init": {"choice": ["data", "xavier"]}}}
    today = study_from_mapping({**LEAVES_OUT, "trial": searched})
    starts = {init: starts_at(today, weight_norm_init=init) for init in ("data", "xavier")}
    StudyFile(today).write(Location.at(tmp_path))
    newer = request.getfixturevalue("newer_edition")
    read = read_study_file(Location.at(tmp_path)).spec
    assert read == today
    for init, start in starts.items():
        assert starts_at(read, weight_norm_init=init) == start != newer


@pytest.mark.parametrize("name", ["best.yaml", "export.yaml"])
def test_an_earlier_configuration_keeps_the_defaults_of_its_time(
    earlier: Path, newer_edition: Start, name: str
) -> None:
    file = earlier / "earlier" / name
    if name == "export.yaml":  # of today, which gives every key
        written = CliRunner().invoke(analyze, [str(file.parent), "--export", str(file), "--trial", "t0001"])
        assert written.exit_code == 0, written.output
        assert "initial_spread: 0.4" in file.read_text()
    assert start_of(load_trial(file)) == FIRST_MLP
    changed = load_trial(file, ["trial.model.initial_spread=0.2", "trial.training.epochs=9"])
    assert start_of(changed) == {**FIRST_MLP, "initial_spread": 0.2}
    assert start_of(load_trial(file, ["trial.model.weight_norm_init=xavier"])) == (
        AS_DRAWN if name == "best.yaml" else FIRST_MLP
    )


def test_a_search_around_an_earlier_configuration_keeps_its_defaults(earlier: Path, newer_edition: Start) -> None:
    study = load_study(earlier / "earlier" / "best.yaml", ["trial.optim.lr_generator={log_uniform: [1e-4, 1e-2]}"])
    assert start_of(study.study.any_trial()) == FIRST_MLP


def test_an_earlier_checkpoint_trains_on_as_it_began(earlier: Path, tmp_path: Path, newer_edition: Start) -> None:
    saved = next((earlier / "earlier" / "checkpoints" / "t0000").iterdir())
    checkpoint = decode_checkpoint(saved.read_bytes(), "x")
    best = load_trial(earlier / "earlier" / "best.yaml", ["trial.training.epochs=6"])
    assert start_of(checkpoint.trial) == start_of(best) == FIRST_MLP
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoint.pt").write_bytes(saved.read_bytes())
    rows = train(best, tmp_path / "out", resume=True)
    assert [row.epoch for row in rows] == list(range(1, 7))
    assert rows[:5] == list(checkpoint.rows)
    assert load_classifier(saved).classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ([], None),
        (["edition=1"], None),
        (["trial.model.initial_spread=0.4"], None),
        (["trial.model.initial_spread=0.125"], "model.initial_spread: 0.4 -> 0.125"),
        (["edition={newest}"], "model.generator_weight_norm_init: 'data' -> 'one'"),
    ],
)
def test_an_earlier_training_goes_on_by_a_file_that_leaves_its_start_out(
    earlier: Path, tmp_path: Path, newer_edition: Start, given: list[str], refusal: str | None
) -> None:
    out, folder = tmp_path / "out", earlier / "earlier" / "checkpoints" / "t0000"
    out.mkdir()
    (out / "checkpoint.pt").write_bytes(next(folder.iterdir()).read_bytes())
    changes = ["trial.loss.alpha=0.2", "trial.training.epochs=6", *given]
    words = [word for change in changes for word in ("--set", change.replace("{newest}", str(latest_edition())))]
    result = CliRunner().invoke(
        train_command, ["--config", str(earlier / "earlier.yaml"), "--out", str(out), "--resume", *words]
    )
    if refusal is not None:
        assert (result.exit_code, refusal in result.output) == (2, True), result.output
        return
    assert result.exit_code == 0, result.output
    saved = decode_checkpoint((out / "checkpoint.pt").read_bytes(), "x")
    assert (start_of(saved.trial), len(saved.rows)) == (FIRST_MLP, 6)


def test_an_earlier_evaluation_goes_on(earlier: Path, newer_edition: Start) -> None:
    """Its notes hold configurations without the younger keys; what it trained must be what is asked for now."""
    search = Location.at(earlier / "earlier")
    study = read_study_file(search).spec
    trials = trial_rows(read_trials(search), study.columns, study.options)
    evaluation = plan_evaluation(search, study, trials, top=1, seeds=2, methods=True, refit=False)
    assert all(start_of(one.trial) == FIRST_MLP for one in evaluation.configurations)
    notes = search.join("seeds", "evaluation.yaml")
    assert "initial_spread" not in notes.read_text()
    write_evaluation(evaluation, datetime(2026, 1, 1, tzinfo=UTC))
    assert notes.read_text().count("initial_spread: 0.4") == 2 * len(evaluation.configurations) + 2


@pytest.mark.parametrize("given", [{}, {"initial_spread": 0.2}, {"kind": {"choice": ["mlp", "conv"]}}])
def test_a_study_in_another_edition_is_its_file_read_there(newer_edition: Start, given: dict[str, Any]) -> None:
    trial = {**LEAVES_OUT["trial"], "model": given, "training": {"epochs": 3}}
    search = {"first": [{"loss.beta": 0.5}], "early_stopping": {"asha": {"grace_period": 1}}}
    file = {**LEAVES_OUT, "search": search, "trial": {**trial, "loss": {"beta": {"uniform": [0, 1]}}}}
    newest, first = study_from_mapping(file), study_from_mapping({**file, "edition": 1})
    assert newest != first
    assert in_edition(newest, 1) == first
    assert in_edition(in_edition(newest, 1), latest_edition()) == newest
    assert in_edition(first, latest_edition()) == first  # named


def test_an_edition_to_come_is_refused(earlier: Path) -> None:
    number = latest_edition() + 1
    with pytest.raises(SpecError, match=f"edition: must be {ALLOWED}, an edition .* knows, but got {number}"):
        load_study(earlier / "earlier.yaml", [f"edition={number}"])
