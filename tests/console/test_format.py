"""PrecisionPolicy, times and curves as people read them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plgan_tune.console.format import duration, percent, sparkline


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
