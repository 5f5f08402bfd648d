"""MkDocs: pages that stand outside docs/, and links that lead there.

A file's links are relative to where it lies, so that they work on a forge and in a checkout. The site has a layout of
its own: `results/README.md` is its page `results.md`. Here such files become files of the site, and links to them are
turned into links between its pages. A link to anything else outside docs/ stays as it is, and the strict build
refuses it.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = {
    "results/README.md": "results.md",
    "cluster/README.md": "cluster.md",
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
"""A file of the repository -> the site's page that shows it."""

AS_THEY_ARE: Final = ("benchmarks/*.md", "benchmarks/*.png", "cluster/*", "examples/*.*", "search_spaces/*.yaml")
"""Files that keep their place: Markdown becomes a page, anything else can be downloaded."""

FENCE: Final = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"(?<=\]\()(?![a-z]+:)([^)\s#]+)")

KEY: Final = re.compile(r"(?<=<td><code>)[\w.]+(?=</code>)")
OPTION: Final = re.compile(r"<code>(?=--[a-z-]{1,20}</code>)")


def outside() -> dict[str, str]:
    """Each file outside docs/ that the site has -> its place there."""
    found = sorted(path.relative_to(ROOT).as_posix() for pattern in AS_THEY_ARE for path in ROOT.glob(pattern))
    return {source: source for source in found} | PAGES


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds them to the site."""
    for source, place in outside().items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turns links between files into links between pages."""
    places = outside()
    sources = {place: source for source, place in places.items()}
    here = page.file.src_uri
    source = sources.get(here, f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        target = normpath(join(dirname(source), match[1]))
        place = places.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        return match[1] if place is None else relpath(place, dirname(here) or ".")

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(link, text) for text in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lets a dotted key in a table break after its dots, and an option nowhere."""
    broken = KEY.sub(lambda match: match[0].replace(".", ".<wbr>"), html)
    return OPTION.sub('<code class="option">', broken)
