"""The examples of the pages and of the public docstrings run, each page from top to bottom, in short."""

import inspect
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from PIL import Image

import plgan_tune
from tests.docs.reading import ROOT, commands, read

PAGES: Final = sorted((ROOT / "docs").glob("*.md")) + sorted((ROOT / "docs" / "api").glob("*.md"))

SHORTER: Final[Mapping[str, Sequence[str]]] = {
    "search": ["--in-process", "--set", "search.trials=2", "--set", "trial.training.epochs=3"],
    "train": ["--set", "trial.training.epochs=3"],
    "evaluate": ["--in-process", "--top", "1", "--seeds", "2"],
    "analyze": [],
    "generate": [],
}

OF_GENERATORS: Final = [
    word
    for change in ("search.confirm=none", "search.early_stopping=none", "trial.model.width=0.05")
    for word in ("--set", change)
]
"""What makes a search of generators as short as another."""

IN_PLACE_OF_MNIST: Final = [
    word
    for change in ("data.source=digits", "data.path=null", "data.validation=400", "model.width=0.1")
    for word in ("--set", f"trial.{change}")
]

PRINTS: Final = {
    "evaluation": r"supervised .* 2 ",
    "generators": r"gan: done.*100 images of the averaged weights.*pictures: done",
    "index": r"4 completed",
    "mnist": r"difference from the patent's settings",
    "quickstart": r"t0000.*completed|digit\.png is a \d, with a probability of \d+%",
    "space": r"leaves: done",
    "your_images": r"\d+ of 80 test images are classified wrongly",
    "your_search": r"warm start from .*took 2 of 2.*t000\d 0\.\d+ \{",
    "python": "",
}
"""What the examples of each page print; the other pages have none."""

LONG: Final = {"evaluation", "generators", "mnist", "space"}
"""Pages that take more than a dozen seconds."""


def has_examples(page: Path) -> bool:
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return any(language == "python" or (language == "sh" and commands(body)) for language, body in blocks)


def test_every_page_with_examples_is_run() -> None:
    assert {page.stem for page in PAGES if has_examples(page)} == PRINTS.keys()


def leaves(folder: Path) -> None:
    """Photographs of four kinds, as in the example of docs/space.md: noise of four brightnesses."""
    draw = np.random.default_rng(0)
    for place, name in enumerate(("ash", "beech", "elm", "oak")):
        for half, count in (("train", 72), ("test", 2)):
            (folder / half / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(draw.normal(50 + 50 * place, 20, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / half / name / f"{number}.png")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in PRINTS]
)
def test_its_examples_run(name: str, tmp_path: Path) -> None:
    (page,) = [page for page in PAGES if page.stem == name]
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    text, shorter = page.read_text(encoding="utf-8"), dict(SHORTER)
    if name == "evaluation":  # it starts from the quickstart's study
        text = "```sh\npython -m plgan_tune.search --name first\n```\n" + text
    if name == "space":
        leaves(tmp_path / "leaves")
    if name == "generators":
        leaves(tmp_path / "my_pictures")
        shorter["search"] = [*SHORTER["search"], *OF_GENERATORS]
    if name == "mnist":
        shorter["search"] = [*SHORTER["search"], *IN_PLACE_OF_MNIST]
    printed = read(text, tmp_path, shorter)
    assert re.search(PRINTS[name], printed, re.DOTALL), printed


def test_the_docstrings_of_the_public_names_run(tmp_path: Path) -> None:
    (tmp_path / "search_spaces").mkdir()
    space = (ROOT / "search_spaces" / "digits.yaml").read_text(encoding="utf-8")
    short = space.replace("trials: 30", "trials: 2").replace("epochs: 60", "epochs: 3")
    assert short.count("trials: 2\n") == short.count("epochs: 3}") == 1
    (tmp_path / "search_spaces" / "digits.yaml").write_text(short, encoding="utf-8")
    for file in ("one.png", "two.png"):
        Image.fromarray(np.full((8, 8), 100, np.uint8)).save(tmp_path / file)
    named = ["load_study", "run_study", "load_trial", "train_trial", "load_classifier"]
    docstrings = [inspect.getdoc(getattr(plgan_tune, name)) or "" for name in named]
    assert all("```python\n" in docstring for docstring in docstrings)
    printed = read("\n".join([*docstrings, plgan_tune.__doc__ or ""]), tmp_path, SHORTER)
    assert "value_last" in printed
