"""The examples of docs/extending do what their pages say: each is run as its reader runs it, from top to bottom."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.reading import ROOT, read

PAGES: Final = sorted(set((ROOT / "docs" / "extending").glob("*.md")) - {ROOT / "docs" / "extending" / "index.md"})
SAID: Final = {
    "backend": r"completed",
    "data_source": r"value_last=",
    "early_stopping": r"stopped",
    "log_listener": r"t000[01], epoch [12]: \d+\.\d\d %",
    "loss": r"L_D +C_sup .* own_entropy.*own_entropy\n.*\{'discriminator_terms': \('entropy',\)",
    "network_pair": r"True \('0', '1', '2', '3'\)\n\{'discriminator_terms': \(\)",
    "sampler": r"loss\.alpha.*\n4 trials",
}
"""What each example prints, page by page."""

AS_THEY_ARE: Final = {"search": (), "train": (), "evaluate": ()}


def test_every_page_has_an_example() -> None:
    assert [page.stem for page in PAGES] == list(SAID)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_example_runs(page: Path, tmp_path: Path) -> None:
    printed = read(page.read_text(encoding="utf-8"), tmp_path, AS_THEY_ARE)
    assert re.search(SAID[page.stem], printed, re.DOTALL), printed
