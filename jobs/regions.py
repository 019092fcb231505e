"""silver.meterpoint_regions: which region a meterpoint has on each date, as the snapshots of the reference file say.

A meterpoint has the region that the last snapshot of a date or before names, and before the first snapshot that names
one, that one's. A snapshot that lacks the meterpoint, or has nothing but blanks for its region, says nothing of it: a
meterpoint that left keeps its region. Of several snapshots of one date the last counts.
"""

from collections.abc import Callable, Collection
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs import marts, tables
from jobs.relations import Rows, as_table, kept, query, with_room
from jobs.tables import DAILY_METERPOINT, DAILY_REGION, METERPOINT_HISTORY

PARTITION = "reference"  # the only one
SPANS = pa.schema(
    [
        ("meterpoint_id", pa.string()),
        ("region", pa.string()),
        ("snapshot_date", pa.date32()),
        ("valid_from", pa.date32()),
        ("valid_to", pa.date32()),
    ]
)


def after_snapshot(before: pa.Table, meterpoints: pa.Table, snapshot_date: date) -> pa.Table:
    """The rows of silver.meterpoint_regions when a snapshot is taken, which is not older than those before it.

    `before` are the rows until then. `meterpoints` has meterpoint_id, which is unique, and region.
    """
    earlier = _spans(before.filter(pc.field("snapshot_date") < snapshot_date).select(SPANS.names[:3]))
    last = earlier.filter(pc.field("valid_to").is_null())
    named = pa.table([meterpoints["meterpoint_id"], pc.utf8_trim_whitespace(meterpoints["region"])], SPANS.names[:2])
    named = named.filter(pc.not_equal(named["region"], ""))
    held = last["region"].take(pc.index_in(named["meterpoint_id"], last["meterpoint_id"]))
    changed = named.filter(pc.fill_null(pc.not_equal(named["region"], held), True))
    dates = pa.repeat(pa.scalar(snapshot_date, pa.date32()), changed.num_rows)
    return _spans(pa.concat_tables([earlier.select(SPANS.names[:3]), changed.append_column("snapshot_date", dates)]))


def _spans(changes: pa.Table) -> pa.Table:
    """Rows of meterpoint_id, region and snapshot_date, in order, with the dates on which each holds."""
    if not changes.num_rows:
        return SPANS.empty_table()
    changes = changes.sort_by([("meterpoint_id", "ascending"), ("snapshot_date", "ascending")])
    ids, dates = (changes[name].combine_chunks() for name in ("meterpoint_id", "snapshot_date"))
    differs, end = pc.not_equal(ids[1:], ids[:-1]), pa.array([True])
    valid_from = pc.if_else(pa.concat_arrays([end, differs]), None, dates)
    valid_to = pc.if_else(pa.concat_arrays([differs, end]), None, pa.concat_arrays([dates[1:], dates[:1]]))
    return pa.table([*changes.columns, valid_from, valid_to], names=SPANS.names).cast(SPANS)


def of_history(spark: SparkSession, recorded: Collection[str]) -> pa.Table:
    """The rows of silver.meterpoint_regions by all snapshots in the history that are of recorded loads."""
    of_loads = pc.field("load_id").is_null() | pc.field("load_id").isin(pa.array(list(recorded), pa.string()))
    rows = SPANS.empty_table()
    for day, location in sorted(tables.all_locations(spark, METERPOINT_HISTORY).items()):
        snapshots = tables.read_rows(spark, METERPOINT_HISTORY, {day: location}, of_loads)
        newest = pc.max(snapshots["load_id"])
        if newest.is_valid:
            snapshots = snapshots.filter(pc.field("load_id") == newest)
        rows = after_snapshot(rows, snapshots, date.fromisoformat(day))
    return rows


def changed(
    spark: SparkSession, dates: set[str], before: Rows, after: Rows, with_readings: Callable[[set[str]], set[str]]
) -> Rows | None:
    """Which meterpoints, on which of `dates` that have readings, get another region when silver.meterpoint_regions
    becomes `after`. Columns: date, meterpoint_id.

    A change from a date on reaches the dates since then. A meterpoint of which a region is told for the first time has
    it on all dates: of these only those count on which the marts know the meterpoint.
    """
    spans = kept(marts.changed_regions(before, after))
    by_bounds = "SELECT valid_from, bool_or(was_known) AS was_known FROM {spans} GROUP BY valid_from, valid_to"
    bounds = as_table(query(by_bounds, spans=spans)).to_pylist()
    since_ever, found = f"valid_from = DATE '{date.min}'", []
    begins = [each["valid_from"] for each in bounds if each["valid_from"] > date.min]
    if later := with_readings({day for day in dates if begins and day >= str(min(begins))}):
        spans = with_room(spark, spans, len(later))
        of_dates = f"""
            SELECT /*+ BROADCAST(dates) */ date, meterpoint_id
            FROM {{spans}} AS spans JOIN {{dates}} AS dates ON valid_from <= date AND date < valid_to
            WHERE NOT {since_ever}
        """
        found.append(query(of_dates, spans=spans, dates=marts.calendar(map(date.fromisoformat, later))))
    ever = [each for each in bounds if each["valid_from"] == date.min]
    rest: set[str] = set()
    if ever:
        was_known = any(each["was_known"] for each in ever)
        rest = with_readings(dates if was_known else dates & _dates_without_region(spark))
    if rest:
        known = tables.read(spark, DAILY_METERPOINT, tables.locations(spark, DAILY_METERPOINT, rest))
        of_known = f"""
            SELECT date, meterpoint_id FROM {{known}} JOIN {{spans}} USING (meterpoint_id)
            WHERE {since_ever} AND date < valid_to
        """
        found.append(query(of_known, known=known, spans=spans))
    return either(*found) if found else None


def either(*pairs: Rows) -> Rows:
    """Dates and meterpoints of any of the given ones, each once."""
    of_each = {f"of_{number}": each for number, each in enumerate(pairs)}
    return query(" UNION ".join(f"SELECT date, meterpoint_id FROM {{{name}}}" for name in of_each), **of_each)


def _dates_without_region(spark: SparkSession) -> set[str]:
    """Dates on which the marts have a meterpoint without a region."""
    places = tables.all_locations(spark, DAILY_REGION)
    rows = tables.read_rows(spark, DAILY_REGION, places, pc.field("region").is_null(), ["date"])
    return set(map(str, pc.unique(rows["date"]).to_pylist()))
