"""The documentation as a site: it builds without a warning, shows what stands outside docs/, and loads nothing."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
LOADS: Final = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src"}
"""Elements that a browser fetches without a click."""


class References(HTMLParser):
    """Every `id`, link and fetched file of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.loads += [given[LOADS[tag]]] if LOADS.get(tag) in given else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as CI builds it."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, References]:
    return {page: References(page) for page in sorted(site.rglob("*.html"))}


def test_ci_builds_the_site_strictly() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert '"$home/venv/bin/mkdocs" build --strict' in script


@pytest.mark.parametrize(
    ("page", "source", "sentence"),
    [
        ("results.html", "results/README.md", "order of arrival at the driver, over the whole study"),
        ("cluster.html", "cluster/README.md", "Two processes of this machine"),
        ("benchmarks.html", "benchmarks/README.md", "One script a claim."),
        ("project/changelog.html", "CHANGELOG.md", "Semantic Versioning"),
    ],
)
def test_a_page_from_elsewhere_is_in_the_site(site: Path, page: str, source: str, sentence: str) -> None:
    assert sentence in (ROOT / source).read_text(encoding="utf-8")
    assert sentence in (site / page).read_text(encoding="utf-8")


def test_every_public_name_is_in_the_reference(pages: dict[Path, References], site: Path) -> None:
    import plgan_tune  # noqa: PLC0415

    ids = set().union(*(page.ids for file, page in pages.items() if file.is_relative_to(site / "api")))
    assert {f"plgan_tune.{name}" for name in plgan_tune.__all__} <= ids
    for method in ("Suggestions.ask", "Rule.report", "LogListener.epoch"):
        assert f"plgan_tune.study.protocols.{method}" in ids
    for name in ("EpochRow", "EpochMetrics", "TrialRow", "DecisionRow", "EvaluationRow"):
        assert f"plgan_tune.records.{name}" in ids


def test_every_link_leads_to_a_page_and_a_heading_of_the_site(pages: dict[Path, References], site: Path) -> None:
    checked = 0
    for page, found in pages.items():
        if page.name == "404.html":
            continue
        for link in filter(None, found.links):
            address = urlsplit(link)
            if address.scheme:
                continue
            target = (page.parent / unquote(address.path)).resolve() if address.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_relative_to(site.resolve()), f"{page.name}: {link}"
            assert target.is_file(), f"{page.name}: {link}"
            if address.fragment and target in pages and not address.fragment.startswith("__"):
                assert unquote(address.fragment) in pages[target].ids, f"{page.name}: {link}"
            checked += 1
    assert checked > 500


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, References]) -> None:
    for page, found in pages.items():
        elsewhere = [load for load in found.loads if re.match(r"(https?:)?//", load)]
        assert elsewhere == [], page
