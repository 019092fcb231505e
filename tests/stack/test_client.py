"""The package `meterlake`: what PyHive and its SQLAlchemy dialect get wrong."""

import shutil
import subprocess
import sys
import tomllib
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import types

import meterlake
from tests.stack.conftest import REPOSITORY, Stack
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
    assert {"readings", "agreement_history"} <= set(inspector.get_table_names("silver"))
    assert {"agreement", "product", "meterpoint"} <= set(inspector.get_view_names("silver"))
    assert {"gold", "silver", "mart"} <= set(inspector.get_schema_names())
    assert inspector.default_schema_name == "gold"
    assert inspector.has_table("Active_Agreements")
    assert not inspector.has_table("nonsense", "gold")


def test_columns_have_types_and_comments(inspector: sqlalchemy.Inspector) -> None:
    columns = inspector.get_columns("half_hourly_consumption", "gold")

    assert [column["name"] for column in columns] == GOLD["half_hourly_consumption"]
    assert [type(column["type"]) for column in columns] == [
        types.DateTime, types.DateTime, types.Date, types.BigInteger, types.DECIMAL,
    ]  # fmt: skip
    assert repr(columns[-1]["type"]) == "DECIMAL(precision=18, scale=6)"
    assert all(column["comment"] for column in columns)
    assert inspector.get_table_comment("half_hourly_consumption", "gold")["text"]
    with pytest.raises(sqlalchemy.exc.NoSuchTableError):
        inspector.get_columns("nonsense", "gold")


def test_partition_columns_are_listed_once(inspector: sqlalchemy.Inspector) -> None:
    names = [column["name"] for column in inspector.get_columns("readings", "silver")]

    assert names.count("date") == 1
    assert len(names) == len(set(names))


def test_a_wrong_option_in_the_url_is_an_error() -> None:
    with pytest.raises(sqlalchemy.exc.ArgumentError, match="tls=maybe"):
        sqlalchemy.create_engine("meterlake://ana:x@127.0.0.1:1/gold?tls=maybe")


def test_it_can_be_installed(tmp_path: Path) -> None:
    # A copy, because pip leaves what it builds beside the source.
    package, installed = shutil.copytree(REPOSITORY / "meterlake", tmp_path / "source"), tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", installed, package], check=True)
    program = "import importlib.metadata as m, meterlake.dialect; print(m.entry_points(group='sqlalchemy.dialects'))"
    printed = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(installed)!r}); {program}"],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    ).stdout  # fmt: skip
    version = tomllib.loads((REPOSITORY / "meterlake" / "pyproject.toml").read_text())["project"]["version"]

    assert "meterlake.dialect:MeterlakeDialect" in printed
    assert (installed / f"meterlake-{version}.dist-info").is_dir()
