"""A Ray that cannot start is refused in words, and leaves nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray


@pytest.mark.parametrize("why", ["too long", "of another kind"])
def test_a_temporary_folder_that_ray_cannot_use_is_refused_and_no_study_is_left(tmp_path: Path, why: str) -> None:
    """Its sockets' names have at most 107 bytes; and where `ray` belongs to another user it cannot make a session."""
    temporary = tmp_path / ("x" * 90 if why == "too long" else "short")
    temporary.mkdir()
    if why == "of another kind":
        (temporary / "ray").write_text("not a folder")
    searched = subprocess.run(
        [sys.executable, "-m", "plgan_tune.search", "--name", "mine", "--set", "search.trials=1"],
        env=os.environ | {"RAY_TMPDIR": str(temporary)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert searched.returncode == 2, searched.stdout + searched.stderr
    assert "Traceback" not in searched.stderr
    assert "Ray does not start on this machine" in searched.stderr + searched.stdout
    assert "RAY_TMPDIR" in searched.stderr + searched.stdout
    assert not (tmp_path / "results").exists()
