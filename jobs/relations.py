"""Rows that a query reads and gives: Spark's, or Arrow's.

A query is written once, in Spark's SQL. Of Arrow's rows DuckDB answers it, in this process: on the same cores it takes
a tenth of the time, and Spark takes some seconds for its first query, however few the rows are. It gets no query of
which it is not known that it gives the same there.
"""

from __future__ import annotations

import re
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
# So many meterpoints and dates, of agreements or regions, are joined in memory.
MOST_IN_MEMORY = 1_000_000
# What may be in a query, by its name in sqlglot: functions and operators that have the same value in both,
SAME = """
Abs Add And Between BitwiseAnd BitwiseCount BitwiseLeftShift BitwiseNot BitwiseOrAgg Case Coalesce Count CountIf
CurrentTimestamp EQ Explode GT GTE GenerateSeries Greatest Grouping If In Is LT LTE Least Length LogicalOr Max Min Mul
NEQ Neg Not NullSafeEQ Nullif Or RowNumber Sub Sum Trim UnixDate UnixMicros
"""
SAME_FUNCTIONS = {"BIN"}  # which sqlglot does not know by a name of its own
# and what holds these together.
FRAME = """
Alias CTE Column DataType DataTypeParam Distinct Filter From Group GroupingSets Having Hint Identifier Join JoinHint
Limit Literal Null Order Ordered Paren Select Star Subquery Table TableAlias Tuple Union Var Where Window With
"""
KNOWN = frozenset((SAME + FRAME).split())
# A date or a time that is the same in both; one with a time zone may not be.
TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?")


class NotTheSame(LakeError, ValueError):
    """A query that DuckDB may answer in another way than Spark."""


def query(sql: str, **given: Rows) -> Rows:
    """The rows that a query gives; `{name}` in it stands for the rows given by that name.

    If all of them are Arrow's it gives a table of Arrow, else a DataFrame. Raises NotTheSame, or LakeError where DuckDB
    cannot answer, for want of memory and disk perhaps.
    """
    if frames := [rows for rows in given.values() if not isinstance(rows, (pa.Table, Dataset))]:
        # Spark has rows of Arrow in its plan: each use of others would be a job.
        spark = frames[0].sparkSession
        return spark.sql(sql, **{name: of_spark(spark, rows) for name, rows in given.items()})
    import duckdb

    with in_memory(given) as ask:
        try:
            return ask(translated(sql.format(**{name: name for name in given})))
        except duckdb.Error as error:
            raise LakeError(f"DuckDB could not answer a query of the load: {str(error).splitlines()[0]}") from error


@contextmanager
def in_memory(given: Mapping[str, pa.Table | Dataset]) -> Iterator[Callable[[str], pa.Table]]:
    """Gives a function that answers queries in DuckDB's SQL. It raises duckdb.Error, or pa.ArrowInvalid where a whole
    number has more than 64 bits."""
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


def with_room(spark: SparkSession, rows: Rows, dates: int) -> Rows:
    """Rows that are to be joined to so many dates: Spark's, and with them what they are joined to, where that is too
    much for memory."""
    return of_spark(spark, rows) if isinstance(rows, pa.Table) and rows.num_rows * dates > MOST_IN_MEMORY else rows


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
        case exp.Cast() if isinstance(this, exp.Literal) and this.is_string:
            if node.is_type("date", "timestamp", "timestamptz") and TIME.fullmatch(this.name):
                return exp.cast(this.copy(), node.to)
        case exp.Cast() if node.is_type("date", "timestamp", "double"):
            return exp.cast(this.copy(), node.to)
        case exp.Cast() if node.is_type("decimal") and node.to.expressions and not _may_be_double(this):
            return exp.cast(this.copy(), node.to)  # DuckDB rounds fractions as they are, Spark as they are spelled
        case exp.Cast() if node.is_type("int", "bigint"):  # Spark cuts off, DuckDB rounds
            is_condition = isinstance(this.unnest(), (exp.Predicate, exp.Connector, exp.Not))
            return exp.cast(this.copy() if is_condition else call("trunc", this), node.to)
        case exp.Avg() if isinstance(this, exp.If) or this.is_type("double"):  # of decimals it is of another type
            return node
        case exp.Mod() if isinstance(node.expression, exp.Literal):  # by zero is an error, or null
            return exp.paren(node.copy())
        case exp.IntDiv() if isinstance(node.expression, exp.Literal) and _is_whole(this):
            return exp.paren(exp.IntDiv(this=exp.paren(this.copy()), expression=node.expression.copy()))
        case exp.BitwiseAnd() | exp.BitwiseLeftShift():  # all operators of bits are alike to DuckDB
            parts = {"this": exp.paren(this.copy()), "expression": exp.paren(node.expression.copy())}
            return exp.paren(type(node)(**parts))
        case exp.BitwiseNot():
            return exp.paren(exp.BitwiseNot(this=exp.paren(this.copy())))
        case exp.BitwiseCount():  # of a number of 64 bits
            return call("bit_count", exp.cast(this.copy(), "bigint"))
        case exp.Rint():
            return call("round_even", this, exp.Literal.number(0))
        case exp.Trim() if not node.expression:  # DuckDB takes other blanks away, too
            return call("trim", this, " ")
        case exp.TsOrDsAdd():  # an interval would make a time of a date
            return exp.paren(exp.cast(this.copy(), "date") + node.expression.copy())
        case exp.UnixSeconds() | exp.StrToUnix():  # of a time: a text is an error
            return exp.paren(exp.IntDiv(this=call("epoch_us", this), expression=exp.Literal.number(1_000_000)))
        case exp.AtTimeZone():  # from_utc_timestamp
            return call("timezone", "UTC", call("timezone", node.args["zone"], exp.cast(this.copy(), "timestamptz")))
        case exp.FromTimeZone() if _is_date(this):  # to_utc_timestamp; a time that occurs twice may be the other one
            return call("timezone", node.args["zone"], call("timezone", "UTC", exp.cast(this.copy(), "timestamptz")))
        case exp.Anonymous() if this.upper() == "TIMESTAMP_SECONDS":
            return call("to_timestamp", *node.expressions)
        case exp.Anonymous() if this.upper() == "PMOD" and isinstance(node.expressions[1], exp.Literal):
            number, by = (exp.paren(part.copy()) for part in node.expressions)
            return exp.paren((number % by + by) % by)
        case exp.Anonymous() if this.upper() in SAME_FUNCTIONS:
            return node
    if type(node).__name__ not in KNOWN:
        raise NotTheSame(f"{node.sql('spark')} may have another value in DuckDB")
    return node


def _is_whole(node: exp.Expr) -> bool:
    """Whether it is a whole number, whatever the columns are."""
    from sqlglot import exp

    node = node.unnest()
    if isinstance(node, (exp.Add, exp.Sub, exp.Mul, exp.Neg)):
        return all(map(_is_whole, node.iter_expressions()))
    if isinstance(node, exp.Literal):
        return node.is_int
    return isinstance(node, (exp.IntDiv, exp.Count, exp.Length)) or node.is_type("int", "bigint")


def _may_be_double(node: exp.Expr) -> bool:
    """Whether something is added up or multiplied that is a fraction of binary digits; no column is."""
    from sqlglot import exp

    if isinstance(node, exp.Cast):
        return node.is_type("double")
    return isinstance(node, (exp.Avg, exp.Rint, exp.Div)) or any(map(_may_be_double, node.iter_expressions()))


def _is_date(node: exp.Expr) -> bool:
    """Whether it is the column `date`, or a date that is made of one, as a time."""
    from sqlglot import exp

    inner = node.this.unnest() if isinstance(node, exp.Cast) else node
    return (isinstance(inner, exp.Column) and inner.name == "date") or (
        isinstance(inner, exp.Add) and inner.this.is_type("date")
    )
