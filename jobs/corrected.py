"""Marts of large dates of which few meterpoints changed: what these were before a load, and what they are after it.

Of the mart by meterpoint they are written as its late layer. What they give to the marts by year is taken away as it
was, and added as it is.
"""

from collections.abc import Collection
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import dataset
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from jobs import marts, regions, silver, sums, tables
from jobs.readings.ingest import Place
from jobs.relations import Rows, as_table, query
from jobs.spark import at_once
from jobs.tables import DAILY_METERPOINT, READINGS, Locations

# So many names are a condition that Parquet's row groups are chosen by.
FEW_METERPOINTS = 1_000


class Reference(NamedTuple):
    """What a snapshot says: silver.agreement, silver.product and silver.meterpoint_regions."""

    agreement: Rows
    product: Rows
    regions: Rows


class Side(NamedTuple):
    """Meterpoints that changed, before the load or after it."""

    readings: Rows
    daily: Rows  # rows of mart.daily_meterpoint_consumption
    regions: Rows


def sides_of(
    spark: SparkSession,
    place: Place,
    places: Locations,
    dates: pa.Table,
    reached: Rows | None,
    references: tuple[Reference, Reference],
    *,
    in_memory: bool,
) -> tuple[Side, Side]:
    """The meterpoints that changed on dates (their `marts.calendar`), before and after. `places` are those of all
    readings of these dates as they will be, and `reached` are pairs of which the agreement or region changed."""
    columns = ", ".join(marts.OF_READINGS)
    readings = [
        query(
            f"SELECT {columns} FROM {{rows}} AS rows LEFT SEMI JOIN {{dates}} AS dates USING (date)",
            rows=silver.staged_rows(spark, place, name, in_memory=in_memory),
            dates=dates,
        )
        for name in ("before", "after")
    ]
    pairs = regions.either(*readings)
    if reached is not None:
        of_dates = "SELECT reached.* FROM {reached} AS reached LEFT SEMI JOIN {dates} AS dates USING (date)"
        reached = query(of_dates, reached=reached, dates=dates)
        # Their readings are the same before and after.
        others = query(
            """
            SELECT date, meterpoint_id
            FROM {reached} AS reached LEFT ANTI JOIN {pairs} AS pairs USING (date, meterpoint_id)
            """,
            reached=as_table(reached) if in_memory else reached,
            pairs=pairs,
        )
        others = _settled(place, others, "reached")
        same = query(
            f"SELECT {columns} FROM {{rows}} AS rows LEFT SEMI JOIN {{others}} AS others USING (date, meterpoint_id)",
            rows=_readings_of(spark, places, others, in_memory=in_memory),
            others=others,
        )
        same, pairs = _settled(place, same, "same"), _both(pairs, others)
        readings = [_both(each, same) for each in readings]
    pairs = _settled(place, pairs, "pairs")

    def side(name: str, rows: Rows, reference: Reference) -> Side:
        of_pairs = "SELECT * FROM {rows} AS rows LEFT SEMI JOIN {pairs} AS pairs USING (meterpoint_id)"
        agreement, of_regions = (query(of_pairs, rows=each, pairs=pairs) for each in reference[::2])
        known = query(
            "SELECT * FROM {held} AS held LEFT SEMI JOIN {pairs} AS pairs USING (date, meterpoint_id)",
            held=marts.agreements_on(dates, agreement, reference.product),
            pairs=pairs,
        )
        daily = marts.daily_meterpoint_consumption(rows, known, dates)
        return Side(rows, _settled(place, daily, f"{name}_daily"), _settled(place, of_regions, f"{name}_regions"))

    before, after = references
    return side("before", readings[0], before), side("after", readings[1], after)


def _readings_of(spark: SparkSession, places: Locations, pairs: Rows, *, in_memory: bool) -> Rows:
    """Readings of dates, of the meterpoints of some pairs alone, where these are few."""
    found = as_table(query(f"SELECT DISTINCT meterpoint_id FROM {{pairs}} LIMIT {FEW_METERPOINTS + 1}", pairs=pairs))
    names = found["meterpoint_id"]
    if in_memory:
        return tables.scan(
            spark, READINGS, places, pc.field("meterpoint_id").isin(names) if len(names) <= FEW_METERPOINTS else None
        )
    rows = tables.read(spark, READINGS, places)
    return rows.where(F.col("meterpoint_id").isin(names.to_pylist())) if len(names) <= FEW_METERPOINTS else rows


def _both(one: Rows, other: Rows) -> Rows:
    """The rows of both, which have the same columns."""
    return query("SELECT * FROM {one} UNION ALL SELECT * FROM {other}", one=one, other=other)


def _settled(place: Place, rows: Rows, name: str) -> Rows:
    """Rows that are worked out once. Spark's are files of the load, so that what is made of them has a short plan."""
    if isinstance(rows, pa.Table):
        return rows
    folder = f"{place.staging_uri}/{name}"
    rows.write.mode("overwrite").parquet(folder)
    return rows.sparkSession.read.schema(rows.schema).parquet(folder)


def parts_of(side: Side, dates: Rows) -> sums.Parts:
    """What meterpoints give to the marts by year; `dates` is the calendar of their dates."""
    of_agreement = "SELECT date, meterpoint_id, agreement_id, product_display_name FROM {daily}"
    known = marts.with_region(query(of_agreement, daily=side.daily), side.regions)
    by_half_hour = marts.consumption_by_half_hour(side.readings, known, dates)
    of_days: sums.Parts
    of_half_hours: sums.Parts
    of_days, of_half_hours = at_once(
        lambda: sums.of_days(marts.daily_sums(side.daily, side.regions)),
        lambda: sums.of_half_hours(marts.half_hourly_sums(by_half_hour)),
    )
    return of_days | of_half_hours


def write_late(spark: SparkSession, load_id: str, dates: Collection[str], before: Side, after: Side) -> Locations:
    """The late layer of the mart by meterpoint: those that changed as they are now, others as they were."""
    columns = tables.schema(spark, DAILY_METERPOINT).names
    none = ", ".join("NULL" if name != "meterpoint_id" else name for name in columns)
    live = tables.locations(spark, DAILY_METERPOINT, dates)
    late = {value: folder for value, folder in live.items() if tables.is_late(value)}
    in_memory = isinstance(after.daily, pa.Table)
    content = query(
        f"""
        SELECT {", ".join(columns)}, date FROM {{now}} AS now
        UNION ALL
        SELECT {none}, date FROM {{before}} AS before LEFT ANTI JOIN {{now}} AS now USING (date, meterpoint_id)
        UNION ALL
        SELECT {", ".join(columns)}, date FROM {{late}} AS late
          LEFT ANTI JOIN {{now}} AS now USING (date, meterpoint_id)
          LEFT ANTI JOIN {{before}} AS before USING (date, meterpoint_id)
        """,
        now=after.daily,
        before=before.daily,
        late=(tables.scan_layer if in_memory else tables.read_layer)(spark, DAILY_METERPOINT, late),
    )
    values = [f"{day}{tables.LATE}" for day in dates]
    if in_memory:
        return tables.write_dates(spark, content.sort_by("meterpoint_id"), DAILY_METERPOINT, load_id, values)
    ordered = content.repartition("date").sortWithinPartitions("date", "meterpoint_id")
    return tables.write(ordered, DAILY_METERPOINT, load_id, values)


def changed_rows(spark: SparkSession, new: Locations, sides: tuple[Side, Side], *, in_memory: bool) -> Rows:
    """What was written of mart.daily_meterpoint_consumption: of whole dates, and of meterpoints that changed."""
    read = tables.scan if in_memory else tables.read
    late = {value: folder for value, folder in new.items() if tables.is_late(value)}
    whole = read(spark, DAILY_METERPOINT, {value: folder for value, folder in new.items() if value not in late})
    corrected = query(
        "SELECT rows.* FROM {rows} AS rows LEFT SEMI JOIN {pairs} AS pairs USING (date, meterpoint_id)",
        rows=read(spark, DAILY_METERPOINT, late),
        pairs=regions.either(*(side.daily for side in sides)),
    )
    if in_memory:
        return dataset([whole, dataset(corrected).replace_schema(whole.schema)])
    return whole.unionByName(corrected)
