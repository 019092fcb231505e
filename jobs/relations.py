"""Rows that a query reads and gives: Spark's, or Arrow's.

A query is written once, in Spark's SQL. Of Arrow's rows DuckDB answers it, in this process: on the same cores it takes
a tenth of the time, and Spark takes some seconds for its first query, however few the rows are. It gets no query of
which it is not known that it gives the same there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow.dataset import Dataset

from jobs.errors import LakeError

if TYPE_CHECKING:  # a run with nothing to do needs none of these
    import duckdb
    from pyspark.sql import DataFrame, SparkSession
    from sqlglot import exp

Rows = Any  # a DataFrame, a table of Arrow, or a Dataset of Arrow's, which is read while a query is answered

MEMORY = "512MB"  # that DuckDB takes at most, beside the rows that it is given
# Functions, by their names in sqlglot, that have the same value in both.
SAME = """
Abs And BitwiseCount BitwiseOrAgg Case Coalesce Count CountIf CurrentTimestamp Explode GenerateSeries Greatest Grouping
If Least Length LogicalOr Max Min Nullif Or RowNumber Sum Trim UnixDate UnixMicros
"""
SAME_FUNCTIONS = {"BIN"}  # which sqlglot does not know by a name of its own


class NotTheSame(LakeError, ValueError):
    """A query that DuckDB may answer in another way than Spark."""


def query(sql: str, **given: Rows) -> Rows:
    """The rows that a query gives; `{name}` in it stands for the rows given by that name.

    If all of them are Arrow's it gives a table of Arrow, else a DataFrame. Raises NotTheSame.
    """
    if frames := [rows for rows in given.values() if not isinstance(rows, (pa.Table, Dataset))]:
        # Spark has rows of Arrow in its plan: each use of others would be a job.
        spark = frames[0].sparkSession
        return spark.sql(sql, **{name: of_spark(spark, rows) for name, rows in given.items()})
    with in_memory(given) as ask:
        return ask(translated(sql.format(**{name: name for name in given})))


@contextmanager
def in_memory(given: Mapping[str, pa.Table | Dataset]) -> Iterator[Callable[[str], pa.Table]]:
    """Gives a function that answers queries in DuckDB's SQL. It raises duckdb.Error."""
    with _database().cursor() as connection:  # which has names of its own
        connection.execute("SET TimeZone = 'UTC'")
        for name, rows in given.items():
            connection.register(name, rows)

        def ask(sql: str) -> pa.Table:
            found = connection.sql(sql).to_arrow_table()
            # A sum of whole numbers is one of 64 bits in Spark.
            types = [pa.int64() if each == pa.decimal128(38, 0) else each for each in found.schema.types]
            return found.cast(pa.schema(zip(found.column_names, types, strict=True)))

        yield ask


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """An empty one, for all: to start it takes longer than most queries."""
    import duckdb

    return duckdb.connect(
        config={"enable_external_access": False, "memory_limit": MEMORY, "temp_directory": _scratch().name}
    )


@cache
def _scratch() -> TemporaryDirectory[str]:
    """Where DuckDB writes what does not fit into its memory. It is gone when the process ends."""
    return TemporaryDirectory(prefix="lake-queries-", ignore_cleanup_errors=True)


def of_spark(spark: SparkSession, rows: Rows) -> DataFrame:
    """Rows as a DataFrame."""
    return spark.createDataFrame(rows) if isinstance(rows, pa.Table) else rows


def kept(rows: Rows) -> Rows:
    """Rows that are asked for more than once, worked out once."""
    return rows if isinstance(rows, pa.Table) else rows.persist()


def as_table(rows: Rows) -> pa.Table:
    """Rows in memory."""
    return rows if isinstance(rows, pa.Table) else rows.toArrow()


@cache
def translated(sql: str) -> str:
    """A query in Spark's SQL as DuckDB takes it. Raises NotTheSame, for what is no SQL, too."""
    from sqlglot import ErrorLevel, ParseError, parse_one

    try:
        tree = parse_one(sql, dialect="spark")
    except ParseError as error:
        raise NotTheSame(str(error).splitlines()[0]) from error
    for node in reversed(list(tree.bfs())):  # what a node is made of first
        new = _in_duckdb(node)
        if new is not node:
            node.replace(new)
    return tree.sql("duckdb", unsupported_level=ErrorLevel.IGNORE)  # hints


def _in_duckdb(node: exp.Expr) -> exp.Expr:
    """An expression, whose parts are DuckDB's already, as DuckDB's. The session's time zone is UTC in both."""
    from sqlglot import exp

    def call(name: str, *parts: exp.Expr | str) -> exp.Expr:
        return exp.func(name, *(exp.Literal.string(part) if isinstance(part, str) else part.copy() for part in parts))

    this = node.this
    match node:
        case exp.CountIf():  # of no rows DuckDB counts null
            return call("coalesce", node, exp.Literal.number(0))
        case exp.Cast() if isinstance(this, exp.Literal) or node.is_type("date", "timestamp", "double", "decimal"):
            return exp.cast(this.copy(), node.to)
        case exp.Cast() if node.is_type("int", "bigint"):  # Spark cuts off, DuckDB rounds
            return exp.cast(call("trunc", this), node.to)
        case exp.Avg() if isinstance(this, exp.If) or this.is_type("double"):  # of decimals it is of another type
            return node
        case exp.Mod() if isinstance(node.expression, exp.Literal):  # by zero is an error, or null
            return node
        case exp.Rint():
            return call("round_even", this, exp.Literal.number(0))
        case exp.TsOrDsAdd():  # an interval would make a time of a date
            return exp.paren(exp.cast(this.copy(), "date") + node.expression.copy())
        case exp.UnixSeconds() | exp.StrToUnix():  # of a time: a text is an error
            return exp.IntDiv(this=call("epoch_us", this), expression=exp.Literal.number(1_000_000))
        case exp.AtTimeZone():  # from_utc_timestamp
            return call("timezone", "UTC", call("timezone", node.args["zone"], exp.cast(this.copy(), "timestamptz")))
        case exp.FromTimeZone():  # to_utc_timestamp
            return call("timezone", node.args["zone"], call("timezone", "UTC", exp.cast(this.copy(), "timestamptz")))
        case exp.Anonymous() if this.upper() == "TIMESTAMP_SECONDS":
            return call("to_timestamp", *node.expressions)
        case exp.Anonymous() if this.upper() == "PMOD":
            number, by = (exp.paren(part.copy()) for part in node.expressions)
            return exp.paren((number % by + by) % by)
    unsure = (exp.Func, exp.Like, exp.ILike, exp.Div, exp.Mod, exp.AtTimeZone, exp.FromTimeZone)
    name = type(node).__name__
    if isinstance(node, unsure) and name not in SAME.split() and str(this).upper() not in SAME_FUNCTIONS:
        raise NotTheSame(f"{node.sql('spark')} may have another value in DuckDB")
    return node
