"""Each function that a query may have gives the same in Spark and in DuckDB, also of odd values."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from sqlglot import exp, parse_one

from jobs.relations import SAME, SAME_FUNCTIONS, NotTheSame, query, translated

ODD = pa.table(
    {
        "n": pa.array([0, 1, -1, 50, -(2**40), None], pa.int64()),
        "i": pa.array([3, 0, 61, 7, 1, None], pa.int32()),
        "d": pa.array(
            [Decimal(each) if each else None for each in ("0.5", "1.5", "-2.5", "999.999999", "-0.000001", "")]
        ),
        "x": pa.array([0.5, 1.5, -2.5, 1e15, -0.0, None]),
        "text": pa.array(["", " a ", "\tb\n", "Ünïcode 🙂", "zz", None]),
        "yes": pa.array([True, False, True, False, True, None]),
        "day": pa.array(
            [date(2021, 3, 28), date(2021, 10, 31), date(1970, 1, 1), date(1, 1, 2), date(9999, 12, 30), None]
        ),
        "time": pa.array(
            [
                datetime(2021, 3, 28, 0, 30, tzinfo=UTC),
                datetime(2021, 10, 31, 0, 30, tzinfo=UTC),
                datetime(2021, 10, 31, 1, 30, 0, 999_999, tzinfo=UTC),
                datetime(1970, 1, 1, tzinfo=UTC),
                datetime(2050, 7, 1, 12, tzinfo=UTC),
                None,
            ],
            pa.timestamp("us", "UTC"),
        ),
    }
)
OF_ROWS = [
    "abs(n)",
    "abs(d)",
    "bin(i)",
    "bit_count(n)",
    "CASE WHEN yes THEN n WHEN n > 1 THEN 7 END",
    "coalesce(n, i, 5)",
    "greatest(n, i)",
    "least(n, i)",
    "if(yes, 'a', text)",
    "length(text)",
    "nullif(i, 3)",
    "trim(text)",
    "date_add(day, 1)",
    "date_sub(day, 1)",
    "unix_date(day)",
    "unix_micros(time)",
    "unix_seconds(time)",
    "unix_timestamp(time)",
    "timestamp_seconds(i * 1800)",
    "from_utc_timestamp(time, 'Europe/London')",
    "to_utc_timestamp(date_add(DATE '2021-03-27', i % 3), 'Europe/London')",
    "CAST(time AS DATE)",
    "CAST(x AS BIGINT)",
    "CAST(d AS INT)",
    "CAST(d AS DECIMAL(8,2))",
    "CAST(d AS DOUBLE)",
    "rint(x)",
    "pmod(n, 62)",
    "n % 7",
    "CAST(n AS BIGINT) DIV 7",
    "unix_seconds(time) DIV 7 * 2 - unix_seconds(time)",
    "2 * unix_seconds(time)",
    "2 * (n % 7)",
    "CAST(1.7 AS INT)",
    "CAST(n > 1 AS INT)",
    "CAST('2021-10-31 01:30:00' AS TIMESTAMP) = time",
    "shiftleft(1L, i)",
    "shiftleft(1, 2 & 3)",
    "shiftleft(1, shiftleft(1, 2))",
    "n & -n",
    "n & 1 + 2",
    "~n",
    "-shiftleft(1, 2) + ~shiftleft(1, 2)",
    "bit_count(CAST(-i AS INT))",
    "trim('\u00a0 a \u00a0')",
    "n + 1",
    "n <> 1 AND n >= 0 AND n <= 50",
    "d * 3 - n",
    "d BETWEEN -1 AND 1",
    "n IN (1, 50)",
    "text <=> NULL",
    "yes AND n > 0 OR i = 7",
    "NOT yes",
]
OF_ALL = [
    "count(*)",
    "count(n)",
    "count(DISTINCT i)",
    "count_if(n > 0)",
    "count_if(n > 99)",
    "sum(n)",
    "sum(d)",
    "min(text)",
    "max(day)",
    "min(time)",
    "avg(if(n > 0, 1, 0))",
    "avg(CAST(d AS DOUBLE))",
    "bool_or(yes)",
    "bit_or(n)",
    "sum(n) FILTER (WHERE yes)",
    "count(*) FILTER (WHERE i > 99)",
]
OTHERS = [
    "SELECT n, row_number() OVER (PARTITION BY yes ORDER BY n DESC) AS place FROM {rows} WHERE yes IS NOT NULL",
    "SELECT yes, i, grouping(yes) AS all_of_them, count(*) AS number FROM {rows} GROUP BY GROUPING SETS ((yes), (i))",
    "SELECT i, explode(sequence(0, i)) AS step FROM {rows} WHERE i < 5",
    "SELECT i, n FROM {rows} LEFT ANTI JOIN (SELECT 7 AS i) AS other USING (i)",
    "SELECT * EXCEPT (x), 1 AS one FROM {rows} FULL JOIN (SELECT 61 AS i, 'b' AS b UNION ALL SELECT 99, 'c') USING (i)",
    "SELECT i FROM {rows} WHERE n IN (SELECT max(n) FROM {rows}) AND current_timestamp() > DATE '2026-01-01'",
]
QUERIES = [
    f"SELECT {', '.join(f'{sql} AS `{sql}`' for sql in OF_ROWS)} FROM {{rows}}",
    f"SELECT {', '.join(f'{sql} AS `{sql}`' for sql in OF_ALL)} FROM {{rows}}",
    f"SELECT {', '.join(f'{sql} AS `{sql}`' for sql in OF_ALL)} FROM {{rows}} WHERE i = 98",
    *OTHERS,
]


@pytest.mark.parametrize("sql", QUERIES, ids=["of rows", "of all", "of none", *(sql[7:40] for sql in OTHERS)])
def test_query__should_give_the_same_in_spark_and_in_memory(spark: SparkSession, sql: str) -> None:
    here, there = query(sql, rows=ODD), query(sql, rows=spark.createDataFrame(ODD)).toArrow()

    assert set(here.column_names) == set(there.column_names)
    found, expected = (
        sorted(map(_close, rows.select(here.column_names).to_pylist()), key=repr) for rows in (here, there)
    )
    assert found == expected


def _close(row: dict[str, object]) -> dict[str, object]:
    """Without the last digits of fractions, which are added up in another order."""
    return {name: float(f"{value:.12g}") if isinstance(value, float) else value for name, value in row.items()}


def test_functions__should_all_be_compared_here() -> None:
    trees = [parse_one(sql.format(rows="rows"), dialect="spark") for sql in QUERIES]
    used = {type(node).__name__ for tree in trees for node in tree.walk()}
    called = {str(node.this).upper() for tree in trees for node in tree.find_all(exp.Anonymous)}

    assert set(SAME.split()) <= used
    assert called >= SAME_FUNCTIONS


def test_rows_in_memory_beside_sparks__should_be_sparks(spark: SparkSession) -> None:
    frame = query(
        "SELECT count(*) AS number FROM {one} JOIN {other} USING (n)", one=ODD, other=spark.createDataFrame(ODD)
    )

    assert frame.toArrow().to_pylist() == [{"number": 5}]


@pytest.mark.parametrize(
    "sql",
    [
        "text LIKE 'a\\_%'",
        "n / 2",
        "avg(n)",
        "substring(text, 1, 2)",
        "n % i",
        "n DIV 7",
        "7 DIV count(*)",
        "pmod(n, -7)",
        "n | 1",
        "n ^ 1",
        "n >> 1",
        "text || ''",
        "CAST(d AS DECIMAL)",
        "CAST(1.005D AS DECIMAL(8,2))",
        "CAST(avg(CAST(d AS DOUBLE)) AS DECIMAL(8,2))",
        "CAST('2021-10-31 01:30:00 Europe/London' AS TIMESTAMP)",
        "to_utc_timestamp(time, 'Europe/London')",
        "day + INTERVAL 1 DAY",
        "upper(text)",
        "round(d, 1)",
        "no_such(n)",
        "(",
    ],
)
def test_what_may_be_another_value__should_be_refused(sql: str) -> None:
    with pytest.raises(NotTheSame):
        translated(f"SELECT {sql} FROM rows")
