"""What a lakehouse must survive: its folder is moved, its views are dropped, it is of an older version."""

import re
import shutil
from collections.abc import Callable, Collection
from datetime import date, timedelta
from pathlib import Path
from string import Template
from typing import Any

import pyarrow.compute as pc
import pytest

from jobs import move, query, rollback, tables, upgrade, versions
from jobs.errors import LakeError
from jobs.settings import SQL, Settings
from tests.integration.lake import Agreement, Lake, Rows, day
from tests.integration.typed import on

DAY = timedelta(days=1)


def test_lakehouse_that_was_moved_is_taken_over_where_it_is_and_writes_nowhere_else(
    new_lake: Callable[[], Lake],
) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.landing.reference([Agreement(1, "a")], ["a"])
    first = lake.load()
    lake.landing.readings("a.json", day("a", "2021-01-01", 2), after=DAY)
    second = lake.load()
    before, old = lake.gold(), lake.settings.warehouse
    new = f"{old}-elsewhere"
    shutil.move(old, new)
    lake.settings = Settings(**lake.settings.model_dump() | {"warehouse": new})

    with pytest.raises(LakeError, match="run `lake move`"):
        lake.run()
    move.run(lake.spark, lake.settings)
    lake.spark.catalog.clearCache()
    after = lake.gold()
    nothing_new = lake.run()
    lake.undo(second.load_id)

    assert after == before
    assert nothing_new is None
    assert {float(kwh) for (kwh,) in lake.rows("SELECT consumption_kwh FROM silver.readings")} == {1.0}
    assert {load for (load,) in lake.rows("SELECT load_id FROM silver.readings")} == {first.load_id}
    assert not list(Path(old).glob("*"))
    with pytest.raises(LakeError, match="already"):
        move.run(lake.spark, lake.settings)


def test_lakehouse_whose_files_are_gone_is_not_taken_for_a_new_one(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.load()
    before, place = lake.gold(), lake.settings.warehouse
    shutil.move(place, f"{place}-unmounted")
    lake.landing.readings("a.json", day("a", "2021-01-02", 2), after=DAY)

    with pytest.raises(LakeError, match="their files are not there: mount it"):
        lake.run()
    shutil.move(f"{place}-unmounted", place)

    assert lake.gold() == before
    assert lake.load().dates == [date(2021, 1, 2)]


def test_view_that_was_dropped_is_made_anew_by_the_next_run(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1))
    lake.load()
    lake.spark.sql("DROP VIEW gold.load_history")
    lake.spark.sql("DROP VIEW quarantine.open_readings")
    lake.spark.sql("DROP FUNCTION gold.active_agreements_on")

    lake.run()

    assert lake.value("SELECT count(*) FROM gold.load_history") == 1
    assert lake.value("SELECT count(*) FROM quarantine.open_readings") == 0
    assert lake.value("SELECT count(*) FROM gold.active_agreements_on(DATE '2021-01-01')") == 0


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ("SELECT 1", True),
        ("WITH a AS (SELECT 1 AS n) SELECT * FROM a", True),
        ("SHOW TABLES IN default", True),
        ("DESCRIBE DATABASE default", True),
        ("EXPLAIN SELECT 1", True),
        ("USE default", True),
        ("VALUES (1)", True),
        ("CREATE TABLE t (n INT)", False),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", False),
        ("DROP VIEW gold.load_history", False),
        ("INSERT INTO t VALUES (1)", False),
        ("WITH a AS (SELECT 1 AS n) INSERT INTO t SELECT * FROM a", False),
        ("FROM (SELECT 1 AS n) INSERT INTO t SELECT n", False),
        ("INSERT OVERWRITE DIRECTORY '/tmp/x' USING parquet SELECT 1", False),
        ("ALTER TABLE t RENAME TO u", False),
        ("TRUNCATE TABLE t", False),
        ("SET x = 1", False),
        ("ADD JAR '/tmp/x.jar'", False),
        ("CACHE TABLE t", False),
    ],
)
def test_embedded_sql_takes_what_reads_alone(lake_session: Lake, statement: str, reads: bool) -> None:
    assert query.reads_only(lake_session.spark, statement) is reads


def test_wrong_sql_is_an_error_in_a_line(lake_session: Lake) -> None:
    runner = query.Runner(lake_session.settings)
    runner._spark = lake_session.spark

    with pytest.raises(query.QueryError, match=r"^\[PARSE_SYNTAX_ERROR\] Syntax error at or near 'SELEKT'"):
        runner("SELEKT 1")
    with pytest.raises(query.QueryError, match="only statements that read"):
        runner("DROP VIEW gold.load_history")


def test_check_finds_who_fell_silent_and_what_was_rejected(
    new_lake: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lake = new_lake()
    command = on(lake, monkeypatch, capsys)
    for meterpoint, days in {"a": 2, "b": 3, "c": 1}.items():
        each = [f"2021-01-0{number}" for number in range(1, days + 1)]
        lake.landing.readings(f"{meterpoint}.json", [row for date in each for row in day(meterpoint, date, 1)])
    lake.landing.readings("bad.json", [*day("b", "2021-01-04", 1), ("2021-01-04 25:00:00", 1, "b")])
    (lake.landing.folder / "readings" / "worse.json").write_text("{")
    lake.load(accept=frozenset({"faults"}))

    text = command("check").text

    assert "WARNING silent: 2 meterpoints fell silent: a, c" in text
    assert "WARNING quarantine: since yesterday 1 row and 1 whole file were rejected" in text
    assert "CRITICAL delivery: newest readings are of 2021-01-04; those of" in text


@pytest.fixture(scope="module")
def lake_session(new_lake: Callable[[], Lake]) -> Lake:
    return new_lake()


def test_readings_of_an_older_version_get_their_claims_and_mean_the_same(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.readings("a.json", day("a", "2021-01-01", 1) + day("a", "2021-01-02", 1))
    lake.landing.readings("b.json", day("b", "2021-01-02", 2))
    lake.load()
    claims = lake.view("ops.claims")
    # The version before this one recorded none.
    for day_of_claims in ("2021-01-01", "2021-01-02"):
        lake.spark.sql(f"ALTER TABLE ops.claims_by_layer DROP PARTITION (date = '{day_of_claims}')")

    nothing_new = lake.run()
    taken_over = lake.view("ops.claims")
    lake.landing.readings("a.json", day("a", "2021-01-02", 3), after=DAY)
    lake.load()

    assert nothing_new is None
    assert taken_over == claims
    assert lake.rows("SELECT kind FROM gold.load_history ORDER BY load_id") == [("load",), ("upgrade",), ("load",)]
    totals = lake.rows("SELECT date, CAST(sum(consumption_kwh) AS INT) FROM silver.readings GROUP BY ALL ORDER BY ALL")
    assert [total for _, total in totals] == [48, 3 * 48 + 2 * 48]


def test_marts_by_date_of_an_older_version_become_marts_by_year_and_say_the_same(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    agreements = [Agreement(1, "a"), Agreement(2, "b", product_id="P3")]
    lake.landing.reference(agreements, {"a": "North", "b": "South"})
    lake.landing.readings("a.json", day("a", "2020-12-31", 1) + day("a", "2021-01-01", 1)[:-1])
    lake.landing.readings("b.json", day("b", "2020-12-31", 2) + day("b", "2021-01-01", 2))
    first = lake.load()
    before = lake.gold()
    make_marts_by_date(lake)

    nothing_new = lake.run()
    taken_over = lake.gold()
    lake.landing.readings("a.json", day("a", "2021-01-02", 3), after=DAY)
    lake.load()

    assert nothing_new is None
    for view, answer in before.items():
        # What older marts did not count: their dates have no shares.
        lost = UNKNOWN if view in OF_OLDER_MARTS else ()
        assert shown(taken_over[view], lost) == shown(answer, lost), view
        assert all(value is None for row in taken_over[view].rows for value in values(taken_over[view], row, lost)), (
            view
        )
    assert not any(lake.spark.catalog.tableExists(old) for old in upgrade.BY_DATE.values())
    assert lake.rows("SELECT kind FROM gold.load_history ORDER BY load_id") == [("load",), ("upgrade",), ("load",)]
    dates = lake.rows("SELECT date FROM gold.half_hourly_consumption GROUP BY date ORDER BY date")
    assert [str(each) for (each,) in dates] == ["2020-12-31", "2021-01-01", "2021-01-02"]
    with pytest.raises(rollback.RollbackError):
        lake.undo(first.load_id)


def test_tables_without_layers_of_an_older_version_are_taken_over_where_they_are(new_lake: Callable[[], Lake]) -> None:
    lake = new_lake()
    lake.landing.reference([Agreement(1, "a")], ["a", "b"])
    lake.landing.readings("a.json", day("a", "2021-01-01", 1) + day("a", "2021-01-02", 1))
    lake.landing.readings("b.json", day("a", "2021-01-02", 2)[:10] + day("b", "2021-01-02", 2), after=DAY)
    lake.load()
    lake.landing.readings("a.json", day("a", "2021-01-01", 3), after=2 * DAY)
    last = lake.load()
    before = lake.gold() | {table: lake.view(table) for table in tables.LAYERED}
    folders = {table: lake.folders(table) for table in tables.LAYERED}
    take_away_layers(lake)

    nothing_new = lake.run()

    assert nothing_new is None
    assert lake.gold() | {table: lake.view(table) for table in tables.LAYERED} == before
    assert {table: lake.folders(table) for table in tables.LAYERED} == folders
    assert {row[0] for row in lake.rows("SELECT kind FROM gold.load_history")} == {"load"}
    lake.undo(last.load_id)
    assert lake.value("SELECT sum(consumption_kwh) FROM silver.readings WHERE date = '2021-01-01'") == 48


def take_away_layers(lake: Lake) -> None:
    """Have the lakehouse as the version before the layers left it."""
    spark, warehouse = lake.spark, lake.settings.warehouse
    held = {table: tables.all_locations(spark, table) for table in tables.LAYERED}
    for table in tables.LAYERED:
        spark.sql(f"DROP VIEW {table}")
        spark.sql(f"DROP TABLE {tables.stored(table)}")
    for version in versions.read_versions(SQL):
        for statement in versions.statements(Template(version.sql).substitute(warehouse=warehouse)):
            subject = versions.subject_of(statement)
            altered = re.match(r"ALTER TABLE (\S+) ADD", versions.statement_without_comments(statement))
            if (subject and subject.kind == "TABLE" and subject.is_made and subject.name in tables.LAYERED) or (
                altered and altered[1] in tables.LAYERED
            ):
                spark.sql(statement)
    for table, folders in held.items():
        for value, folder in folders.items():
            spark.sql(f"ALTER TABLE {table} ADD PARTITION (date = '{value}') LOCATION '{folder}'")
    for folder, newest in (("schema", 13), ("mart", 3), ("gold", 22)):
        applied = tables.locations(spark, tables.VERSIONS, [folder])
        older = tables.read_rows(spark, tables.VERSIONS, applied, pc.field("version") <= newest)
        tables.publish(spark, tables.VERSIONS, tables.write_rows(spark, older, tables.VERSIONS, "older", folder))


UNKNOWN = ("received_share", "actual_share", "expected_readings")
OF_OLDER_MARTS = (
    "half_hourly_consumption",
    "daily_product_consumption",
    "half_hourly_product_consumption",
    "period_consumption",
    "monthly_period_consumption",
)


def values(answer: Rows, row: tuple[Any, ...], columns: Collection[str]) -> list[Any]:
    return [value for column, value in zip(answer.columns, row, strict=True) if column in columns]


def shown(answer: Rows, but: Collection[str]) -> list[list[Any]]:
    """The rows without some of their columns."""
    return [
        values(answer, row, set(answer.columns) - set(but))
        for row in sorted(answer.rows, key=lambda row: repr(row[:5]))
    ]


def make_marts_by_date(lake: Lake) -> None:
    """Have the lakehouse as the version before the marts by year left it."""
    spark, warehouse = lake.spark, lake.settings.warehouse
    for statement in versions.statements((SQL / "mart" / "V001__marts.sql").read_text()):
        spark.sql(Template(statement).substitute(warehouse=warehouse))
    for new, old in upgrade.BY_DATE.items():
        columns = spark.table(old).columns
        spark.table(new).select(*columns).write.insertInto(old)
    for mart in tables.BY_YEAR:
        for year in tables.partitions(spark, mart):
            spark.sql(f"ALTER TABLE {mart} DROP PARTITION (year = {year})")
    spark.sql(f"ALTER TABLE {tables.REGIONS} DROP PARTITION (kind = 'reference')")
    applied = tables.locations(spark, tables.VERSIONS, ["gold"])
    older = tables.read_rows(spark, tables.VERSIONS, applied, pc.field("version") < 14)
    tables.publish(spark, tables.VERSIONS, tables.write_rows(spark, older, tables.VERSIONS, "older", "gold"))
