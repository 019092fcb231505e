"""Take over a lakehouse of an older version: it has readings, and no claims that say whose they are."""

from datetime import UTC, datetime

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.ledger import loads, writer
from jobs.tables import CLAIMS, LOAD_FILES, LOADS, READINGS


def claims_of_older_version(spark: SparkSession) -> None:
    """Make the claims of readings that were loaded without any, once, as a load of the kind upgrade.

    Of each file the version counts that gave the readings. Readings of a file that another file's outweighed were not
    kept by that version: they are not contested, and come with the next version of their file.
    """
    if tables.partitions(spark, CLAIMS) or not tables.partitions(spark, READINGS):
        return
    previous = writer.writer(spark)
    started_at = datetime.now(UTC)
    load_id = writer.new_load_id(started_at, loads.recorded_loads(spark))
    writer.become_writer(spark, load_id, after=previous)
    of_files = spark.table(LOAD_FILES).select("load_id", "source_file", "modified_at")
    # Of dates that a run had begun to switch and died: what was there before. The next load puts them right.
    recorded = set(loads.recorded_loads(spark))
    before = loads.before_dead_run(spark, recorded, loads.switches(spark, recorded), READINGS)
    held = tables.all_locations(spark, READINGS) | before
    claims = (
        tables.read(spark, READINGS, {day: folder for day, folder in held.items() if not tables.is_empty(folder)})
        .groupBy("source_file", "meterpoint_id", "load_id", "date")
        .agg(F.count("*").cast("int").alias("readings"))
        .join(of_files, on=["load_id", "source_file"], how="left")
        .withColumn("modified_at", F.coalesce("modified_at", F.lit(datetime(1970, 1, 1, tzinfo=UTC))))
    )
    dates = tables.partitions(spark, READINGS)
    locations = tables.write(claims.repartition("date"), CLAIMS, load_id, dates)
    # Recorded first: until there are claims, the next run makes them.
    loads.append_publications(spark, {CLAIMS: locations}, {}, load_id)
    load = {
        "status": "published",
        "kind": "upgrade",
        "started_at": started_at,
        "finished_at": datetime.now(UTC),
        "dates_published": len(dates),
    }
    loads.append_rows(spark, [load], LOADS, load_id)
    writer.publish(spark, CLAIMS, locations, load_id)
