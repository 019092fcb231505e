"""Makes Java's archive of the classes that jobs and queries need: python -m jobs.class_archive

Half of the time in which Spark starts, Java unpacks, parses and verifies some 17,000 classes of 280 jars. From an
archive it maps them into memory ("class data sharing"). An archive goes with one Java and these very jars: where they
differ, Java does without it. Java 17 crashes if it records a flight (JFR) with it, Java 21 does not: -Xshare:off.
"""

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import Observation, SparkSession, Window
from pyspark.sql import functions as F

from jobs.settings import Settings
from jobs.spark import CLASS_ARCHIVE, spark_class_path, start_session

NO_STORE = "http://127.0.0.1:1"  # nothing answers there


def make(archive: Path) -> None:
    """Run a job, note which classes Java loads, and write these into the archive."""
    archive.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as name:  # there, to be moved at once
        folder = Path(name)
        classes, whole = folder / "classes", folder / archive.name
        # All that could be set otherwise by the environment.
        settings = Settings(
            state=folder / "state",
            warehouse=str(folder / "warehouse"),
            metastore=None,
            s3_endpoint=NO_STORE,
            spark_master="local[2]",
            driver_memory="1g",
        )
        os.environ["SPARK_SUBMIT_OPTS"] = f"-XX:DumpLoadedClassList={classes}"
        spark = start_session(settings)
        _work(spark, settings)
        _end(spark)
        options = [f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={whole}", "-Xlog:disable"]
        java = f"{os.environ['JAVA_HOME']}/bin/java"  # as the session has set it
        subprocess.run([java, "-Xshare:dump", *options, "-cp", spark_class_path()], check=True)
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
    """Wait for the end of Java, too, which notes classes until then."""
    gateway: Any = spark.sparkContext._gateway
    spark.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()


if __name__ == "__main__":
    make(CLASS_ARCHIVE)
