"""SQL over a study's tables, by DuckDB: in memory, without files, network or settings."""

from typing import Any

from plgan_tune.analysis.study import Study


class QueryError(Exception):
    """A query that DuckDB refuses, with its own words."""


def query(study: Study, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of `sql` over the tables `trials`, `epochs` and `decisions`.

    Nothing outside of them can be read or written: DuckDB's access to files and network is off, and stays off.

    Raises:
        QueryError: where the query is wrong or asks for what is locked.
    """
    import duckdb  # noqa: PLC0415 - what only shows a study does not wait for it

    with duckdb.connect(":memory:", config={"python_enable_replacements": "false"}) as database:
        for name, frame in (("trials", study.trials), ("epochs", study.epochs), ("decisions", study.decisions)):
            database.register(name, frame)
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        try:
            result = database.sql(sql)
            table = result.to_arrow_table() if result is not None else None  # fetchall() wants pytz for times
            columns = [column.to_pylist() for column in table.columns] if table is not None else []
        except (duckdb.Error, OverflowError, ValueError) as error:  # a date may lie beyond what Python has
            raise QueryError(f"--sql: {error}") from error
    if table is None:
        raise QueryError(f"--sql must be a query with a result, but got {sql!r}")
    return table.column_names, list(zip(*columns, strict=True))
