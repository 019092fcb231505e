"""The tables ops.* and quarantine.*: what loads did, and what they rejected. Partitioned by load_date.

They are published like all others, so each write is the whole new content of its load_date. Rows of a load that is not
in ops.loads are left behind by a run that was killed, and are dropped on the way: ops.loads is published last.
"""

from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.landing import Delivered

LOADS = "ops.loads"
LOAD_FILES = "ops.load_files"
VALIDATIONS = "ops.validations"
REJECTED_READINGS = "quarantine.readings"
REJECTED_FILES = "quarantine.files"

_PUBLISHING = "publishing"  # mark on ops.loads: the load that began to publish last


def append(rows: DataFrame, table: str, load_id: str, load_date: date) -> None:
    """Publish rows of a load (columns of the table without load_id and load_date) beside those of that day's loads."""
    own = rows.withColumns({"load_id": F.lit(load_id), "load_date": F.lit(load_date)})
    before = _recorded_rows(rows.sparkSession, table, load_date)
    _replace(before.unionByName(own.select(*before.columns)), table, load_id, load_date)


def begin_publication(spark: SparkSession, load_id: str) -> None:
    """Leave a mark by which `recover` sees whether a load that began to publish came to its end."""
    tables.mark(spark, LOADS, _PUBLISHING, load_id)


def recover(spark: SparkSession, load_id: str, load_date: date) -> set[date]:
    """Clear ops and quarantine of what a run left that was killed while it published, and return the dates of which it
    may have published readings or marts: they are to be made anew, in the load `load_id`."""
    publishing = tables.marked(spark, LOADS, _PUBLISHING)
    recorded = {row.load_id for row in spark.table(LOADS).select("load_id").collect()}
    if publishing is None or publishing in recorded:
        return set()
    for table in (REJECTED_READINGS, REJECTED_FILES, LOAD_FILES, VALIDATIONS):
        left = {date.fromisoformat(day) for day, load in tables.loads_of(spark, table).items() if load not in recorded}
        for day in left - {load_date}:  # `append` does it for this day
            _replace(_recorded_rows(spark, table, day), table, load_id, day)
    begun = [tables.loads_of(spark, table) for table in (tables.READINGS, tables.DAILY_METERPOINT)]
    return {date.fromisoformat(day) for loads in begun for day, load in loads.items() if load not in recorded}


def recorded_files(spark: SparkSession) -> DataFrame:
    """ops.load_files, of loads that happened."""
    return spark.table(LOAD_FILES).join(spark.table(LOADS).select("load_id"), on="load_id", how="left_semi")


def new_files(spark: SparkSession, delivered: list[Delivered]) -> pa.Table:
    """Delivered files that are to be read: those that are not known, or have another size or time than the version that
    is, and with them those of which `_superseded` tells.

    Columns: source_file, size_bytes, modified_at, known_sha256 (of the version that is known, by which its bytes are
    recognised), and first_date and last_date of the versions that are known.
    """
    schema = pa.schema(
        [("source_file", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))]
    )
    rows = [dict(zip(schema.names, file, strict=True)) for file in delivered]
    files = spark.createDataFrame(pa.Table.from_pylist(rows, schema=schema)).join(
        _known_files(spark), on="source_file", how="left"
    )
    is_new = "known_modified_at IS NULL OR known_modified_at <> modified_at OR known_size_bytes <> size_bytes"
    new = files.where(is_new).drop("known_size_bytes", "known_modified_at").toArrow()
    again = new.filter(new["first_date"].is_valid())
    if again.num_rows:
        names = set(new["source_file"].to_pylist())
        first, last = min(again["first_date"].to_pylist()), max(again["last_date"].to_pylist())
        superseded = [file for file in _superseded(spark, first, last) if file not in names]
        if superseded:
            reread = files.where(F.col("source_file").isin(superseded)).withColumn("known_sha256", F.lit(None))
            new = pa.concat_tables([new, reread.select(*new.column_names).toArrow().cast(new.schema)])
    return new.sort_by("source_file")


def _known_files(spark: SparkSession) -> DataFrame:
    """One row per source_file that recorded loads took: size, modification time and checksum of its newest version, the
    dates of all versions. A file that could not be read (no checksum) is as good as unknown: it is tried again."""
    version = F.struct("load_id", "size_bytes", "modified_at", "sha256")
    newest = F.max(F.when(F.col("sha256").isNotNull(), version)).alias("newest")
    return (
        recorded_files(spark)
        .groupBy("source_file")
        .agg(newest, F.min("first_date").alias("first_date"), F.max("last_date").alias("last_date"))
        .select(
            "source_file",
            F.col("newest.size_bytes").alias("known_size_bytes"),
            F.col("newest.modified_at").alias("known_modified_at"),
            F.col("newest.sha256").alias("known_sha256"),
            "first_date",
            "last_date",
        )
    )


def _superseded(spark: SparkSession, first: date, last: date) -> list[str]:
    """Files with dates in the given span of which silver.readings holds fewer readings than they gave: other files have
    these too, and were modified later.

    When such another file is delivered again without them, these files' readings count again, so they must be read
    again.
    """
    version = F.struct("load_id", "rows_read", "rows_rejected", "first_date", "last_date")
    files = (
        recorded_files(spark)
        .where("kind = 'readings' AND status = 'loaded'")
        .groupBy("source_file")
        .agg(F.max(version).alias("version"))
        .select("source_file", "version.*")
        .where((F.col("first_date") <= F.lit(last)) & (F.col("last_date") >= F.lit(first)))
    )
    ((begin, end),) = files.agg(F.min("first_date"), F.max("last_date")).collect()
    if begin is None:
        return []
    held = (
        spark.table(tables.READINGS)
        .where(F.col("date").between(F.lit(begin), F.lit(end)))
        .groupBy("source_file", "load_id")
        .agg(F.count("*").alias("held"))
    )
    fewer = F.coalesce("held", F.lit(0)) < F.col("rows_read") - F.col("rows_rejected")
    found = files.join(held, on=["source_file", "load_id"], how="left").where(fewer).select("source_file")
    return [row.source_file for row in found.collect()]


def _recorded_rows(spark: SparkSession, table: str, load_date: date) -> DataFrame:
    """What a table holds of a day, of loads that happened."""
    rows = tables.read(spark, table, tables.locations(spark, table, [load_date]))
    if table == LOADS:
        return rows
    recorded = spark.table(LOADS).select("load_id")
    return rows.join(recorded, on="load_id", how="left_semi").select(*rows.columns)


def _replace(rows: DataFrame, table: str, load_id: str, load_date: date) -> None:
    tables.publish(rows.sparkSession, table, tables.write(rows.coalesce(1), table, load_id, [load_date]))
