"""Makes Java's archive of the classes that jobs and queries need: python -m jobs.class_archive

Most of the time in which Spark starts, Java unpacks, parses, verifies and links some 17,000 classes of 280 jars. From
an archive it maps them into memory as they were at the end of a run, with what that run learnt of them ("ahead-of-time
cache", JEP 483, 514 and 515). An archive goes with one Java and these very jars: elsewhere Java does without it.
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import Observation, SparkSession, Window
from pyspark.sql import functions as F

from jobs.settings import Settings
from jobs.spark import CLASS_ARCHIVE, start_session

NO_STORE = "http://127.0.0.1:1"  # nothing answers there


def make(archive: Path) -> None:
    """Run a job, and have Java write the archive when it ends.

    Raises RuntimeError where it wrote none: Java 24 and older do not.
    """
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:  # there, to be moved at once
        folder = Path(name)
        # All that could be set otherwise by the environment.
        settings = Settings(
            state=folder / "state",
            warehouse=str(folder / "warehouse"),
            metastore=None,
            s3_endpoint=NO_STORE,
            spark_master="local[2]",
            driver_memory="1g",
        )
        whole = folder / archive.name
        os.environ["SPARK_SUBMIT_OPTS"] = f"-XX:AOTCacheOutput={whole} -Xlog:disable"
        spark = start_session(settings)
        _work(spark, settings)
        _end(spark)
        if not whole.is_file():
            raise RuntimeError("this Java makes no archive of classes: it takes 25 or newer")
        whole.rename(archive)


def _work(spark: SparkSession, settings: Settings) -> None:
    """What most jobs and queries do."""
    spark.sql("CREATE SCHEMA s")
    spark.sql("CREATE TABLE s.t (id BIGINT, kwh DECIMAL(38, 6), date DATE) USING parquet PARTITIONED BY (date)")
    rows = spark.range(100).mapInArrow(lambda batches: batches, "id BIGINT")
    rows = rows.selectExpr(
        "id", "CAST(id AS DECIMAL(38, 6)) AS kwh", "date_add(DATE '2021-01-01', CAST(id AS INT)) AS date"
    )
    newest_first = Window.partitionBy("date").orderBy(F.col("kwh").desc())
    newest = rows.withColumn("rank", F.row_number().over(newest_first)).where("rank = 1").drop("rank").persist()
    counted = newest.repartition("id").observe(Observation(), F.count("*"))
    counted.where("id < 3").write.mode("append").partitionBy("date").parquet(f"{settings.warehouse}/s.db/t")
    spark.sql("MSCK REPAIR TABLE s.t")
    spark.sql("CREATE VIEW s.v AS SELECT date, count(*) AS n, sum(kwh) AS kwh FROM s.t GROUP BY date")
    days = spark.createDataFrame([("2021-01-01",)], "day STRING").selectExpr("CAST(day AS DATE) AS date")
    joined = spark.table("s.v").join(days, on="date", how="left").orderBy("date")
    joined.join(spark.table("s.t"), on="date", how="left_semi").collect()
    spark.table("s.t").where("date = DATE '2021-01-02'").groupBy("date").agg(F.max_by("id", "kwh")).toPandas()
    with suppress(Py4JJavaError):
        spark.read.text("s3a://bucket/key").collect()


def _end(spark: SparkSession) -> None:
    """Wait for the end of Java, too, which writes the archive then."""
    gateway: Any = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


if __name__ == "__main__":
    make(CLASS_ARCHIVE)
