"""The marts: aggregates of readings, the agreements that held and the regions of meterpoints, by local date.

The mart by meterpoint is made here, and the sums of dates of which the driver makes all others (jobs/sums.py). Beside
each sum stand four counts. Expected readings are the half hours of meterpoints with an agreement on the date, and
received readings those of them that were read. Rated readings have a quality, and actual ones have the quality A.

An agreement holds on [agreement_valid_from, agreement_valid_to). Both are local dates, so it holds for whole local
dates, and the agreement of a reading depends on its meterpoint and date alone. Energy is kWh, as decimals: sums are
exact.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.readings.rules import TIME_ZONE

KWH_TOTAL = "DECIMAL(18,6)"
COUNTS = ("meterpoint_count", "expected_readings", "received_readings", "actual_readings", "rated_readings")
CALENDAR = pa.schema([("date", pa.date32()), ("first_half_hour", pa.int32()), ("expected_readings", pa.int32())])
# Half hours of a local date are numbered from 0, at 23:00 UTC of the day before, where a day of summer time begins.
FIRST_HALF_HOUR = timedelta(hours=-1)


def calendar(spark: SparkSession, dates: Iterable[date]) -> DataFrame:
    """One row per local date: date, first_half_hour (the number of its first one), expected_readings (how many)."""
    zone, half_hour = ZoneInfo(TIME_ZONE), timedelta(minutes=30)
    rows = []
    for day in sorted(dates):
        begin, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, day + timedelta(days=1)))
        numbers_begin = datetime.combine(day, time(), UTC) + FIRST_HALF_HOUR
        first, number = (begin - numbers_begin) // half_hour, (end - begin) // half_hour
        rows.append({"date": day, "first_half_hour": first, "expected_readings": number})
    # Through Arrow, so that Spark has the rows in its plan: each use of others would be a job.
    return spark.createDataFrame(pa.Table.from_pylist(rows, CALENDAR))


def agreements_on(dates: DataFrame, agreement: DataFrame, product: DataFrame) -> DataFrame:
    """One row per (date, meterpoint_id) with an agreement: the agreement that holds, with its product.

    Where several hold, that with the latest agreement_valid_from, then the highest agreement_id. A zero-length
    agreement holds on no date. A product without a name goes by its product_id. `dates` has the column `date`.
    """
    holds = (F.col("agreement_valid_from") <= F.col("date")) & (
        F.col("agreement_valid_to").isNull() | (F.col("date") < F.col("agreement_valid_to"))
    )
    latest_first = Window.partitionBy("date", "meterpoint_id").orderBy(
        F.desc("agreement_valid_from"), F.desc("agreement_id")
    )
    return (
        agreement.join(F.broadcast(dates), on=holds, how="inner")
        .withColumn("rank", F.row_number().over(latest_first))
        .where("rank = 1")
        .join(product, on="product_id", how="left")
        .select(
            "date",
            "meterpoint_id",
            "agreement_id",
            "product_id",
            # Never null, so that null can stand for "no agreement", and no consumption is lost between the marts.
            F.coalesce("display_name", "product_id").alias("product_display_name"),
            "is_variable",
            "account_id",
        )
    )


def known_on(dates: DataFrame, agreement: DataFrame, product: DataFrame, regions: DataFrame) -> DataFrame:
    """One row per (date, meterpoint_id) with an agreement or a region: the columns of `agreements_on`, and region.

    `regions` is silver.meterpoint_regions, whose rows hold on [valid_from, valid_to).
    """
    held = agreements_on(dates, agreement, product)
    named = regions.join(F.broadcast(dates), on=_region_holds(), how="inner").select("date", "meterpoint_id", "region")
    return held.join(named, on=["date", "meterpoint_id"], how="full")


def with_region(rows: DataFrame, regions: DataFrame) -> DataFrame:
    """Rows of meterpoints and dates with the region of each, null where no snapshot names one."""
    spans = regions.select(F.col("meterpoint_id").alias("of_meterpoint"), "region", "valid_from", "valid_to")
    of_row = (F.col("meterpoint_id") == F.col("of_meterpoint")) & _region_holds()
    return rows.join(spans, on=of_row, how="left").drop("of_meterpoint", "valid_from", "valid_to")


def _region_holds() -> Column:
    return (F.col("valid_from").isNull() | (F.col("valid_from") <= F.col("date"))) & (
        F.col("valid_to").isNull() | (F.col("date") < F.col("valid_to"))
    )


def consumption_by_half_hour(readings: DataFrame, known: DataFrame, dates: DataFrame) -> DataFrame:
    """Sums by half hour, product_display_name and region, from which the half-hourly marts are made.

    A null name stands for readings without an agreement. Each half hour of a date has a second row for each name and
    region with an agreement: it tells how many readings are expected, and has none itself. `known` is `known_on` of the
    `calendar` of the dates.
    """
    groups = ["date", "product_display_name", "region"]
    received = (
        readings.join(known, on=["date", "meterpoint_id"], how="left")
        .groupBy("interval_start_utc", "interval_start", *groups)
        # A meterpoint has one reading a half hour, so readings are meterpoints.
        .agg(F.count("*").alias("meterpoint_count"), _total_of_readings(), *_by_quality())
        .withColumn("expected_readings", F.lit(0).cast("long"))
        .withColumn("received_readings", F.expr("if(product_display_name IS NULL, 0, meterpoint_count)"))
    )
    half_hours = F.expr("sequence(first_half_hour, first_half_hour + expected_readings - 1)")
    start = F.timestamp_seconds(_first_second() + F.col("half_hour") * 1800)
    expected = (
        known.where("agreement_id IS NOT NULL")
        .groupBy(*groups)
        .agg(F.count("*").alias("agreed"))
        .join(F.broadcast(dates), on="date", how="inner")
        .withColumn("half_hour", F.explode(half_hours))
        .select(
            *groups,
            start.alias("interval_start_utc"),
            F.from_utc_timestamp(start, TIME_ZONE).alias("interval_start"),
            F.lit(0).cast("long").alias("meterpoint_count"),
            F.col("agreed").alias("expected_readings"),
            F.lit(0).cast("long").alias("received_readings"),
            F.lit(0).cast("long").alias("actual_readings"),
            F.lit(0).cast("long").alias("rated_readings"),
        )
    )
    return received.unionByName(expected, allowMissingColumns=True)


def half_hourly_sums(by_half_hour: DataFrame) -> DataFrame:
    """What the half-hourly marts add up: rows of `consumption_by_half_hour`, summed over all, by product and by region.

    The column `parts` tells which of them a row is of: half_hours, half_hours_by_product, half_hours_by_region.
    """
    half_hour = ["date", "interval_start_utc", "interval_start"]
    by = ["product_display_name", "region"]
    # 1 where the name is not what a row is of.
    parts = F.expr(
        "CASE grouping(product_display_name) * 2 + grouping(region)"
        " WHEN 1 THEN 'half_hours_by_product' WHEN 2 THEN 'half_hours_by_region' ELSE 'half_hours' END"
    )
    counts = [F.sum(name).alias(name) for name in COUNTS]
    return by_half_hour.groupingSets([half_hour, *([*half_hour, name] for name in by)], *half_hour, *by).agg(
        parts.alias("parts"), _total("consumption_kwh"), *counts
    )


def daily_meterpoint_consumption(readings: DataFrame, known: DataFrame, dates: DataFrame) -> DataFrame:
    """mart.daily_meterpoint_consumption: one row per (meterpoint_id, date) with readings or an agreement, or both.

    consumption_kwh is null where there are no readings. `known` is `known_on` of `dates`, which is their `calendar`.
    """
    seconds = F.unix_seconds("interval_start_utc") - _first_second()
    numbered = readings.withColumn("half_hour", (seconds / 1800).cast("int"))
    received = numbered.groupBy("date", "meterpoint_id").agg(
        F.count("*").cast("int").alias("reading_count"),
        _total_of_readings(),
        F.min("consumption_kwh").alias("min_kwh"),
        F.max("consumption_kwh").alias("max_kwh"),
        *_by_quality(),
        F.expr("bit_or(shiftleft(1L, half_hour))").alias("received"),
    )
    return (
        received.join(known, on=["date", "meterpoint_id"], how="full")
        .where("reading_count IS NOT NULL OR agreement_id IS NOT NULL")
        .join(F.broadcast(dates), on="date", how="inner")
        .withColumn("whole", F.expr("shiftleft(shiftleft(1L, expected_readings) - 1, first_half_hour)"))
        .withColumn("missing", F.expr("whole & ~coalesce(received, 0L)"))
        .select(
            "meterpoint_id",
            "agreement_id",
            "product_id",
            "product_display_name",
            "is_variable",
            "account_id",
            F.coalesce("reading_count", F.lit(0)).alias("reading_count"),
            "consumption_kwh",
            "expected_readings",
            # The lowest and the highest bit that is set.
            _local_start(F.expr("bit_count((missing & -missing) - 1)")).alias("first_missing"),
            _local_start(F.expr("length(bin(missing)) - 1")).alias("last_missing"),
            F.coalesce("actual_readings", F.lit(0)).cast("int").alias("actual_readings"),
            F.coalesce("rated_readings", F.lit(0)).cast("int").alias("rated_readings"),
            "min_kwh",
            "max_kwh",
            "date",
        )
    )


def _local_start(half_hour: Column) -> Column:
    """Local wall-clock time at which the half hour of a number begins, null where nothing is missing."""
    begin = F.timestamp_seconds(_first_second() + half_hour * 1800)
    return F.when(F.col("missing") != 0, F.from_utc_timestamp(begin, TIME_ZONE))


def _first_second() -> Column:
    """Seconds since 1970, UTC, at which the half hour 0 of a date begins."""
    return F.unix_date("date").cast("long") * 86400 + int(FIRST_HALF_HOUR.total_seconds())


def daily_sums(daily_meterpoint: DataFrame, regions: DataFrame) -> DataFrame:
    """What the daily marts add up: sums by date, product_display_name and region.

    `daily_meterpoint` are rows of mart.daily_meterpoint_consumption. A null name stands for no agreement. Columns that
    begin with all_, and complete_meterpoints and silent_meterpoints, tell of meterpoints that were not read, too.
    """
    with_agreement = F.col("agreement_id").isNotNull()
    return (
        with_region(daily_meterpoint, regions)
        .groupBy("date", "product_display_name", "region")
        .agg(
            F.count_if(F.col("reading_count") > 0).alias("meterpoint_count"),
            _total("consumption_kwh"),
            F.sum(F.when(with_agreement, F.col("expected_readings")).otherwise(0)).alias("expected_readings"),
            F.sum(F.when(with_agreement, F.col("reading_count")).otherwise(0)).alias("received_readings"),
            F.sum("actual_readings").alias("actual_readings"),
            F.sum("rated_readings").alias("rated_readings"),
            F.count("*").alias("all_meterpoints"),
            F.sum("expected_readings").alias("all_expected"),
            F.sum("reading_count").alias("all_received"),
            F.count_if(F.expr("reading_count = expected_readings")).alias("complete_meterpoints"),
            F.count_if(F.expr("reading_count = 0")).alias("silent_meterpoints"),
        )
    )


def changed_agreements(
    dates: DataFrame, before: tuple[DataFrame, DataFrame], after: tuple[DataFrame, DataFrame]
) -> DataFrame:
    """For which meterpoints on which of `dates` the marts must be built anew when (agreement, product) change from one
    snapshot to the next: those whose agreement is another one, or has another product, name or account. Columns: date,
    meterpoint_id."""
    # Only meterpoints of which something changed are looked at date by date: nearly none do in a night.
    details_before, details_after = (_details(agreement, product) for agreement, product in (before, after))
    changed = _difference(details_before, details_after).select("meterpoint_id").distinct()
    held_before, held_after = (
        agreements_on(dates, agreement.join(changed, on="meterpoint_id", how="left_semi"), product)
        for agreement, product in (before, after)
    )
    return _difference(held_before, held_after).select("date", "meterpoint_id").distinct()


def changed_span(before: tuple[DataFrame, DataFrame], after: tuple[DataFrame, DataFrame]) -> tuple[date, date]:
    """From which date on, and before which, an agreement that is not the same in (agreement, product) before and after
    holds. Both are date.max where all are the same."""
    changed = _difference(*(_details(agreement, product) for agreement, product in (before, after)))
    end = F.coalesce("agreement_valid_to", _day(date.max))
    [[first, last]] = changed.agg(F.min("agreement_valid_from"), F.max(end)).collect()
    return first or date.max, last or date.max


def changed_regions(before: DataFrame, after: DataFrame) -> DataFrame:
    """Spans of dates on which a meterpoint has another region when silver.meterpoint_regions changes with a snapshot:
    meterpoint_id, was_known (whether it had a region before), valid_from, valid_to (date.min and date.max: no bound).

    A snapshot changes nothing before its date, but for meterpoints of which it is the first to name a region.
    """
    columns = "meterpoint_id", "region", "valid_from", "valid_to"
    changed = _difference(before.select(*columns), after.select(*columns)).select("meterpoint_id").distinct()
    olds, news = (
        regions.join(changed, on="meterpoint_id", how="left_semi").select(
            "meterpoint_id",
            F.col("region").alias(f"{name}_region"),
            F.coalesce("valid_from", _day(date.min)).alias(f"{name}_from"),
            F.coalesce("valid_to", _day(date.max)).alias(f"{name}_to"),
        )
        for name, regions in (("old", before), ("new", after))
    )
    # A meterpoint has a region on each date, or on none. greatest() and least() pass over nulls.
    first, end = F.greatest("old_from", "new_from"), F.least("old_to", "new_to")
    return (
        olds.join(news, on="meterpoint_id", how="full")
        .where(~F.col("old_region").eqNullSafe(F.col("new_region")) & (first < end))
        .select(
            "meterpoint_id",
            F.col("old_region").isNotNull().alias("was_known"),
            first.alias("valid_from"),
            end.alias("valid_to"),
        )
    )


def _day(day: date) -> Column:
    """A date of any year: PySpark's own way fails for those of fewer than four digits."""
    return F.lit(day.isoformat()).cast("date")


def _details(agreement: DataFrame, product: DataFrame) -> DataFrame:
    return agreement.drop("snapshot_date").join(product.drop("snapshot_date", "id"), on="product_id", how="left")


def _difference(left: DataFrame, right: DataFrame) -> DataFrame:
    """Rows of which one side has more copies than the other. As two exceptAll would say, in one pass over each side."""
    both = left.withColumn("side", F.lit(1)).unionByName(right.withColumn("side", F.lit(-1)))
    surplus = both.groupBy(*left.columns).agg(F.sum("side").alias("surplus"))
    return surplus.where("surplus != 0").drop("surplus")


def _by_quality() -> tuple[Column, Column]:
    """How many readings are actual, and how many files told a quality of."""
    return (
        F.count_if(F.col("reading_quality") == "A").alias("actual_readings"),
        F.count("reading_quality").alias("rated_readings"),
    )


def _total(column: str) -> Column:
    return F.sum(column).cast(KWH_TOTAL).alias(column)


def _total_of_readings() -> Column:
    """Their consumption_kwh added up, as whole millionths: sums of decimals are of more digits than Spark has in a
    number, and take it several times as long."""
    millionths = F.sum(F.rint(F.col("consumption_kwh").cast("double") * 1_000_000).cast("long"))
    return (millionths * F.lit(Decimal("0.000001"))).cast(KWH_TOTAL).alias("consumption_kwh")
