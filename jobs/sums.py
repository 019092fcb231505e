"""The marts by year: sums of half hours and of days, added up and written by the driver, a file a year.

Spark works out the sums of dates, over all of their meterpoints (`half_hourly_sums` and `daily_sums` in jobs/marts.py).
What comes then are some thousand rows a date, for which a Spark job takes longer than Arrow takes for the work.

Sums and counts add up, so a mart of a date is the sum of its parts: what it held, plus what meterpoints that changed
give now, minus what they gave before (`less`). Averages are worked out of the sum. Energy is kWh, as decimals.
"""

from collections.abc import Callable, Collection, Iterable
from datetime import date
from itertools import starmap
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs import tables
from jobs.ledger.days import last_of_month, last_of_year
from jobs.relations import Rows, as_table
from jobs.tables import (
    DAILY_COMPLETENESS,
    DAILY_PRODUCT,
    DAILY_REGION,
    HALF_HOURLY,
    HALF_HOURLY_PRODUCT,
    HALF_HOURLY_REGION,
    Locations,
)

KWH_TOTAL = pa.decimal128(18, 6)
COUNT = pa.decimal128(19, 0)  # any 64-bit number
# Bytes of a year's file, and of its parts in memory, up to which it is worked out at once; else a month at a time. With
# 100 products a year of half hours has two million rows.
SMALL_FILE, SMALL_PARTS = 4 * 1024 * 1024, 32 * 1024 * 1024
# Columns that add up.
MEASURES = (
    "meterpoint_count",
    "consumption_kwh",
    "expected_readings",
    "received_readings",
    "actual_readings",
    "rated_readings",
    "complete_meterpoints",
    "silent_meterpoints",
)
HALF_HOUR = ("date", "interval_start_utc", "interval_start")
# Columns of `marts.daily_sums` that tell of meterpoints that were not read, too; first their names in the mart.
OF_ALL = {
    "meterpoint_count": "all_meterpoints",
    "expected_readings": "all_expected",
    "received_readings": "all_received",
    "complete_meterpoints": "complete_meterpoints",
    "silent_meterpoints": "silent_meterpoints",
}

# Rows to add up: half_hours, half_hours_by_product, half_hours_by_region, days and completeness.
Parts = dict[str, pa.Table]


def of_half_hours(sums: Rows) -> Parts:
    """Parts of the half-hourly marts, of rows of `marts.half_hourly_sums`."""
    rows = as_table(sums)
    of_all = rows.drop_columns(["parts", "product_display_name", "region"])
    by = {"half_hours": of_all, "half_hours_by_product": rows.drop_columns(["parts", "region"])}
    by["half_hours_by_region"] = rows.drop_columns(["parts", "product_display_name"])
    return {name: content.filter(pc.equal(rows["parts"], name)) for name, content in by.items()}


def of_days(sums: Rows) -> Parts:
    """Parts of the daily marts, of rows of `marts.daily_sums`."""
    rows = as_table(sums)
    completeness = rows.select(["date", *OF_ALL.values()]).rename_columns(["date", *OF_ALL])
    return {"days": rows.drop_columns(list(OF_ALL.values())), "completeness": completeness}


def less(parts: Parts) -> Parts:
    """Parts as what is to be taken away from the marts."""
    return {name: _less(rows) for name, rows in parts.items()}


def _less(rows: pa.Table) -> pa.Table:
    for position, name in enumerate(rows.column_names):
        if name in MEASURES:
            rows = rows.set_column(position, name, pc.negate(rows[name]))
    return rows


def half_hourly_consumption(parts: pa.Table) -> pa.Table:
    """mart.half_hourly: one row per interval_start_utc with readings, of all meterpoints, with an agreement or not."""
    return _read(_summed(parts, *HALF_HOUR))


def half_hourly_region_consumption(parts: pa.Table) -> pa.Table:
    """mart.half_hourly_by_region: one row per (region, interval_start_utc) with readings or agreements."""
    return _summed(parts, *HALF_HOUR, "region")


def half_hourly_product_consumption(parts: pa.Table) -> pa.Table:
    """mart.half_hourly_by_product: one row per (product_display_name, interval_start_utc) with an agreement."""
    rows = _summed(_with_agreement(parts), *HALF_HOUR, "product_display_name")
    count = _where(pc.greater(rows["meterpoint_count"], 0), rows["meterpoint_count"])
    # A division cuts decimals off, far behind the sixth place.
    average = pc.round(pc.divide(rows["consumption_kwh"], count.cast(COUNT)), 6, "half_towards_infinity")
    return rows.append_column("average_kwh", average.cast(KWH_TOTAL))


def daily_product_consumption(parts: pa.Table) -> pa.Table:
    """mart.daily_by_product: one row per (product_display_name, date) with readings."""
    return _read(_summed(_with_agreement(parts), "date", "product_display_name"))


def daily_region_consumption(parts: pa.Table) -> pa.Table:
    """mart.daily_by_product_and_region: a row per (product_display_name, region, date) with readings or agreements."""
    return _summed(parts, "date", "product_display_name", "region")


def daily_completeness(parts: pa.Table) -> pa.Table:
    """mart.daily_completeness: one row per date with readings."""
    rows = _added(parts, "date")
    return rows.filter(pc.greater(rows["received_readings"], 0))


def _with_agreement(rows: pa.Table) -> pa.Table:
    return rows.filter(rows["product_display_name"].is_valid())


def _read(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.greater(rows["meterpoint_count"], 0))


def _summed(parts: pa.Table, *by: str) -> pa.Table:
    """Parts of a mart added up. A row without readings and agreements is left out; without readings it has no kWh.

    A meterpoint has one product and one region at a time, so counts of meterpoints add up, too.
    """
    rows = _added(parts, *by)
    is_read = pc.greater(rows["meterpoint_count"], 0)
    kwh = _where(is_read, rows["consumption_kwh"].cast(KWH_TOTAL))
    rows = rows.set_column(rows.column_names.index("consumption_kwh"), "consumption_kwh", kwh)
    # Dates that an older version built do not tell what was expected.
    return rows.filter(pc.or_(is_read, pc.fill_null(pc.greater(rows["expected_readings"], 0), False)))


def _where(condition: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values, null where the condition does not hold."""
    return pc.if_else(condition, values, pa.scalar(None, values.type))


def _added(parts: pa.Table, *by: str) -> pa.Table:
    measures = [name for name in MEASURES if name in parts.column_names]
    added = parts.group_by(by, use_threads=False).aggregate([(name, "sum") for name in measures])
    return added.select([*by, *(f"{name}_sum" for name in measures)]).rename_columns([*by, *measures])


class Mart(NamedTuple):
    """How a mart is made."""

    parts: str  # which of the parts it adds up
    make: Callable[[pa.Table], pa.Table]
    source: str  # mart whose rows tell all that it held of a date: itself, if it has rows of what nobody was read in
    order: tuple[str, ...]  # of its rows, after the date


MARTS = {
    HALF_HOURLY: Mart("half_hours", half_hourly_consumption, HALF_HOURLY_REGION, HALF_HOUR[1:2]),
    HALF_HOURLY_PRODUCT: Mart(
        "half_hours_by_product",
        half_hourly_product_consumption,
        HALF_HOURLY_PRODUCT,
        (HALF_HOUR[1], "product_display_name"),
    ),
    HALF_HOURLY_REGION: Mart(
        "half_hours_by_region", half_hourly_region_consumption, HALF_HOURLY_REGION, (HALF_HOUR[1], "region")
    ),
    DAILY_PRODUCT: Mart("days", daily_product_consumption, DAILY_REGION, ("product_display_name",)),
    DAILY_REGION: Mart("days", daily_region_consumption, DAILY_REGION, ("product_display_name", "region")),
    DAILY_COMPLETENESS: Mart("completeness", daily_completeness, DAILY_COMPLETENESS, ()),
}


def write_year(
    spark: SparkSession,
    mart: str,
    load_id: str,
    year: str,
    parts: Iterable[Parts],
    *,
    dates: Collection[str],
    corrected: Collection[str] = (),
) -> Locations:
    """Write a year of a mart anew: its `dates` of the parts, others as they are. To dates that are `corrected` the
    parts are added."""
    how = MARTS[mart]
    held = tables.locations(spark, mart, [year])
    of_source = held if how.source == mart else tables.locations(spark, how.source, [year])
    found = [each[how.parts] for each in parts]
    columns = tables.schema(spark, mart)

    def content(first: date, last: date) -> pa.Table:
        days, added = ({day for day in each if str(first) <= day <= str(last)} for each in (dates, corrected))
        others = (pc.field("date") >= first) & (pc.field("date") <= last) & ~tables.is_of_dates(days)
        rows = [tables.read_rows(spark, mart, held, others)]
        if days:
            new = [each.filter(tables.is_of_dates(days)) for each in found]
            if added:
                new.append(tables.read_rows(spark, how.source, of_source, tables.is_of_dates(added)))
            made = how.make(pa.concat_tables(new, promote_options="permissive"))
            rows.append(made.select(columns.names).cast(columns))
        return pa.concat_tables(rows).sort_by([(name, "ascending") for name in ("date", *how.order)])

    is_small = sum(tables.sizes(spark, held)) <= SMALL_FILE and sum(each.nbytes for each in found) <= SMALL_PARTS
    first_days = [date(int(year), month, 1) for month in range(1, 2 if is_small else 13)]
    spans = [(day, last_of_year(day) if is_small else last_of_month(day)) for day in first_days]
    return tables.write_portions(spark, starmap(content, spans), mart, load_id, year)
