"""SQL over a study's tables and nothing else."""

from pathlib import Path

import pytest

from plgan_tune.analysis.query import QueryError, query
from tests.analysis.conftest import Synthetic


def test_tables_are_the_studys(synthetic: Synthetic) -> None:
    study = synthetic(30, 10)
    names, rows = query(study, "SELECT count(*) AS n FROM epochs JOIN trials USING (trial_id)")
    assert (names, rows) == (["n"], [(len(study.epochs),)])
    assert query(study, "SELECT count(*) FROM decisions")[1] == [(len(study.decisions),)]
    assert query(study, "SELECT max(ended_at) FROM trials")[1] == [(study.trials["ended_at"].max(),)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "COPY trials TO '{file}.parquet'",
        "ATTACH '{file}.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SELECT * FROM study",
        "SELEC",
        "SET threads = 1",
        "SELECT DATE '99999-01-01'",
        "SELECT 'infinity'::TIMESTAMP",
    ],
)
def test_all_else_is_refused(synthetic: Synthetic, tmp_path: Path, sql: str) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(QueryError, match="--sql"):
        query(synthetic(5, 5), sql.format(file=file))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["secret.csv"]
