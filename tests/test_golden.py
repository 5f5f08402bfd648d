"""Today's code gives the rows that an earlier version stored (fixtures/README.md)."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import golden
import pytest

from plgan_tune.config.load import load_trial
from plgan_tune.train import train

DIGITS = ("digits", "digits_patent")
IMAGES = ("mnist_small", "cifar10", pytest.param("mnist", marks=pytest.mark.slow))


def assert_stored(name: str, folder: Path, data: Path | None = None) -> None:
    """In this process, which has imported torch already. Of MNIST as a whole, an epoch of a minute is enough."""
    config, epochs = folder / "trial.json", 1 if name == "mnist" else None
    config.write_text(json.dumps(golden.space_file(golden.TRIALS[name], data)))
    train(load_trial(config), folder / "out", watch=lambda row: row.epoch != epochs)
    found = golden.rows_in(folder / "out")
    assert list(golden.differences(golden.stored(name)[:epochs], found, golden.TOLERANCE)) == []


@pytest.mark.usefixtures("usual_kernels")
@pytest.mark.parametrize("name", DIGITS)
def test_a_trial_on_embedded_images_gives_its_stored_rows(tmp_path: Path, name: str) -> None:
    assert_stored(name, tmp_path)


@pytest.mark.usefixtures("usual_kernels")
@pytest.mark.parametrize("name", IMAGES)
def test_a_trial_on_real_images_gives_its_stored_rows(tmp_path: Path, shared_data: Path, name: str) -> None:
    assert_stored(name, tmp_path, shared_data)


def test_a_difference_names_the_epoch_and_the_column_and_both_numbers() -> None:
    old = [{"epoch": 1, "val_error": 0.25, "ramp": 0.5}]
    next_up = math.nextafter(0.25, 1)
    assert list(golden.differences(old, [{**old[0], "new": 1.0}])) == []
    assert list(golden.differences(old, [{**old[0], "val_error": next_up}])) == [
        f"epoch 1: val_error is {next_up!r}, but was 0.25"
    ]
    assert list(golden.differences(old, [{**old[0], "val_error": next_up}], golden.TOLERANCE)) == []
    assert list(golden.differences(old, [{"epoch": 1, "val_error": 0.25}])) == ["epoch 1: ramp is missing"]
    assert list(golden.differences(old, [])) == ["1 rows against 0"]


@pytest.mark.slow
@pytest.mark.parametrize("changed", [False, True])
def test_two_checkouts_are_compared_bit_for_bit(tmp_path: Path, changed: bool) -> None:
    shutil.copytree(golden.HERE / "plgan_tune", tmp_path / "plgan_tune")
    if changed:
        layers = tmp_path / "plgan_tune" / "gan" / "layers.py"
        layers.write_text(layers.read_text().replace("EPS = 1e-6", "EPS = 2e-6"))
    words = [sys.executable, golden.__file__, "digits", "cifar10", "--against", str(tmp_path)]
    compared = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "cifar10: left out, needs --data" in compared.stdout
    for precision in ("float32", "float64"):
        verdict = "differs; epoch 1: loss" if changed else "equal bit for bit"
        assert f"digits, {precision}: {verdict}" in compared.stdout, compared.stderr
    assert compared.returncode == int(changed)
