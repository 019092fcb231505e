"""The marts: aggregates of readings and the agreements that held, by local date.

An agreement holds on [agreement_valid_from, agreement_valid_to). Both are local dates, so it holds for whole local
dates, and the agreement of a reading depends on its meterpoint and date alone. Energy is kWh, as decimals: sums are
exact.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

KWH_TOTAL = "DECIMAL(18,6)"


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
    """mart.half_hourly_consumption: one row per interval_start_utc, of all meterpoints, with an agreement or not."""
    return (
        by_product.groupBy("date", "interval_start_utc", "interval_start")
        # A meterpoint has one product at a time, so counts add up.
        .agg(F.sum("meterpoint_count").alias("meterpoint_count"), _total("consumption_kwh"))
        .select("interval_start", "interval_start_utc", "meterpoint_count", "consumption_kwh", "date")
    )


def half_hourly_product_consumption(by_product: DataFrame) -> DataFrame:
    """mart.half_hourly_product_consumption: one row per (product_display_name, interval_start_utc)."""
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


def daily_meterpoint_consumption(readings: DataFrame, agreements: DataFrame) -> DataFrame:
    """mart.daily_meterpoint_consumption: one row per (meterpoint_id, date) with readings, with an agreement or not."""
    return (
        readings.groupBy("date", "meterpoint_id")
        .agg(F.count("*").cast("int").alias("reading_count"), _total("consumption_kwh"))
        .join(agreements, on=["date", "meterpoint_id"], how="left")
        .select(
            "meterpoint_id",
            "agreement_id",
            "product_id",
            "product_display_name",
            "is_variable",
            "account_id",
            "reading_count",
            "consumption_kwh",
            "date",
        )
    )


def daily_product_consumption(daily_meterpoint: DataFrame) -> DataFrame:
    """mart.daily_product_consumption: one row per (product_display_name, date)."""
    return (
        daily_meterpoint.where(F.col("agreement_id").isNotNull())
        .groupBy("date", "product_display_name")
        .agg(F.count("*").alias("meterpoint_count"), _total("consumption_kwh"))
        .select("product_display_name", "meterpoint_count", "consumption_kwh", "date")
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
