"""results/README.md lists the schema's columns as they are."""

from pathlib import Path
from typing import Any

import pytest

from plgan_tune.store.schemas import battles_schema, decisions_schema, epochs_schema, evaluations_schema, trials_schema

README = Path(__file__).resolve().parents[2] / "results" / "README.md"
TRIALS = trials_schema({"`<path>`": "params_<leaf>"}, {"`<path>`": float})


def line(column: Any) -> str:
    kind = "as searched" if column.name.startswith("params_") else str(column.type)
    unit, meaning = column.metadata[b"unit"].decode(), column.metadata[b"meaning"].decode()
    return f"| `{column.name}` | {kind} | {unit} | {meaning} |"


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("## trials", TRIALS),
        ("## epochs", epochs_schema()),
        ("## decisions", decisions_schema()),
        ("## evaluations", evaluations_schema()),
        ("## battles", battles_schema()),
    ],
)
def test_a_table_lists_exactly_the_columns(heading: str, schema: Any) -> None:
    section = README.read_text().partition(f"\n{heading}")[2].partition("\n## ")[0]
    listed = [text for text in section.splitlines() if text.startswith("| `")]
    assert listed == [line(column) for column in schema]
