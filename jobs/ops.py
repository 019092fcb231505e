"""The tables ops.* and quarantine.*: what loads did, and what they rejected. Partitioned by load_date.

They are published like all others, so each write is the whole new content of its load_date. Rows of a load that is not in
ops.loads are left behind by a run that was killed, and are dropped on the way: ops.loads is published last.
"""

from datetime import date

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.landing import Delivered

LOADS = "ops.loads"
LOAD_FILES = "ops.load_files"


def append(rows: DataFrame, table: str, load_id: str, load_date: date) -> None:
    """Publish rows of a load (columns of the table without load_id and load_date) beside those of that day's loads."""
    spark = rows.sparkSession
    own = rows.withColumns({"load_id": F.lit(load_id), "load_date": F.lit(load_date)})
    before = tables.read(spark, table, tables.locations(spark, table, [load_date]))
    if table != LOADS:
        before = before.join(spark.table(LOADS).select("load_id"), on="load_id", how="left_semi")
    schema = spark.table(table).schema
    whole = before.select(*schema.names).unionByName(own.select(*schema.names)).coalesce(1)
    tables.publish(spark, table, tables.write(whole, table, load_id, [load_date]))


def known_files(spark: SparkSession) -> DataFrame:
    """One row per source_file that recorded loads took: size, modification time and checksum of its newest version, the
    dates of all versions."""
    newest = F.max(F.struct("load_id", "size_bytes", "modified_at", "sha256")).alias("newest")
    return (
        spark.table(LOAD_FILES)
        .join(spark.table(LOADS).select("load_id"), on="load_id", how="left_semi")
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


def new_files(spark: SparkSession, delivered: list[Delivered]) -> pa.Table:
    """Delivered files that are not known, or have another size or time than the version that is: source_file, size_bytes,
    modified_at, known_sha256, and first_date and last_date of the versions that are known."""
    schema = pa.schema(
        [("source_file", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))]
    )
    rows = [dict(zip(schema.names, file, strict=True)) for file in delivered]
    return (
        spark.createDataFrame(pa.Table.from_pylist(rows, schema=schema))
        .join(known_files(spark), on="source_file", how="left")
        .where("known_modified_at IS NULL OR known_modified_at <> modified_at OR known_size_bytes <> size_bytes")
        .drop("known_size_bytes", "known_modified_at")
        .toArrow()
        .sort_by("source_file")
    )
