"""The readings of a load, from files to folders that can be published: silver.readings and what stands beside it.

Tasks write what they read straight to its end place (jobs/readings/ingest.py). Only dates of which something is there
already, or which two files speak of for one meterpoint, are merged then (jobs/readings/merge.py).
"""

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.dataset import dataset
from pyarrow.fs import FileSelector, FileSystem
from pyspark import Accumulator, TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import expire, tables
from jobs.landing import open_folder, read_ahead
from jobs.progress import Done, Show, counted, shown
from jobs.readings import ingest
from jobs.readings.erased import Erased
from jobs.readings.ingest import (
    CLAIMS_SCHEMA,
    CONTESTED_SCHEMA,
    FILES_SCHEMA,
    READINGS_SCHEMA,
    REJECTED_SCHEMA,
    Place,
    Receipt,
)
from jobs.readings.merge import SUPERSEDED_SCHEMA, WRITTEN, Changes, merge_and_write, written_of
from jobs.settings import Settings
from jobs.tables import CLAIMS, CONTESTED, READINGS, THREADS, Locations

TASKS_A_CORE, FEW_FILES = 4, 50
FEW_ROWS_A_FILE, MOST_ROWS_A_FILE = 250_000, 2_000_000
BYTES_A_READING = 4  # of a Parquet file, about
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
        return sorted(map(date.fromisoformat, self.locations.get(READINGS, {})))

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
        return _ingest(place, files.to_pylist())
    context = spark.sparkContext
    tasks = min(TASKS_A_CORE * context.defaultParallelism, 1 + files.num_rows // FEW_FILES)
    # Each task has its files from the driver, and not by a shuffle. So it needs nothing of a machine that may die, and
    # when one does, its tasks are tried again by a higher number, which tells whose files count.
    dealt_out = [_packed(files.take(pa.array(range(first, files.num_rows, tasks)))) for first in range(tasks)]
    read = context.accumulator(0), context.accumulator(0)
    with shown(show, Done(files.num_rows, size), lambda: Done(*(each.value for each in read))) as told:
        work = partial(_ingest_task, place, read, told)
        rows = context.parallelize(dealt_out, tasks).mapPartitions(work).collect()
    receipt = ingest.total(map(Receipt.from_json, rows))
    if any(receipt.attempts.values()):
        _delete_files_of_dead_attempts(place, receipt)
    return receipt


def _packed(files: pa.Table) -> bytes:
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, files.schema) as writer:
        writer.write_table(files)
    return bytes(stream.getvalue().to_pybytes())


def _ingest_task(
    place: Place, read: "tuple[Accumulator[int], ...]", told: Path | None, dealt_out: Iterator[bytes]
) -> Iterator[bytes]:
    """`read` counts files and bytes of tasks that ended; in the folder `told` a task says how far it is."""
    context = TaskContext.get()
    task, attempt = (context.partitionId(), context.attemptNumber()) if context else (0, 0)
    files = [file for packed in dealt_out for file in pa.ipc.open_stream(packed).read_all().to_pylist()]
    receipt = _ingest(place, files, task, attempt, told and told / f"task-{task}.txt")
    for counter, number in zip(read, (len(files), sum(file["size_bytes"] for file in files)), strict=True):
        counter.add(number)
    yield receipt.to_json()


def _ingest(
    place: Place, files: list[dict[str, Any]], task: int = 0, attempt: int = 0, told: Path | None = None
) -> Receipt:
    def read(names: list[str]) -> Iterator[bytes | OSError]:
        contents = read_ahead(place.landing, place.landing_folder, names)
        return counted(contents, (file["size_bytes"] for file in files), told) if told else contents

    return ingest.ingest(files, read, place, task, attempt)


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


def held_dates(spark: SparkSession, retraction: Retraction, versions: pa.Table | None = None) -> set[str]:
    """Dates on which there are claims that a retraction takes back; if versions of files are given, of these alone."""
    claims = spark.table(CLAIMS)
    if versions is not None:
        claims = claims.join(F.broadcast(spark.createDataFrame(versions)), ["source_file", "load_id"], "left_semi")
    return {row.date.isoformat() for row in claims.where(retraction.holds(F.col)).select("date").distinct().collect()}


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
    dropped_dates: Collection[str] = (),
    only_held: bool = False,
) -> Written:
    """Make the folders of silver.readings, its contested readings and claims what the load says of its dates.

    `begun` is where a date's content was before a run that was killed (`ledger.loads.recover`). On `dropped_dates`
    claims are dropped that a retraction takes back, and those of versions of files (`reread`) that were read once more.
    With `only_held` files say nothing of meterpoint-days of which they said nothing before: so what was retracted stays
    away.
    """
    new_dates = set(receipt.readings)
    begun_dates = {day for found in begun.values() for day in found}
    touched = new_dates | begun_dates | set(dropped_dates)
    if not touched:
        return Written()
    held = {
        table: {
            day: folder
            for day, folder in (tables.locations(spark, table, touched) | begun.get(table, {})).items()
            if not tables.is_empty(folder)
        }
        for table in (READINGS, CONTESTED, CLAIMS)
    }
    fresh = {table: _fresh(spark, table, place.load_id, new_dates) for table in (READINGS, CLAIMS)}
    to_merge = touched if only_held else touched & (held[READINGS].keys() | held[CLAIMS].keys())
    to_merge |= _claimed_twice(spark, place, receipt, {day: fresh[CLAIMS][day] for day in new_dates - to_merge})
    direct = new_dates - to_merge
    written: dict[str, dict[str, Any]] = {}
    if to_merge:
        written = _merge(spark, place, receipt, held, fresh, to_merge, retraction, reread, only_held)
    locations: dict[str, Locations] = {table: {} for table in (READINGS, CONTESTED, CLAIMS)}
    for table, count in ((READINGS, "readings"), (CONTESTED, "contested"), (CLAIMS, "claims")):
        root, column = tables.root_and_column(spark, table)
        for day in touched:
            full = (day in direct and table != CONTESTED) or written.get(day, _NOTHING)[count] > 0
            # Hardly a date has contested readings, so that it gets no partition for none.
            if full or table != CONTESTED or day in held[table] or day in begun_dates:
                locations[table][day] = tables.folder_of(root, column, day, *([place.load_id] if full else []))
    changes = {
        date.fromisoformat(day): Changes(**{name: counts[name] for name in Changes._fields})
        for day, counts in written.items()
        if day in held[READINGS]
    }
    return Written(
        locations={table: found for table, found in locations.items() if found},
        rows=sum(receipt.readings[day] for day in direct) + sum(counts["readings"] for counts in written.values()),
        contested=sum(counts["contested"] for counts in written.values()),
        changes=changes,
    )


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
    only_held: bool,
) -> dict[str, dict[str, Any]]:
    """Merge the dates, and return what was written, as WRITTEN has it, by date."""
    folders = {table: {day: each[day] for day in dates & each.keys()} for table, each in held.items()}
    new = {table: {day: each[day] for day in dates & each.keys()} for table, each in fresh.items()}
    held_rows = tables.size(spark, folders[READINGS]) // BYTES_A_READING
    rows = held_rows + sum(receipt.readings[day] for day in dates)
    if rows <= LITTLE_ROWS:
        merged = _merge_here(place, folders, new, dates, retraction, reread, only_held)
    else:
        merged = _merge_by_tasks(spark, place, folders, new, rows // len(dates), retraction, reread, only_held)
    written = dict(written_of(merged))
    for root in (place.readings, place.claims):
        for day in dates & receipt.readings.keys():
            folder = f"{root}/date={day}/load={place.load_id}"
            for info in _list(place.lake, folder):
                if info.base_name.startswith("part-"):
                    place.lake.delete_file(info.path)
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
    held_rows = tables.read(spark, READINGS, held[READINGS]).withColumn("counts", F.lit(True))
    lost_rows = tables.read(spark, CONTESTED, held[CONTESTED]).withColumn("counts", F.lit(False))
    new_rows = tables.read(spark, READINGS, new[READINGS]).withColumn("counts", F.lit(False))
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
    retraction: Retraction | None,
    reread: pa.Table | None,
    only_held: bool,
) -> list[Any]:
    """The same without a Spark job, each date as one bucket."""
    roots = {READINGS: place.readings, CONTESTED: place.contested, CLAIMS: place.claims}
    taken_back = retraction.holds(pc.field) if retraction else pc.scalar(False)

    def version(rows: pa.Table) -> pa.ChunkedArray:
        return pc.binary_join_element_wise(rows["source_file"], rows["load_id"], "/")

    def merged(day: str) -> list[Any]:
        def content(places: dict[str, Locations], table: str, schema: pa.Schema, **flags: bool) -> pa.Table:
            rows = _content(place, roots[table], day, places[table].get(day), schema)
            for name, value in flags.items():
                rows = rows.append_column(name, pa.repeat(value, rows.num_rows))
            return rows

        local_date = date.fromisoformat(day)
        lost = content(held, CONTESTED, CONTESTED_SCHEMA, counts=False)
        rows = pa.concat_tables(
            [
                content(held, READINGS, READINGS_SCHEMA, counts=True),
                lost.append_column("known_from", pa.nulls(lost.num_rows, pa.string())).select(
                    [*READINGS_SCHEMA.names, "counts"]
                ),
                content(new, READINGS, READINGS_SCHEMA, counts=False),
            ]
        )
        held_claims = content(held, CLAIMS, CLAIMS_SCHEMA, is_new=False)
        held_claims = held_claims.append_column("date", pa.repeat(pa.scalar(local_date), held_claims.num_rows))
        columns = {name: pc.field(name) for name in (*CLAIMS_SCHEMA.names, "is_new")}
        flagged = dataset(held_claims).to_table(columns=columns | {"is_dropped": taken_back})
        if reread is not None and _is_kept(place, day):
            # Not as a condition for each version: Arrow comes to its end at some thousands.
            dropped = pc.or_(flagged["is_dropped"], pc.is_in(version(flagged), version(reread).combine_chunks()))
            flagged = flagged.set_column(flagged.num_columns - 1, "is_dropped", dropped)
        claims = pa.concat_tables([flagged, content(new, CLAIMS, CLAIMS_SCHEMA, is_new=True, is_dropped=False)])
        key = (pa.scalar(local_date), pa.scalar(0))
        return list(merge_and_write(place, only_held, key, rows, claims).to_pylist())

    with ThreadPoolExecutor(THREADS) as pool:
        return [row for rows in pool.map(merged, sorted(dates)) for row in rows]


def _is_kept(place: Place, day: str) -> bool:
    """Whether what a file says of a date is read. If not, one that is read once more says what it said before."""
    return not place.kept_from or date.fromisoformat(day) >= place.kept_from


def _content(place: Place, root: str, day: str, location: str | None, schema: pa.Schema) -> pa.Table:
    """The rows of a date's folder."""
    folder = f"{root}/date={day}/load={tables.folder_id(location)}" if location else ""
    paths = [info.path for info in _list(place.lake, folder)] if location else []
    parts = [
        pq.read_table(path, columns=schema.names, filesystem=place.lake, schema=schema, partitioning=None)
        for path in sorted(paths)
        if path.endswith(".parquet")
    ]
    return pa.concat_tables(parts) if parts else schema.empty_table()


_NOTHING: dict[str, Any] = dict.fromkeys(("readings", "contested", "claims", *Changes._fields), 0)


def _in_buckets(frame: DataFrame, buckets: int) -> Any:
    return frame.withColumn("bucket", F.pmod(F.hash("meterpoint_id"), F.lit(buckets))).groupBy("date", "bucket")


def _buckets(spark: SparkSession, rows_a_date: int, dates: int) -> int:
    """In how many parts a date is merged: enough that every core has work, while none is small or too large."""
    tasks = 2 * spark.sparkContext.defaultParallelism
    return max(1 + rows_a_date // MOST_ROWS_A_FILE, min(-(-tasks // dates), rows_a_date // FEW_ROWS_A_FILE))
