"""A search of a user's own terms from end to end: the file travels with the study by its hash."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from plgan_tune.classifier import load_classifier
from plgan_tune.config.errors import RuleError
from plgan_tune.config.load import load_trial
from plgan_tune.config.own import sha256_of
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.evaluate import app as evaluate
from plgan_tune.search import app as search
from plgan_tune.train import app as train
from plgan_tune.train import train as train_trial
from tests.factories import OWN_TERMS, SMALL

OWN = {"file": "mine.py", "entropy": {"log_uniform": [1e-3, 1.0]}, "match": {"choice": [True, False]}}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside mine.py and a space file that searches its keys."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_bytes(OWN_TERMS.read_bytes())
    write_space()


def write_space(**own: Any) -> None:
    trial = {**SMALL["trial"], "loss": {"switch_epoch": 1}, "training": {"epochs": 2}, "own": OWN | own}
    asked = {"trials": 3, "concurrent": 1, "sampler": "random", "confirm": None}
    Path("space.yaml").write_text(dump_yaml({"study": "own", "search": asked, "trial": {**trial, "optim": {}}}))


def run(app: Any, *words: str) -> Result:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "200"})


def searched(*words: str, space: str = "space.yaml") -> Result:
    return run(search, "--space", space, "--in-process", "--name", "s", *words)


def test_a_search_and_what_follows_it() -> None:
    assert searched().exit_code == 0
    sha256 = sha256_of(OWN_TERMS.read_bytes())
    study = Path("results/s")
    assert (study / "own" / f"{sha256}.py").read_bytes() == OWN_TERMS.read_bytes()
    assert sha256 in (study / "study.yaml").read_text()
    trials = pd.read_parquet(study / "trials")
    assert trials["params_entropy"].between(1e-3, 1).all()
    rows = pd.read_parquet(study / "epochs")
    assert len(rows) == 6
    names = [name for name in map(str, rows) if name.startswith("own_")]
    assert set(names) == {"own_entropy", "own_consistency", "own_mixed", "own_spread", "own_doubt", "own_apart"}
    assert rows[["own_entropy", "own_doubt"]].notna().all(axis=None)
    with_match = set(trials.loc[trials["params_match"], "trial_id"])
    assert set(rows.loc[rows["own_apart"].notna(), "trial_id"]) == with_match

    Path("mine.py").unlink()  # the study has all it needs, also for a checkout of it alone
    Path("results").rename("moved")
    best = load_trial("moved/s/best.yaml")
    assert best.own.file == str(Path.cwd() / "moved/s/own" / f"{sha256}.py")
    assert run(train, "--config", "moved/s/best.yaml", "--out", "t").exit_code == 0
    last = pd.read_parquet("t/epochs").iloc[-1]
    row = trials[trials["val_error_last"] == trials["val_error_last"].min()].iloc[0]
    assert last["val_error"] == row["val_error_last"]
    assert Path("t/own", f"{sha256}.py").is_file()
    assert load_classifier("t").classes == load_classifier("moved/s").classes
    assert run(train, "--config", "moved/s/best.yaml", "--out", "t", "--resume").exit_code == 0

    told = run(evaluate, "moved/s", "--in-process", "--seeds", "1", "--top", "1")
    assert told.exit_code == 0, told.output
    seeds = pd.read_parquet("moved/s/seeds/epochs")
    assert seeds.loc[seeds["trial_id"].str.startswith("t0"), "own_entropy"].notna().all()
    assert seeds.loc[seeds["trial_id"].str.startswith("patent"), "own_entropy"].isna().all()


def test_a_resume_runs_the_study_s_copy_and_no_other_content() -> None:
    assert searched("--set", "search.trials=1").exit_code == 0
    before = sha256_of(Path("mine.py").read_bytes())
    with Path("mine.py").open("a") as file:
        file.write("# edited\n")
    after = sha256_of(Path("mine.py").read_bytes())
    for dry in ([], ["--dry-run"]):
        refused = searched("--resume", *dry)
        assert refused.exit_code == 2
        assert f"trial.own.sha256: '{before}' -> '{after}'" in refused.output.replace("\n", "")
        assert "own.file" not in refused.output
    Path("mine.py").unlink()
    assert searched("--resume", "--set", "search.trials=3", space="results/s/study.yaml").exit_code == 0
    assert len(pd.read_parquet("results/s/trials")) == 3
    (copy,) = Path("results/s/own").iterdir()
    copy.write_bytes(copy.read_bytes() + b"print('planted')\n")
    refused = searched("--resume", space="results/s/study.yaml")
    assert (refused.exit_code, "planted" in refused.output) == (2, False)
    assert "own.sha256: must be the hash of what" in refused.output
    for command in (["results/s", "--in-process"],):
        refused = run(evaluate, *command)
        assert (refused.exit_code, "planted" in refused.output) == (2, False)
        assert "must hold what the trial's own.sha256 names" in refused.output


def test_the_file_may_lie_elsewhere_at_a_resume() -> None:
    assert searched("--set", "search.trials=1").exit_code == 0
    Path("mine.py").rename("moved.py")
    write_space(file="moved.py")
    told = searched("--resume", "--set", "search.trials=2")
    assert told.exit_code == 0
    assert "own.file" not in told.output
    assert len(pd.read_parquet("results/s/trials")) == 2


def test_a_file_that_changes_after_it_was_read_is_not_trained_with() -> None:
    write_space(entropy=0.1, match=True)
    trial = load_trial("space.yaml")
    Path("mine.py").write_text("print('planted')\n")
    with pytest.raises(RuleError, match=r"mine\.py must hold what the trial's own\.sha256 names"):
        train_trial(trial, "t")
    assert not Path("t").exists()


@pytest.mark.parametrize(
    ("text", "own", "message"),
    [
        (None, {"file": "none.py"}, "trial.own.file: must be a file that can be read"),
        ("def f(:", {}, "mine.py:1: must be Python that can be run"),
        (None, {"entropi": 0.1}, "trial.own.entropi: must be a known key (nearest: entropy)"),
        (None, {"entropy": {"uniform": [-1.0, 1.0]}}, "trial.own.entropy: must be a finite number >= 0"),
        (
            "def discriminator_terms(unlabelled): return {'a': unlabelled.logits}",
            {"file": "mine.py"},
            "mine.py: discriminator_terms: a must have a value of each image",
        ),
    ],
)
def test_a_broken_file_is_refused_before_anything_starts(text: str | None, own: dict[str, Any], message: str) -> None:
    if text is not None:
        Path("mine.py").write_text(text)
    trial = {**SMALL["trial"], "loss": {}, "optim": {}, "own": own if "file" in own else OWN | own}
    Path("space.yaml").write_text(dump_yaml({"study": "own", "trial": trial}))
    for refused in (
        searched("--dry-run"),
        searched(),
        run(train, "--config", "space.yaml", "--out", "t", *_fixed(own)),
    ):
        assert refused.exit_code == 2, refused.output
        assert message in refused.output.replace("\n", "")
    assert not Path("results").exists()
    assert not Path("t").exists()


def _fixed(own: dict[str, Any]) -> list[str]:
    value = -1.0 if isinstance(own.get("entropy"), dict) else 0.1
    return [] if "file" in own else ["--set", "trial.own.match=true", "--set", f"trial.own.entropy={value}"]
