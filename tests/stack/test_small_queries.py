"""Small queries take a way of their own in the endpoint, without a Spark job, and say the same as any other."""

import json
import re
from contextlib import closing
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyhive.exc import OperationalError

from tests.stack.conftest import REPOSITORY, Stack

VIEW = "gold.half_hourly_product_consumption"
TYPES = {
    "product_display_name": "VARCHAR",
    "interval_start": "TIMESTAMP",
    "interval_start_utc": "TIMESTAMP",
    "date": "DATE",
    "meterpoint_count": "BIGINT",
    "consumption_kwh": "DECIMAL(38, 6)",
    "average_kwh": "DOUBLE",
}
# What leaves nothing but the rows in memory, and no file to be scanned.
IN_MEMORY = [
    f"SELECT * FROM {VIEW} WHERE date = DATE '2021-01-02'",
    f"SELECT interval_start AS t, 1 AS one FROM {VIEW} WHERE date = DATE '2021-01-02' AND meterpoint_count > 1 LIMIT 3",
    f"SELECT product_display_name, sum(average_kwh) FROM {VIEW} WHERE date = DATE '2021-01-02' GROUP BY 1 ORDER BY 2",
    "SELECT count(*) FROM gold.active_agreements_on(DATE '2021-01-02')",
    "SELECT 1",
]
# Views of tables in layers.
LAYERED = [
    "gold.readings_without_agreement",
    "silver.readings",
    "silver.contested_readings",
    "mart.daily_meterpoint_consumption",
]
# What nothing could stop may not take that way, and what is not small cannot.
SPARK = [
    "SELECT count(*) FROM range(1000000000)",
    f"SELECT repeat(product_display_name, 1000000) FROM {VIEW} WHERE date = DATE '2021-01-02'",
    f"SELECT repeat('x', 10000000), * FROM {VIEW} WHERE date = DATE '2021-01-02'",
    f"SELECT count(*) FROM {VIEW} WHERE product_display_name RLIKE '(a*)*b'",
    f"SELECT explode(sequence(1, 100000)) FROM {VIEW} WHERE date = DATE '2021-01-02'",
    f"SELECT count(*) FROM {VIEW} a JOIN {VIEW} b ON a.date = b.date JOIN {VIEW} c ON b.date = c.date",
    f"SELECT * FROM {VIEW} a WHERE meterpoint_count > 9 OR EXISTS (SELECT 1 FROM {VIEW} b WHERE b.date > a.date)",
]


def plan(stack: Stack, query: str, user: str = "analyst") -> str:
    [(text,)] = stack.query(f"EXPLAIN {query}", user)
    return str(text)


@pytest.mark.parametrize("query", IN_MEMORY)
def test_a_small_query_is_answered_from_memory(stack: Stack, query: str) -> None:
    text = plan(stack, query)

    assert "\nHere" in text
    assert "FileScan" not in text


@pytest.mark.parametrize("view", LAYERED)
@pytest.mark.parametrize("user", ["analyst", "engineer"])
def test_a_late_layer_without_rows_costs_nothing(stack: Stack, view: str, user: str) -> None:
    text = plan(stack, f"EXTENDED SELECT * FROM {view} WHERE date = DATE '2021-01-02'", user)

    optimized, physical = text.split("== Optimized Logical Plan ==")[1].split("== Physical Plan ==")
    assert optimized.count("Relation ") == 1
    assert not re.search("Join|Union|late", optimized)
    assert re.search(r"\nHere\W+Rows \[", physical)


def test_arithmetic_of_rows_in_memory_needs_no_generated_code(stack: Stack) -> None:
    average = "consumption_kwh / nullif(meterpoint_count, 0)"
    text = plan(stack, f"SELECT {average} FROM {VIEW} WHERE date = DATE '2021-01-02'")

    assert re.search(r"\nHere\W+Rows \[", text)


def test_a_row_that_cannot_be_worked_out_is_an_error_where_somebody_asks_for_it(stack: Stack) -> None:
    failing = f"SELECT 1 / (meterpoint_count - meterpoint_count) AS failing FROM {VIEW} WHERE date = DATE '2021-01-02'"

    assert "Rows" in plan(stack, failing)
    with pytest.raises(OperationalError, match="DIVIDE_BY_ZERO"):
        stack.query(failing, "analyst")
    assert stack.query(f"SELECT count(*) FROM ({failing}) WHERE 1 = 2", "analyst") == [(0,)]


@pytest.mark.parametrize("query", SPARK)
def test_what_may_take_long_is_a_job_that_can_be_stopped(stack: Stack, query: str) -> None:
    assert "Here" not in plan(stack, query)


def test_a_large_result_of_a_small_table_is_a_jobs(stack: Stack, rows: pd.DataFrame) -> None:
    wide = ", ".join(f"a.product_display_name AS name_{number}" for number in range(200))
    expected = sorted(rows["product_display_name"])

    for order in ("", "ORDER BY interval_start"):
        answer = stack.query(f"SELECT {wide}, interval_start FROM {VIEW} a {order}")
        assert sum(len("".join(map(str, row))) for row in answer) > 4 << 20
        assert sorted(row[0] for row in answer) == expected


def test_the_files_of_other_patterns_are_not_remembered(stack: Stack) -> None:
    for date in ("2021-01-01", "2021-01-02"):
        condition = f"CAST(date AS STRING) LIKE ANY ('%1-01-{date[-2:]}', 'x_x')"
        found = stack.query(f"SELECT DISTINCT date FROM gold.half_hourly_consumption WHERE {condition}", "analyst")
        assert [str(row[0]) for row in found] == [date]


def test_of_one_meterpoint_or_a_few_a_task_reads_much(stack: Stack) -> None:
    """Its files are sorted by meterpoint, and of most a task finds out only that they need not be read."""
    readings = "silver.readings_by_layer WHERE"
    few = [
        f"{readings} meterpoint_id = 'a'",
        f"{readings} 'a' = meterpoint_id",
        f"{readings} date > DATE '2021-01-02' AND meterpoint_id IN ('a', 'b')",
        "mart.daily_meterpoint_consumption_by_layer WHERE meterpoint_id = 'a'",
    ]
    many = [
        f"{readings} date = DATE '2021-01-02'",
        f"{readings} meterpoint_id > 'a'",
        f"{readings} meterpoint_id = 'a' OR consumption_kwh > 3",
        f"{readings} meterpoint_id = source_file",
        f"{readings} meterpoint_id IN ({', '.join(repr(letter) for letter in 'abcdefghijk')})",
        # Of these one meterpoint may have any number of rows.
        "quarantine.readings WHERE meterpoint_id = 'a'",
        "silver.superseded_readings WHERE meterpoint_id = 'a'",
    ]
    run = ["run", "--rm", "--no-deps", "-T", "--env", f"WANTED={json.dumps([*few, *many])}"]
    script = (REPOSITORY / "tests" / "stack" / "sizes_of_tasks.py").read_text()

    said = stack.compose(*run, "--entrypoint", "python", "sql-endpoint", "-", stdin=script).stdout

    assert json.loads(said.splitlines()[-1]) == dict.fromkeys(few, "128m") | dict.fromkeys(many, "2m")


@pytest.mark.parametrize(
    ("condition", "years"),
    [
        ("date = DATE '2019-05-02'", (2019, 2019)),
        ("date IN (DATE '2019-05-02', DATE '2020-05-02')", (2019, 2020)),
        ("date >= DATE '2018-12-31' AND date < DATE '2019-01-01'", (2018, 2019)),
        ("DATE '2019-06-01' > date AND date > DATE '2018-06-01'", (2018, 2019)),
        ("interval_start BETWEEN TIMESTAMP '2019-12-31 23:30:00' AND TIMESTAMP '2020-01-01 00:00:00'", (2019, 2020)),
        ("interval_start_utc = TIMESTAMP '2019-12-30 23:30:00'", (2019, 2019)),
        ("year(date) = 2019", (2019, 2019)),
        ("interval_start_utc = TIMESTAMP '2019-12-31 23:30:00'", (2019, 2020)),
    ],
)
def test_a_condition_on_dates_reads_their_years_alone(stack: Stack, condition: str, years: tuple[int, int]) -> None:
    text = plan(stack, f"EXTENDED SELECT count(*) FROM {VIEW} WHERE {condition}")

    optimized = text.split("== Optimized Logical Plan ==")[1].split("== Physical Plan ==")[0]
    assert re.findall(r"year#\d+ (.=) (\d+)", optimized) == [(">=", str(years[0])), ("<=", str(years[1]))]


@pytest.fixture(scope="module")
def rows(stack: Stack) -> pd.DataFrame:
    """The whole view, whose content other tests compare with the input."""
    return pd.DataFrame(stack.query(f"SELECT {', '.join(TYPES)} FROM {VIEW}"), columns=list(TYPES))


@pytest.fixture(scope="module")
def copy(rows: pd.DataFrame) -> duckdb.DuckDBPyConnection:
    """The view in DuckDB."""
    connection = duckdb.connect()
    texts = rows.astype(str)
    columns = ", ".join(f"CAST({name} AS {type_name}) AS {name}" for name, type_name in TYPES.items())
    connection.execute(f"CREATE TABLE copy AS SELECT {columns} FROM texts")
    assert len(texts) > 1000
    return connection


def literal(name: str, value: Any) -> str:
    text = str(value).replace("'", "''")
    return f"CAST('{text}' AS {TYPES[name].replace('VARCHAR', 'STRING')})"


@st.composite
def conditions(draw: Any, rows: pd.DataFrame, table: str, depth: int = 2) -> str:
    """A condition as a BI tool might put it together from what a person clicked."""
    if depth and draw(st.booleans()):
        left, right = (draw(conditions(rows, table, depth - 1)) for _ in range(2))
        return str(draw(st.sampled_from([f"({left} AND {right})", f"({left} OR {right})", f"NOT ({left})"])))
    name = draw(st.sampled_from(list(TYPES)))
    chosen = draw(st.lists(st.sampled_from(list(rows[name])), min_size=1, max_size=15))
    values = [literal(name, value) for value in chosen]
    comparison = draw(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]))
    ends = [f"{comparison} {values[0]}", f"IN ({', '.join(values)})", "IS NULL", "IS NOT NULL"]
    return f"{table}.{name} " + str(draw(st.sampled_from(ends)))


AGGREGATES = "count(*), min(interval_start), max(product_display_name), sum(consumption_kwh), sum(meterpoint_count)"
QUERIES = [
    f"SELECT {', '.join(f'a.{name}' for name in TYPES)} FROM {{view}} a WHERE {{condition}}",
    f"SELECT {AGGREGATES} FROM {{view}} a WHERE {{condition}}",
    f"SELECT date, {AGGREGATES} FROM {{view}} a WHERE {{condition}} GROUP BY date",
    """SELECT a.interval_start, a.average_kwh, b.consumption_kwh FROM {view} a JOIN {view} b
    ON a.interval_start = b.interval_start_utc AND a.product_display_name = b.product_display_name WHERE {condition}""",
    """SELECT a.interval_start, a.average_kwh, b.consumption_kwh FROM {view} a LEFT JOIN {view} b
    ON a.consumption_kwh = b.consumption_kwh AND b.date = DATE '2021-01-02' WHERE {condition}""",
]


def test_conditions_select_what_they_select_elsewhere(
    stack: Stack, rows: pd.DataFrame, copy: duckdb.DuckDBPyConnection
) -> None:
    with closing(stack.connect("analyst")) as connection, closing(connection.cursor()) as cursor:

        @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(query=st.sampled_from(QUERIES), condition=conditions(rows, "a"))
        def check(query: str, condition: str) -> None:
            cursor.execute(query.format(view=VIEW, condition=condition))
            expected = copy.execute(query.format(view="copy", condition=condition)).fetchall()
            assert texts(cursor.fetchall()) == texts(expected)

        check()


def texts(rows: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """In one order, and without what clients make of types: numbers and timestamps without a needless fraction."""
    return sorted(tuple(plain(value) for value in row) for row in rows)


def plain(value: Any) -> str:
    text = str(value)
    if "." not in text:
        return text
    return text.rstrip("0").rstrip(".")
