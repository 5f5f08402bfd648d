"""SQL over a study's tables with DuckDB: in memory, without files, network or settings."""

from typing import Any

from plgan_tune.analysis.study import Study
from plgan_tune.store.read import read_battles, read_evaluations


class QueryError(Exception):
    """DuckDB refused the query; the message is DuckDB's."""


def _tables(study: Study) -> dict[str, Any]:
    rows = study.everything
    return {
        "trials": rows.trials,
        "epochs": rows.epochs,
        "decisions": rows.decisions,
        "evaluations": read_evaluations(study.location, study.study_id, study.spec.metric.name),
        "battles": read_battles(study.location, study.study_id),
    }


def query(study: Study, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return column names and rows of `sql` over the tables of a study and of its evaluation: those of `_tables`.

    Nothing else can be read or written: DuckDB's access to files and network is off and locked.

    Raises:
        QueryError: if the query is wrong or needs what is locked.
        StoreError: if the evaluations or their battles cannot be read.
    """
    import duckdb  # noqa: PLC0415 - other views of a study need not wait for it

    with duckdb.connect(":memory:", config={"python_enable_replacements": "false"}) as database:
        for name, frame in _tables(study).items():
            database.register(name, frame)
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        try:
            result = database.sql(sql)
            table = result.to_arrow_table() if result is not None else None  # fetchall() wants pytz for times
            columns = [column.to_pylist() for column in table.columns] if table is not None else []
        except (duckdb.Error, OverflowError, ValueError) as error:  # a date may lie beyond Python's range
            raise QueryError(f"--sql: {error}") from error
    if table is None:
        raise QueryError(f"--sql must be a query with a result, but got {sql!r}")
    return table.column_names, list(zip(*columns, strict=True))
