"""The examples of docs/extending do what their pages say: each is run as its reader runs it, from top to bottom."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PAGES: Final = sorted((ROOT / "docs" / "extending").glob("*.md"))
SAID: Final = {
    "backend": r"completed",
    "data_source": r"val_error_last=",
    "early_stopping": r"stopped",
    "log_listener": r"t000[01], epoch [12]: \d+\.\d\d %",
    "sampler": r"loss\.alpha.*\n4 trials",
}
"""What each example prints, page by page."""


def test_every_page_has_an_example() -> None:
    assert [page.stem for page in PAGES] == list(SAID)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_example_runs(page: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text("\n".join(blocks), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "error", "example.py"]
    done = subprocess.run(
        words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SAID[page.stem], done.stdout, re.DOTALL), done.stdout
