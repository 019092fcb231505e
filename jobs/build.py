"""Build the marts that a load changes: of dates that are new or were written whole, and of meterpoints of other dates.

Where few meterpoints of a large date changed, the marts are not built anew from all of its readings. Sums are what they
were, less what these meterpoints gave before, and with what they give now; of the mart by meterpoint a late layer has
them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import marts, regions, silver, snapshots, sums, tables
from jobs.readings import correct
from jobs.readings.ingest import Place
from jobs.silver import Written
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


class Reference(NamedTuple):
    """What a snapshot says: silver.agreement, silver.product and silver.meterpoint_regions."""

    agreement: DataFrame
    product: DataFrame
    regions: DataFrame


class Side(NamedTuple):
    """Meterpoints that changed, before the load or after it."""

    readings: DataFrame
    daily: DataFrame  # rows of mart.daily_meterpoint_consumption
    regions: DataFrame


@dataclass(frozen=True)
class Built:
    """What was written of marts, and is not published."""

    locations: dict[str, Locations] = field(default_factory=dict)  # by table
    whole: frozenset[str] = frozenset()  # dates that were built from all of their readings
    corrected: frozenset[str] = frozenset()  # dates of which some meterpoints changed
    before: Side | None = None  # those meterpoints
    after: Side | None = None

    @property
    def dates(self) -> set[str]:
        return {*self.whole, *self.corrected}


def build(
    spark: SparkSession, place: Place, written: Written, snapshot: dict[str, Locations], asked_for: set[str]
) -> Built:
    """Write the marts of the dates that the load changes: those of new readings, those which a change of agreements or
    regions reaches, and those asked for."""
    old, new = _references(spark, snapshot, place.load_id)
    whole = written.whole_dates | asked_for
    reached = _reached(spark, whole, old, new, snapshot)
    changes = {str(day): each.meterpoints for day, each in written.changes.items()}
    concerned = {day: meterpoints for day, meterpoints in changes.items() if meterpoints and day not in whole}
    for row in reached.groupBy("date").count().collect() if reached is not None else ():
        concerned[str(row.date)] = concerned.get(str(row.date), 0) + row["count"]
    corrected = _few(spark, written, concerned)
    whole |= concerned.keys() - corrected
    sides = _sides(spark, place, written, corrected, reached, old, new) if corrected else None
    if not whole and not corrected:
        return Built()
    return _write(spark, place, written, new, whole, corrected, sides)


def read_dates(spark: SparkSession) -> set[str]:
    """Dates that have readings. Those of which the readings are kept no longer still have totals, which must stay."""
    return tables.full_dates(tables.all_locations(spark, READINGS))


def calendar(spark: SparkSession, dates: Collection[str]) -> DataFrame:
    """`marts.calendar` of dates as texts."""
    return marts.calendar(spark, map(date.fromisoformat, dates))


def places_of_readings(spark: SparkSession, dates: Collection[str], written: Mapping[str, Locations]) -> Locations:
    """Where the readings of dates are as they will be when the load is published."""
    return tables.locations(spark, READINGS, dates) | tables.of_dates(written.get(READINGS, {}), dates)


def _references(spark: SparkSession, snapshot: dict[str, Locations], load_id: str) -> tuple[Reference, Reference]:
    """As they are, and as they will be."""
    old = Reference(snapshots.shown(spark, "agreement"), snapshots.shown(spark, "product"), spark.table(REGIONS))
    new = old
    if CURRENT_SNAPSHOT in snapshot:
        agreement, product = (snapshots.content(spark, name, snapshot, load_id) for name in ("agreement", "product"))
        new = new._replace(agreement=agreement, product=product)
    of_regions = snapshot.get(REGIONS) or tables.all_locations(spark, REGIONS)
    return old, new._replace(regions=tables.read(spark, REGIONS, of_regions))


def _reached(
    spark: SparkSession, whole: Collection[str], old: Reference, new: Reference, snapshot: dict[str, Locations]
) -> DataFrame | None:
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
        of_agreements = dates
        if held is None:
            first, end = marts.changed_span(old[:2], new[:2])
            of_agreements = {day for day in dates if str(first) <= day < str(end)}
        if of_agreements := with_readings(of_agreements):
            found.append(marts.changed_agreements(calendar(spark, of_agreements), old[:2], new[:2]))
    if dates and REGIONS in snapshot:
        of_regions = regions.changed(spark, dates, new.regions, with_readings)
        found += [of_regions] if of_regions is not None else []
    if not found:
        return None
    both = found[0] if len(found) == 1 else found[0].unionByName(found[1]).distinct()
    return both.persist()


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
    dates = calendar(spark, corrected)
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
) -> Built:
    new: dict[str, Locations] = {mart: {} for mart in tables.MARTS}
    changes: list[sums.Parts] = []
    if sides:
        new[DAILY_METERPOINT] |= _write_late(spark, place.load_id, corrected, *sides)
        before, after = (parts_of(side, calendar(spark, corrected)) for side in sides)
        changes = [after, sums.less(before)]
    # A year's sums are as much as the driver should hold.
    for year in sorted(tables.holding(HALF_HOURLY, whole | corrected)):
        dates = {day for day in whole | corrected if day.startswith(year)}
        parts = changes
        if of_year := dates & whole:
            layers, of_whole = _write_whole(spark, place.load_id, written, reference, of_year)
            new[DAILY_METERPOINT] |= layers
            parts = [*changes, of_whole]
        for mart in sums.MARTS:
            new[mart] |= sums.write_year(
                spark, mart, place.load_id, year, parts, dates=dates, corrected=corrected & dates
            )
    return Built(new, frozenset(whole), frozenset(corrected), *(sides or ()))


def _write_whole(
    spark: SparkSession, load_id: str, written: Written, reference: Reference, whole: set[str]
) -> tuple[Locations, sums.Parts]:
    """Write the mart by meterpoint of dates from all of their readings, and work out the sums of the others."""
    places = places_of_readings(spark, whole, written.locations)
    full = tables.full_dates(places)
    dates, readings = calendar(spark, full), tables.read(spark, READINGS, places)
    known = marts.known_on(dates, *reference).persist()

    def by_meterpoint() -> tuple[Locations, sums.Parts]:
        rows = marts.daily_meterpoint_consumption(readings, known, dates)
        # A query for one meterpoint opens a file a date, unless that is large, and skips most of it.
        ordered = rows.hint("rebalance", "date").sortWithinPartitions(*PAIR)
        new = tables.write(ordered, DAILY_METERPOINT, load_id, whole)
        days = marts.daily_sums(tables.read(spark, DAILY_METERPOINT, new), reference.regions)
        # Whatever was corrected of these dates is in their new base.
        root, column = tables.root_and_column(spark, DAILY_METERPOINT)
        late = [value for value in tables.locations(spark, DAILY_METERPOINT, whole) if tables.is_late(value)]
        return new | {value: tables.folder_of(root, column, value) for value in late}, sums.of_days(days)

    sent = F.broadcast(known) if _bytes_of(known) <= MOST_SENT else known
    by_half_hour = marts.consumption_by_half_hour(readings, sent, dates)
    (layers, of_days), of_half_hours = at_once(
        by_meterpoint, lambda: sums.of_half_hours(marts.half_hourly_sums(by_half_hour))
    )
    known.unpersist()
    return layers, of_days | of_half_hours


def _bytes_of(known: DataFrame) -> int:
    """What the names of meterpoints, products and regions take in memory, about."""
    texts = [F.coalesce(F.length(name), F.lit(0)) for name in ("meterpoint_id", "product_display_name", "region")]
    [[size]] = known.agg(F.sum(reduce(Column.__add__, texts, F.lit(BYTES_A_ROW)))).collect()
    return size or 0


def parts_of(side: Side, dates: DataFrame) -> sums.Parts:
    """What meterpoints give to the marts by year; `dates` is the calendar of their dates."""
    of_agreement = side.daily.select(*PAIR, "agreement_id", "product_display_name")
    known = marts.with_region(of_agreement, side.regions)
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
