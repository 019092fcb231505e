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
from zoneinfo import ZoneInfo

import pyarrow as pa

from jobs.readings.rules import TIME_ZONE
from jobs.relations import Rows, as_table, query

KWH_TOTAL = "DECIMAL(18,6)"
# Readings' consumption_kwh added up, as whole millionths: sums of decimals have more digits than a number of Spark, and
# take it several times as long.
TOTAL_OF_READINGS = (
    "CAST(CAST(sum(CAST(rint(CAST(consumption_kwh AS DOUBLE) * 1000000) AS BIGINT)) AS BIGINT) * 0.000001"
    f" AS {KWH_TOTAL})"
)
# How many readings are actual, and of how many files told a quality.
BY_QUALITY = "count_if(reading_quality = 'A') AS actual_readings, count(reading_quality) AS rated_readings"
# Columns of readings that the marts are made of.
OF_READINGS = ("meterpoint_id", "interval_start", "interval_start_utc", "consumption_kwh", "reading_quality", "date")
REGION_HOLDS = "(valid_from IS NULL OR valid_from <= date) AND (valid_to IS NULL OR date < valid_to)"
COUNTS = ("meterpoint_count", "expected_readings", "received_readings", "actual_readings", "rated_readings")
CALENDAR = pa.schema([("date", pa.date32()), ("first_half_hour", pa.int32()), ("expected_readings", pa.int32())])
# Half hours of a local date are numbered from 0, at 23:00 UTC of the day before, where a day of summer time begins.
FIRST_HALF_HOUR = timedelta(hours=-1)
# When that is, in seconds since 1970, UTC.
FIRST_SECOND = f"(CAST(unix_date(date) AS BIGINT) * 86400 + {int(FIRST_HALF_HOUR.total_seconds())})"


def calendar(dates: Iterable[date]) -> pa.Table:
    """One row per local date: date, first_half_hour (the number of its first one), expected_readings (how many)."""
    zone, half_hour = ZoneInfo(TIME_ZONE), timedelta(minutes=30)
    rows = []
    for day in sorted(dates):
        begin, end = (datetime.combine(each, time(), zone).astimezone(UTC) for each in (day, day + timedelta(days=1)))
        numbers_begin = datetime.combine(day, time(), UTC) + FIRST_HALF_HOUR
        first, number = (begin - numbers_begin) // half_hour, (end - begin) // half_hour
        rows.append({"date": day, "first_half_hour": first, "expected_readings": number})
    return pa.Table.from_pylist(rows, CALENDAR)


def agreements_on(dates: Rows, agreement: Rows, product: Rows) -> Rows:
    """One row per (date, meterpoint_id) with an agreement: the agreement that holds, with its product.

    Where several hold, that with the latest agreement_valid_from, then the highest agreement_id. A zero-length
    agreement holds on no date. A product without a name goes by its product_id. `dates` has the column `date`.
    """
    # product_display_name is never null, so that null can stand for "no agreement", and no consumption is lost between
    # the marts.
    return query(
        """
        SELECT date, meterpoint_id, agreement_id, product_id,
          coalesce(display_name, product_id) AS product_display_name, is_variable, account_id
        FROM (
          SELECT /*+ BROADCAST(dates) */ date, meterpoint_id, agreement_id, product_id, account_id,
            row_number() OVER (
              PARTITION BY date, meterpoint_id ORDER BY agreement_valid_from DESC, agreement_id DESC
            ) AS place
          FROM {agreement} AS agreement JOIN {dates} AS dates
            ON agreement_valid_from <= date AND (agreement_valid_to IS NULL OR date < agreement_valid_to)
        ) AS held LEFT JOIN {product} AS product USING (product_id)
        WHERE place = 1
        """,
        dates=dates,
        agreement=agreement,
        product=product,
    )


def known_on(dates: Rows, agreement: Rows, product: Rows, regions: Rows) -> Rows:
    """One row per (date, meterpoint_id) with an agreement or a region: the columns of `agreements_on`, and region.

    `regions` is silver.meterpoint_regions, whose rows hold on [valid_from, valid_to).
    """
    return query(
        f"""
        SELECT * FROM {{held}} AS held FULL JOIN (
          SELECT /*+ BROADCAST(dates) */ date, meterpoint_id, region
          FROM {{regions}} AS regions JOIN {{dates}} AS dates ON {REGION_HOLDS}
        ) AS named USING (date, meterpoint_id)
        """,
        held=agreements_on(dates, agreement, product),
        dates=dates,
        regions=regions,
    )


def with_region(held: Rows, regions: Rows) -> Rows:
    """Rows of meterpoints and dates with the region of each, null where no snapshot names one."""
    return query(
        f"""
        SELECT held.*, region FROM {{held}} AS held LEFT JOIN {{regions}} AS regions
          ON held.meterpoint_id = regions.meterpoint_id AND {REGION_HOLDS}
        """,
        held=held,
        regions=regions,
    )


def consumption_by_half_hour(readings: Rows, known: Rows, dates: Rows) -> Rows:
    """Sums by half hour, product_display_name and region, from which the half-hourly marts are made.

    A null name stands for readings without an agreement. Each half hour of a date has a second row for each name and
    region with an agreement: it tells how many readings are expected, and has none itself. `known` is `known_on` of the
    `calendar` of the dates.
    """
    # A meterpoint has one reading a half hour, so readings are meterpoints.
    return query(
        f"""
        WITH received AS (
          SELECT interval_start_utc, interval_start, date, product_display_name, region,
            count(*) AS meterpoint_count, {TOTAL_OF_READINGS} AS consumption_kwh, {BY_QUALITY}
          FROM {{readings}} AS readings LEFT JOIN {{known}} AS known USING (date, meterpoint_id)
          GROUP BY interval_start_utc, interval_start, date, product_display_name, region
        ), agreed AS (
          SELECT date, product_display_name, region, count(*) AS meterpoints
          FROM {{known}} AS known WHERE agreement_id IS NOT NULL GROUP BY date, product_display_name, region
        ), half_hours AS (
          SELECT /*+ BROADCAST(dates) */ date, product_display_name, region, meterpoints,
            explode(sequence(first_half_hour, first_half_hour + expected_readings - 1)) AS half_hour
          FROM agreed JOIN {{dates}} AS dates USING (date)
        ), expected AS (
          SELECT *, timestamp_seconds({FIRST_SECOND} + half_hour * 1800) AS begins FROM half_hours
        )
        SELECT date, interval_start_utc, interval_start, product_display_name, region,
          meterpoint_count, consumption_kwh, CAST(0 AS BIGINT) AS expected_readings,
          CASE WHEN product_display_name IS NULL THEN 0 ELSE meterpoint_count END AS received_readings,
          actual_readings, rated_readings
        FROM received
        UNION ALL
        SELECT date, begins, from_utc_timestamp(begins, '{TIME_ZONE}'), product_display_name, region,
          0, CAST(NULL AS {KWH_TOTAL}), meterpoints, 0, 0, 0
        FROM expected
        """,
        readings=readings,
        known=known,
        dates=dates,
    )


def half_hourly_sums(by_half_hour: Rows) -> Rows:
    """What the half-hourly marts add up: rows of `consumption_by_half_hour`, summed over all, by product and by region.

    The column `parts` tells which of them a row is of: half_hours, half_hours_by_product, half_hours_by_region.
    """
    half_hour = "date, interval_start_utc, interval_start"
    # grouping() is 1 where the name is not what a row is of.
    return query(
        f"""
        SELECT {half_hour}, product_display_name, region,
          CASE grouping(product_display_name) * 2 + grouping(region)
            WHEN 1 THEN 'half_hours_by_product' WHEN 2 THEN 'half_hours_by_region' ELSE 'half_hours' END AS parts,
          CAST(sum(consumption_kwh) AS {KWH_TOTAL}) AS consumption_kwh,
          {", ".join(f"sum({name}) AS {name}" for name in COUNTS)}
        FROM {{by_half_hour}} AS by_half_hour
        GROUP BY GROUPING SETS (({half_hour}), ({half_hour}, product_display_name), ({half_hour}, region))
        """,
        by_half_hour=by_half_hour,
    )


def daily_meterpoint_consumption(readings: Rows, known: Rows, dates: Rows) -> Rows:
    """mart.daily_meterpoint_consumption: one row per (meterpoint_id, date) with readings or an agreement, or both.

    consumption_kwh is null where there are no readings. `known` is `known_on` of `dates`, which is their `calendar`.
    """
    # Half hours are bits: those received, those of the whole date, those missing, whose lowest and highest are told.
    return query(
        f"""
        WITH received AS (
          SELECT date, meterpoint_id, CAST(count(*) AS INT) AS reading_count, {TOTAL_OF_READINGS} AS consumption_kwh,
            min(consumption_kwh) AS min_kwh, max(consumption_kwh) AS max_kwh, {BY_QUALITY},
            bit_or(shiftleft(1L, CAST((unix_seconds(interval_start_utc) - {FIRST_SECOND}) DIV 1800 AS INT))) AS bits
          FROM {{readings}} AS readings GROUP BY date, meterpoint_id
        ), whole AS (
          SELECT /*+ BROADCAST(dates) */ *,
            shiftleft(shiftleft(1L, expected_readings) - 1, first_half_hour) & ~coalesce(bits, 0L) AS missing
          FROM received FULL JOIN {{known}} AS known USING (date, meterpoint_id) JOIN {{dates}} AS dates USING (date)
          WHERE reading_count IS NOT NULL OR agreement_id IS NOT NULL
        ), gaps AS (
          SELECT *,
            CASE WHEN missing <> 0 THEN timestamp_seconds(
              {FIRST_SECOND} + bit_count((missing & -missing) - 1) * 1800) END AS first_gap,
            CASE WHEN missing <> 0 THEN timestamp_seconds(
              {FIRST_SECOND} + (length(bin(missing)) - 1) * 1800) END AS last_gap
          FROM whole
        )
        SELECT meterpoint_id, agreement_id, product_id, product_display_name, is_variable, account_id,
          coalesce(reading_count, 0) AS reading_count, consumption_kwh, expected_readings,
          from_utc_timestamp(first_gap, '{TIME_ZONE}') AS first_missing,
          from_utc_timestamp(last_gap, '{TIME_ZONE}') AS last_missing,
          CAST(coalesce(actual_readings, 0) AS INT) AS actual_readings,
          CAST(coalesce(rated_readings, 0) AS INT) AS rated_readings,
          min_kwh, max_kwh, date
        FROM gaps
        """,
        readings=readings,
        known=known,
        dates=dates,
    )


def daily_sums(daily_meterpoint: Rows, regions: Rows) -> Rows:
    """What the daily marts add up: sums by date, product_display_name and region.

    `daily_meterpoint` are rows of mart.daily_meterpoint_consumption. A null name stands for no agreement. Columns that
    begin with all_, and complete_meterpoints and silent_meterpoints, tell of meterpoints that were not read, too.
    """
    return query(
        f"""
        SELECT date, product_display_name, region,
          count_if(reading_count > 0) AS meterpoint_count,
          CAST(sum(consumption_kwh) AS {KWH_TOTAL}) AS consumption_kwh,
          sum(CASE WHEN agreement_id IS NOT NULL THEN expected_readings ELSE 0 END) AS expected_readings,
          sum(CASE WHEN agreement_id IS NOT NULL THEN reading_count ELSE 0 END) AS received_readings,
          sum(actual_readings) AS actual_readings,
          sum(rated_readings) AS rated_readings,
          count(*) AS all_meterpoints,
          sum(expected_readings) AS all_expected,
          sum(reading_count) AS all_received,
          count_if(reading_count = expected_readings) AS complete_meterpoints,
          count_if(reading_count = 0) AS silent_meterpoints
        FROM {{named}} AS named GROUP BY date, product_display_name, region
        """,
        named=with_region(daily_meterpoint, regions),
    )


def changed_details(before: tuple[Rows, Rows], after: tuple[Rows, Rows]) -> Rows:
    """Agreements that are not the same, or not of the same product, in (agreement, product) before and after."""
    return _difference(_details(*before), _details(*after))


def changed_agreements(dates: Rows, changed: Rows, before: tuple[Rows, Rows], after: tuple[Rows, Rows]) -> Rows:
    """For which meterpoints on which of `dates` the marts must be built anew when (agreement, product) change from one
    snapshot to the next: those whose agreement is another one, or has another product, name or account. Columns: date,
    meterpoint_id.

    `changed` is `changed_details`: only meterpoints of which something changed are looked at date by date, and nearly
    none do in a night.
    """
    held_before, held_after = (
        agreements_on(
            dates,
            query(
                "SELECT * FROM {agreement} WHERE meterpoint_id IN (SELECT meterpoint_id FROM {changed})",
                agreement=agreement,
                changed=changed,
            ),
            product,
        )
        for agreement, product in (before, after)
    )
    return query("SELECT DISTINCT date, meterpoint_id FROM {changed}", changed=_difference(held_before, held_after))


def changed_span(changed: Rows) -> tuple[date, date]:
    """From which date on, and before which, an agreement of `changed_details` holds. Both are date.max if there is
    none."""
    bounds = f"min(agreement_valid_from) AS begins, max(coalesce(agreement_valid_to, DATE '{date.max}')) AS ends"
    [span] = as_table(query(f"SELECT {bounds} FROM {{changed}}", changed=changed)).to_pylist()
    return span["begins"] or date.max, span["ends"] or date.max


def changed_regions(before: Rows, after: Rows) -> Rows:
    """Spans of dates on which a meterpoint has another region when silver.meterpoint_regions changes with a snapshot:
    meterpoint_id, was_known (whether it had a region before), valid_from, valid_to (date.min and date.max: no bound).

    A snapshot changes nothing before its date, but for meterpoints of which it is the first to name a region.
    """
    columns = "meterpoint_id, region, valid_from, valid_to"
    old, new = (query(f"SELECT {columns} FROM {{regions}}", regions=regions) for regions in (before, after))
    bounds = f"coalesce(valid_from, DATE '{date.min}') AS begins, coalesce(valid_to, DATE '{date.max}') AS ends"
    of_changed = "WHERE meterpoint_id IN (SELECT meterpoint_id FROM {changed})"
    # A meterpoint has a region on each date, or on none. greatest() and least() pass over nulls.
    return query(
        f"""
        SELECT meterpoint_id, old.region IS NOT NULL AS was_known,
          greatest(old.begins, new.begins) AS valid_from, least(old.ends, new.ends) AS valid_to
        FROM (SELECT meterpoint_id, region, {bounds} FROM {{old}} {of_changed}) AS old
        FULL JOIN (SELECT meterpoint_id, region, {bounds} FROM {{new}} {of_changed}) AS new USING (meterpoint_id)
        WHERE NOT old.region <=> new.region AND greatest(old.begins, new.begins) < least(old.ends, new.ends)
        """,
        old=old,
        new=new,
        changed=_difference(old, new),
    )


def _details(agreement: Rows, product: Rows) -> Rows:
    """What is shown of agreements."""
    return query(
        """
        SELECT agreement_id, meterpoint_id, agreement_valid_from, agreement_valid_to, product_id, account_id,
          display_name, is_variable
        FROM {agreement} LEFT JOIN {product} USING (product_id)
        """,
        agreement=agreement,
        product=product,
    )


def _difference(left: Rows, right: Rows) -> Rows:
    """Rows of which one side has more copies than the other. As two exceptAll would say, in one pass over each side."""
    return query(
        """
        SELECT * EXCEPT (side), sum(side) AS surplus
        FROM (SELECT *, 1 AS side FROM {left} UNION ALL SELECT *, -1 AS side FROM {right}) AS sides
        GROUP BY ALL HAVING sum(side) <> 0
        """,
        left=left,
        right=right,
    )
