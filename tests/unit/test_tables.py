"""What the metastore says of partitions, and how long that holds; files that are written without some rows."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem
from pyspark.sql import SparkSession

from jobs import tables
from jobs.relations import query
from jobs.tables import LATE, READINGS

TABLE = "mart.half_hourly"
DATES = ("2021-01-01", "2021-01-02", "2021-01-03")


@pytest.fixture
def table(spark: SparkSession, tmp_path: Path) -> Iterator[str]:
    for schema in ("mart", "ops"):
        spark.sql(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    spark.sql(f"DROP TABLE IF EXISTS {TABLE}")
    spark.sql(f"CREATE TABLE {TABLE} (kwh INT, year INT) USING parquet PARTITIONED BY (year) LOCATION '{tmp_path}'")
    tables.forms_changed()
    yield TABLE
    spark.sql(f"DROP TABLE {TABLE}")
    tables.forms_changed()


def place(spark: SparkSession, table: str) -> str:
    """The end of the path of the one partition, which three questions agree on."""
    assert tables.partitions(spark, table) == {"2026"}
    (one,) = tables.locations(spark, table, ["2026"]).values()
    (all_,) = tables.all_locations(spark, table).values()
    assert one == all_
    return tables.folder_id(one)


def moved_by_another(spark: SparkSession, table: str, load: str) -> None:
    spark.sql(f"ALTER TABLE {table} PARTITION (year = 2026) SET LOCATION '/elsewhere/load={load}'")


def test_remembered__should_ask_again_for_what_was_changed_here_and_not_for_the_rest(
    spark: SparkSession, table: str
) -> None:
    with tables.remembered():
        assert tables.partitions(spark, table) == set()
        tables.publish(spark, table, {"2026": "/here/load=first"})
        assert place(spark, table) == "first"

        moved_by_another(spark, table, "second")
        assert place(spark, table) == "first"
        tables.ask_anew()
        assert place(spark, table) == "second"

        before = tables.publish(spark, table, {"2026": "/here/load=third"})
        assert [tables.folder_id(folder) for folder in before.values()] == ["second"]
        assert place(spark, table) == "third"
        tables.drop(spark, table, ["2026"])
        assert tables.all_locations(spark, table) == {}


def test_without_it__should_ask_each_time(spark: SparkSession, table: str) -> None:
    with tables.remembered():
        tables.publish(spark, table, {"2026": "/here/load=first"})

    moved_by_another(spark, table, "second")
    assert place(spark, table) == "second"
    moved_by_another(spark, table, "third")
    assert place(spark, table) == "third"


def test_remembered__should_hand_out_what_the_caller_may_change(spark: SparkSession, table: str) -> None:
    with tables.remembered():
        tables.publish(spark, table, {"2026": "/here/load=first"})
        tables.all_locations(spark, table).clear()
        tables.partitions(spark, table).clear()

        assert place(spark, table) == "first"


@pytest.mark.parametrize(
    ("gone", "groups"),
    [([], [2, 2, 1]), ([2], [2, 1, 1]), ([0, 1], [2, 1]), ([4], [2, 2]), ([0, 1, 2, 3, 4], None)],
)
def test_rewriting_a_file__should_take_rows_away_a_group_at_a_time(
    gone: list[int], groups: list[int] | None, tmp_path: Path
) -> None:
    columns = pa.schema([("number", pa.int64()), ("told_since_then", pa.string())])
    rows = pa.table({"number": range(5)})
    path, target = tmp_path / "before.parquet", tmp_path / "after.parquet"
    pq.write_table(rows, path, row_group_size=2)
    sizes = []

    def clean(group: pa.Table) -> pa.Table:
        sizes.append(group.num_rows)
        kept = group.filter(~pc.field("number").isin(gone))
        return kept if kept.num_rows < group.num_rows else group

    left = tables._rewrite_file(LocalFileSystem(), str(path), str(target), columns, clean)

    assert sizes == [2, 2, 1]
    assert left == 5 - len(gone)
    assert target.exists() == bool(left)
    if groups:
        file = pq.ParquetFile(target)
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == groups
        assert file.read()["number"].to_pylist() == [number for number in range(5) if number not in gone]
        assert (path.read_bytes() == target.read_bytes()) == (not gone)


@pytest.fixture
def layers(spark: SparkSession, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Partitions of silver.readings: one date with both layers, one with its base alone, of one the late layer, and one
    that is empty. Of the late layer's meterpoints c has no rows any more."""
    name = tables.stored(READINGS)
    spark.sql("CREATE SCHEMA IF NOT EXISTS silver")
    spark.sql(f"DROP TABLE IF EXISTS {name}")
    spark.sql(
        f"CREATE TABLE {name} (meterpoint_id STRING, interval_start_utc TIMESTAMP, date DATE, layer STRING)"
        f" USING parquet PARTITIONED BY (date, layer) LOCATION '{tmp_path}'"
    )
    tables.forms_changed()
    folders = {}
    for value, names in {
        DATES[0]: "aabbccdd",
        f"{DATES[0]}{LATE}": "bbbc",
        DATES[1]: "abc",
        f"{DATES[2]}{LATE}": "ac",
    }.items():
        times = [None if each == "c" and LATE in value else datetime(2021, 1, 1, tzinfo=UTC) for each in names]
        rows = pa.table(
            {"meterpoint_id": list(names), "interval_start_utc": pa.array(times, pa.timestamp("us", "UTC"))}
        )
        layer = "" if LATE in value else "/layer=base"
        folder = tmp_path / f"date={value}{layer}" / "load=one"
        folder.mkdir(parents=True)
        pq.write_table(rows, folder / "rows.parquet", row_group_size=2)
        folders[value] = f"file:{folder}"
    yield folders | {"2021-01-04": tables.folder_of(f"file:{tmp_path}", "date", "2021-01-04")}
    spark.sql(f"DROP TABLE {name}")
    tables.forms_changed()


@pytest.mark.parametrize("coded", [False, True])
def test_scan__should_have_what_counts_of_both_layers_as_spark_reads_it(
    spark: SparkSession, layers: dict[str, str], coded: bool
) -> None:
    content = tables.scan(spark, READINGS, layers, coded=coded)

    counted = "SELECT date, meterpoint_id, count(*) AS rows FROM {content} GROUP BY date, meterpoint_id"
    found = query(counted, content=content).to_pylist()
    expected = {DATES[0]: "aabbbdd", DATES[1]: "abc", DATES[2]: "a"}
    assert {(str(row["date"]), row["meterpoint_id"]): row["rows"] for row in found} == {
        (day, name): names.count(name) for day, names in expected.items() for name in names
    }
    of_spark = query(counted, content=tables.read(spark, READINGS, layers)).collect()
    assert sorted(map(tuple, of_spark)) == sorted(tuple(row.values()) for row in found)


def test_scan__should_have_rows_that_meet_a_condition(spark: SparkSession, layers: dict[str, str]) -> None:
    content = tables.scan(spark, READINGS, layers, pc.field("meterpoint_id") >= "b")

    assert "".join(sorted(content.to_table()["meterpoint_id"].to_pylist())) == "bbbbcdd"


def test_rows_in_memory__should_be_those_of_a_layer_as_they_are_stored(
    spark: SparkSession, layers: dict[str, str]
) -> None:
    late = {value: folder for value, folder in layers.items() if tables.is_late(value)}

    rows = tables.scan_layer(spark, READINGS, late).to_table()

    assert rows["meterpoint_id"].to_pylist() == list("bbbcac")
    assert rows["interval_start_utc"].null_count == 2


@pytest.mark.parametrize(
    ("rows", "portions"),
    [(0, ["", "aa", "bbbbb", "ccc", "dd"]), (3, ["aa", "bbbbb", "cccdd"]), (100, ["aabbbbbcccdd"])],
)
def test_spans__should_divide_rows_by_meterpoint(
    spark: SparkSession, layers: dict[str, str], rows: int, portions: list[str]
) -> None:
    of_date = tables.of_dates(layers, {DATES[0]})
    content = tables.scan_layer(spark, READINGS, of_date)

    spans = tables.spans(content, rows)

    found = [content if span is None else content.filter(span) for span in spans]
    assert ["".join(sorted(each.to_table()["meterpoint_id"].to_pylist())) for each in found] == portions
