"""The marts: aggregates of readings and the agreements that held, by local date.

An agreement holds on [agreement_valid_from, agreement_valid_to). Both are local dates, so it holds for whole local
dates, and the agreement of a reading depends on its meterpoint and date alone. Energy is kWh, as decimals: sums are
exact.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.readings.rules import TIME_ZONE

KWH_TOTAL = "DECIMAL(18,6)"
# Half hours of a local date are numbered from 0, at 23:00 UTC of the day before, where a day of summer time begins.
FIRST_HALF_HOUR = timedelta(hours=-1)


def calendar(spark: SparkSession, dates: Iterable[date]) -> DataFrame:
    """One row per local date: date, first_half_hour (the number of its first one), expected_readings (how many)."""
    zone, half_hour = ZoneInfo(TIME_ZONE), timedelta(minutes=30)
    rows = []
    for day in sorted(dates):
        begin, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, day + timedelta(days=1)))
        numbers_begin = datetime.combine(day, time(), UTC) + FIRST_HALF_HOUR
        rows.append((day, (begin - numbers_begin) // half_hour, (end - begin) // half_hour))
    return spark.createDataFrame(rows, "date DATE, first_half_hour INT, expected_readings INT")


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


def consumption_by_product_and_half_hour(readings: DataFrame, agreements: DataFrame) -> DataFrame:
    """One row per (product_display_name, interval_start_utc); a null name stands for readings without an agreement."""
    return (
        readings.join(agreements, on=["date", "meterpoint_id"], how="left")
        .groupBy("date", "interval_start_utc", "interval_start", "product_display_name")
        # A meterpoint has one reading a half hour, so readings are meterpoints.
        .agg(F.count("*").alias("meterpoint_count"), _total("consumption_kwh"))
    )


def half_hourly_consumption(by_product: DataFrame) -> DataFrame:
    """mart.half_hourly: one row per interval_start_utc, of all meterpoints, with an agreement or not."""
    return (
        by_product.groupBy("date", "interval_start_utc", "interval_start")
        # A meterpoint has one product at a time, so counts add up.
        .agg(F.sum("meterpoint_count").alias("meterpoint_count"), _total("consumption_kwh"))
        .select("interval_start", "interval_start_utc", "meterpoint_count", "consumption_kwh", "date")
    )


def half_hourly_product_consumption(by_product: DataFrame) -> DataFrame:
    """mart.half_hourly_by_product: one row per (product_display_name, interval_start_utc)."""
    average = (F.col("consumption_kwh") / F.col("meterpoint_count")).cast(KWH_TOTAL)
    return by_product.where(F.col("product_display_name").isNotNull()).select(
        "product_display_name",
        "interval_start",
        "interval_start_utc",
        "meterpoint_count",
        "consumption_kwh",
        average.alias("average_kwh"),
        "date",
    )


def daily_meterpoint_consumption(readings: DataFrame, agreements: DataFrame, dates: DataFrame) -> DataFrame:
    """mart.daily_meterpoint_consumption: one row per (meterpoint_id, date) with readings or an agreement, or both.

    consumption_kwh is null where there are no readings. `dates` is the `calendar` of the dates.
    """
    seconds = F.unix_seconds("interval_start_utc") - _first_second()
    numbered = readings.withColumn("half_hour", (seconds / 1800).cast("int"))
    received = numbered.groupBy("date", "meterpoint_id").agg(
        F.count("*").cast("int").alias("reading_count"),
        _total("consumption_kwh"),
        F.expr("bit_or(shiftleft(1L, half_hour))").alias("received"),
    )
    return (
        received.join(agreements, on=["date", "meterpoint_id"], how="full")
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


def daily_product_consumption(daily_meterpoint: DataFrame) -> DataFrame:
    """mart.daily_by_product: one row per (product_display_name, date) with readings."""
    return (
        daily_meterpoint.where("agreement_id IS NOT NULL AND reading_count > 0")
        .groupBy("date", "product_display_name")
        .agg(F.count("*").alias("meterpoint_count"), _total("consumption_kwh"))
        .select("product_display_name", "meterpoint_count", "consumption_kwh", "date")
    )


def daily_completeness(daily_meterpoint: DataFrame) -> DataFrame:
    """mart.daily_completeness: one row per date with readings."""
    return (
        daily_meterpoint.groupBy("date")
        .agg(
            F.count("*").alias("meterpoint_count"),
            F.count_if(F.expr("reading_count = expected_readings")).alias("complete_meterpoints"),
            F.count_if(F.expr("reading_count = 0")).alias("silent_meterpoints"),
            F.sum("expected_readings").alias("expected_readings"),
            F.sum("reading_count").alias("received_readings"),
        )
        .where("received_readings > 0")
    )


def changed_dates(
    dates: DataFrame, before: tuple[DataFrame, DataFrame], after: tuple[DataFrame, DataFrame]
) -> DataFrame:
    """Which of `dates` the marts must be rebuilt for when (agreement, product) change from one snapshot to the next:
    those on which some meterpoint's agreement is another one, or has another product, name or account."""
    # Only meterpoints of which something changed are looked at date by date: nearly none do in a night.
    details_before, details_after = (_details(agreement, product) for agreement, product in (before, after))
    changed = _difference(details_before, details_after).select("meterpoint_id").distinct()
    held_before, held_after = (
        agreements_on(dates, agreement.join(changed, on="meterpoint_id", how="left_semi"), product)
        for agreement, product in (before, after)
    )
    return _difference(held_before, held_after).select("date").distinct()


def _details(agreement: DataFrame, product: DataFrame) -> DataFrame:
    return agreement.drop("snapshot_date").join(product.drop("snapshot_date", "id"), on="product_id", how="left")


def _difference(left: DataFrame, right: DataFrame) -> DataFrame:
    """Rows of which one side has more copies than the other. As two exceptAll would say, in one pass over each side."""
    both = left.withColumn("side", F.lit(1)).unionByName(right.withColumn("side", F.lit(-1)))
    surplus = both.groupBy(*left.columns).agg(F.sum("side").alias("surplus"))
    return surplus.where("surplus != 0").drop("surplus")


def _total(column: str) -> Column:
    return F.sum(column).cast(KWH_TOTAL).alias(column)
