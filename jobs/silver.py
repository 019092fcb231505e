"""The readings of a load, from files to folders that can be published: silver.readings and what stands beside it.

Tasks write what they read straight to its end place (jobs/readings/ingest.py), where their files become one
(jobs/readings/join.py). Only dates of which something is there already, or which two files speak of for one meterpoint,
are merged then (jobs/readings/merge.py); where that concerns a small part of a large date, this part alone
(jobs/readings/correct.py).
"""

from collections.abc import Callable, Collection, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset
from pyarrow.fs import FileSelector, FileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import expire, tables
from jobs.progress import Done, Show, shown
from jobs.readings import correct, ingest, join, task
from jobs.readings.erased import Erased
from jobs.readings.ingest import (
    CLAIMS_SCHEMA,
    FILES_SCHEMA,
    READINGS_SCHEMA,
    REJECTED_SCHEMA,
    Place,
    Receipt,
)
from jobs.readings.merge import SUPERSEDED_SCHEMA, WRITTEN, Changes, merge_and_write, written_of
from jobs.relations import Rows
from jobs.settings import Settings
from jobs.stores import open_folder
from jobs.tables import CLAIMS, CONTESTED, HALF_HOURLY, READINGS, THREADS, Locations

# Tables that the load of readings writes, and what their rows are called in what it counts.
KINDS = {READINGS: "readings", CONTESTED: "contested", CLAIMS: "claims"}
# A task has so many files or bytes at least, if there is more than one.
TASKS_A_CORE, FEW_FILES, FEW_BYTES = 4, 50, 8 * 1024 * 1024
MOST_JOINS = 1_000  # tasks that make one file of some
FEW_ROWS_A_FILE, MOST_ROWS_A_FILE = 250_000, 2_000_000
BYTES_A_READING = 4  # of a Parquet file, about; of a small one more
FEW_CLAIMS = 2_000_000  # are compared by the driver
# So little is read and merged by the driver alone: tasks would take longer to start their Python.
LITTLE_FILES, LITTLE_BYTES, LITTLE_ROWS = 300, 8 * 1024 * 1024, 500_000


class Retraction(NamedTuple):
    """Which claims a person takes back: those for which all that is given holds."""

    files: tuple[str, ...] = ()
    load_id: str | None = None
    meterpoint_id: str | None = None
    first: date | None = None
    last: date | None = None

    def holds(self, column: Callable[[str], Any]) -> Any:
        """The condition on a row of ops.claims; `column` makes Spark's columns or Arrow's, which are spelled alike."""
        condition = column("source_file") == column("source_file")
        if self.files:
            condition &= column("source_file").isin(list(self.files))
        if self.load_id:
            condition &= column("load_id") == self.load_id
        if self.meterpoint_id is not None:
            condition &= column("meterpoint_id") == self.meterpoint_id
        if self.first:
            condition &= column("date") >= self.first
        if self.last:
            condition &= column("date") <= self.last
        return condition


@dataclass(frozen=True)
class Written:
    """What was written of readings, and is not published."""

    locations: dict[str, Locations] = field(default_factory=dict)  # by table
    rows: int = 0  # which the folders of silver.readings hold
    contested: int = 0
    changes: dict[date, Changes] = field(default_factory=dict)  # of dates that had readings before

    @property
    def dates(self) -> list[date]:
        """Dates of which readings changed."""
        return sorted(map(date.fromisoformat, tables.dates_of(self.locations.get(READINGS, {}))))

    @property
    def whole_dates(self) -> set[str]:
        """Dates that were written whole. Of the other dates only some meterpoints were corrected."""
        return {value for value in self.locations.get(READINGS, {}) if not tables.is_late(value)}

    @property
    def superseded(self) -> int:
        """Readings whose value is known no longer."""
        return sum(each.changed + each.removed for each in self.changes.values())


def place_of(
    spark: SparkSession, settings: Settings, load_id: str, started_at: datetime, erased: Erased | None = None
) -> Place:
    """Where the tasks of a load read and write."""
    landing, landing_folder = open_folder(settings.landing, settings.s3_endpoint)
    lake, staging = open_folder(staging_folder(settings, load_id), settings.s3_endpoint)
    return Place(
        landing=landing,
        landing_folder=landing_folder,
        lake=lake,
        readings=_root(spark, settings, READINGS),
        contested=_root(spark, settings, CONTESTED),
        claims=_root(spark, settings, CLAIMS),
        staging=staging,
        staging_uri=staging_folder(settings, load_id),
        load_id=load_id,
        started_at=started_at,
        kept_from=expire.first_day(settings.keep_readings_months, expire.local_today(started_at)),
        erased=erased or Erased(),
    )


def _root(spark: SparkSession, settings: Settings, table: str) -> str:
    return open_folder(tables.root_and_column(spark, table)[0], settings.s3_endpoint)[1]


def staging_folder(settings: Settings, load_id: str) -> str:
    """Folder of what tasks hand to the end of their load: rejected rows, and what became of each file."""
    return f"{settings.warehouse}/staging/load={load_id}"


# --- read and judge ------------------------------------------------------------------------------------------------


def ingest_files(spark: SparkSession, files: pa.Table, place: Place, show: Show | None = None) -> Receipt:
    """Read the given files (columns as of ledger.files.to_read), and write what they say."""
    if not files.num_rows:
        return Receipt()
    size = pc.sum(files["size_bytes"]).as_py()
    if files.num_rows <= LITTLE_FILES and size <= LITTLE_BYTES:
        return task.ingest_files(place, files.to_pylist())
    context = spark.sparkContext
    enough = 1 + max(files.num_rows // FEW_FILES, size // FEW_BYTES)
    tasks = min(TASKS_A_CORE * context.defaultParallelism, files.num_rows, enough)
    # Each task has its files from the driver, and not by a shuffle. So it needs nothing of a machine that may die, and
    # when one does, its tasks are tried again by a higher number, which tells whose files count.
    dealt_out = [task.packed(files.take(pa.array(range(first, files.num_rows, tasks)))) for first in range(tasks)]
    read = context.accumulator(0), context.accumulator(0)
    with shown(show, Done(files.num_rows, size), lambda: Done(*(each.value for each in read))) as told:
        work = partial(task.run, place, read, told)
        rows = context.parallelize(dealt_out, tasks).mapPartitions(work).collect()
    receipt = ingest.total(map(Receipt.from_json, rows))
    if any(receipt.attempts.values()):
        _delete_files_of_dead_attempts(place, receipt)
    return receipt


def _delete_files_of_dead_attempts(place: Place, receipt: Receipt) -> None:
    """A task that died may have left files beside those of the attempt that took its place."""
    folders = [
        f"{root}/date={day}/load={place.load_id}" for root in (place.readings, place.claims) for day in receipt.readings
    ]
    for folder in [*folders, f"{place.staging}/files", f"{place.staging}/rejected"]:
        names = [info.base_name for info in _list(place.lake, folder)]
        for name in ingest.part_files_of_dead_attempts(names, receipt.attempts):
            place.lake.delete_file(f"{folder}/{name}")


def _list(file_system: FileSystem, folder: str) -> list[Any]:
    return list(file_system.get_file_info(FileSelector(folder, allow_not_found=True)))


def staged_rows(spark: SparkSession, place: Place, what: str, *, in_memory: bool) -> Rows:
    """Readings of meterpoints that were corrected, as they were `before` the load, or `after` it."""
    paths = [info.path for info in _list(place.lake, f"{place.staging}/{what}")]
    if in_memory:
        columns = tables.schema(spark, READINGS).append(pa.field("date", pa.date32()))
        return dataset(paths or columns.empty_table(), columns, filesystem=place.lake if paths else None)
    schema = spark.table(READINGS).schema
    return (
        spark.read.schema(schema).parquet(f"{place.staging_uri}/{what}") if paths else spark.createDataFrame([], schema)
    )


def staged(place: Place, what: str) -> pa.Table:
    """What tasks staged, in memory: `files`, `rejected` or `superseded`."""
    schema = {"files": FILES_SCHEMA, "rejected": REJECTED_SCHEMA, "superseded": SUPERSEDED_SCHEMA}[what]
    paths = [info.path for info in _list(place.lake, f"{place.staging}/{what}")]
    parts = [pq.read_table(path, filesystem=place.lake, schema=schema, partitioning=None) for path in sorted(paths)]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def begin_staging(place: Place) -> None:
    """Leave a mark that the load has begun. That of a load which failed or was killed stays: it tells the collection
    that there may be folders which nobody ever named."""
    place.lake.create_dir(place.staging, recursive=True)
    with place.lake.open_output_stream(f"{place.staging}/begun"):
        pass


def delete_staging(place: Place) -> None:
    """Delete what the load staged, and its mark: all that it wrote is named now."""
    if _list(place.lake, place.staging):
        place.lake.delete_dir(place.staging)


# --- which readings count ------------------------------------------------------------------------------------------


def held_dates(spark: SparkSession, retraction: Retraction, versions: pa.Table | None = None) -> dict[str, int]:
    """Dates on which there are claims that a retraction takes back, with how many readings they give; if versions of
    files are given, of these alone."""
    claims = spark.table(CLAIMS)
    if versions is not None:
        claims = claims.join(F.broadcast(spark.createDataFrame(versions)), ["source_file", "load_id"], "left_semi")
    taken_back = claims.where(retraction.holds(F.col)).groupBy("date").agg(F.sum("readings").alias("readings"))
    return {row.date.isoformat(): row.readings for row in taken_back.collect()}


def files_between(spark: SparkSession, first: date | None, last: date | None) -> set[str]:
    """Files with a claim on one of the dates."""
    claims = spark.table(CLAIMS).where(Retraction(first=first, last=last).holds(F.col))
    return {row.source_file for row in claims.select("source_file").distinct().collect()}


def merge_dates(
    spark: SparkSession,
    place: Place,
    receipt: Receipt,
    begun: dict[str, Locations],
    *,
    retraction: Retraction | None = None,
    reread: pa.Table | None = None,
    dropped: Mapping[str, int] = MappingProxyType({}),
    only_held: bool = False,
) -> Written:
    """Make the folders of silver.readings, its contested readings and claims what the load says of its dates.

    A date goes one of three ways. *Direct*: nothing is known of it, and no two files of the load speak of one
    meterpoint, so that its content is what the tasks wrote. *Merged*: it is small, or much of it changes; what is known
    and what is new are merged, and it is written whole. *Corrected*: it is large, and little changes; its late layer
    gets the meterpoints that do.

    `begun` is where a date's content was before a run that was killed (`ledger.loads.recover`). Of the dates in
    `dropped` claims are dropped that a retraction takes back, and those of versions of files (`reread`) that were read
    once more; it tells about how many readings they give. With `only_held` files say nothing of meterpoint-days of
    which they said nothing before: so what was retracted stays away.
    """
    new_dates = set(receipt.readings)
    begun_dates = {tables.date_of(value) for found in begun.values() for value in found}
    touched = new_dates | begun_dates | set(dropped)
    if not touched:
        return Written()
    held = {table: _held(spark, table, touched, begun) for table in KINDS}
    fresh = {table: _fresh(spark, table, place.load_id, new_dates) for table in (READINGS, CLAIMS)}
    sizes = {day: receipt.readings.get(day, 0) + dropped.get(day, 0) for day in touched}
    totals = {} if only_held else totals_of_large(spark, held[READINGS], sizes, touched - begun_dates)
    whole = touched - totals.keys()
    had_readings, had_claims = tables.dates_of(held[READINGS]), tables.dates_of(held[CLAIMS])
    to_merge = whole if only_held else whole & (had_readings | had_claims)
    to_merge |= _claimed_twice(
        spark, place, receipt, {day: fresh[CLAIMS][day] for day in (new_dates & whole) - to_merge}
    )
    direct = (new_dates & whole) - to_merge
    taken_back = partial(_taken_back, retraction, reread, place.kept_from) if retraction or reread is not None else None
    written: dict[str, dict[str, Any]] = {}
    if to_merge:
        written = _merge(spark, place, receipt, held, fresh, to_merge, retraction, reread, taken_back, only_held)
    corrected = _correct(spark, place, held, new_dates, {day: sizes[day] for day in totals}, taken_back)
    _delete_parts(place, (to_merge | totals.keys()) & new_dates)
    if direct and (len(receipt.attempts) > 1 or receipt.readings.total() >= ingest.MOST_ROWS):
        _join(spark, place, {day: receipt.readings[day] for day in direct})
    rows = {day: dict.fromkeys(("readings", "claims"), 1) for day in direct} | written
    had = {table: held[table].keys() | begun.get(table, {}).keys() for table in KINDS}
    locations = {
        table: _whole_dates(spark, table, place.load_id, whole, rows, had[table], begun_dates) for table in KINDS
    }
    for table, kind in KINDS.items():
        root, column = tables.root_and_column(spark, table)
        late = [f"{each.day}{tables.LATE}" for each in corrected if kind in each.rows]
        locations[table] |= {value: tables.folder_of(root, column, value, place.load_id) for value in late}
    changes = {
        date.fromisoformat(day): Changes(**{name: counts[name] for name in Changes._fields})
        for day, counts in written.items()
        if day in had_readings
    }
    changes |= {date.fromisoformat(each.day): _of_date(each.changes, *totals[each.day]) for each in corrected}
    return Written(
        locations={table: found for table, found in locations.items() if found},
        rows=sum(receipt.readings[day] for day in direct)
        + sum(counts["readings"] for counts in written.values())
        + sum(each.rows.get("readings", 0) for each in corrected),
        contested=sum(counts["contested"] for counts in written.values())
        + sum(each.rows.get("contested", 0) for each in corrected),
        changes=changes,
    )


def _held(spark: SparkSession, table: str, dates: Collection[str], begun: dict[str, Locations]) -> Locations:
    """Where something is of the dates, from which the load begins."""
    found = tables.locations(spark, table, dates) | begun.get(table, {})
    return {value: folder for value, folder in found.items() if not tables.is_empty(folder)}


def _whole_dates(
    spark: SparkSession,
    table: str,
    load_id: str,
    dates: Collection[str],
    rows: Mapping[str, Mapping[str, int]],
    had: AbstractSet[str],
    begun_dates: Collection[str],
) -> Locations:
    """Where a table's dates are that were written whole, each by how many `rows` it has of what kind. What it `had`
    of a late layer is in them."""
    root, column = tables.root_and_column(spark, table)
    found = {}
    for day in dates:
        full = rows.get(day, {}).get(KINDS[table], 0) > 0
        late = f"{day}{tables.LATE}"
        # Hardly a date has contested readings, so that it gets no partition for none.
        if full or table != CONTESTED or {day, late} & had or day in begun_dates:
            found[day] = tables.folder_of(root, column, day, *([load_id] if full else []))
        if late in had:
            found[late] = tables.folder_of(root, column, late)
    return found


def totals_of_large(
    spark: SparkSession, held: Locations, sizes: Mapping[str, int], dates: Collection[str]
) -> dict[str, tuple[int, Decimal]]:
    """Readings and kWh of those dates that are to be corrected, not written anew: they are large, and this load with
    the late layer that they have concerns a small part of them (`sizes` are its readings). `held` has their folders.

    The totals are those of the marts; of a date that an older version built these lack what a correction would change.
    """
    layers = tables.of_dates(held, dates)
    size = dict(zip(layers, tables.sizes(spark, layers), strict=True))

    def is_large(day: str) -> bool:
        late = size.get(f"{day}{tables.LATE}", 0) + sizes[day] * BYTES_A_READING
        return size.get(day, 0) >= correct.LARGE and late * correct.PART < size[day]

    large = sorted(filter(is_large, dates))
    if not large:
        return {}
    years = tables.locations(spark, HALF_HOURLY, tables.holding(HALF_HOURLY, large))
    columns = ("date", "meterpoint_count", "consumption_kwh", "expected_readings")
    rows = tables.read_rows(spark, HALF_HOURLY, years, tables.is_of_dates(large), columns)
    summed = rows.group_by("date").aggregate(
        [("meterpoint_count", "sum"), ("consumption_kwh", "sum"), ("expected_readings", "min")]
    )
    return {
        str(row["date"]): (row["meterpoint_count_sum"], row["consumption_kwh_sum"])
        for row in summed.to_pylist()
        if row["expected_readings_min"] is not None
    }


def _of_date(changes: Changes, readings: int, kwh: Decimal) -> Changes:
    """What changed of a date's readings, of what did of those of some meterpoints."""
    return changes._replace(before=readings, kwh_before=kwh, kwh_after=kwh + changes.kwh_after - changes.kwh_before)


def _correct(
    spark: SparkSession,
    place: Place,
    held: dict[str, Locations],
    new_dates: Collection[str],
    sizes: Mapping[str, int],
    taken_back: correct.TakenBack | None,
) -> list[correct.Corrected]:
    """Correct meterpoints of dates; `sizes` are the readings that it concerns."""
    if not sizes:
        return []
    roots = {"readings": place.readings, "contested": place.contested, "claims": place.claims}

    def of_date(day: str) -> correct.Date:
        late = f"{day}{tables.LATE}"
        layers = {}
        for table, kind in KINDS.items():
            folders = [_path(roots[kind], value, held[table].get(value)) for value in (day, late)]
            layers[kind] = correct.Layers(*folders)
        new = [f"{root}/date={day}/load={place.load_id}" if day in new_dates else None for root in roots.values()]
        targets = {kind: tables.folder_of(root, "date", late, place.load_id) for kind, root in roots.items()}
        return correct.Date(day, layers, targets, new_readings=new[0], new_claims=new[2])

    dates, work = [of_date(day) for day in sorted(sizes)], partial(correct.correct, place, taken_back)
    if sum(sizes.values()) <= LITTLE_ROWS:
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(work, dates))
    return spark.sparkContext.parallelize(dates, len(dates)).map(work).collect()


def _path(root: str, value: str, location: str | None) -> str | None:
    """A partition's folder as Arrow names it."""
    return tables.folder_of(root, "date", value, tables.folder_id(location)) if location else None


def _taken_back(
    retraction: Retraction | None, reread: pa.Table | None, kept_from: date | None, claims: pa.Table, day: date
) -> pa.ChunkedArray:
    """Which of a date's held claims are dropped: those that a retraction takes back, and those of versions of files
    that were read once more. `_merge_by_tasks` says the same to Spark."""
    dated = claims.append_column("date", pa.repeat(pa.scalar(day), claims.num_rows))
    holds = retraction.holds(pc.field) if retraction else pc.scalar(False)
    dropped = dataset(dated).to_table(columns={"is_dropped": holds})["is_dropped"]
    # If readings of the date are kept no longer, a file that is read once more says of it what it said before.
    if reread is None or (kept_from and day < kept_from):
        return dropped

    def version(rows: pa.Table) -> pa.ChunkedArray:
        return pc.binary_join_element_wise(rows["source_file"], rows["load_id"], "/")

    # Not as a condition for each version: Arrow comes to its end at some thousands.
    return pc.or_(dropped, pc.is_in(version(claims), version(reread).combine_chunks()))


def _delete_parts(place: Place, dates: Collection[str]) -> None:
    """Delete what tasks wrote of dates of which the merged content was written then."""
    for folder in (
        f"{root}/date={day}/load={place.load_id}" for root in (place.readings, place.claims) for day in dates
    ):
        found = _list(place.lake, folder)
        parts = [info for info in found if info.base_name.startswith("part-")]
        for info in parts:
            place.lake.delete_file(info.path)
        if parts and len(parts) == len(found) and place.lake.type_name == "local":  # an object store has no folders
            place.lake.delete_dir(folder)


def _join(spark: SparkSession, place: Place, rows: Mapping[str, int]) -> None:
    """Make few files of what some tasks wrote of each date; `rows` says how many readings these have."""
    work = partial(join.join, place)
    with ThreadPoolExecutor(ingest.WRITERS) as pool:
        parts = list(chain.from_iterable(pool.map(partial(join.parts_of, place), rows)))
        if sum(rows.values()) <= LITTLE_ROWS:
            list(pool.map(work, parts))
        elif parts:  # each date may be of one task
            tasks = min(len(parts), MOST_JOINS)
            spark.sparkContext.parallelize(parts, tasks).foreach(work)
        list(pool.map(place.lake.delete_file, chain.from_iterable(each.paths for each in parts)))


def _fresh(spark: SparkSession, table: str, load_id: str, dates: Collection[str]) -> Locations:
    """Where the tasks of the load have written."""
    root, column = tables.root_and_column(spark, table)
    return {day: tables.folder_of(root, column, day, load_id) for day in dates}


def _claimed_twice(spark: SparkSession, place: Place, receipt: Receipt, fresh: Locations) -> set[str]:
    """Dates on which two files of the load speak of one meterpoint."""
    if not fresh or receipt.files["loaded"] < 2:
        return set()
    if receipt.claims > FEW_CLAIMS:
        counted = tables.read(spark, CLAIMS, fresh).groupBy("date", "meterpoint_id").count()
        return {row.date.isoformat() for row in counted.where("count > 1").select("date").distinct().collect()}

    def twice(day: str) -> bool:
        folder = f"{place.claims}/date={day}/load={place.load_id}"
        paths = [info.path for info in _list(place.lake, folder)]
        columns = [
            pq.read_table(path, filesystem=place.lake, columns=["meterpoint_id"], partitioning=None) for path in paths
        ]
        names = pa.concat_tables(columns)["meterpoint_id"]
        return bool(pc.count_distinct(names).as_py() < len(names))

    with ThreadPoolExecutor(THREADS) as pool:
        return {day for day, is_twice in zip(fresh, pool.map(twice, fresh), strict=True) if is_twice}


def _merge(
    spark: SparkSession,
    place: Place,
    receipt: Receipt,
    held: dict[str, Locations],
    fresh: dict[str, Locations],
    dates: set[str],
    retraction: Retraction | None,
    reread: pa.Table | None,
    taken_back: correct.TakenBack | None,
    only_held: bool,
) -> dict[str, dict[str, Any]]:
    """Merge the dates, and return what was written, as WRITTEN has it, by date."""
    folders = {table: tables.of_dates(each, dates) for table, each in held.items()}
    new = {table: {day: each[day] for day in dates & each.keys()} for table, each in fresh.items()}
    held_rows = sum(tables.sizes(spark, folders[READINGS])) // BYTES_A_READING
    rows = held_rows + sum(receipt.readings[day] for day in dates)
    if rows <= LITTLE_ROWS:
        merged = _merge_here(place, folders, new, dates, taken_back, only_held)
    else:
        merged = _merge_by_tasks(spark, place, folders, new, rows // len(dates), retraction, reread, only_held)
    written = dict(written_of(merged))
    return {day: written.get(day, _NOTHING) for day in dates}


def _merge_by_tasks(
    spark: SparkSession,
    place: Place,
    held: dict[str, Locations],
    new: dict[str, Locations],
    rows_a_date: int,
    retraction: Retraction | None,
    reread: pa.Table | None,
    only_held: bool,
) -> list[Any]:
    held_rows, lost_rows, new_rows = (
        tables.read(spark, table, folders).withColumns({"is_new": F.lit(is_new), "counts": F.lit(counts)})
        for table, folders, is_new, counts in (
            (READINGS, held[READINGS], False, True),
            (CONTESTED, held[CONTESTED], False, False),
            (READINGS, new[READINGS], True, False),
        )
    )
    rows = held_rows.unionByName(lost_rows, allowMissingColumns=True).unionByName(new_rows)
    held_claims = tables.read(spark, CLAIMS, held[CLAIMS]).withColumn("is_new", F.lit(False))
    dropped = retraction.holds(F.col) if retraction else F.lit(False)
    if reread is not None:
        again = F.broadcast(spark.createDataFrame(reread).withColumn("is_reread", F.lit(True)))
        held_claims = held_claims.join(again, ["source_file", "load_id"], "left")
        kept = F.col("date") >= F.lit(place.kept_from) if place.kept_from else F.lit(True)
        dropped = dropped | (F.coalesce("is_reread", F.lit(False)) & kept)
    held_claims = held_claims.withColumn("is_dropped", dropped).drop("is_reread")
    new_claims = tables.read(spark, CLAIMS, new[CLAIMS]).withColumns(
        {"is_new": F.lit(True), "is_dropped": F.lit(False)}
    )
    claims = held_claims.unionByName(new_claims)
    buckets = _buckets(spark, rows_a_date, len(held[READINGS].keys() | new[READINGS].keys()))
    return list(
        _in_buckets(rows, buckets)
        .cogroup(_in_buckets(claims, buckets))
        .applyInArrow(partial(merge_and_write, place, only_held), WRITTEN)
        .collect()
    )


def _merge_here(
    place: Place,
    held: dict[str, Locations],
    new: dict[str, Locations],
    dates: Collection[str],
    taken_back: correct.TakenBack | None,
    only_held: bool,
) -> list[Any]:
    """Merge the dates in this process, each as one bucket. For more, `_merge_by_tasks` does it in Spark."""

    def merged(day: str) -> list[Any]:
        def of_held(table: str, kind: str, root: str) -> pa.Table:
            layers = (_path(root, value, held[table].get(value)) for value in (day, f"{day}{tables.LATE}"))
            return correct.rows_of(place.lake, kind, correct.Layers(*layers))

        def of_new(table: str, root: str, schema: pa.Schema) -> pa.Table:
            return correct.content(place.lake, _path(root, day, new[table].get(day)), schema)

        local_date = date.fromisoformat(day)
        lost = correct.with_columns(of_held(CONTESTED, "contested", place.contested), READINGS_SCHEMA)
        rows = pa.concat_tables(
            [
                correct.flagged(of_held(READINGS, "readings", place.readings), is_new=False, counts=True),
                correct.flagged(lost, is_new=False, counts=False),
                correct.flagged(of_new(READINGS, place.readings, READINGS_SCHEMA), is_new=True, counts=False),
            ]
        )
        held_claims = of_held(CLAIMS, "claims", place.claims)
        dropped = taken_back(held_claims, local_date) if taken_back else pa.repeat(False, held_claims.num_rows)
        new_claims = of_new(CLAIMS, place.claims, CLAIMS_SCHEMA)
        claims = pa.concat_tables(
            [
                correct.flagged(held_claims, is_new=False).append_column("is_dropped", dropped),
                correct.flagged(new_claims, is_new=True, is_dropped=False),
            ]
        )
        key = (pa.scalar(local_date), pa.scalar(0))
        return list(merge_and_write(place, only_held, key, rows, claims).to_pylist())

    with ThreadPoolExecutor(THREADS) as pool:
        return [row for rows in pool.map(merged, sorted(dates)) for row in rows]


_NOTHING: dict[str, Any] = dict.fromkeys(("readings", "contested", "claims", *Changes._fields), 0)


def _in_buckets(frame: DataFrame, buckets: int) -> Any:
    return frame.withColumn("bucket", F.pmod(F.hash("meterpoint_id"), F.lit(buckets))).groupBy("date", "bucket")


def _buckets(spark: SparkSession, rows_a_date: int, dates: int) -> int:
    """In how many parts a date is merged: enough that every core has work, while none is small or too large."""
    tasks = 2 * spark.sparkContext.defaultParallelism
    return max(1 + rows_a_date // MOST_ROWS_A_FILE, min(-(-tasks // dates), rows_a_date // FEW_ROWS_A_FILE))
