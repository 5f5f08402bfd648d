"""The space of all techniques of "Improved Techniques for Training GANs": dry-run, and searched a little."""

from pathlib import Path

import pandas as pd
from typer.testing import CliRunner

from plgan_tune.backends.in_process import InProcess
from plgan_tune.config.load import default_space, load_study
from plgan_tune.records import TrialStatus
from plgan_tune.search import app
from plgan_tune.tuning.driver import run_study

SPACE = default_space().with_name("digits_tricks.yaml")


def test_a_dry_run_finds_nothing_wrong(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["--space", str(SPACE), "--dry-run", "--results", str(tmp_path)])
    assert said.exit_code == 0, said.output
    assert list(tmp_path.iterdir()) == []


def test_it_searches_with_everything_off_and_with_everything_on(tmp_path: Path) -> None:
    every = {
        **{"loss.alpha": 0.5, "loss.beta": 0.5, "loss.switch_epoch": 3, "optim.decay_epoch": 30},
        **{"optim.lr_discriminator": 3e-3, "optim.lr_generator": 3e-3, "loss.history": 0.01},
        **{"model.minibatch_kernels": 25, "model.generator_norm": "virtual", "model.fake_logit": "learned"},
        **{"loss.supervised": "joint", "loss.smoothing": 0.3, "loss.self_scale": 1.0},
        "loss.self_images": "unlabelled",
    }
    off = load_study(SPACE).study.search.first[0]
    points = ", ".join(
        "{" + ", ".join(f"{key}: {value}" for key, value in point.items()) + "}" for point in (off, every)
    )
    settings = [
        f"search.first=[{points}]",
        *("search.trials=3", "search.early_stopping=none", "search.confirm={finalists: 2, seeds: 2, share: 0.9}"),
        *("trial.model.width=0.05", "trial.training.epochs=4"),
    ]
    result = run_study(load_study(SPACE, settings).study, backend=InProcess(), results=tmp_path, name="study")
    trials = pd.read_parquet(tmp_path / "study" / "trials").sort_values("number")
    assert set(trials["status"]) == {TrialStatus.COMPLETED}
    assert list(trials["params_generator_norm"][:2]) == ["batch", "virtual"]
    epochs = pd.read_parquet(tmp_path / "study" / "epochs")
    taught = epochs[epochs["trial_id"] == "t0001"].set_index("epoch")["loss_self_training"]
    assert taught.notna().all()
    assert epochs[epochs["trial_id"] == "t0000"]["loss_self_training"].isna().all()
    assert result.best is not None
