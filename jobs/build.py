"""Build the marts that a load changes: of dates that are new or were written whole, and of meterpoints of other dates.

Where few meterpoints of a large date changed, the marts are not built anew from all of its readings
(jobs/corrected.py).

Dates that are built whole are read a portion at a time, which this process works out in memory. What is much is left to
Spark's tasks where these have other machines.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial, reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.dataset import Dataset
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import marts, regions, silver, snapshots, sums, tables
from jobs.corrected import Reference, Side, parts_of, sides_of, write_late
from jobs.readings import correct
from jobs.readings.ingest import Place
from jobs.relations import MOST_IN_MEMORY, Rows, as_table, kept, of_spark, query, with_room
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
# So many bytes of a reference snapshot's files are read into memory, and about so many readings are there at a time, at
# 60 bytes each.
MOST_REFERENCE, PORTION = 64 * 1024 * 1024, 2_000_000


@dataclass(frozen=True)
class Built:
    """What was written of marts, and is not published."""

    locations: dict[str, Locations] = field(default_factory=dict)  # by table
    whole: frozenset[str] = frozenset()  # dates that were built from all of their readings
    corrected: frozenset[str] = frozenset()  # dates of which some meterpoints changed
    sides: tuple[Side, Side] | None = None  # those meterpoints, before the load and after it
    in_memory: bool = True  # there is room to measure it there

    @property
    def dates(self) -> set[str]:
        return {*self.whole, *self.corrected}


def build(
    spark: SparkSession, place: Place, written: Written, snapshot: dict[str, Locations], asked_for: set[str]
) -> Built:
    """Write the marts of the dates that the load changes: those of new readings, those which a change of agreements or
    regions reaches, and those asked for."""
    is_little = snapshots.size(spark, snapshot) <= MOST_REFERENCE
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
    places = places_of_readings(spark, whole, written.locations)
    of_corrected = places_of_readings(spark, corrected, written.locations)
    in_memory = is_little and is_for_here(spark, places | of_corrected)
    # What corrected meterpoints have is in memory at once.
    with_sides = in_memory and sum(concerned[day] for day in corrected) * READINGS_A_DAY <= PORTION
    references = old, new
    if is_little and not with_sides:
        references = _references(spark, snapshot, place.load_id, in_memory=False)
    sides = None
    if corrected:
        sides = sides_of(spark, place, of_corrected, calendar(corrected), reached, references, in_memory=with_sides)
    reference = new if in_memory else references[1]
    locations = _write(spark, place.load_id, places, reference, whole, corrected, sides, in_memory=in_memory)
    return Built(locations, frozenset(whole), frozenset(corrected), sides, with_sides)


def is_for_here(spark: SparkSession, places: Locations) -> bool:
    """Whether this process, and not Spark's tasks, works out what is made of readings at these places."""
    if str(spark.sparkContext.master).startswith("local"):  # which have the same cores, and take several times as long
        return True
    return sum(tables.sizes(spark, places)) // BYTES_A_READING <= silver.LITTLE_ROWS


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
            changed = with_room(spark, changed, len(of_agreements))
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


def _write(
    spark: SparkSession,
    load_id: str,
    places: Locations,
    reference: Reference,
    whole: set[str],
    corrected: set[str],
    sides: tuple[Side, Side] | None,
    *,
    in_memory: bool,
) -> dict[str, Locations]:
    new: dict[str, Locations] = {mart: {} for mart in tables.MARTS}
    changes: list[sums.Parts] = []
    if sides:
        new[DAILY_METERPOINT] |= write_late(spark, load_id, corrected, *sides)
        given_before, given_now = (parts_of(side, calendar(corrected)) for side in sides)
        changes = [given_now, sums.less(given_before)]
    write_whole = _write_whole_here if in_memory else _write_whole
    # A year's sums are as much as the driver should hold.
    for year in sorted(tables.holding(HALF_HOURLY, whole | corrected)):
        dates = {day for day in whole | corrected if day.startswith(year)}
        parts = changes
        if of_year := dates & whole:
            layers, of_whole = write_whole(spark, load_id, tables.of_dates(places, of_year), reference, of_year)
            new[DAILY_METERPOINT] |= layers | _without_late(spark, of_year)
            parts = [*changes, *of_whole]
        for mart in sums.MARTS:
            new[mart] |= sums.write_year(spark, mart, load_id, year, parts, dates=dates, corrected=corrected & dates)
    return new


def _write_whole(
    spark: SparkSession, load_id: str, places: Locations, reference: Reference, whole: set[str]
) -> tuple[Locations, list[sums.Parts]]:
    """Write the mart by meterpoint of dates from all of their readings, and work out the sums of the others."""
    dates = of_spark(spark, calendar(tables.full_dates(places)))
    readings = tables.read(spark, READINGS, places)
    known = marts.known_on(dates, *reference).persist()

    def by_meterpoint() -> tuple[Locations, sums.Parts]:
        rows = marts.daily_meterpoint_consumption(readings, known, dates)
        # A query for one meterpoint opens a file a date, unless that is large, and skips most of it.
        ordered = rows.hint("rebalance", "date").sortWithinPartitions(*PAIR)
        new = tables.write(ordered, DAILY_METERPOINT, load_id, whole)
        return new, sums.of_days(marts.daily_sums(tables.read(spark, DAILY_METERPOINT, new), reference.regions))

    sent = F.broadcast(known) if _bytes_of(known) <= MOST_SENT else known
    by_half_hour = marts.consumption_by_half_hour(readings, sent, dates)
    (layers, of_days), of_half_hours = at_once(
        by_meterpoint, lambda: sums.of_half_hours(marts.half_hourly_sums(by_half_hour))
    )
    known.unpersist()
    return layers, [of_days | of_half_hours]


def _write_whole_here(
    spark: SparkSession, load_id: str, places: Locations, reference: Reference, whole: set[str]
) -> tuple[Locations, list[sums.Parts]]:
    """The same in memory, a portion at a time."""
    columns, new, parts = tables.schema(spark, DAILY_METERPOINT), Locations(), list[sums.Parts]()

    def daily_of(content: Dataset, dates: pa.Table, span: pc.Expression | None) -> pa.Table:
        """The mart by meterpoint, in its order, of those meterpoints. Their sums are kept."""
        agreement, product, of_regions = reference
        if span is not None:
            content, agreement, of_regions = (each.filter(span) for each in (content, agreement, of_regions))
        readings = content.to_table(list(marts.OF_READINGS))
        known = marts.known_on(dates, agreement, product, of_regions)
        daily = marts.daily_meterpoint_consumption(readings, known, dates)
        half_hours = marts.half_hourly_sums(marts.consumption_by_half_hour(readings, known, dates))
        parts.append(sums.of_days(marts.daily_sums(daily, of_regions)) | sums.of_half_hours(half_hours))
        return daily.sort_by("meterpoint_id")

    for days in _together(spark, places, whole, reference):
        of_days = tables.of_dates(places, days)
        of_portion = partial(daily_of, tables.scan(spark, READINGS, of_days), calendar(tables.full_dates(of_days)))
        if len(days) > 1:
            new |= tables.write_dates(spark, of_portion(None), DAILY_METERPOINT, load_id, days)
            continue
        spans = tables.spans(tables.scan_layer(spark, READINGS, of_days), PORTION)
        portions = (of_portion(span).select(columns.names).cast(columns) for span in spans)
        new |= tables.write_portions(spark, portions, DAILY_METERPOINT, load_id, days[0])
    return new, parts


def _together(
    spark: SparkSession, places: Locations, dates: Collection[str], reference: Reference
) -> Iterator[list[str]]:
    """Dates that are worked out together: as many as are a portion, one that is more by itself."""
    readings: Counter[str] = Counter()
    for value, number in tables.rows_of(spark, READINGS, places).items():
        readings[tables.date_of(value)] += number
    most = max(1, MOST_IN_MEMORY // max(1, reference.agreement.num_rows + reference.regions.num_rows))
    together: list[str] = []
    for day in sorted(dates):
        if together and (len(together) == most or sum(readings[each] for each in (*together, day)) > PORTION):
            yield together
            together = []
        together.append(day)
    yield together


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
