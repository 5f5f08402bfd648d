"""Numbers, times and curves as people read them."""

import io
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from plgan_tune.console.format import Prose, duration, percent, say, sparkline, terminal


@given(st.lists(st.floats(0, 1), max_size=700), st.integers(1, 40))
def test_a_sparkline_fits_and_spans_its_glyphs(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set("▁▂▃▄▅▆▇█")
    if 1 < len(values) <= width and len(set(values)) > 1:
        assert line[values.index(max(values))] == "█"
        assert line[values.index(min(values))] == "▁"
    assert sparkline(values, width, ascii_only=True).isascii()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (192, "3 min 12 s"),
        (7500, "2 h 5 min"),
        (273600, "3 d 4 h"),
    ],
)
def test_durations_have_two_units(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


def test_errors_are_percentages() -> None:
    assert percent(0.152777) == "15.28 %"
    assert percent(0.0) == "0.00 %"
    assert percent(None) == "-"


LONG_PATH = "/a/path/that/is/longer/than/a/line/of/the/terminal.yaml"
COMMAND = "  python -m plgan_tune.search --name mine --resume --set search.trials=80"


def said(text: str, *, width: int = 40, on_terminal: bool = True) -> list[str]:
    """The lines that a console shows of prose."""
    file = io.StringIO()
    say(terminal(file=file, width=width, force_terminal=on_terminal, color_system=None), text)
    return file.getvalue().splitlines()


def test_prose_is_broken_at_words_on_a_terminal() -> None:
    words = "rungs of early stopping: 2; the next, 6, is dropped: it is not before the last epoch"
    lines = said(words)
    assert len(lines) == 3
    assert max(map(len, lines)) <= 40
    assert " ".join(lines) == words
    assert said(words, on_terminal=False) == [words]


@pytest.mark.parametrize("whole", [LONG_PATH, "`plgan_tune.evaluate them --all`", "--set 'trial.a={uniform: [0, 1]}'"])
def test_what_is_to_be_typed_is_never_broken(whole: str) -> None:
    lines = said(f"{whole} is what is meant here, and {whole}, and so on\n{COMMAND}")
    assert " ".join(lines[:-1]).count(whole) == 2
    assert sum(whole in line for line in lines) == 2
    assert lines[-1] == COMMAND


def test_a_number_stays_with_its_unit() -> None:
    assert said("1 and 2 are 3 s and 10 % of 8 x 8", width=14) == ["1 and 2 are", "3 s and 10 %", "of 8 x 8"]


def test_prose_fits_its_column() -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("note", Prose(f"alpha\N{NO-BREAK SPACE}0.123, beta\N{NO-BREAK SPACE}0.5 {LONG_PATH}"))
    file = io.StringIO()
    terminal(file=file, width=20).print(table)
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 20
    assert "note  alpha\N{NO-BREAK SPACE}0.123, " in lines[0]
    assert "".join(line[6:].strip() for line in lines[2:]) == LONG_PATH
