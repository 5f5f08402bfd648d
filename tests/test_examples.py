"""The examples run as their reader runs them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def error_in(said: str) -> float:
    (percent,) = re.findall(r"^test error: ([\d.]+)% of 360 images$", said, re.MULTILINE)
    return float(percent) / 100


def test_the_script_ends_with_a_classifier_and_finds_it_again(tmp_path: Path) -> None:
    words = [sys.executable, str(EXAMPLES / "digits_classifier.py")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    for _ in range(2):
        ended = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        assert error_in(ended.stdout) < 0.3
    assert len(list((tmp_path / "trained/digits_classifier/studies/digits/trials").glob("*.parquet"))) >= 1


def test_the_notebook_ends_with_a_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")  # else jupyter_core warns
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    import nbformat  # noqa: PLC0415
    from nbclient import NotebookClient  # noqa: PLC0415

    folder = shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("trained"))
    notebook = nbformat.read(folder / "digits_classifier.ipynb", as_version=4)
    assert all(cell.get("outputs", []) == [] for cell in notebook.cells), "clear the outputs before a commit"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    (last,) = notebook.cells[-1].outputs
    assert error_in(last.text) < 0.3
    (picture,) = next(cell for cell in notebook.cells if "Image(" in cell.source).outputs
    assert "image/png" in picture.data
