"""A user's own pair from a search to a classifier: its code is run where the user has named it, and nowhere else."""

from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from plgan_tune.classifier import export_onnx, load_classifier
from plgan_tune.config.errors import RuleError
from plgan_tune.config.own import sha256_of
from plgan_tune.config.yaml import dump_yaml
from plgan_tune.evaluate import app as evaluate
from plgan_tune.search import app as search
from plgan_tune.training.checkpoint import CheckpointError
from tests.factories import OWN_PAIR, SMALL


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search of two trials of a user's own pair."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_bytes(OWN_PAIR.read_bytes())
    trial = {
        "data": SMALL["trial"]["data"],
        "model": {"kind": "own", "width": 0.2},
        "loss": {"switch_epoch": 1},
        "optim": {"lr_discriminator": 0.01},
        "training": {"epochs": 2},
        "own": {"file": "mine.py", "blocks": {"choice": [1, 2]}},
    }
    asked = {"trials": 2, "sampler": "grid", "confirm": None}
    Path("space.yaml").write_text(dump_yaml({"study": "pair", "search": asked, "trial": trial}))
    words = ["--space", "space.yaml", "--in-process", "--name", "s"]
    told = CliRunner().invoke(search, words)
    assert told.exit_code == 0, told.output
    return Path("results/s")


def test_a_pair_of_one_s_own_from_a_search_to_a_classifier(study: Path) -> None:
    trials = pd.read_parquet(study / "trials")
    assert sorted(trials["params_blocks"]) == [1, 2]
    told = CliRunner().invoke(evaluate, [str(study), "--in-process", "--seeds", "1", "--top", "1"])
    assert told.exit_code == 0, told.output
    assert pd.read_parquet(study / "evaluations")["test_error"].notna().all()

    with pytest.raises(CheckpointError) as refused:
        load_classifier(study)
    assert (
        f"own=FILE (--own FILE), a file that you have read and that has sha256 {sha256_of(OWN_PAIR.read_bytes())}"
        in str(refused.value)
    )
    Path("other.py").write_bytes(OWN_PAIR.read_bytes() + b"raise SystemExit('run')\n")
    with pytest.raises(RuleError, match=r"other\.py must hold what the trial's own\.sha256 names"):
        load_classifier(study, own="other.py")

    classifier = load_classifier(study, own="mine.py")
    images = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    export_onnx(classifier, "own.onnx")
    session = onnxruntime.InferenceSession("own.onnx")
    (logits,) = session.run(None, {"images": images.numpy()})
    np.testing.assert_allclose(logits, classifier(images).numpy(), rtol=1e-4, atol=1e-4)


def test_a_file_without_a_pair_is_refused_where_the_kind_is_own(study: Path) -> None:
    Path("mine.py").write_text("def generator_terms(generated): return {'a': generated.logits.sum(1)}\n")
    text = Path("space.yaml").read_text().replace("blocks: {choice: [1, 2]}", "")
    Path("space.yaml").write_text(text.replace("sampler: grid", "sampler: random"))
    told = CliRunner().invoke(search, ["--space", "space.yaml", "--dry-run"], env={"COLUMNS": "300"})
    assert told.exit_code == 2
    assert "mine.py must define build_pair, for trial.model.kind is own, but got generator_terms" in told.output
    words = ["--space", "space.yaml", "--dry-run", "--set", "trial.own={}"]
    told = CliRunner().invoke(search, words, env={"COLUMNS": "300"})
    assert told.exit_code == 2
    assert "trial.own.file: must be given: the file that defines the networks of kind own" in told.output
