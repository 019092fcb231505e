"""What happened: the tables ops.* and quarantine.*, partitioned by load_date.

They are published like all others, so each write is the whole new content of its load_date. Days that are over are
folded into months and years (jobs/compact.py); a load only writes its own day, which is not. A load that is not in
ops.loads did not happen: that table is published last, and rows elsewhere of a run that was killed are dropped.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import tables
from jobs.ledger import writer
from jobs.ledger.days import partitions_of
from jobs.ledger.writer import day_of, publish
from jobs.quality import Verdict
from jobs.readings.merge import Changes
from jobs.tables import (
    BY_YEAR,
    CLAIMS,
    CONTESTED,
    DAILY_METERPOINT,
    HALF_HOURLY,
    LOADS,
    MARTS,
    PUBLICATIONS,
    PUBLISHING,
    READINGS,
    ROLLBACKS,
    VALIDATIONS,
    Locations,
)

# --- writing -------------------------------------------------------------------------------------------------------


def begin(spark: SparkSession, after: str | None, *, accept_clock: bool = False) -> str:
    """The id of a new load, which alone may publish from now on. `after` is who was the writer when this load looked
    at what there is.

    Raises ClockBehind, or Overtaken if another load became the writer since then.
    """
    earlier = [*recorded_loads(spark), *([after] if after else [])]
    load_id = writer.new_load_id(datetime.now(UTC), earlier, accept_clock=accept_clock)
    writer.become_writer(spark, load_id, after)
    return load_id


def append(rows: DataFrame, table: str, load_id: str) -> None:
    """Publish many rows of a load (columns of the table without load_id and load_date) beside those of that day."""
    load_date = day_of(load_id)
    own = rows.withColumns({"load_id": F.lit(load_id), "load_date": F.lit(load_date)})
    before = _recorded_rows(rows.sparkSession, table, load_date, load_id)
    _replace(before.unionByName(own.select(*before.columns), allowMissingColumns=True), table, load_id, load_date)


def append_rows(spark: SparkSession, rows: list[dict[str, Any]] | pa.Table, table: str, load_id: str) -> None:
    """`append` for rows that fit into memory, without a Spark job. Columns that are missing are null."""
    schema, load_date = tables.schema(spark, table), day_of(load_id)
    own = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, _without_load_id(schema))
    if not own.num_rows:
        return
    live = tables.locations(spark, table, [load_date])
    before = tables.read_rows(spark, table, live)
    if table != LOADS:
        # The load's own rows stay: it may append to a table more than once.
        kept = [*recorded_loads(spark, load_date), load_id]
        before = before.filter(pc.is_in(before["load_id"], pa.array(kept, pa.string())))
    own = own.append_column("load_id", pa.repeat(load_id, own.num_rows))
    columns = [
        own[field.name].cast(field.type) if field.name in own.column_names else pa.nulls(own.num_rows, field.type)
        for field in schema
    ]
    both = pa.concat_tables([before, pa.table(columns, schema=schema)])
    folder = free_folder(live.get(str(load_date)), load_id)
    written = tables.write_rows(spark, both, table, folder, load_date)
    publish(spark, table, written, load_id)


def free_folder(live: str | None, load_id: str) -> str:
    """Id of a folder that is not there yet, for a partition whose folder is `live`. A load may write its day of a table
    twice: when it clears what a dead run left, and when it adds its own rows. Folders never change, so the second one
    is another."""
    if live is None or tables.load_of(live) != load_id:
        return load_id
    return f"{load_id}_{int(tables.folder_id(live).partition('_')[2] or 0) + 1}"


def _without_load_id(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field for field in schema if field.name != "load_id"])


def append_change(
    spark: SparkSession, load_id: str, kind: str, started_at: datetime, new: Mapping[str, Locations], **more: Any
) -> None:
    """Record a load that read no file: with that it has happened. `new` are the partitions that it switched."""
    dates = set(map(date.fromisoformat, tables.dates_of(new.get(READINGS, {}))))
    load = {
        "status": "published",
        "kind": kind,
        "started_at": started_at,
        "finished_at": datetime.now(UTC),
        "dates_published": len(dates),
        "mart_dates_published": len(tables.dates_of(new.get(DAILY_METERPOINT, {}))),
        "first_date": min(dates, default=None),
        "last_date": max(dates, default=None),
        "warnings": 0,
    }
    append_rows(spark, [load | more], LOADS, load_id)


def append_publications(
    spark: SparkSession,
    published: dict[str, Locations],
    replaced: dict[str, Locations],
    changes: dict[date, Changes],
    load_id: str,
) -> None:
    """Record which partitions a load switched to which folders, in place of which, and, by date, how many readings it
    added, changed and removed where there had been readings before."""
    rows, told = [], set()
    for table, locations in published.items():
        for value, folder in sorted(locations.items()):
            row: dict[str, Any] = {"table_name": table, "partition_value": value, "folder": folder}
            row["replaced_folder"] = replaced.get(table, {}).get(value)
            day = tables.date_of(value)
            # Once, where a date is written whole and its late layer becomes empty.
            if table == READINGS and day not in told and (change := changes.get(date.fromisoformat(day))):
                told.add(day)
                row |= {f"readings_{name}": getattr(change, name) for name in ("added", "changed", "removed")}
                row |= {name: getattr(change, name) for name in ("meterpoints", "kwh_before", "kwh_after")}
            rows.append(row)
    append_rows(spark, rows, PUBLICATIONS, load_id)


def append_validations(spark: SparkSession, verdicts: list[Verdict], load_id: str) -> None:
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
    append_rows(spark, rows, VALIDATIONS, load_id)


def begin_publication(spark: SparkSession, load_id: str) -> None:
    """Say that the load begins to switch tables. Until it is recorded gold.data_freshness tells readers so, and by this
    `interrupted` sees a load that did not come to its end."""
    rows = pa.Table.from_pylist([{"load_id": load_id, "began_at": datetime.now(UTC)}], tables.schema(spark, PUBLISHING))
    publish(spark, PUBLISHING, tables.write_rows(spark, rows, PUBLISHING, load_id, "last"), load_id)


# --- a run that was killed -----------------------------------------------------------------------------------------


def interrupted(spark: SparkSession) -> bool:
    """Whether the load that began to publish last did not come to its end."""
    began = tables.read_rows(spark, PUBLISHING, tables.all_locations(spark, PUBLISHING))["load_id"].to_pylist()
    return any(load not in recorded_loads(spark, day_of(load)) for load in began)


def recover(spark: SparkSession, load_id: str) -> dict[str, Locations]:
    """Undo what a run left that was killed while it published; `load_id` is the load that does it.

    The reference snapshot is switched back, and ops and quarantine are cleared of the run's rows. Dates that the run
    had begun to switch stay as they are until this load makes them anew, because readers would miss them meanwhile.
    Returned is, by table, where readings and claims of these dates were before the run: the load begins from there.
    Dates of which totals alone were kept are switched back at once: these cannot be made anew.
    """
    recorded = set(recorded_loads(spark))
    before = partial(before_dead_run, spark, recorded, switches(spark, recorded))
    for table in (tables.CURRENT_SNAPSHOT, *tables.HISTORIES):
        publish(spark, table, before(table), load_id)
    for table in tables.OF_LOADS:
        for day, location in tables.all_locations(spark, table).items():
            if tables.load_of(location) not in recorded:
                _replace(_recorded_rows(spark, table, date.fromisoformat(day)), table, load_id, date.fromisoformat(day))
    earlier = {table: before(table) for table in (READINGS, CONTESTED, CLAIMS, *MARTS)}
    # Marts by year have no other dates: a load switches those of its dates before them.
    begun = {tables.date_of(value) for table, found in earlier.items() if table not in BY_YEAR for value in found}
    held = {table: tables.locations(spark, table, begun) | earlier[table] for table in (READINGS, CONTESTED, CLAIMS)}
    expired = _with_totals_alone(spark, begun, held[READINGS], earlier[HALF_HOURLY])
    for table, found in earlier.items() if expired else ():
        publish(spark, table, found if table in BY_YEAR else tables.of_dates(found, expired), load_id)
    return {table: tables.of_dates(found, begun - expired) for table, found in held.items()}


def _with_totals_alone(spark: SparkSession, dates: set[str], readings: Locations, totals: Locations) -> set[str]:
    """Those of the dates that have no readings, and have totals. `readings` is where the dates' are, and `totals` where
    years' are that are not looked for where they are now."""
    without = dates - tables.full_dates(readings)
    if not without:
        return set()
    years = tables.locations(spark, HALF_HOURLY, tables.holding(HALF_HOURLY, without)) | totals
    full = {year: folder for year, folder in years.items() if not tables.is_empty(folder)}
    rows = tables.read_rows(spark, HALF_HOURLY, full, tables.is_of_dates(without), ["date", "meterpoint_count"])
    return set(map(str, pc.unique(rows.filter(pc.field("meterpoint_count") > 0)["date"]).to_pylist()))


def before_dead_run(
    spark: SparkSession, recorded: set[str], switched: dict[tuple[str, str], list[tuple[str, str]]], table: str
) -> Locations:
    """Where recorded loads had switched those partitions of a table that are elsewhere now."""
    root, column = tables.root_and_column(spark, table)
    found: Locations = {}
    for value, location in tables.all_locations(spark, table).items():
        # A load of an older version recorded no folders.
        unknown = location if tables.load_of(location) in recorded else tables.folder_of(root, column, value)
        folder = switched[table, value][-1][1] if (table, value) in switched else unknown
        if not tables.is_same(folder, location):
            found[value] = folder
    return found


# --- reading -------------------------------------------------------------------------------------------------------


def recorded_loads(spark: SparkSession, load_date: date | None = None) -> list[str]:
    """Ids of loads that happened, of all time or of one day."""
    return [str(load) for load in _loads(spark, load_date, only=["load_id"])["load_id"].to_pylist()]


def loads_that_published(spark: SparkSession) -> list[str]:
    """Ids of loads that did not fail. Files of a load that failed are not known: the next load reads them again."""
    loads = _loads(spark, only=["load_id", "status"])
    return [str(load) for load in loads.filter(pc.not_equal(loads["status"], "failed"))["load_id"].to_pylist()]


def _loads(spark: SparkSession, load_date: date | None = None, only: Collection[str] | None = None) -> pa.Table:
    days = places_of(spark, LOADS, [load_date]) if load_date else tables.all_locations(spark, LOADS)
    return tables.read_rows(spark, LOADS, days, only=only)


def places_of(spark: SparkSession, table: str, days: Iterable[date]) -> Locations:
    """The partitions of a table of loads that may hold rows of the given days; they may hold rows of others."""
    return tables.locations(spark, table, partitions_of(days))


def switches(spark: SparkSession, loads: Collection[str]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Load and folder of each time that one of `loads` switched a partition, in order, by table and partition."""
    rows = tables.read_rows(spark, PUBLICATIONS, tables.all_locations(spark, PUBLICATIONS), is_of(loads))
    switched = defaultdict(list)
    rows = rows.filter(pc.is_in(rows["table_name"], pa.array(tables.DATA)))  # others are of an older version
    places = {table: tables.root_and_column(spark, table) for table in set(rows["table_name"].to_pylist())}
    for row in rows.sort_by("load_id").to_pylist():
        table, value = row["table_name"], row["partition_value"]
        # Where the folder is now: the warehouse may have been moved since.
        folder = tables.folder_of(*places[table], value, tables.folder_id(row["folder"]))
        switched[table, value].append((row["load_id"], folder))
    return dict(switched)


def is_of(loads: Collection[str]) -> pc.Expression:
    """Whether a row is of one of the loads.

    The list has an explicit type because Arrow cannot compare strings with an untyped empty list.
    """
    return pc.field("load_id").isin(pa.array(list(loads), pa.string()))


# Loads that cannot be rolled back, nor any that came before them.
FINAL = ("upgrade", "erase")


class Event(NamedTuple):
    """A load or a rollback that happened and changed what readers see."""

    load_id: str
    kind: str
    target: str  # load that is put into effect, or taken out of it; of a load itself
    in_effect: bool  # whether the target is in effect since then
    effective: frozenset[str]  # all loads that are in effect since then


def events(spark: SparkSession) -> list[Event]:
    """Loads and rollbacks in their order, those left out that switched no table."""
    loads = sorted(_loads(spark).to_pylist(), key=lambda load: str(load["load_id"]))
    rows = tables.read_rows(spark, ROLLBACKS, tables.all_locations(spark, ROLLBACKS)).to_pylist()
    rollbacks = {row["load_id"]: row for row in rows}
    found: list[Event] = []
    effective: frozenset[str] = frozenset()
    # Also of claims alone, which nobody sees until a later load weighs them.
    of_data = pc.field("table_name").isin(pa.array(tables.DATA))
    everywhere = tables.all_locations(spark, PUBLICATIONS)
    switched = set(tables.read_rows(spark, PUBLICATIONS, everywhere, of_data, ["load_id"])["load_id"].to_pylist())
    for load in loads:
        load_id = load["load_id"]
        changed = load["dates_published"] or load["mart_dates_published"] or load["snapshot_date"]
        changed = changed or load_id in switched
        if load_id in rollbacks:
            row = rollbacks[load_id]
            target, in_effect = row["target_load_id"] or row["rolled_back_load_id"], bool(row["in_effect"])
            effective = effective | {target} if in_effect else effective - {target}
            found.append(Event(load_id, "rollback", target, in_effect, effective))
        elif load["status"] == "published" and (changed or load["kind"] in FINAL):
            effective |= {load_id}
            found.append(Event(load_id, load["kind"] or "load", load_id, True, effective))
    return found


def _recorded_rows(spark: SparkSession, table: str, load_date: date, load_id: str | None = None) -> DataFrame:
    """What a table holds of a day, of loads that happened, and of the load that is at work."""
    rows = tables.read(spark, table, tables.locations(spark, table, [load_date]))
    kept = spark.table(LOADS).select("load_id")
    if load_id:
        kept = kept.union(spark.range(1).select(F.lit(load_id)))
    return rows.join(kept, on="load_id", how="left_semi").select(*rows.columns)


def _replace(rows: DataFrame, table: str, load_id: str, load_date: date) -> None:
    spark = rows.sparkSession
    live = tables.locations(spark, table, [load_date]).get(str(load_date))
    folder = free_folder(live, load_id)
    publish(spark, table, tables.write(rows.coalesce(1), table, folder, [load_date]), load_id)
