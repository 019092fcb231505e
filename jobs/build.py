"""Build the marts that a load changes: of dates that are new or were written whole, and of meterpoints of other dates.

Where few meterpoints of a large date changed, the marts are not built anew from all of its readings. Sums are what they
were, less what these meterpoints gave before, and with what they give now; of the mart by meterpoint a late layer has
them.

What is little is read into memory, and worked out there: Spark's first query would take longer than the whole load.
"""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from functools import partial, reduce
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import marts, regions, silver, snapshots, sums, tables
from jobs.readings import correct
from jobs.readings.ingest import Place
from jobs.relations import Rows, as_table, kept, of_spark, query
from jobs.silver import BYTES_A_READING, Written
from jobs.spark import at_once
from jobs.tables import CURRENT_SNAPSHOT, DAILY_METERPOINT, HALF_HOURLY, READINGS, REGIONS, Locations

PAIR = ["date", "meterpoint_id"]
READINGS_A_DAY, BYTES_A_METERPOINT = 48, 30  # the latter in the mart, about
# So many meterpoints and dates are joined in memory. Of more, dates are built anew.
MOST_PAIRS = 1_000_000
# So many bytes are sent to all tasks; a row takes so many beside its texts. For more, readings are dealt out by name.
MOST_SENT, BYTES_A_ROW = 96 * 1024 * 1024, 64
# So many dates are all compared, when agreements change. Of more, first it is asked which ones they can reach.
FEW_DATES = 100
# So many names are a condition that Parquet's row groups are chosen by.
FEW_METERPOINTS = 1_000
# So many bytes of a reference snapshot's files are read into memory, and so many of its rows are joined to dates there.
LITTLE_REFERENCE, LITTLE_PAIRS = 8 * 1024 * 1024, 1_000_000


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


@dataclass(frozen=True)
class Built:
    """What was written of marts, and is not published."""

    locations: dict[str, Locations] = field(default_factory=dict)  # by table
    whole: frozenset[str] = frozenset()  # dates that were built from all of their readings
    corrected: frozenset[str] = frozenset()  # dates of which some meterpoints changed
    before: Side | None = None  # those meterpoints
    after: Side | None = None
    is_little: bool = True  # so that it can be read into memory

    @property
    def dates(self) -> set[str]:
        return {*self.whole, *self.corrected}


def build(
    spark: SparkSession, place: Place, written: Written, snapshot: dict[str, Locations], asked_for: set[str]
) -> Built:
    """Write the marts of the dates that the load changes: those of new readings, those which a change of agreements or
    regions reaches, and those asked for."""
    is_little = snapshots.size(spark, snapshot) <= LITTLE_REFERENCE
    old, new = _references(spark, snapshot, place.load_id, in_memory=is_little)
    whole = written.whole_dates | asked_for
    reached = _reached(spark, whole, old, new, snapshot)
    changes = {str(day): each.meterpoints for day, each in written.changes.items()}
    concerned = {day: meterpoints for day, meterpoints in changes.items() if meterpoints and day not in whole}
    for row in _counted_by_date(reached) if reached is not None else ():
        concerned[str(row["date"])] = concerned.get(str(row["date"]), 0) + row["meterpoints"]
    corrected = _few(spark, written, concerned)
    whole |= concerned.keys() - corrected
    if not whole and not corrected:
        return Built()
    is_little = is_little and not corrected and _are_little(spark, written, new, whole)
    if not is_little:
        old, new = _references(spark, snapshot, place.load_id, in_memory=False)
    reached = of_spark(spark, reached) if reached is not None else None
    sides = _sides(spark, place, written, corrected, reached, old, new) if corrected else None
    return _write(spark, place, written, new, whole, corrected, sides, is_little=is_little)


def read_dates(spark: SparkSession) -> set[str]:
    """Dates that have readings. Those of which the readings are kept no longer still have totals, which must stay."""
    return tables.full_dates(tables.all_locations(spark, READINGS))


def calendar(dates: Collection[str]) -> Rows:
    """`marts.calendar` of dates as texts."""
    return marts.calendar(map(date.fromisoformat, dates))


def places_of_readings(spark: SparkSession, dates: Collection[str], written: Mapping[str, Locations]) -> Locations:
    """Where the readings of dates are as they will be when the load is published."""
    return tables.locations(spark, READINGS, dates) | tables.of_dates(written.get(READINGS, {}), dates)


def meterpoints(spark: SparkSession, snapshot: dict[str, Locations], load_id: str, *, in_memory: bool) -> Rows | None:
    """Meterpoints of the reference snapshot as it will be shown, None if there is none."""
    if CURRENT_SNAPSHOT in snapshot:
        written = snapshots.written_rows if in_memory else snapshots.written
        return written(spark, "meterpoint", snapshot, load_id)
    if not tables.partitions(spark, CURRENT_SNAPSHOT):
        return None
    return (snapshots.shown_rows if in_memory else snapshots.shown)(spark, "meterpoint")


def _references(
    spark: SparkSession, snapshot: dict[str, Locations], load_id: str, *, in_memory: bool
) -> tuple[Reference, Reference]:
    """As they are, and as they will be."""
    shown = partial(snapshots.shown_rows if in_memory else snapshots.shown, spark)
    written = partial(snapshots.written_rows if in_memory else snapshots.written, spark)
    read = partial(tables.read_rows if in_memory else tables.read, spark, REGIONS)
    live = tables.all_locations(spark, REGIONS)
    old = new = Reference(shown("agreement"), shown("product"), read(live))
    if CURRENT_SNAPSHOT in snapshot:
        agreement, product = (written(name, snapshot, load_id) for name in ("agreement", "product"))
        new = new._replace(agreement=agreement, product=product)
    return old, new._replace(regions=read(snapshot[REGIONS])) if REGIONS in snapshot else new


def _are_little(spark: SparkSession, written: Written, reference: Reference, dates: set[str]) -> bool:
    """Whether the readings of dates, and what is known of their meterpoints, are so little that they fit into memory,
    where the reference snapshot is."""
    known = len(dates) * (reference.agreement.num_rows + reference.regions.num_rows)
    if written.rows > silver.LITTLE_ROWS or known > LITTLE_PAIRS:
        return False
    bytes_of_readings = sum(tables.sizes(spark, places_of_readings(spark, dates, written.locations)))
    return bytes_of_readings // BYTES_A_READING <= silver.LITTLE_ROWS


def _reached(
    spark: SparkSession, whole: Collection[str], old: Reference, new: Reference, snapshot: dict[str, Locations]
) -> Rows | None:
    """Meterpoints, with the dates, that a new snapshot gives another agreement or region; those dates that are built
    `whole` left out. Columns: PAIR."""
    if not {CURRENT_SNAPSHOT, REGIONS} & snapshot.keys():
        return None
    dates, found = tables.partitions(spark, READINGS) - set(whole), []
    # One question to the metastore, where one for each date would take longer.
    held = read_dates(spark) if len(dates) <= FEW_DATES else None

    def with_readings(days: set[str]) -> set[str]:
        return days & held if held is not None else tables.full_dates(tables.locations(spark, READINGS, days))

    if CURRENT_SNAPSHOT in snapshot:
        of_agreements, changed = dates, marts.changed_details(old[:2], new[:2])
        if held is None:
            first, end = marts.changed_span(changed)
            of_agreements = {day for day in dates if str(first) <= day < str(end)}
        if of_agreements := with_readings(of_agreements):
            if isinstance(changed, pa.Table) and changed.num_rows * len(of_agreements) > LITTLE_PAIRS:
                changed = of_spark(spark, changed)  # and with it all that it is joined to
            found.append(marts.changed_agreements(calendar(of_agreements), changed, old[:2], new[:2]))
    if dates and REGIONS in snapshot:
        of_regions = regions.changed(spark, dates, old.regions, new.regions, with_readings)
        found += [of_regions] if of_regions is not None else []
    return kept(regions.either(*found)) if found else None


def _counted_by_date(pairs: Rows) -> list[dict[str, Any]]:
    counted = query("SELECT date, count(*) AS meterpoints FROM {pairs} GROUP BY date", pairs=pairs)
    return list(as_table(counted).to_pylist())


def _few(spark: SparkSession, written: Written, concerned: Mapping[str, int]) -> set[str]:
    """Those dates whose marts are to be corrected, not built anew: they are large, and few of their meterpoints change;
    `concerned` says how many do."""
    held = tables.locations(spark, READINGS, concerned) if concerned else {}
    readings = {day: number * READINGS_A_DAY for day, number in concerned.items()}
    large = silver.totals_of_large(spark, held, readings, concerned)
    layers = tables.locations(spark, DAILY_METERPOINT, large) if large else {}
    size = dict(zip(layers, tables.sizes(spark, layers), strict=True))
    few, pairs = set(), 0
    for day in sorted(large, key=lambda day: concerned[day]):
        late = size.get(f"{day}{tables.LATE}", 0) + concerned[day] * BYTES_A_METERPOINT
        pairs += concerned[day]
        if late * correct.PART < size.get(day, 0) and pairs <= MOST_PAIRS:
            few.add(day)
    return few


def _sides(
    spark: SparkSession,
    place: Place,
    written: Written,
    corrected: set[str],
    reached: DataFrame | None,
    old: Reference,
    new: Reference,
) -> tuple[Side, Side]:
    """The meterpoints that changed on dates that are corrected, before and after."""
    dates = of_spark(spark, calendar(corrected))
    of_dates = F.broadcast(dates.select("date"))
    readings = [
        silver.staged_rows(spark, place, name).join(of_dates, "date", "left_semi") for name in ("before", "after")
    ]
    pairs = readings[0].select(*PAIR).unionByName(readings[1].select(*PAIR)).distinct()
    if reached is not None:
        # Their readings are the same before and after.
        others = _settled(place, reached.join(of_dates, "date", "left_semi").join(pairs, PAIR, "left_anti"), "reached")
        known = others.select("meterpoint_id").distinct().limit(FEW_METERPOINTS + 1).collect()
        rows = tables.read(spark, READINGS, places_of_readings(spark, corrected, written.locations))
        if len(known) <= FEW_METERPOINTS:
            rows = rows.where(F.col("meterpoint_id").isin([row.meterpoint_id for row in known]))
        same = _settled(place, rows.join(F.broadcast(others), PAIR, "left_semi"), "same")
        readings = [each.unionByName(same) for each in readings]
        pairs = pairs.unionByName(others)
    pairs = _settled(place, pairs, "pairs")
    names = F.broadcast(pairs.select("meterpoint_id").distinct())

    def side(name: str, rows: DataFrame, reference: Reference) -> Side:
        agreement, of_regions = (
            each.join(names, "meterpoint_id", "left_semi") for each in (reference.agreement, reference.regions)
        )
        known = marts.agreements_on(dates, agreement, reference.product).join(F.broadcast(pairs), PAIR, "left_semi")
        daily = marts.daily_meterpoint_consumption(rows, known, dates)
        return Side(rows, _settled(place, daily, f"{name}_daily"), _settled(place, of_regions, f"{name}_regions"))

    return side("before", readings[0], old), side("after", readings[1], new)


def _settled(place: Place, rows: DataFrame, name: str) -> DataFrame:
    """Rows as files of the load, so that they are worked out once, and what is made of them has a short plan."""
    folder = f"{place.staging_uri}/{name}"
    rows.write.mode("overwrite").parquet(folder)
    return rows.sparkSession.read.schema(rows.schema).parquet(folder)


def _write(
    spark: SparkSession,
    place: Place,
    written: Written,
    reference: Reference,
    whole: set[str],
    corrected: set[str],
    sides: tuple[Side, Side] | None,
    *,
    is_little: bool,
) -> Built:
    new: dict[str, Locations] = {mart: {} for mart in tables.MARTS}
    changes: list[sums.Parts] = []
    if sides:
        new[DAILY_METERPOINT] |= _write_late(spark, place.load_id, corrected, *sides)
        given_before, given_now = (parts_of(side, calendar(corrected)) for side in sides)
        changes = [given_now, sums.less(given_before)]
    # A year's sums are as much as the driver should hold.
    for year in sorted(tables.holding(HALF_HOURLY, whole | corrected)):
        dates = {day for day in whole | corrected if day.startswith(year)}
        parts = changes
        if of_year := dates & whole:
            write_whole = _write_whole_here if is_little else _write_whole
            layers, of_whole = write_whole(spark, place.load_id, written, reference, of_year)
            new[DAILY_METERPOINT] |= layers
            parts = [*changes, of_whole]
        for mart in sums.MARTS:
            new[mart] |= sums.write_year(
                spark, mart, place.load_id, year, parts, dates=dates, corrected=corrected & dates
            )
    before, after = sides or (None, None)
    return Built(new, frozenset(whole), frozenset(corrected), before, after, is_little)


def _write_whole(
    spark: SparkSession, load_id: str, written: Written, reference: Reference, whole: set[str]
) -> tuple[Locations, sums.Parts]:
    """Write the mart by meterpoint of dates from all of their readings, and work out the sums of the others."""
    places = places_of_readings(spark, whole, written.locations)
    dates = of_spark(spark, calendar(tables.full_dates(places)))
    readings = tables.read(spark, READINGS, places)
    known = marts.known_on(dates, *reference).persist()

    def by_meterpoint() -> tuple[Locations, sums.Parts]:
        rows = marts.daily_meterpoint_consumption(readings, known, dates)
        # A query for one meterpoint opens a file a date, unless that is large, and skips most of it.
        ordered = rows.hint("rebalance", "date").sortWithinPartitions(*PAIR)
        new = tables.write(ordered, DAILY_METERPOINT, load_id, whole)
        days = marts.daily_sums(tables.read(spark, DAILY_METERPOINT, new), reference.regions)
        return new | _without_late(spark, whole), sums.of_days(days)

    sent = F.broadcast(known) if _bytes_of(known) <= MOST_SENT else known
    by_half_hour = marts.consumption_by_half_hour(readings, sent, dates)
    (layers, of_days), of_half_hours = at_once(
        by_meterpoint, lambda: sums.of_half_hours(marts.half_hourly_sums(by_half_hour))
    )
    known.unpersist()
    return layers, of_days | of_half_hours


def _write_whole_here(
    spark: SparkSession, load_id: str, written: Written, reference: Reference, whole: set[str]
) -> tuple[Locations, sums.Parts]:
    """The same in memory."""
    places = places_of_readings(spark, whole, written.locations)
    dates, readings = calendar(tables.full_dates(places)), tables.read_rows(spark, READINGS, places, dated=True)
    known = marts.known_on(dates, *reference)
    daily = marts.daily_meterpoint_consumption(readings, known, dates)
    ordered, columns = daily.sort_by("meterpoint_id"), tables.schema(spark, DAILY_METERPOINT)
    ordered = ordered.select([*columns.names, "date"])

    def write(day: str) -> Locations:
        rows = ordered.filter(pc.field("date") == date.fromisoformat(day)).drop_columns("date").cast(columns)
        return tables.write_portions(spark, [rows], DAILY_METERPOINT, load_id, day)

    with ThreadPoolExecutor(tables.THREADS) as pool:
        new = {day: folder for found in pool.map(write, whole) for day, folder in found.items()}
    of_days = sums.of_days(marts.daily_sums(daily, reference.regions))
    half_hours = marts.half_hourly_sums(marts.consumption_by_half_hour(readings, known, dates))
    return new | _without_late(spark, whole), of_days | sums.of_half_hours(half_hours)


def _without_late(spark: SparkSession, whole: Collection[str]) -> Locations:
    """Empty late layers of the mart by meterpoint for dates that have some: what was corrected is in their new base."""
    root, column = tables.root_and_column(spark, DAILY_METERPOINT)
    late = [value for value in tables.locations(spark, DAILY_METERPOINT, whole) if tables.is_late(value)]
    return {value: tables.folder_of(root, column, value) for value in late}


def _bytes_of(known: DataFrame) -> int:
    """What the names of meterpoints, products and regions take in memory, about."""
    texts = [F.coalesce(F.length(name), F.lit(0)) for name in ("meterpoint_id", "product_display_name", "region")]
    [[size]] = known.agg(F.sum(reduce(Column.__add__, texts, F.lit(BYTES_A_ROW)))).collect()
    return size or 0


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


def _write_late(spark: SparkSession, load_id: str, dates: Collection[str], before: Side, after: Side) -> Locations:
    """The late layer of the mart by meterpoint: those that changed as they are now, others as they were."""
    gone = before.daily.select(*PAIR).join(after.daily.select(*PAIR), PAIR, "left_anti")
    now = after.daily.unionByName(gone, allowMissingColumns=True)
    live = tables.locations(spark, DAILY_METERPOINT, dates)
    late = {value: folder for value, folder in live.items() if tables.is_late(value)}
    kept = tables.read_layer(spark, DAILY_METERPOINT, late).join(now.select(*PAIR), PAIR, "left_anti")
    content = now.unionByName(kept).repartition("date").sortWithinPartitions(*PAIR)
    return tables.write(content, DAILY_METERPOINT, load_id, [f"{day}{tables.LATE}" for day in dates])


def changed_rows(spark: SparkSession, built: Built) -> DataFrame:
    """What was written of mart.daily_meterpoint_consumption for whole dates, and for meterpoints that changed."""
    new = built.locations[DAILY_METERPOINT]
    whole, late = (
        {value: each for value, each in new.items() if tables.is_late(value) == is_late} for is_late in (0, 1)
    )
    rows = tables.read(spark, DAILY_METERPOINT, whole)
    corrected = tables.read_layer(spark, DAILY_METERPOINT, late).where(
        f"{tables.LAYERED[DAILY_METERPOINT]} IS NOT NULL"
    )
    sides = [side.daily.select(*PAIR) for side in (built.before, built.after) if side]
    pairs = reduce(DataFrame.unionByName, sides).distinct()
    return rows.unionByName(corrected.join(pairs, PAIR, "left_semi"))
