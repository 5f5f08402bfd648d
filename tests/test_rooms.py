"""The rooms: the contract of imports is one that breaks, and private names stay where they are tested."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = ROOT / "plgan_tune"
PRIVATE: Final = re.compile(r"torch\._\w+|ray\._private|distributed_c10d|_tune_controller\b(?=\._)|_trial_to_actor")
QUARANTINE: Final = {"training/torch_private.py", "backends/ray/ray_private.py"}


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the copy of the package in the folder."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    words = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    env = os.environ | {"PYTHONPATH": str(folder)}
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("study/halving.py", "import ray", "Only backends.ray imports ray"),
        ("study/state.py", "def f():\n    import rich", "A study knows neither who trains"),
        ("tuning/driver.py", "def f():\n    import ray", "Only backends.ray imports ray"),
        ("store/location.py", "from plgan_tune.config.study import StudySpec", "The store knows rows"),
        ("gan/objective.py", "from plgan_tune.training.step import generator_step", "Data flows one way"),
        ("backends/in_process.py", "from plgan_tune.backends.ray.backend import RayBackend", "does not know another"),
    ],
)
def test_an_import_against_the_arrows_is_found(file: str, planted: str, contract: str, tmp_path: Path) -> None:
    """In functions, too."""
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "plgan_tune", ignore=shutil.ignore_patterns("__pycache__")))
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n\n{planted}\n")
    found = linted(tmp_path)
    assert found.returncode == 1, found.stdout + found.stderr
    broken = re.findall(r"^(.*?) ?BROKEN", re.sub(r"\n(?=study and)", "", found.stdout), re.MULTILINE)
    assert any(contract in name for name in broken), found.stdout


def test_private_names_of_torch_and_ray_live_in_two_files() -> None:
    found = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        if PRIVATE.search(file.read_text(encoding="utf-8"))
    }
    assert found == QUARANTINE


def test_contributing_has_a_row_for_every_room() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = [f"`{folder.name}/`" for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()]
    loose = [f"`{file.name}`" for file in PACKAGE.glob("*.py") if file.name != "__init__.py"]
    assert [room for room in [*rooms, *loose] if room not in contributing] == []
