"""The tables ops.* and quarantine.*: what loads did, and what they rejected. Partitioned by load_date.

They are published like all others, so each write is the whole new content of its load_date. Rows of a load that is not
in ops.loads are left behind by a run that was killed, and are dropped on the way: ops.loads is published last.
"""

import secrets
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.landing import Delivered
from jobs.quality import Verdict
from jobs.tables import Locations

LOADS = "ops.loads"
LOAD_FILES = "ops.load_files"
VALIDATIONS = "ops.validations"
PUBLICATIONS = "ops.publications"
PUBLISHING = "ops.publishing"
ROLLBACKS = "ops.rollbacks"
REJECTED_READINGS = "quarantine.readings"
REJECTED_FILES = "quarantine.files"

_TIME = "%Y%m%dT%H%M%S"
_WRITER = "writer"  # mark on ops.loads: the load that may publish


class Overtaken(Exception):
    """Another run has become the writer."""


class NotInQuarantine(Exception):
    """A file that is to be tried again is not in quarantine."""


def new_load_id(started_at: datetime) -> str:
    """An id that sorts by the time (UTC) at which the load started."""
    return f"{started_at:{_TIME}}-{secrets.token_hex(3)}"


def started_at(load_id: str) -> datetime:
    """When a load started, UTC, by its id."""
    return datetime.strptime(load_id.split("-")[0], _TIME).replace(tzinfo=UTC)


# --- one writer ----------------------------------------------------------------------------------------------------


def writer(spark: SparkSession) -> str | None:
    """The load that may publish: the last one that called `become_writer`."""
    return tables.marked(spark, LOADS, _WRITER)


def become_writer(spark: SparkSession, load_id: str, after: str | None) -> None:
    """From now on no other load can publish. `after` is who was the writer when this load looked at what there is.

    The lock of jobs.lock holds off runs on the same machine; this holds off those that do not see that lock, and those
    that slept while it was taken from them.

    Raises Overtaken if another load became the writer since then.
    """
    _hold(spark, after)
    tables.mark(spark, LOADS, _WRITER, load_id)


def publish(spark: SparkSession, table: str, locations: Locations, load_id: str) -> None:
    """Switch partitions of a table for the load that is the writer. Raises Overtaken if it no longer is."""
    _hold(spark, load_id)
    tables.publish(spark, table, locations)


def _hold(spark: SparkSession, expected: str | None) -> None:
    found = writer(spark)
    if found != expected:
        raise Overtaken(f"load {found} of another run came in between; this run publishes nothing more. Run it again")


# --- writing -------------------------------------------------------------------------------------------------------


def append(rows: DataFrame, table: str, load_id: str, load_date: date) -> None:
    """Publish rows of a load (columns of the table without load_id and load_date) beside those of that day's loads."""
    own = rows.withColumns({"load_id": F.lit(load_id), "load_date": F.lit(load_date)})
    before = _recorded_rows(rows.sparkSession, table, load_date)
    _replace(before.unionByName(own.select(*before.columns)), table, load_id, load_date)


def append_few(spark: SparkSession, rows: list[dict[str, Any]], table: str, load_id: str, load_date: date) -> None:
    """`append` for a handful of rows, without a Spark job."""
    if not rows:
        return
    schema = tables.schema(spark, table)
    before = tables.read_rows(spark, table, tables.locations(spark, table, [load_date]))
    if table != LOADS:
        before = before.filter(pc.is_in(before["load_id"], pa.array(recorded_loads(spark, load_date), pa.string())))
    own = pa.Table.from_pylist([row | {"load_id": load_id} for row in rows], schema)
    written = tables.write_rows(spark, pa.concat_tables([before, own]), table, load_id, load_date)
    publish(spark, table, written, load_id)


def append_publications(
    spark: SparkSession,
    published: dict[str, Locations],
    changes: dict[date, tuple[int, int, int]],
    load_id: str,
    load_date: date,
) -> None:
    """Record which partitions a load switched to which folders, and, by date, how many readings it added, changed and
    removed where there had been readings before."""
    names = ("readings_added", "readings_changed", "readings_removed")
    rows = []
    for table, locations in published.items():
        for value, folder in locations.items():
            counts = changes.get(date.fromisoformat(value)) if table == tables.READINGS else None
            row = {"table_name": table, "partition_value": value, "folder": folder}
            rows.append(row | dict(zip(names, counts or (None, None, None), strict=True)))
    append_few(spark, rows, PUBLICATIONS, load_id, load_date)


def append_validations(spark: SparkSession, verdicts: list[Verdict], load_id: str, load_date: date) -> None:
    """Record what the expectations said of each table that was judged."""
    rows = [
        {
            "table_name": verdict.table,
            "passed": verdict.passed,
            "expectations": verdict.evaluated,
            "critical_failures": verdict.critical,
            "warnings": verdict.warnings,
            "page": verdict.page,
        }
        for verdict in verdicts
    ]
    append_few(spark, rows, VALIDATIONS, load_id, load_date)


def begin_publication(spark: SparkSession, load_id: str) -> None:
    """Say that the load begins to switch tables. Until it is recorded gold.data_freshness tells readers so, and by this
    `interrupted` sees a load that did not come to its end."""
    rows = pa.Table.from_pylist([{"load_id": load_id, "began_at": datetime.now(UTC)}], tables.schema(spark, PUBLISHING))
    publish(spark, PUBLISHING, tables.write_rows(spark, rows, PUBLISHING, load_id, "last"), load_id)


def interrupted(spark: SparkSession) -> bool:
    """Whether the load that began to publish last did not come to its end."""
    began = tables.read_rows(spark, PUBLISHING, tables.all_locations(spark, PUBLISHING))["load_id"].to_pylist()
    return any(load not in recorded_loads(spark, started_at(load).date()) for load in began)


def recover(spark: SparkSession, load_id: str, load_date: date) -> Locations:
    """Undo what a run left that was killed while it published; `load_id` is the load that does it.

    The reference snapshot is switched back, and ops and quarantine are cleared of the run's rows. Dates that the run
    had begun to switch stay as they are until this load makes them anew, or readers would miss them meanwhile. Returned
    is where the readings of these dates were before the run: the load has to begin from there.
    """
    recorded = set(recorded_loads(spark))
    switched = switches(spark, recorded)

    def before(table: str) -> Locations:
        """Where recorded loads had switched those partitions that are elsewhere now."""
        root, column = tables.root_and_column(spark, table)
        found: Locations = {}
        for value, location in tables.all_locations(spark, table).items():
            # A load of an older version recorded no folders.
            unknown = location if tables.load_of(location) in recorded else tables.folder_of(root, column, value)
            folder = switched[table, value][-1][1] if (table, value) in switched else unknown
            if not tables.is_same(folder, location):
                found[value] = folder
        return found

    for table in (tables.CURRENT_SNAPSHOT, *tables.HISTORIES):
        publish(spark, table, before(table), load_id)
    for table in (REJECTED_READINGS, REJECTED_FILES, LOAD_FILES, VALIDATIONS, PUBLICATIONS):
        live = tables.all_locations(spark, table)
        left = {date.fromisoformat(day) for day, location in live.items() if tables.load_of(location) not in recorded}
        for day in left - {load_date}:  # `append` does it for this day
            _replace(_recorded_rows(spark, table, day), table, load_id, day)
    of_marts = {day for mart in tables.MARTS for day in before(mart)}
    return tables.locations(spark, tables.READINGS, of_marts) | before(tables.READINGS)


# --- reading -------------------------------------------------------------------------------------------------------


def recorded_loads(spark: SparkSession, load_date: date | None = None) -> list[str]:
    """Ids of loads that happened, of all time or of one day."""
    days = tables.locations(spark, LOADS, [load_date]) if load_date else tables.all_locations(spark, LOADS)
    return [str(load) for load in tables.read_rows(spark, LOADS, days)["load_id"].to_pylist()]


def switches(spark: SparkSession, loads: Collection[str]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Load and folder of each time that one of `loads` switched a partition, in order, by table and partition."""
    rows = tables.read_rows(spark, PUBLICATIONS, tables.all_locations(spark, PUBLICATIONS), _is_of(loads))
    switched = defaultdict(list)
    for row in rows.sort_by("load_id").to_pylist():
        switched[row["table_name"], row["partition_value"]].append((row["load_id"], row["folder"]))
    return dict(switched)


def recorded_files(spark: SparkSession) -> DataFrame:
    """ops.load_files, of loads that happened."""
    return spark.table(LOAD_FILES).join(spark.table(LOADS).select("load_id"), on="load_id", how="left_semi")


def in_quarantine(spark: SparkSession, names: Collection[str]) -> set[str]:
    """Files of which something is in quarantine and no later version came: those of `names`, or all of them but those
    of loads that were rolled back, which are to stay away.

    Raises NotInQuarantine.
    """
    files, rows = spark.table("quarantine.open_files"), spark.table("quarantine.open_readings")
    found = files.select("source_file", "load_id").union(rows.select("source_file", "load_id"))
    if not names:
        found = found.join(_rolled_back(spark), on="load_id", how="left_anti")
    known = {row.source_file for row in found.select("source_file").distinct().collect()}
    if unknown := sorted(set(names) - known):
        raise NotInQuarantine(f"{', '.join(unknown)}: not in quarantine; `lake quarantine list` tells what is")
    return set(names) or known


def new_files(spark: SparkSession, delivered: list[Delivered], again: Collection[str] = ()) -> pa.Table:
    """Delivered files that are to be read: those that are not known, or have another size or time than the version that
    is, those named in `again`, and with them those of which `_superseded` tells.

    Columns: source_file, size_bytes, modified_at, known_sha256 (of the version that is known, by which its bytes are
    recognised), first_date and last_date of the versions that are known, and of superseded files counted_sha256 and
    counted_modified_at, of the version whose readings count again.
    """
    schema = pa.schema(
        [("source_file", pa.string()), ("size_bytes", pa.int64()), ("modified_at", pa.timestamp("us", "UTC"))]
    )
    rows = [dict(zip(schema.names, file, strict=True)) for file in delivered]
    files = pa.Table.from_pylist(rows, schema=schema)
    files = files.join(_known_files(spark, files["source_file"]), "source_file", join_type="left outer")
    same = pc.and_(
        pc.equal(files["known_modified_at"], files["modified_at"]),
        pc.equal(files["known_size_bytes"], files["size_bytes"]),
    )
    asked_for = pc.is_in(files["source_file"], pa.array(again, pa.string()))
    new = pc.or_(pc.invert(pc.fill_null(same, False)), asked_for)
    known_sha256 = pc.if_else(asked_for, pa.scalar(None, pa.string()), files["known_sha256"])
    files = files.set_column(files.schema.get_field_index("known_sha256"), "known_sha256", known_sha256)
    files = files.drop_columns(["known_size_bytes", "known_modified_at"])
    known = files.filter(pc.and_(new, files["first_date"].is_valid()))
    superseded = _superseded(spark, pc.min(known["first_date"]).as_py(), pc.max(known["last_date"]).as_py())
    files = files.append_column("new", new).join(superseded, "source_file", join_type="left outer")
    found = files.filter(pc.or_(files["new"], files["counted_sha256"].is_valid())).drop_columns("new")
    return found.combine_chunks().sort_by("source_file")


def _known_files(spark: SparkSession, delivered: pa.ChunkedArray) -> pa.Table:
    """One row per delivered source_file that recorded loads took: size, modification time and checksum of its newest
    version, the dates of all versions. A file that could not be read (no checksum) is as good as unknown: it is tried
    again."""
    # Only these are read into memory: the table has all files that ever were delivered.
    wanted = pc.field("source_file").isin(delivered.combine_chunks()) & _is_of(recorded_loads(spark))
    versions = tables.read_rows(spark, LOAD_FILES, tables.all_locations(spark, LOAD_FILES), wanted)
    dates = versions.group_by("source_file").aggregate([("first_date", "min"), ("last_date", "max")])
    read = versions.filter(versions["sha256"].is_valid()).sort_by(
        [("source_file", "ascending"), ("load_id", "ascending")]
    )
    newest = read.group_by("source_file", use_threads=False).aggregate(
        [("size_bytes", "last"), ("modified_at", "last"), ("sha256", "last")]
    )
    return dates.join(newest, "source_file", join_type="left outer").rename_columns(
        {
            "first_date_min": "first_date",
            "last_date_max": "last_date",
            "size_bytes_last": "known_size_bytes",
            "modified_at_last": "known_modified_at",
            "sha256_last": "known_sha256",
        }
    )


def _superseded(spark: SparkSession, first: date | None, last: date | None) -> pa.Table:
    """Files with dates in the given span of which silver.readings holds fewer readings than they gave: other files have
    these too, and were modified later. With checksum and modification time of the version that counts, which is the
    newest that was not rolled back.

    When such another file is delivered again without them, these files' readings count again, so they must be read
    again.
    """
    schema = pa.schema(
        [
            ("source_file", pa.string()),
            ("counted_sha256", pa.string()),
            ("counted_modified_at", pa.timestamp("us", "UTC")),
        ]
    )
    if first is None:  # no known file is delivered again
        return schema.empty_table()
    version = F.struct("load_id", "rows_read", "rows_rejected", "first_date", "last_date", "sha256", "modified_at")
    files = (
        recorded_files(spark)
        .where("kind = 'readings' AND status = 'loaded'")
        .join(_rolled_back(spark), on="load_id", how="left_anti")
        .groupBy("source_file")
        .agg(F.max(version).alias("version"))
        .select("source_file", "version.*")
        .where((F.col("first_date") <= F.lit(last)) & (F.col("last_date") >= F.lit(first)))
    )
    ((begin, end),) = files.agg(F.min("first_date"), F.max("last_date")).collect()
    if begin is None:
        return schema.empty_table()
    held = (
        spark.table(tables.READINGS)
        .where(F.col("date").between(F.lit(begin), F.lit(end)))
        .groupBy("source_file", "load_id")
        .agg(F.count("*").alias("held"))
    )
    fewer = F.coalesce("held", F.lit(0)) < F.col("rows_read") - F.col("rows_rejected")
    found = files.join(held, on=["source_file", "load_id"], how="left").where(fewer)
    return found.select("source_file", "sha256", "modified_at").toArrow().rename_columns(schema.names).cast(schema)


def _is_of(loads: Collection[str]) -> pc.Expression:
    """Whether a row is of one of the loads. Of none, too: Arrow compares no text with an empty list without a type."""
    return pc.field("load_id").isin(pa.array(list(loads), pa.string()))


def _rolled_back(spark: SparkSession) -> DataFrame:
    return spark.table(ROLLBACKS).select(F.col("rolled_back_load_id").alias("load_id"))


def _recorded_rows(spark: SparkSession, table: str, load_date: date) -> DataFrame:
    """What a table holds of a day, of loads that happened."""
    rows = tables.read(spark, table, tables.locations(spark, table, [load_date]))
    recorded = spark.table(LOADS).select("load_id")
    return rows.join(recorded, on="load_id", how="left_semi").select(*rows.columns)


def _replace(rows: DataFrame, table: str, load_id: str, load_date: date) -> None:
    publish(rows.sparkSession, table, tables.write(rows.coalesce(1), table, load_id, [load_date]), load_id)
