"""`python -m plgan_tune.analyze`: what a study found, from its files alone."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from synthetic import write_synthetic

from plgan_tune.analysis.query import query
from plgan_tune.analysis.study import Study, read_study
from plgan_tune.spec.load import load_trial
from plgan_tune.store.location import Location


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_synthetic(Location.at(folder / "first"), 60, 20)
    write_synthetic(Location.at(folder / "second"), 30, 20, early_stopping=False, seed=1)
    return folder


@pytest.fixture(scope="module")
def synthetic_study(studies: Path) -> Study:
    return read_study(studies / "first")


def analyze(*words: object, cwd: Path, width: int = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "plgan_tune.analyze", *map(str, words)],
        cwd=cwd,
        env=os.environ | {"COLUMNS": str(width), "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_says_what_a_study_found(studies: Path) -> None:
    said = analyze("first", "--top", 3, cwd=studies)
    assert said.returncode == 0, said.stderr
    trials = pd.read_parquet(studies / "first" / "trials")
    best = trials[trials.status == "completed"].nsmallest(1, "val_error_last").iloc[0]
    assert f"{100 * best.val_error_last:.2f} % by {best.trial_id}" in said.stdout
    assert f"60 of 60 · {(trials.status == 'completed').sum()} completed" in said.stdout
    assert "what matters" in said.stdout
    assert "loss.alpha" in said.stdout
    assert len(re.findall(r"(?m)^[= ] t\d{4} ", said.stdout)) == 3


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(studies: Path, width: int) -> None:
    said = analyze("first", cwd=studies, width=width)
    assert max(map(len, said.stdout.splitlines())) <= width


def test_several_are_compared(studies: Path) -> None:
    said = analyze("first", "second", cwd=studies)
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["first", "second"]
    assert "splits" not in said.stdout  # both synthetic


def test_export_is_what_train_reads(studies: Path, tmp_path: Path) -> None:
    trials = pd.read_parquet(studies / "first" / "trials")
    best = trials[trials.status == "completed"].nsmallest(1, "val_error_last").iloc[0]
    said = analyze("first", "--export", tmp_path / "best.yaml", cwd=studies)
    assert said.stdout.strip() == f"trial {best.trial_id} is in {tmp_path / 'best.yaml'}"
    assert load_trial(tmp_path / "best.yaml").loss.alpha == best.params_alpha
    other = analyze("first", "--export", tmp_path / "other.yaml", "--trial", "t0003", cwd=studies)
    assert other.returncode == 0
    assert load_trial(tmp_path / "other.yaml").loss.alpha == trials.params_alpha[3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "a study's folder holds study.yaml, but"),
        (["first", "--export", "first/study.yaml"], "must be a new file that can be written, but: File exists"),
        (["first", "--export", "new.yaml", "--trial", "t9999"], "has no trial t9999; it has t0000 to t0059"),
        (["first", "--trial", "t0001"], "--trial says what --export writes"),
        (["first", "second", "--sql", "SELECT 1"], "take one study"),
        (["first", "--sql", "SELECT * FROM nothing"], "--sql: Catalog Error"),
    ],
)
def test_what_cannot_be_done_is_refused(studies: Path, words: list[str], message: str) -> None:
    said = analyze(*words, cwd=studies)
    assert said.returncode == 2
    assert message in said.stderr
    assert "Traceback" not in said.stderr


def test_a_query_in_a_pipe_is_csv(studies: Path) -> None:
    said = analyze("first", "--sql", "SELECT status, count(*) AS n FROM trials GROUP BY ALL ORDER BY n", cwd=studies)
    assert said.stdout.splitlines()[0] == "status,n"
    assert sum(int(line.split(",")[1]) for line in said.stdout.splitlines()[1:]) == 60


def test_the_readmes_queries_have_answers(synthetic_study: Study) -> None:
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    queries = re.findall(r'--sql "([^"]*)"', readme)
    assert len(queries) == 3
    assert all(query(synthetic_study, sql)[1] for sql in queries)


def test_it_needs_neither_torch_nor_ray(studies: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = ['analyze', 'first']\n"
        "try: runpy.run_module('plgan_tune.analyze', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    root = str(Path(__file__).resolve().parents[1])
    said = subprocess.run(
        [sys.executable, "-c", code],
        cwd=studies,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.splitlines()[-1] == "[]"


def test_a_watch_ends_with_the_study(studies: Path) -> None:
    said = analyze("first", "--watch", cwd=studies)
    assert said.returncode == 0, said.stderr
    assert "60 of 60" in said.stdout


@pytest.mark.slow
def test_ten_thousand_trials_take_seconds(tmp_path: Path) -> None:
    """10,000 trials of 100 epochs, nobody stopped. The bar is 5 s on a quiet machine; a test's may be busy."""
    write_synthetic(Location.at(tmp_path / "large"), 10_000, 100, early_stopping=False)
    code = (
        "import resource, runpy, sys; sys.argv = ['analyze', 'large']\n"
        "try: runpy.run_module('plgan_tune.analyze', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    before = os.times()
    began = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - began, os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    memory = int(said.stdout.splitlines()[-1]) / 2**20
    print(f"analyze of 10,000 x 100: {wall:.1f} s of wall, {seconds:.1f} s of processor, {memory:.2f} GiB")  # noqa: T201
    assert seconds < 10
    assert memory < 2


def test_the_report_is_written_where_it_is_asked_for(studies: Path, tmp_path: Path) -> None:
    said = analyze("first", "--html", tmp_path / "page.html", cwd=studies)
    assert said.returncode == 0, said.stderr
    assert said.stdout == f"the report of first is in {tmp_path}/page.html\n"
    page = (tmp_path / "page.html").read_text()
    assert "<title>first · plgan-tune</title>" in page
    assert 'id="figure-importance-all"' in page
    refused = analyze("first", "second", "--html", tmp_path / "two.html", cwd=studies)
    assert refused.returncode == 2
    assert "--html and --watch take one study" in refused.stderr
