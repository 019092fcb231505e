"""What the metastore says of partitions, and how long that holds; files that are written without some rows."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem
from pyspark.sql import SparkSession

from jobs import tables

TABLE = "mart.half_hourly"


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
