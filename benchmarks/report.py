"""How long the report of a large study takes: to write it, and until a browser has drawn all its figures.

    OMP_NUM_THREADS=1 python benchmarks/report.py [--peer CHECKOUT]

The studies are `synthetic.py`'s. Each page is opened in a new headless Chromium, which draws WebGL in software, and
told to draw every figure, as printing does; a reader's browser draws one when it comes near the window. CHECKOUT is
another one of this project, an older one for instance (`git worktree add ../before COMMIT`); the two take turns. Prints
a table and writes it to report.md beside itself.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from machine import machine
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from synthetic import write_synthetic

from plgan_tune.store.location import Location

HERE: Final = Path(__file__).parent.parent
ROUNDS = 2
LONGEST = 600.0
BAR = 10.0

STUDIES: Final = {
    "10,000 trials of 100 epochs": (10_000, 100, False),
    "10,000 trials with early stopping": (10_000, 100, True),
}

WRITE: Final = """
import sys, time
from plgan_tune.analysis.importance import importances
from plgan_tune.analysis.report.page import report_html
from plgan_tune.analysis.study import read_study
began = time.perf_counter()
study = read_study(sys.argv[1])
html = report_html(study, importances(study))
seconds = time.perf_counter() - began
open(sys.argv[2], "w", encoding="utf-8").write(html)
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(seconds, int(peak) * 1024 / 1e6)
"""

WATCH: Final = """
let plotly;
window.drawn = {};
Object.defineProperty(window, "Plotly", { get: () => plotly, set(made) {
  const { react } = made;
  plotly = made;
  plotly.react = async (figure, ...rest) => {
    const began = performance.now();
    await react(figure, ...rest);
    await new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
    drawn[figure] = performance.now() - began;
  };
} });
"""
"""How long each figure takes until the frame after it is shown."""


@dataclass(frozen=True)
class Round:
    """What one report took: seconds and megabytes to write it, then seconds in the browser."""

    written: float
    memory: float
    size: float
    opened: float
    all_drawn: float
    processor: float
    slowest: str


def measure(checkout: Path, study: Path, page: Path) -> Round:
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", WRITE, str(study), str(page)]
    said = subprocess.run(command, check=True, env=environment, cwd=checkout, capture_output=True, text=True).stdout
    written, memory = map(float, said.split())
    return Round(written, memory, page.stat().st_size / 1e6, *in_chromium(page))


def in_chromium(page: Path) -> tuple[float, float, float, str]:
    """Seconds until the first screen and until all figures are drawn, the browser's processor seconds, the slowest."""
    with chromium() as (browser, service):
        browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        before, began = processor_seconds(service), time.perf_counter()
        browser.get(page.as_uri())
        wait(browser, "return document.documentElement.dataset.opened !== undefined")
        opened = float(browser.execute_script("return document.documentElement.dataset.opened")) / 1000
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        wait(browser, "return Object.keys(drawn).length === document.querySelectorAll('.figure').length")
        seconds, spent = time.perf_counter() - began, processor_seconds(service) - before
        figures: dict[str, float] = browser.execute_script("return drawn")
    slowest = max(figures, key=figures.__getitem__)
    return opened, seconds, spent, f"{slowest.removeprefix('figure-')} {figures[slowest] / 1000:.1f}"


@contextmanager
def chromium() -> Iterator[tuple[Any, int]]:
    """A browser, and the process that has started it."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    for argument in ("headless=new", "no-sandbox", "enable-unsafe-swiftshader", "disable-dev-shm-usage"):
        options.add_argument(f"--{argument}")
    service = Service(shutil.which("chromedriver") or "chromedriver")
    browser = webdriver.Chrome(options=options, service=service)
    browser.set_page_load_timeout(LONGEST)
    browser.set_script_timeout(LONGEST)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        yield browser, service.process.pid
    finally:
        browser.quit()


def processor_seconds(pid: int) -> float:
    times = [process.cpu_times() for process in psutil.Process(pid).children(recursive=True)]
    return sum(one.user + one.system for one in times)


def wait(browser: Any, condition: str) -> None:
    began = time.perf_counter()
    while not browser.execute_script(condition):
        if time.perf_counter() - began > LONGEST:
            raise TimeoutError(f"not within {LONGEST:.0f} s: {condition}")
        time.sleep(0.05)


def row(study: str, contender: str, rounds: list[Round]) -> str:
    """Of the round whose figures were drawn soonest."""
    best = min(rounds, key=lambda one: one.all_drawn)
    return (
        f"| {study} | {contender} | {min(one.written for one in rounds):.1f} s, {best.memory:.0f} MB | "
        f"{best.size:.1f} MB | {best.opened:.1f} s | {best.all_drawn:.1f} s | {best.processor:.1f} s | "
        f"{best.slowest} s |"
    )


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--peer", type=Path, help="another checkout of this project")
    peer = arguments.parse_args().peer
    contenders = {"ours": HERE} if peer is None else {"before": peer.resolve(), "ours": HERE}
    load = os.getloadavg()[0]
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "report.html"
        for place, (name, (trials, epochs, early_stopping)) in enumerate(STUDIES.items()):
            study = Path(scratch) / str(place)
            write_synthetic(Location.at(study), trials, epochs, early_stopping=early_stopping)
            found: dict[str, list[Round]] = {contender: [] for contender in contenders}
            for _ in range(ROUNDS):
                for contender, checkout in contenders.items():
                    found[contender].append(measure(checkout, study, page))
            rows += [row(name, contender, rounds) for contender, rounds in found.items()]
            print(*rows[-len(contenders) :], sep="\n", flush=True)
    lines = [
        "# The report in a browser",
        "",
        f"{machine()}.",
        f"Load {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end, of which this makes about 2: the rest is",
        "other work, which lengthens all times.",
        f"The shorter of {ROUNDS} rounds. The bar is {BAR:.0f} s until all figures of 10,000 trials of 100 epochs, a",
        "million rows, are drawn on a machine that does nothing else. Processor: what the browser's processes spent",
        "together until then, which other work lengthens less.",
        "",
        "| study | report | written | page | first screen | all figures | processor | slowest figure |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
