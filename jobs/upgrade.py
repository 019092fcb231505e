"""Take over a lakehouse of an older version: readings without claims that say whose they are, small marts by date, no
regions by date and no marts by region, tables without layers."""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import build, corrected, marts, regions, sums, tables
from jobs.ledger import loads, writer
from jobs.relations import of_spark
from jobs.tables import (
    CLAIMS,
    DAILY_COMPLETENESS,
    DAILY_METERPOINT,
    DAILY_PRODUCT,
    DAILY_REGION,
    HALF_HOURLY,
    HALF_HOURLY_PRODUCT,
    HALF_HOURLY_REGION,
    LOAD_FILES,
    METERPOINT_HISTORY,
    READINGS,
    REGIONS,
    Locations,
)

# Marts that had a partition a date, and those that took their place. The older ones are dropped by sql/gold/V014.
BY_DATE = {
    HALF_HOURLY: "mart.half_hourly_consumption",
    HALF_HOURLY_PRODUCT: "mart.half_hourly_product_consumption",
    DAILY_PRODUCT: "mart.daily_product_consumption",
}


class Lacking(NamedTuple):
    """What an older version did not write."""

    claims: bool
    marts_by_year: bool
    regions: bool
    region_marts: bool


def run(spark: SparkSession) -> None:
    """Write what an older version did not have, once, as a load of the kind upgrade. Readers see the same."""
    for table in tables.LAYERED:
        # The same folders under another name: nothing is written, and readers have the older table until it is dropped.
        if found := tables.locations_without_layers(spark, table):
            tables.publish(spark, table, found)
    if not any(_lacking(spark, tables.partitions(spark, READINGS), tables.partitions(spark, METERPOINT_HISTORY))):
        return
    # A load that was killed while it switched tables has some with dates and others without, in any version.
    readings = _recorded(spark, READINGS)
    dates = tables.dates_of(readings)
    lacking = _lacking(spark, dates, _recorded(spark, METERPOINT_HISTORY))
    if not any(lacking):
        return
    started_at = datetime.now(UTC)
    load_id = loads.begin(spark, writer.writer(spark))
    new: dict[str, Locations] = {}
    if lacking.claims:
        new[CLAIMS] = tables.write(_claims(spark, readings).repartition("date"), CLAIMS, load_id, dates)
    if lacking.marts_by_year:
        for mart, old in BY_DATE.items():
            copied = _like(spark, mart, spark.table(old))
            new[mart] = tables.write_years(copied, mart, load_id, tables.holding(mart, dates))
        new |= _by_year(spark, load_id, dates, [DAILY_COMPLETENESS], partial(_days, spark))
    of_regions = spark.table(REGIONS)
    if lacking.regions:
        rows = regions.of_history(spark, loads.recorded_loads(spark))
        new[REGIONS] = tables.write_rows(spark, rows, REGIONS, load_id, regions.PARTITION)
        of_regions = tables.read(spark, REGIONS, new[REGIONS])
    if lacking.region_marts:
        new |= _by_year(spark, load_id, dates, [HALF_HOURLY_REGION, DAILY_REGION], partial(_sums, spark, of_regions))
    # Recorded first: until all is published, the next run does it again.
    loads.append_publications(spark, new, {}, {}, load_id)
    loads.append_change(spark, load_id, "upgrade", started_at, new, dates_published=len(dates))
    for table, locations in new.items():
        writer.publish(spark, table, locations, load_id)


def _lacking(spark: SparkSession, dates: Collection[str], history: Collection[str]) -> Lacking:
    """`dates` that have readings, and partitions of the meterpoints' `history`."""
    return Lacking(
        claims=bool(dates) and not tables.partitions(spark, CLAIMS),
        marts_by_year=bool(dates) and tables.exists(spark, BY_DATE[HALF_HOURLY]),
        regions=bool(history) and not tables.partitions(spark, REGIONS),
        region_marts=bool(dates) and not tables.partitions(spark, HALF_HOURLY_REGION),
    )


def _recorded(spark: SparkSession, table: str) -> Locations:
    """Where loads that came to their end left a table's partitions."""
    recorded = set(loads.recorded_loads(spark))
    before = loads.before_dead_run(spark, recorded, loads.switches(spark, recorded), table)
    added = {value for value, folder in before.items() if tables.is_empty(folder)}
    held = tables.all_locations(spark, table) | before
    return {value: folder for value, folder in held.items() if value not in added}


def _claims(spark: SparkSession, readings: Locations) -> DataFrame:
    """The claims of readings in the given folders: of each file the version counts that gave them.

    Readings of a file that another file's outweighed were not kept by that version: they are not contested, and come
    with the next version of their file.
    """
    of_files = spark.table(LOAD_FILES).select("load_id", "source_file", "modified_at")
    return (
        tables.read(spark, READINGS, {day: folder for day, folder in readings.items() if not tables.is_empty(folder)})
        .groupBy("source_file", "meterpoint_id", "load_id", "date")
        .agg(F.count("*").cast("int").alias("readings"))
        .join(of_files, on=["load_id", "source_file"], how="left")
        .withColumn("modified_at", F.coalesce("modified_at", F.lit(datetime(1970, 1, 1, tzinfo=UTC))))
    )


def _by_year(
    spark: SparkSession,
    load_id: str,
    dates: Collection[str],
    marts_to_write: Collection[str],
    parts_of: Callable[[set[str]], sums.Parts],
) -> dict[str, Locations]:
    """Write the years of marts, each from the parts that are worked out of its dates."""
    new: dict[str, Locations] = {mart: {} for mart in marts_to_write}
    for year in sorted({day[:4] for day in dates}):
        of_year = {day for day in dates if day.startswith(year)}
        parts = parts_of(of_year)
        for mart in marts_to_write:
            new[mart] |= sums.write_year(spark, mart, load_id, year, [parts], dates=of_year)
    return new


def _days(spark: SparkSession, dates: set[str]) -> sums.Parts:
    """Parts of the daily marts. Of meterpoints without readings nothing is known until `lake rebuild`."""
    return sums.of_days(marts.daily_sums(_daily(spark, _calendar(spark, dates)), spark.table(REGIONS)))


def _sums(spark: SparkSession, of_regions: DataFrame, dates: set[str]) -> sums.Parts:
    """Parts of all marts by year, in one pass over the readings; agreements are those of the other marts."""
    calendar = _calendar(spark, dates)
    daily = _daily(spark, calendar)
    readings = tables.read(spark, READINGS, tables.locations(spark, READINGS, dates))
    return corrected.parts_of(corrected.Side(readings, daily, of_regions), calendar)


def _calendar(spark: SparkSession, dates: Collection[str]) -> DataFrame:
    known = tables.partitions(spark, DAILY_METERPOINT).intersection(dates)
    return of_spark(spark, build.calendar(known))


def _daily(spark: SparkSession, calendar: DataFrame) -> DataFrame:
    return (
        spark.table(DAILY_METERPOINT)
        .drop("expected_readings")
        .join(F.broadcast(calendar), on="date")
        .drop("first_half_hour")
    )


def _like(spark: SparkSession, mart: str, rows: DataFrame) -> DataFrame:
    """Rows with the columns of a mart that they lack, as nulls."""
    empty = spark.table(mart).limit(0).drop("year")
    return rows.unionByName(empty, allowMissingColumns=True)
