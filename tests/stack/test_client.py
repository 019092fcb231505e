"""The package `meterlake`: what PyHive and its SQLAlchemy dialect get wrong."""

from contextlib import closing
from datetime import date, datetime
from decimal import Decimal

import pandas as pd
import pytest
import sqlalchemy
from sqlalchemy import types

import meterlake
from tests.stack.conftest import Stack
from tests.stack.test_stack import GOLD


@pytest.fixture(scope="module")
def connection(stack: Stack) -> meterlake.Connection:
    return meterlake.connect(
        "127.0.0.1", stack.sql_port, username="analyst", password=stack.passwords["analyst"], database="gold"
    )


@pytest.fixture(scope="module")
def inspector(stack: Stack) -> sqlalchemy.Inspector:
    user = f"analyst:{stack.passwords['analyst']}"
    engine = sqlalchemy.create_engine(f"meterlake://{user}@127.0.0.1:{stack.sql_port}/gold")
    return sqlalchemy.inspect(engine)


def test_values_have_their_types(connection: meterlake.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute(
        """SELECT date, interval_start, consumption_kwh, meterpoint_count, consumption_kwh > 0, CAST(NULL AS DATE)
           FROM half_hourly_consumption ORDER BY interval_start LIMIT 2"""
    )
    first, second = cursor.fetchall()

    assert first[:2] == (date(2021, 1, 1), datetime(2021, 1, 1, 0, 0))
    assert second[1] == datetime(2021, 1, 1, 0, 30)
    assert isinstance(first[2], Decimal)
    assert first[3:] == (100, True, None)


def test_an_error_is_one_line(connection: meterlake.Connection) -> None:
    cursor = connection.cursor()
    for statement, message in (
        ("SELEC 1", "Syntax error at or near 'SELEC'"),
        ("SELECT nonsense FROM active_agreements", "nonsense"),
        ("DROP TABLE active_agreements", "[READ_ONLY] read-only endpoint: DROP TABLE is not allowed"),
        ("SELECT raise_error('no')", "no"),
    ):
        with pytest.raises(meterlake.OperationalError) as error:
            cursor.execute(statement)
        assert message in str(error.value)
        assert "\n" not in str(error.value)
        assert "Exception" not in str(error.value)


def test_a_query_can_be_started_and_cancelled(stack: Stack) -> None:
    with closing(
        meterlake.connect("127.0.0.1", stack.sql_port, username="analyst", password=stack.passwords["analyst"])
    ) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT count(*) FROM range(900000) a CROSS JOIN range(900000) b", async_=True)
        cursor.cancel()
        cursor.execute("SELECT 1")

        assert cursor.fetchall() == [(1,)]


def test_tables_are_told_from_views(inspector: sqlalchemy.Inspector) -> None:
    assert set(GOLD) <= set(inspector.get_view_names())
    assert inspector.get_table_names("gold") == []
    assert {"readings_by_layer", "agreement_history"} <= set(inspector.get_table_names("silver"))
    assert {"readings", "agreement", "product", "meterpoint"} <= set(inspector.get_view_names("silver"))
    assert {"gold", "silver", "mart"} <= set(inspector.get_schema_names())
    assert inspector.default_schema_name == "gold"
    assert inspector.has_table("Active_Agreements")
    assert not inspector.has_table("nonsense", "gold")


def test_columns_have_types_and_comments(inspector: sqlalchemy.Inspector) -> None:
    columns = inspector.get_columns("half_hourly_consumption", "gold")

    assert [column["name"] for column in columns] == GOLD["half_hourly_consumption"]
    assert [type(column["type"]) for column in columns] == [
        types.DateTime, types.DateTime, types.Date, types.BigInteger, types.DECIMAL, types.DECIMAL, types.DECIMAL,
    ]  # fmt: skip
    assert repr(columns[4]["type"]) == "DECIMAL(precision=18, scale=6)"
    assert all(column["comment"] for column in columns)
    assert inspector.get_table_comment("half_hourly_consumption", "gold")["text"]
    with pytest.raises(sqlalchemy.exc.NoSuchTableError):
        inspector.get_columns("nonsense", "gold")


def test_partition_columns_are_listed_once(inspector: sqlalchemy.Inspector) -> None:
    names = [column["name"] for column in inspector.get_columns("readings_by_layer", "silver")]

    assert names.count("date") == 1
    assert len(names) == len(set(names))


def test_a_pool_lives_on_after_a_restart_of_the_endpoint(stack: Stack) -> None:
    url = f"meterlake://analyst:{stack.passwords['analyst']}@127.0.0.1:{stack.sql_port}/gold"
    asking, plain = sqlalchemy.create_engine(url, pool_pre_ping=True), sqlalchemy.create_engine(url)
    one = sqlalchemy.text("SELECT 1")
    for engine in (asking, plain):
        with engine.connect() as connection:
            assert connection.execute(one).scalar() == 1
    held = meterlake.connect("127.0.0.1", stack.sql_port, username="analyst", password=stack.passwords["analyst"])
    cursor = held.cursor()
    cursor.execute("SELECT id FROM range(100000)")
    cursor.fetchone()

    stack.compose("restart", "sql-endpoint")
    stack.compose("up", "--detach", "--wait", "--no-deps", "sql-endpoint")

    with asking.connect() as connection:
        assert connection.execute(one).scalar() == 1
    with plain.connect() as connection, pytest.raises(sqlalchemy.exc.DBAPIError) as error:
        connection.execute(one)
    assert error.value.connection_invalidated
    with plain.connect() as connection:
        assert connection.execute(one).scalar() == 1
    for use in (cursor.fetchall, cursor.cancel, lambda: cursor.execute("SELECT 1"), lambda: cursor.execute("SELECT 1")):
        with pytest.raises(meterlake.ConnectionLost, match="the connection was lost"):
            use()
    cursor.close()
    held.close()
    held.close()


def test_pandas_gets_decimals_where_it_is_told_to(stack: Stack) -> None:
    url = f"meterlake://analyst:{stack.passwords['analyst']}@127.0.0.1:{stack.sql_port}/gold"
    query = "SELECT consumption_kwh FROM half_hourly_consumption LIMIT 5"

    frame = pd.read_sql_query(query, sqlalchemy.create_engine(url), coerce_float=False)

    assert all(isinstance(kwh, Decimal) for kwh in frame["consumption_kwh"])


def test_a_wrong_option_in_the_url_is_an_error() -> None:
    with pytest.raises(sqlalchemy.exc.ArgumentError, match="tls=maybe"):
        sqlalchemy.create_engine("meterlake://ana:x@127.0.0.1:1/gold?tls=maybe")
