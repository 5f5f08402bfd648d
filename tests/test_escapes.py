"""Text of strangers cannot steer a terminal: of whichever command, in its output, its errors, its live display."""

import ast
import io
import logging
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Column, Table
from rich.text import Text
from synthetic import write_synthetic
from typer.testing import CliRunner

from plgan_tune import analyze, evaluate, search, train
from plgan_tune.analysis.importance import Importances, importances
from plgan_tune.analysis.study import Study, read_study
from plgan_tune.analysis.terminal import comparison, importance_table, view
from plgan_tune.console.display import PlainDisplay, build_display, print_summary
from plgan_tune.console.format import terminal, visible
from plgan_tune.console.shell import quoted, shell_line
from plgan_tune.console.signals import stopping_as_ctrl_c
from plgan_tune.records import TrialRow, TrialStatus
from plgan_tune.store.location import Location
from plgan_tune.study.state import StudyState
from tests.factories import START

NAME = "a\x1b[2Jb\x1b]0;owned\x07\x9b31m\u202ec"
"""A name that clears the screen, titles the window, colours in 8 bits and turns what follows around."""

SHOWN = r"a\x1b[2Jb\x1b]0;owned"
"""How its beginning is to be read; rich leaves a bell out of a text that it is handed as one."""

TEXT = f"{NAME}\r\b\x7f[bold]x[/nothing]"

STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

RICHS_OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*[ABGHK]|\?1049[lh])|\r")
"""Styles and the cursor's ways, none of which `NAME` holds."""

RUNNER = CliRunner(env={"FORCE_COLOR": "1", "COLUMNS": "300", "TERM": "xterm-256color"})


def check(shown: str, *holds: str) -> None:
    """Nothing steers but rich, and what is held is there to be read."""
    left = RICHS_OWN.sub("", shown)
    assert not STEERING.search(left), ascii(left)
    for text in holds or (SHOWN,):
        assert text in left


def run(app: typer.Typer, *words: object, status: int, holds: Sequence[str] = (SHOWN,)) -> str:
    said = RUNNER.invoke(app, list(map(str, words)))
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    assert said.exit_code == status, said.output
    check(said.output, *holds)
    return said.output


# The terminal itself


@given(st.text())
def test_what_is_visible_stays_and_what_steers_does_not(text: str) -> None:
    shown = visible(text)
    assert not STEERING.search(shown)
    assert visible(shown) == shown
    if not STEERING.search(text):
        assert shown == text


def test_letters_of_any_script_stay() -> None:
    for text in (
        "résumé\n\tdéjà",
        "日本語",
        "שלום",
        "می\u200cخواهم",
        "👩\u200d🔬",
        "50 % · t0001\N{NO-BREAK SPACE}9",
        r"\x1b",
    ):
        assert visible(text) == text


def table(cell: str | Text) -> Table:
    table = Table("name", Column(cell), title=cell)
    table.add_row(cell, "x")
    return table


@pytest.mark.parametrize(
    "make",
    [
        lambda text: text,
        lambda text: Text(text, "bold red"),
        lambda text: Text.assemble(("before", "bold"), text, ("after", "green")),
        table,
        lambda text: table(Text(text, "cyan")),
        lambda text: Panel(text, title=Text(text)),
        lambda text: Syntax(f"key: {text}", "yaml"),
    ],
    ids=["string", "text", "styled", "table", "table of texts", "panel", "syntax"],
)
def test_whatever_is_printed_is_visible(make: Callable[[str], Any]) -> None:
    console = terminal(file=io.StringIO(), force_terminal=True, width=200, _environ={})
    console.print(make(TEXT))
    assert isinstance(console.file, io.StringIO)
    lines = [line.strip(" │╭╮╰╯─━┏┓┡┩└┘┃") for line in RICHS_OWN.sub("", console.file.getvalue()).splitlines()]
    check("".join(lines))  # a cell may be folded


def test_styles_stay_on_their_characters() -> None:
    said = terminal(file=io.StringIO(), force_terminal=True, color_system="standard", width=80, _environ={})
    said.print(Text.assemble(("a\x1bb", "bold"), ("c", "red")))
    assert said.file.getvalue() == "\x1b[1ma\\x1bb\x1b[0m\x1b[31mc\x1b[0m\n"  # type: ignore[attr-defined]


def test_hostile_text_is_folded_as_wide_as_it_is_shown() -> None:
    for cell in ("\x1b" * 40, Text("\x1b" * 40)):
        console = terminal(file=io.StringIO(), force_terminal=False, width=60, _environ={})
        grid = Table.grid()
        grid.add_column(overflow="fold")
        grid.add_row(cell)
        console.print(grid)
        lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
        assert "".join(line.rstrip() for line in lines) == r"\x1b" * 40
        assert max(map(len, lines)) <= 60


def test_every_console_is_this_one() -> None:
    package = Path(__file__).resolve().parents[1] / "plgan_tune"
    made = [
        (file.name, ast.unparse(node.func))
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Console", "rich.print", "terminal", "_Terminal")
    ]
    assert ("format.py", "_Terminal") in made
    assert ("search.py", "terminal") in made
    assert {name for _, name in made} == {"terminal", "_Terminal"}


def test_a_warning_that_nobody_takes_is_visible(capsys: pytest.CaptureFixture[str]) -> None:
    terminal()
    record = logging.LogRecord("plgan_tune", logging.WARNING, "f", 1, "%s is damaged", (NAME,), None)
    assert logging.lastResort is not None
    logging.lastResort.handle(record)
    check(capsys.readouterr().err, SHOWN + r"\x07")


# Commands to type


@pytest.mark.parametrize(
    "word", [NAME, "a\nb\tc", "it's \\ \x1b", os.fsdecode(b"caf\xe9 \x1bf"), "plain", "two words", "\u202eabc1", ""]
)
def test_a_printed_command_can_be_typed(word: str) -> None:
    line = shell_line(["printf", "%s", word])
    check(line, "printf")
    assert "\n" not in line
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    typed = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, check=True, env=environment)
    assert typed.stdout == os.fsencode(word)


def test_ordinary_words_are_quoted_as_ever() -> None:
    assert [quoted(word) for word in ("results/a", "a b", "it's")] == ["results/a", "'a b'", "'it'\"'\"'s'"]


def test_what_is_printed_at_a_signal_is_visible(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background has none
    try:
        with pytest.raises(KeyboardInterrupt), stopping_as_ctrl_c(f"search --name {NAME}", terminal()):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    check(capfd.readouterr().out)


# search and train


SPACE = """
study: s
trial:
  data: {source: folder, path: PATH, labels: 2, validation: 2}
  loss: {alpha: {uniform: [0, 1]}}
"""


def images(folder: Path, bad: str = "") -> Path:
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (folder / name).mkdir(parents=True)
        for place in range(4):
            Image.new("L", (8, 8), place).save(folder / name / f"{place}.png")
    if bad:
        (folder / "train" / "a" / bad).write_bytes(b"no image")
    return folder


def space(folder: Path, text: str) -> Path:
    file = folder / "space.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "words",
    [
        ["--space", NAME],
        ["--name", NAME],
        ["--set", NAME],
        ["--set", f"{NAME}=1"],
        ["--set", f"search.trials='{NAME}'"],
        ["--results", f"{NAME}://x"],
        [NAME],
        [f"--{NAME}"],
    ],
    ids=lambda words: words[0] if words[0].startswith("--s") else ascii(words[0]),
)
def test_search_refuses_visibly(words: list[str]) -> None:
    run(search.app, *words, "--dry-run", status=2)


def test_search_names_what_a_space_file_holds_visibly(tmp_path: Path) -> None:
    name = in_yaml(NAME)
    text = f"study: {name}\n{name}: 1\nsearch: {{trials: {name}}}\ntrial: {{data: {name}}}\n"
    run(search.app, "--space", space(tmp_path, text), "--dry-run", status=2, holds=[SHOWN, "must be text"])


def test_search_shows_a_plan_visibly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    data = images(tmp_path / NAME)
    file = space(tmp_path, SPACE.replace("PATH", in_yaml(str(data))))
    run(search.app, "--space", file, "--dry-run", status=0, holds=[r"a\e[2Jb\e]0;owned", "images"])


def in_yaml(text: str) -> str:
    """In double quotes YAML takes any character by its number."""
    return '"' + "".join(f"\\U{ord(character):08x}" for character in text) + '"'


@pytest.mark.parametrize("app", [search.app, train.app], ids=["search", "train"])
def test_a_broken_image_is_named_visibly(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLGAN_TUNE_CACHE", str(tmp_path / "cache"))
    data = images(tmp_path / "data", bad=f"{NAME}.png")
    file = space(tmp_path, SPACE.replace("PATH", str(data)))
    if app is search.app:
        words: list[object] = ["--space", file, "--results", tmp_path / "results"]
    else:
        words = ["--config", file, "--set", "trial.loss.alpha=0.5", "--out", tmp_path / "out"]
    run(app, *words, status=2)


def test_train_says_visibly_where_its_files_are(tmp_path: Path) -> None:
    small = [
        "trial.model.width=0.05",
        "trial.data.limit=480",
        "trial.training.epochs=1",
        "trial.training.batch_size=200",
    ]
    fixed = [f"trial.{key}=0.5" for key in ("loss.alpha", "loss.beta")] + ["trial.loss.switch_epoch=2"]
    fixed += [f"trial.optim.{key}" for key in ("lr_discriminator=0.001", "lr_generator=0.001", "decay_epoch=9")]
    words = [word for text in [*small, *fixed] for word in ("--set", text)]
    from plgan_tune.config.load import default_space  # noqa: PLC0415

    words = ["--config", str(default_space()), "--out", str(tmp_path / NAME), *words]
    run(train.app, *words, status=0)
    run(train.app, *words, status=2, holds=[SHOWN, "already exists"])


@pytest.mark.parametrize("words", [["--config", NAME], ["--config", "x", NAME]], ids=["config", "another"])
def test_train_refuses_visibly(words: list[str]) -> None:
    run(train.app, *words, status=2)


# analyze and evaluate


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Of a hostile name, with a hostile id, node and error in every row."""
    import pandas as pd  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("results") / NAME
    write_synthetic(Location.at(folder), 30, 6)
    for file in sorted(folder.glob("*/*.parquet")):
        frame = pd.read_parquet(file)
        frame["trial_id"] = TEXT + frame["trial_id"]
        if file.parent.name == "trials":
            frame = frame.assign(error=TEXT, node=TEXT, split_hash=TEXT)
        pq.write_table(pa.Table.from_pandas(frame, schema=pq.read_schema(file), preserve_index=False), file)
    return read_study(folder)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--top", 30],
        ["--watch"],
        ["--sql", 'SELECT trial_id, error, node AS "[bold]" FROM trials'],
        ["--sql", f"SELECT '{TEXT}' AS \"{NAME}\""],
    ],
    ids=["glance", "all", "watch", "rows", "header"],
)
def test_analyze_shows_a_study_visibly(study: Study, words: list[object]) -> None:
    run(analyze.app, study.location.path, *words, status=0)


def test_a_query_shows_what_rich_would_leave_out(study: Study) -> None:
    run(analyze.app, study.location.path, "--sql", "SELECT 'a\r\bb' AS x", status=0, holds=[r"a\x0d\x08b"])


def test_analyze_compares_visibly(study: Study, tmp_path: Path) -> None:
    write_synthetic(Location.at(tmp_path / "other"), 30, 6)
    run(analyze.app, study.location.path, tmp_path / "other", status=0)


@pytest.mark.parametrize(
    "words",
    [
        ["--sql", f"SELECT '{NAME}"],
        ["--sql", f"SELECT error('{NAME}')"],
        ["--export", "x.yaml", "--trial", NAME],
        [f"--{NAME}"],
    ],
    ids=["syntax", "error", "trial", "option"],
)
def test_analyze_refuses_visibly(
    study: Study, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(analyze.app, study.location.path, *words, status=2)


def test_analyze_exports_visibly(study: Study, tmp_path: Path) -> None:
    run(analyze.app, study.location.path, "--export", tmp_path / f"{NAME}.yaml", status=0)


@pytest.mark.parametrize("app", [analyze.app, evaluate.app], ids=["analyze", "evaluate"])
def test_a_study_that_is_not_there_or_broken_is_named_visibly(app: typer.Typer, tmp_path: Path) -> None:
    run(app, tmp_path / NAME, status=2)
    write_synthetic(Location.at(tmp_path / NAME), 3, 3)
    (tmp_path / NAME / "study.yaml").write_text('study: s\n"\\e[2J\\e]0;owned": 1\n')
    run(app, tmp_path / NAME, status=2)


def test_evaluate_refuses_visibly(study: Study, tmp_path: Path) -> None:
    run(evaluate.app, study.location.path, "--data", NAME, "--in-process", "--address", NAME, status=2)
    shutil.copytree(study.location.path, tmp_path / NAME)
    for file in (tmp_path / NAME / "trials").iterdir():
        file.write_bytes(b"torn")
    run(evaluate.app, tmp_path / NAME, "--in-process", status=2)


def test_what_the_tables_hold_is_not_taken_for_markup(study: Study) -> None:
    shown = run(analyze.app, study.location.path, status=0)
    assert "[bold]x[/nothing]" in shown


# The live display


def searching() -> StudyState:
    """A hostile study in all that a search is told of: names, values, errors."""
    state = StudyState(NAME, trials=6, epochs=6, started_at=START)
    for number, status in enumerate((TrialStatus.COMPLETED, TrialStatus.FAILED)):
        state.start(f"{NAME}{number}", number, {"model.activation": NAME}, 0, START)
        state.end(f"{NAME}{number}", status, START, TEXT)
    state.start(f"{NAME}9", 9, {"model.activation": NAME}, 0, START)
    return state


def now() -> datetime:
    return START + timedelta(seconds=9)


@pytest.mark.parametrize("live", [True, False], ids=["live", "plain"])
def test_the_display_is_visible(live: bool, capfd: pytest.CaptureFixture[str]) -> None:
    console = terminal(file=io.StringIO(), force_terminal=live, width=200, _environ={"TERM": "xterm"})
    state = searching()
    display = build_display(console, state, now)
    assert isinstance(display, PlainDisplay) == (not live)
    with display:
        row = state.running()[0]
        display.started(replace(row, attempt=2, error=TEXT))
        display.stopping(f"waits for {NAME}")
        display.ended(row_of(state))
    print_summary(console, state, now(), results=f"results/{NAME}", python=NAME, resume=shell_line(["search", NAME]))
    assert isinstance(console.file, io.StringIO)
    check(console.file.getvalue())
    if not live:
        check(capfd.readouterr().out)


def row_of(state: StudyState) -> TrialRow:
    return next(row for row in state.rows() if row.status is TrialStatus.FAILED)


# What is not hostile


@pytest.mark.parametrize("width", [60, 120])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_ordinary_output_is_as_rich_prints_it(tmp_path: Path, width: int, is_terminal: bool) -> None:
    write_synthetic(Location.at(tmp_path / "first"), 60, 20)
    study = read_study(tmp_path / "first")
    found = importances(study)
    assert isinstance(found, Importances)
    kinds: list[Callable[..., Console]] = [Console, terminal]
    said = []
    for make in kinds:
        console = make(file=io.StringIO(), force_terminal=is_terminal, width=width, _environ={"TERM": "xterm-256color"})
        for renderable in (view(study, 10), importance_table(found), comparison([study, study])):
            console.print(renderable)
        console.print("epochs 1/2  [a] :smile: 3.5 %", soft_wrap=True, markup=False, emoji=False)
        state = StudyState("digits", trials=6, epochs=6, started_at=START)
        state.start("t0000", 0, {"loss.alpha": 0.5}, 0, START)
        print_summary(console, state, now(), results="results/digits")
        assert isinstance(console.file, io.StringIO)
        said.append(console.file.getvalue())
    assert said[0] == said[1]
    assert ("\x1b[" in said[0]) == is_terminal
