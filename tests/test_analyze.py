"""`python -m plgan_tune.analyze`: what a study found, from its files alone."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from threading import Timer

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from synthetic import write_synthetic
from typer.testing import CliRunner

from plgan_tune import analyze as analyze_command
from plgan_tune.analysis.overview import overview, ranking
from plgan_tune.analysis.query import query
from plgan_tune.analysis.study import Study, read_study
from plgan_tune.config.load import load_trial
from plgan_tune.console.format import brief
from plgan_tune.store.location import Location
from plgan_tune.store.lock import LEASE, LOCK, Owner, StudyLock


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_synthetic(Location.at(folder / "first"), 60, 20)
    write_synthetic(Location.at(folder / "second"), 30, 20, early_stopping=False, seed=1)
    (folder / "README.md").write_text("no study")
    return folder


@pytest.fixture(scope="module")
def synthetic_study(studies: Path) -> Study:
    return read_study(studies / "first")


def analyze(*words: object, cwd: Path, width: int = 120) -> subprocess.CompletedProcess[str]:
    """The command in this process, as if it were one of its own in `cwd`."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(cwd)
        said = CliRunner().invoke(analyze_command.app, [str(word) for word in words], env={"COLUMNS": str(width)})
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return subprocess.CompletedProcess(str(words), said.exit_code, said.stdout, said.stderr)


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


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_best_trials_numbers_are_whole_on_any_terminal(studies: Path, width: int) -> None:
    """A line each where that fits, else a column each."""
    words = analyze("first", cwd=studies, width=width).stdout.split()
    for row in ranking(read_study(studies / "first"), 5):
        assert row.interval is not None
        interval = (f"{100 * row.interval.low:.1f}", f"{100 * row.interval.high:.1f}")
        for whole in (row.trial_id, f"{100 * row.last:.2f}", f"{100 * row.best:.2f}", *interval):
            assert whole in words
        assert set(map(brief, row.params.values())) <= set(words)


def test_the_tied_alone_are_marked_and_the_glance_counts(studies: Path) -> None:
    study = read_study(studies / "second")
    said = analyze("second", "--top", 30, cwd=studies, width=200).stdout
    marks = {trial_id: mark for mark, trial_id in re.findall(r"(?m)^([= ]) (t\d{4}) ", said)}
    assert marks == {row.trial_id: "=" if row.tied else " " for row in ranking(study)}
    assert set(marks.values()) == {"=", " "}
    sums = overview(read_study(studies / "first"))
    glance = analyze("first", cwd=studies, width=200).stdout
    assert f"early stopping saved {sums.epochs_saved:,} (" in glance
    assert f"{sums.epochs_per_hour:,.0f} epochs per hour of training" in glance


def test_several_are_compared(studies: Path) -> None:
    said = analyze("first", "second", cwd=studies)
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["first", "second"]
    assert "splits" not in said.stdout  # both synthetic


def test_studies_of_other_splits_are_said_to_compare_in_part(studies: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(studies / "second", tmp_path / "other"))
    rewrite_trials(other, lambda trials: trials.assign(split_hash="another"))
    said = " ".join(analyze(studies / "first", other, cwd=tmp_path).stdout.split())
    assert "their errors were counted on 2 different splits of images" in said


def test_export_is_what_train_reads(studies: Path, tmp_path: Path) -> None:
    trials = pd.read_parquet(studies / "first" / "trials")
    best = trials[trials.status == "completed"].nsmallest(1, "val_error_last").iloc[0]
    said = analyze("first", "--export", tmp_path / "best.yaml", cwd=studies)
    assert said.stdout.strip() == f"trial {best.trial_id} is in {tmp_path / 'best.yaml'}"
    assert load_trial(tmp_path / "best.yaml") == read_study(studies / "first").trial(best.trial_id)
    assert load_trial(tmp_path / "best.yaml").loss.alpha == best.params_alpha
    assert "\nresources:\n  cpus_per_rank: 1\n" in (tmp_path / "best.yaml").read_text()
    other = analyze("first", "--export", tmp_path / "other.yaml", "--trial", "t0003", cwd=studies)
    assert other.returncode == 0
    assert load_trial(tmp_path / "other.yaml").loss.alpha == trials.params_alpha[3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["README.md", "first"], "a study is a folder, but"),
        (["first", "--watch", "--html", "x.html", "--sql", "SELECT 1"], "--sql and --html and --watch exclude each"),
        (["https://me:SECRET@host/first"], "RESULTS must hold no password"),
        (["nowhere"], "a study is a folder, but there is no"),
        (["first", "--export", "first/study.yaml"], "must be a new file that can be written, but: File exists"),
        (["first", "--export", "new.yaml", "--trial", "t9999"], "has no trial t9999; it has t0000 to t0059"),
        (["first", "--trial", "t0001"], "--trial needs --export"),
        (["first", "second", "--sql", "SELECT 1"], "take one study"),
        (["first", "--sql", "SELECT * FROM nothing"], "--sql: Catalog Error"),
    ],
)
def test_what_cannot_be_done_is_refused(studies: Path, words: list[str], message: str) -> None:
    said = analyze(*words, cwd=studies)
    assert said.returncode == 2
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert "SECRET" not in said.stderr
    assert not (studies / "x.html").exists()


def test_a_study_that_cannot_be_read_keeps_no_other_from_being_shown(studies: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        shutil.copytree(studies / name, tmp_path / name)
    (tmp_path / "second" / "epochs" / "part-00000.parquet").write_bytes(b"torn")
    said = analyze("first", "second", cwd=tmp_path)
    assert said.returncode == 2
    assert "first" in said.stdout
    assert "second/epochs/part-00000.parquet: it is corrupt" in said.stderr


def test_a_query_in_a_pipe_is_csv(studies: Path) -> None:
    said = analyze("first", "--sql", "SELECT status, count(*) AS n FROM trials GROUP BY ALL ORDER BY n", cwd=studies)
    assert said.stdout.splitlines()[0] == "status,n"
    assert sum(int(line.split(",")[1]) for line in said.stdout.splitlines()[1:]) == 60


@pytest.mark.parametrize(
    ("sql", "cell"),
    [
        ("'=cmd()'", "'=cmd()"),
        ("'+1+1'", "'+1+1"),
        ("'-1+1'", "'-1+1"),
        ("'@SUM(A1)'", "'@SUM(A1)"),
        ("chr(9) || '=1'", "'\t=1"),
        ("chr(13) || '=1'", r"'\x0d=1"),
        ("chr(10) || '=1'", "'\n=1"),
        ("'\uff1d1'", "'\uff1d1"),
        ("'-'", "'-"),
        ("'=1' || chr(34) || ',x'", "'=1\",x"),
        ("'a=1'", "a=1"),
        ("chr(27) || '[2J'", r"\x1b[2J"),
        ("-1", "-1"),
        ("-0.5::DOUBLE", "-0.5"),
        ("-1.5::DECIMAL(4, 2)", "-1.50"),
        ("'-inf'::DOUBLE", "-inf"),
        ("'-0.5'", "-0.5"),
        ("'+1e-3'", "+1e-3"),
        ("true", "True"),
        ("NULL", ""),
    ],
)
def test_no_spreadsheet_runs_a_text_of_the_csv(studies: Path, sql: str, cell: str) -> None:
    """A header is a text, too, and numbers stay numbers."""
    said = CliRunner().invoke(analyze_command.app, [str(studies / "first"), "--sql", f'SELECT {sql} AS "=x", 1 AS one'])
    assert said.exit_code == 0, said.output
    assert list(csv.reader(io.StringIO(said.stdout, newline=""))) == [["'=x", "one"], [cell, "1"]]


def test_a_query_on_a_terminal_shows_what_it_found(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets are no markup."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    said = analyze("first", "--sql", "SELECT '[bold]x[/]' AS \"[red]n\", '[/nothing]' AS m", cwd=studies)
    assert said.returncode == 0, said.stderr
    assert all(text in said.stdout for text in ("[bold]x[/]", "[red]n", "[/nothing]"))


def test_a_row_wider_than_the_terminal_is_a_line_a_cell(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    said = analyze("first", "--sql", "SELECT * FROM trials ORDER BY number LIMIT 2", cwd=studies)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in said.stdout.splitlines()]
    assert [line.split() for line in lines if line.startswith(("trial_id ", "number "))] == [
        ["trial_id", "t0000"],
        ["number", "0"],
        ["trial_id", "t0001"],
        ["number", "1"],
    ]
    assert "…" not in said.stdout


def test_a_long_name_breaks_no_number(studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    name = "a_study_whose_name_takes_more_than_half_of_a_line"
    shutil.copytree(studies / "first", tmp_path / name)
    said = analyze(studies / "first", tmp_path / name, cwd=tmp_path)
    assert "…" not in said.stdout
    assert "".join(line.split(" ")[0] for line in said.stdout.splitlines()[2:]) == name


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


def watched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """In this process, for its looks are seconds apart."""
    monkeypatch.setattr(analyze_command, "WATCH_SECONDS", 0.05)
    said = CliRunner().invoke(analyze_command.app, [str(folder), "--watch"])
    assert said.exit_code == 0, said.output
    return said.output


def rewrite_trials(study: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    file = study / "trials" / "trials.parquet"
    put(study, file, change(pd.read_parquet(file)))


def put(study: Path, file: Path, frame: pd.DataFrame) -> None:
    table = pa.Table.from_pandas(frame, schema=pq.read_schema(file), preserve_index=False)
    pq.write_table(table, study / "_new.parquet")
    (study / "_new.parquet").replace(file)


def test_a_watch_shows_what_comes_and_ends_with_the_search(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two trials no row may be running; the lock says that a search is."""
    folder = Path(shutil.copytree(studies / "first", tmp_path / "growing"))
    files = [folder / name for name in ("trials/trials", "epochs/part-00000", "decisions/part-00000")]
    files = [file.with_suffix(".parquet") for file in files]
    whole = [pd.read_parquet(file) for file in files]
    early = whole[1]["trial_id"].isin(set(whole[0]["trial_id"].head(10))).cummin().sum()  # rows of these trials alone
    for file, frame, rows in zip(files, whole, (10, early, 0), strict=True):
        put(folder, file, frame.head(rows))

    def grow_whole() -> None:
        for file, frame in zip(files, whole, strict=True):
            put(folder, file, frame)

    lock = ExitStack()
    lock.enter_context(StudyLock(Location.at(folder)))
    grow = Timer(1.5, grow_whole)
    began, end = time.monotonic(), Timer(3.0, lock.close)
    grow.start()
    end.start()
    said = watched(folder, monkeypatch)
    watched_for = time.monotonic() - began
    grow.join()
    end.join()
    assert watched_for >= 3
    assert "60 of 60" in said
    assert "not ended" not in said


@pytest.mark.parametrize("leaves_lock", [True, False])
def test_a_watch_of_a_search_that_was_killed_says_so(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leaves_lock: bool
) -> None:
    folder = Path(shutil.copytree(studies / "first", tmp_path / "killed"))
    rewrite_trials(folder, lambda trials: trials.assign(status=trials["status"].mask(trials.index < 3, "running")))
    if leaves_lock:
        process = subprocess.Popen(["true"])
        process.wait()
        owner = replace(Owner.here(), pid=process.pid, started=0.0)
        (folder / LOCK).write_text(json.dumps(asdict(owner)))
    said = " ".join(watched(folder, monkeypatch).split())
    assert "no search writes here, but 3 trials have not ended: search --resume continues it" in said


def test_a_watch_on_a_terminal_waits_for_the_study(studies: Path, tmp_path: Path) -> None:
    out = io.StringIO()
    whole, late = shutil.copytree(studies / "first", tmp_path / "whole"), tmp_path / "[late]"
    begin = Timer(1.5, Path(whole).rename, (late,))
    begin.start()
    analyze_command._watch(Console(file=out, force_terminal=True, width=200, _environ={}), str(late), 5, None)
    begin.join()
    assert f"there is no {late} yet" in out.getvalue()
    assert "60 of 60" in out.getvalue()


def test_a_watched_search_on_another_host_lives_as_long_as_it_renews_its_lock(tmp_path: Path) -> None:
    """Another's clock is not trusted, so its lease is counted from when it was last seen to renew."""
    lock = Location.at(tmp_path / LOCK)
    writer = analyze_command._Writer(lock)
    assert not writer.lives(0.0)
    for renewal in range(3):
        lock.write_text(json.dumps(asdict(replace(Owner.here(), host="elsewhere", renewal=renewal))))
        assert writer.lives(100.0 * renewal)
        assert writer.lives(100.0 * renewal + LEASE)
    assert not writer.lives(200.0 + LEASE + 1)


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "epochs", "bar"), [(1_000, 60, 2), (10_000, 100, 5)])
def test_many_trials_take_seconds(tmp_path: Path, trials: int, epochs: int, bar: float) -> None:
    """Nobody is stopped. The bar is for a quiet machine; a test's may be busy."""
    write_synthetic(Location.at(tmp_path / "large"), trials, epochs, early_stopping=False)
    code = (
        "import re, runpy, sys; sys.argv = ['analyze', 'large']\n"
        "try: runpy.run_module('plgan_tune.analyze', run_name='__main__')\n"
        "except SystemExit: pass\n"
        # getrusage would give the largest of this process, too, from before the program replaced it.
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    before = os.times()
    began = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - began, os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    memory = int(said.stdout.splitlines()[-1]) / 2**20
    print(f"analyze of {trials:,} x {epochs}: {wall:.1f} s of wall, {seconds:.1f} s of processor, {memory:.2f} GiB")  # noqa: T201
    assert seconds < 2 * bar
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
