"""The package as a library: its names, and what importing them costs."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import plgan_tune

LARGE = "{'torch', 'ray', 'optuna', 'pandas', 'pyarrow', 'pydantic', 'rich', 'typer'}"


def run(code: str, folder: Path) -> str:
    """What a new process prints that runs this code in another folder than the checkout's."""
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_importing_the_package_imports_nothing_large(tmp_path: Path) -> None:
    code = f"import sys, plgan_tune; dir(plgan_tune); print(sorted({LARGE} & sys.modules.keys()))"
    assert run(code, tmp_path) == "[]"


def test_importing_the_package_is_fast(tmp_path: Path) -> None:
    code = "import time; began = time.process_time(); import plgan_tune; print(time.process_time() - began)"
    assert min(float(run(code, tmp_path)) for _ in range(5)) < 0.05


def test_a_space_file_is_read_without_torch_and_ray(tmp_path: Path) -> None:
    code = f"import sys; from plgan_tune import load_study, load_trial; print(sorted({LARGE} & sys.modules.keys()))"
    assert run(code, tmp_path) == "['pydantic']"


@pytest.mark.parametrize(
    ("name", "module", "there"),
    [
        ("InProcess", "plgan_tune.backends.in_process", "InProcess"),
        ("RayBackend", "plgan_tune.backends.ray.backend", "RayBackend"),
        ("load_classifier", "plgan_tune.classifier", "load_classifier"),
        ("load_generator", "plgan_tune.generator", "load_generator"),
        ("load_study", "plgan_tune.config.load", "load_study"),
        ("load_trial", "plgan_tune.config.load", "load_trial"),
        ("run_study", "plgan_tune.tuning.driver", "run_study"),
        ("train_trial", "plgan_tune.train", "train"),
    ],
)
def test_a_name_is_the_function_of_its_module(name: str, module: str, there: str) -> None:
    assert name in plgan_tune.__all__
    assert name in dir(plgan_tune)
    assert getattr(plgan_tune, name) is getattr(importlib.import_module(module), there)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'plgan_tune' has no attribute 'load_sudy'"):
        _ = plgan_tune.load_sudy  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", ["import plgan_tune.train", "from plgan_tune import train_trial"])
def test_the_command_s_module_and_the_function_are_there_whatever_is_imported_first(first: str, tmp_path: Path) -> None:
    code = f"""
{first}
import plgan_tune, plgan_tune.train as command
from plgan_tune import train_trial
print(command.train is train_trial, plgan_tune.train is command, type(command.app).__name__)
"""
    assert run(code, tmp_path) == "True True Typer"
