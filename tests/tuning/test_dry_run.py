"""A resume that starts nothing."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from synthetic import write_synthetic
from typer.testing import CliRunner

from plgan_tune.search import app
from plgan_tune.store.location import Location
from plgan_tune.store.schemas import VERSION_KEY


def test_dry_run_of_a_resume_says_what_is_there_and_what_has_changed(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    write_synthetic(Location.at(place), 25, 12)
    before = sorted(place.rglob("*"))
    words = ["--space", str(place / "study.yaml"), "--results", str(tmp_path), "--name", "mine", "--resume"]
    result = CliRunner().invoke(app, ["--dry-run", *words, "--set", "search.trials=20"])
    assert result.exit_code == 0
    said = " ".join(result.output.split())
    for text in ("trials 25, each of at most 12", "already there 25 trials ended, 0 unfinished", "25 -> 20"):
        assert text in said
    refused = CliRunner().invoke(app, ["--dry-run", *words, "--set", "trial.data.labels=30"])
    assert refused.exit_code == 2
    assert "trial.data.labels: 20 -> 30" in refused.output
    assert sorted(place.rglob("*")) == before


def test_dry_run_counts_what_is_there(tmp_path: Path) -> None:
    """All 25 trials have ended; five more come, of which nobody is stopped."""
    place = tmp_path / "mine"
    write_synthetic(Location.at(place), 25, 12)
    trained = int(pq.read_table(place / "trials" / "trials.parquet").column("epochs").to_numpy().sum())
    words = ["--space", str(place / "study.yaml"), "--results", str(tmp_path), "--name", "mine", "--resume"]
    more = ["--set", "search.trials=30", "--set", "search.early_stopping=none"]
    said = " ".join(CliRunner().invoke(app, ["--dry-run", *words, *more]).output.split())
    assert f"at most {trained + 5 * 12:,}, at least {trained + 5 * 12:,}" in said


def test_a_resume_of_nothing_says_that_it_begins(tmp_path: Path) -> None:
    """The name may be mistyped; a batch system's first start has the same command as the next."""
    words = ["--results", str(tmp_path), "--name", "typo", "--resume", "--dry-run"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0
    assert f"no study is in {tmp_path}/typo yet: this search starts it" in " ".join(said.output.split())


def tear(file: Path) -> None:
    """Half of it, as a copy leaves that did not end."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def make_newer(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, VERSION_KEY: b"99"}), file)


@pytest.mark.parametrize("how", [[], ["--dry-run"]])
@pytest.mark.parametrize("file", ["trials/trials.parquet", "epochs/part-00000.parquet", "decisions/part-00000.parquet"])
@pytest.mark.parametrize(
    ("damage", "said", "to_do"),
    [
        (tear, "it is corrupt or no Parquet file", "put a whole copy of it in its place\n"),
        (make_newer, "was written with plgan_tune.schema_version 99", "use the newer plgan-tune that wrote it\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_touched(
    tmp_path: Path, damage: Callable[[Path], None], said: str, to_do: str, file: str, how: list[str]
) -> None:
    place = tmp_path / "mine"
    write_synthetic(Location.at(place), 25, 12)
    damage(place / file)
    before = contents(place)
    words = ["--space", str(place / "study.yaml"), "--results", str(tmp_path), "--name", "mine", "--resume"]
    result = CliRunner().invoke(app, [*words, *how])
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines(keepends=True)
    assert str(place / file) in line
    assert said in line
    assert line.endswith(to_do)
    assert contents(place) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
