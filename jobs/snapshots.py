"""silver.agreement, silver.product and silver.meterpoint: a new reference file becomes the next snapshot.

A snapshot is rows of the partition `snapshot_date` of the three history tables; silver.current_snapshot names the one
that the views show, and moves last. The history keeps every snapshot, of several on one date the last. What they say of
regions is summed up in silver.meterpoint_regions (`jobs/regions.py`).
"""

import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import landing, reference, regions, tables
from jobs.audit import Audit, suite_of
from jobs.ledger import loads as ledger
from jobs.ledger.writer import day_of
from jobs.quality import Measures, measure_in_memory
from jobs.readings.erased import Erased
from jobs.readings.rules import TIME_ZONE
from jobs.tables import CURRENT_SNAPSHOT, HISTORIES, LOAD_FILES, REGIONS, Locations
from jobs.wording import counted

MAX_ROWS_NAMED = 5
PATIENCE = timedelta(minutes=10)  # with a sender's clock that is ahead
LARGEST_IN_QUARANTINE = 64 * 1024 * 1024  # bytes of a file that are kept whole
REJECTED = pa.schema(
    [
        ("source_file", pa.string()),
        ("table_name", pa.string()),
        ("row_number", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("row_json", pa.string()),
    ]
)
OLDER_THAN_SHOWN: reference.Reason = "older_than_shown"
# So few faulty rows of a table are no share worth a word, if they are less than half of it.
FEW_REJECTED = 10


@dataclass
class Taken:
    """What became of a reference file."""

    file: dict[str, Any]  # its row of ops.load_files and quarantine.files
    locations: dict[str, Locations] = field(default_factory=dict)  # what was written of the snapshot, by table
    current: date | None = None  # date of the snapshot, if it is the one that the views are to show
    error: str | None = None  # why it was not taken
    rejected: pa.Table = field(default_factory=REJECTED.empty_table)  # rows that were left out
    warnings: list[str] = field(default_factory=list)


def take_first(
    spark: SparkSession,
    files: list[dict[str, Any]],
    file_system: FileSystem,
    folder: str,
    audit: Audit,
    erased: Erased | None = None,
) -> list[Taken]:
    """Take the newest of the given files, the newest first, that can be taken. One that is rejected is told, and does
    not keep an older one from readers, which is still newer than what they have."""
    tried: list[Taken] = []
    for file in files:
        taken = take(spark, file, file_system, folder, audit, erased or Erased())
        reason = taken.file.get("reason")
        if tried and reason == OLDER_THAN_SHOWN:
            break
        tried.append(taken)
        if reason in (None, OLDER_THAN_SHOWN):
            break
    return tried


def take(
    spark: SparkSession, file: dict[str, Any], file_system: FileSystem, folder: str, audit: Audit, erased: Erased
) -> Taken:
    """Write the snapshot of a reference file into fresh folders and judge it. Nothing is published.

    `file` is a row of ledger.files.to_read, with `may_be_stray`: there are others, and none of its name was ever taken.
    Then a database without any of the three tables is ignored with a warning. Rows that break a rule are left out. A
    file that cannot be read as a snapshot, and a snapshot of which a critical expectation fails, is rejected whole: the
    one before it stays in place.
    """
    name, delivered = file["source_file"], f"{folder}/{file['path']}"
    row = {"source_file": name, "kind": "reference", "modified_at": file["modified_at"], "rows_rejected": 0}
    version = file_system.get_file_info(delivered)
    if version.mtime:  # it may have been replaced since it was listed
        row["modified_at"] = landing.time_of(row["modified_at"] or version.mtime, version.mtime)
    if row["modified_at"] and row["modified_at"] > audit.loaded_at + PATIENCE:
        when = f"{row['modified_at']:%Y-%m-%d %H:%M} UTC"
        return _rejected(row, "modified_in_future", f"its modification time {when} is in the future: correct it")
    beside = file_system.get_file_info([f"{delivered}-wal", f"{delivered}-journal"])
    if unfinished := [info.base_name for info in beside if info.size]:
        detail = f"what {unfinished[0]} holds is not in the file: something is writing it"
        return _rejected(row, "in_use", erased.redacted(detail))
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "reference.db"
        try:
            opened = landing.open_file(file_system, folder, file["path"], landing.LARGEST_REFERENCE)
            with opened.stream as source, path.open("wb") as target:
                head = source.read(len(reference.MAGIC))
                target.write(head)
                if head == reference.MAGIC:
                    shutil.copyfileobj(source, target)
                else:  # it is rejected; what would be kept of it is enough
                    target.write(source.read(LARGEST_IN_QUARANTINE))
            now = file_system.get_file_info(delivered)
            if (now.mtime_ns, now.size) != (version.mtime_ns, version.size):
                return _rejected(row, "in_use", "it changed while it was read: something is writing it")
        except OSError as error:
            return _rejected(row, landing.reason_of(error), erased.redacted(str(error)))
        row |= {"size_bytes": file["size_bytes"] or path.stat().st_size, "sha256": reference.checksum(path)}
        shown = shown_file(spark)
        if shown and row["sha256"] == shown["sha256"] and _local_date(row) <= _local_date(shown):
            return Taken(row | {"status": "unchanged"})
        whole = path.read_bytes() if row["size_bytes"] <= LARGEST_IN_QUARANTINE else None
        try:
            found, not_kept = without_erased(reference.read_reference(path), erased)
            taken = _write(spark, found, row, shown, audit)
        except reference.SnapshotRejected as error:
            record = row | {"content": None if whole and erased.holds(whole) else whole}
            if error.reason == OLDER_THAN_SHOWN:
                record["sha256"] = None  # which is tried again, when the shown one is taken back
            refused = _rejected(record, error.reason, erased.redacted(error.detail))
            if file["may_be_stray"] and reference.is_other_database(path):
                refused.file["status"] = "ignored"
                refused.error, refused.warnings = None, [f"{name} is no reference file: ignored"]
            return refused
    rejected = [{"source_file": name, **each._asdict()} for each in found.rejected]
    taken.rejected = pa.Table.from_pylist(rejected, REJECTED)
    taken.warnings = [f"{name}: {text}" for text in found.warnings]
    if rejected:
        named = "; ".join(each.detail for each in found.rejected[:MAX_ROWS_NAMED])
        taken.warnings.append(f"{name}: in quarantine {counted(len(rejected), 'row')}: {named}")
    counts: dict[str, Any] = {"rows_read": sum(found.rows.values()), "rows_rejected": len(rejected) + not_kept}
    if not_kept:
        counts["note"] = f"{counted(not_kept, 'row')} not kept: erased"
    taken.file = row | counts | {"status": "loaded"}
    return taken


def _local_date(file: dict[str, Any]) -> date:
    """The date of a file's snapshot. The same bytes are the snapshot of a later date, too."""
    modified_at: datetime = file["modified_at"]
    return modified_at.astimezone(ZoneInfo(TIME_ZONE)).date()


def without_erased(found: reference.Reference, erased: Erased) -> tuple[reference.Reference, int]:
    """A reference file without the rows of erased meterpoints and accounts, and how many these are."""
    if not erased.keys:
        return found, 0
    kept = {}
    for name, table in found.tables.items():
        gone = pa.array([False] * table.num_rows, pa.bool_())
        for column, is_erased in (("meterpoint_id", erased.has_meterpoint), ("account_id", erased.has_account)):
            if column in table.column_names:
                values = table[column].to_pylist()
                gone = pc.or_(gone, pa.array([value is not None and is_erased(value) for value in values], pa.bool_()))
        kept[name] = table.filter(pc.invert(gone))
    rejected = [each for each in found.rejected if not erased.says(each.row_json)]
    rejected = [each._replace(detail=erased.redacted(each.detail)) for each in rejected]
    before, after = (sum(table.num_rows for table in tables_.values()) for tables_ in (found.tables, kept))
    return found._replace(tables=kept, rejected=rejected), before - after + len(found.rejected) - len(rejected)


def _rejected(row: dict[str, Any], reason: str, detail: str) -> Taken:
    return Taken(
        row | {"status": "rejected", "reason": reason, "note": detail},
        error=f"{row['source_file']}: {reason}: {detail}; the snapshot before it stays",
    )


def shown_file(spark: SparkSession) -> dict[str, Any] | None:
    """The reference file whose snapshot the views show: source_file, sha256, modified_at."""
    current = _current(spark)
    if not current or not current["load_id"]:
        return None
    load_id = current["load_id"]
    places = ledger.places_of(spark, LOAD_FILES, [day_of(load_id)])
    files = tables.read_rows(spark, LOAD_FILES, places, pc.field("load_id") == load_id).to_pylist()
    taken = [file for file in files if file["kind"] == "reference" and file["status"] == "loaded"]
    return {name: taken[0][name] for name in ("source_file", "sha256", "modified_at")} if taken else None


def shown(spark: SparkSession, name: str) -> DataFrame:
    """The rows of silver.agreement, product or meterpoint, as that view has them. It finds its snapshot while it is
    asked, so that Spark looks into the folders of all snapshots for it; this looks into one."""
    history, current = f"silver.{name}_history", _current(spark)
    is_shown = F.col("load_id").isNull() | (F.col("load_id") == (current["load_id"] if current else None))
    return tables.read(spark, history, _folder_shown(spark, history, current)).where(is_shown).drop("load_id")


def shown_rows(
    spark: SparkSession, name: str, where: pc.Expression | None = None, only: Collection[str] | None = None
) -> pa.Table:
    """The same, in memory, but for the date of the snapshot."""
    history, current = f"silver.{name}_history", _current(spark)
    is_shown = pc.field("load_id").is_null() | (pc.field("load_id") == (current["load_id"] if current else None))
    condition = is_shown if where is None else is_shown & where
    return tables.read_rows(spark, history, _folder_shown(spark, history, current), condition, only)


def _folder_shown(spark: SparkSession, history: str, current: dict[str, Any] | None) -> Locations:
    return tables.locations(spark, history, [current["snapshot_date"]]) if current else {}


def _current(spark: SparkSession) -> dict[str, Any] | None:
    """The row of silver.current_snapshot."""
    rows = tables.read_rows(spark, CURRENT_SNAPSHOT, tables.all_locations(spark, CURRENT_SNAPSHOT)).to_pylist()
    return rows[0] if rows else None


def written(spark: SparkSession, name: str, locations: dict[str, Locations], load_id: str) -> DataFrame:
    """The rows of agreement, product or meterpoint that a load wrote."""
    history = f"silver.{name}_history"
    return tables.read(spark, history, locations[history]).where(F.col("load_id") == load_id).drop("load_id")


def written_rows(spark: SparkSession, name: str, locations: dict[str, Locations], load_id: str) -> pa.Table:
    """The same, in memory, but for the date of the snapshot."""
    history = f"silver.{name}_history"
    return tables.read_rows(spark, history, locations[history], pc.field("load_id") == load_id)


def size(spark: SparkSession, locations: dict[str, Locations]) -> int:
    """Bytes of the snapshot that is shown, with its regions, and of one that a load wrote."""
    current = _current(spark)
    shown = {table: _folder_shown(spark, table, current) for table in HISTORIES if table != REGIONS}
    shown[REGIONS] = tables.all_locations(spark, REGIONS)
    folders = [folder for each in (shown, locations) for found in each.values() for folder in found.values()]
    return sum(tables.sizes(spark, dict(zip(folders, folders, strict=True))))


def _write(
    spark: SparkSession,
    found: reference.Reference,
    file: dict[str, Any],
    file_shown: dict[str, Any] | None,
    audit: Audit,
) -> Taken:
    """Raises SnapshotRejected where a critical expectation fails, or a newer snapshot is shown."""
    snapshot_date = _local_date(file)
    current = _current(spark)
    if current and (
        current["snapshot_date"] > snapshot_date or (file_shown and file_shown["modified_at"] > file["modified_at"])
    ):
        raise reference.SnapshotRejected(
            OLDER_THAN_SHOWN,
            f"it is of {snapshot_date}, and the snapshot of {current['snapshot_date']} is shown: if that one is wrong,"
            " roll its load back, or deliver this file with a new modification time",
        )
    taken = Taken({})
    for name, table in found.tables.items():
        history = f"silver.{name}_history"
        rows = _of_load(table, audit.load_id, tables.schema(spark, history))
        if current and current["snapshot_date"] == snapshot_date:
            # It stays in place until the pointer moves to the new one.
            rows = pa.concat_tables([rows, _of_load(shown_rows(spark, name), current["load_id"], rows.schema)])
        taken.locations[history] = tables.write_rows(spark, rows, history, audit.load_id, snapshot_date)
    _judge(spark, taken.locations, found, audit)
    held = tables.all_locations(spark, REGIONS)
    before = tables.read_rows(spark, REGIONS, held)
    after = regions.after_snapshot(before, found.tables["meterpoint"], snapshot_date)
    if not held or not after.equals(before):
        taken.locations[REGIONS] = tables.write_rows(spark, after, REGIONS, audit.load_id, regions.PARTITION)
    row = {"snapshot_date": snapshot_date, "load_id": audit.load_id}
    pointer = pa.Table.from_pylist([row], tables.schema(spark, CURRENT_SNAPSHOT))
    taken.locations[CURRENT_SNAPSHOT] = tables.write_rows(spark, pointer, CURRENT_SNAPSHOT, audit.load_id, "reference")
    taken.current = snapshot_date
    return taken


def _of_load(rows: pa.Table, load_id: str, schema: pa.Schema) -> pa.Table:
    rows = rows.select([name for name in rows.column_names if name != "load_id"])
    rows = rows.append_column("load_id", pa.repeat(load_id, rows.num_rows))
    return rows.select(schema.names).cast(schema)


def _judge(spark: SparkSession, written: dict[str, Locations], found: reference.Reference, audit: Audit) -> None:
    """Judge what was written. Raises SnapshotRejected where a critical expectation fails."""
    agreement = found.tables["agreement"]
    before = shown_rows(spark, "agreement", only=["agreement_id"]).num_rows
    of_agreement: Measures = {
        "unknown_products": _unknown(agreement["product_id"], found.tables["product"]["product_id"]),
        "unknown_meterpoints": _unknown(agreement["meterpoint_id"], found.tables["meterpoint"]["meterpoint_id"]),
        "overlapping_agreements": reference.overlapping_agreements(agreement),
        "row_change_share": agreement.num_rows / before - 1 if before else None,
    }
    failed: list[str] = []
    for name in found.tables:
        history = f"silver.{name}_history"
        [(day, _)] = written[history].items()
        rows = tables.read_rows(spark, history, written[history], pc.field("load_id") == audit.load_id)
        rows = rows.append_column("snapshot_date", pa.repeat(date.fromisoformat(day), rows.num_rows))
        measures = measure_in_memory(rows, suite_of(f"silver.{name}"))
        rejected, rows_of_file = sum(each.table_name == name for each in found.rejected), found.rows[name]
        few = rejected <= FEW_REJECTED and 2 * rejected < rows_of_file
        given: Measures = {
            "rejected_rows": rejected,
            "rejected_share": rejected / rows_of_file if rejected and not few else None,
        }
        verdict = audit.judge(f"silver.{name}", measures, given | (of_agreement if name == "agreement" else {}))
        failed += verdict.critical
    if failed:
        raise reference.SnapshotRejected("expectation_failed", "; ".join(failed))


def _unknown(names: pa.ChunkedArray, known: pa.ChunkedArray) -> int:
    return len(names) - int(pc.sum(pc.is_in(names, value_set=known.combine_chunks())).as_py() or 0)
