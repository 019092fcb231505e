"""silver.agreement, silver.product and silver.meterpoint: a new reference file becomes the next snapshot.

A snapshot is rows of the partition `snapshot_date` of the three history tables; silver.current_snapshot names the one
that the views show, and moves last. The history keeps every snapshot, of several on one date the last.
"""

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import reference, tables
from jobs.audit import Audit, measure
from jobs.quality import Measures
from jobs.readings.rules import TIME_ZONE
from jobs.spark import at_once
from jobs.tables import CURRENT_SNAPSHOT, Locations

LARGEST_IN_QUARANTINE = 64 * 1024 * 1024  # bytes of a file that are kept whole


@dataclass
class Taken:
    """What became of a reference file."""

    file: dict[str, Any]  # its row of ops.load_files and quarantine.files
    locations: dict[str, Locations] = field(default_factory=dict)  # what was written of the snapshot, by table
    current: date | None = None  # date of the snapshot, if it is the one that the views are to show
    error: str | None = None  # why it was not taken
    rejected: pa.Table | None = None  # rows in quarantine, columns of quarantine.reference


def take(spark: SparkSession, file: dict[str, Any], file_system: FileSystem, folder: str, audit: Audit) -> Taken:
    """Write the snapshot of a new reference file into fresh folders and judge it. Nothing is published.

    `file` is a row of ops.new_files. A file that breaks a rule, and a snapshot of which a critical expectation fails,
    is rejected whole: the snapshot before it stays in place.
    """
    row = {
        "source_file": file["source_file"],
        "kind": "reference",
        "modified_at": file["modified_at"],
        "rows_rejected": 0,
    }
    delivered = f"{folder}/{file['source_file']}"
    beside = file_system.get_file_info([f"{delivered}-wal", f"{delivered}-journal"])
    if unfinished := [info.base_name for info in beside if info.size]:
        return _rejected(row, "in_use", f"what {unfinished[0]} holds is not in the file: something is writing it")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "reference.db"
        try:
            with file_system.open_input_stream(delivered) as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
        except OSError as error:
            return _rejected(row, "unreadable", str(error))
        row |= {"size_bytes": path.stat().st_size, "sha256": reference.checksum(path)}
        if row["sha256"] == file["known_sha256"]:
            return Taken(row | {"status": "unchanged"})
        try:
            tables_of_file = reference.read_reference(path)
            taken = _write(spark, tables_of_file, file["modified_at"], audit)
        except reference.ReferenceError as error:
            whole = path.read_bytes() if row["size_bytes"] <= LARGEST_IN_QUARANTINE else None
            return _rejected(row | {"content": whole}, error.reason, error.detail)
    taken.file = row | {"status": "loaded", "rows_read": sum(table.num_rows for table in tables_of_file.values())}
    return taken


def _rejected(row: dict[str, Any], reason: reference.Reason, detail: str) -> Taken:
    return Taken(
        row | {"status": "rejected", "reason": reason, "note": detail},
        error=f"{row['source_file']}: {reason}: {detail}; the snapshot before it stays",
    )


def content(spark: SparkSession, name: str, locations: dict[str, Locations], load_id: str) -> DataFrame:
    """The rows of agreement, product or meterpoint that a load wrote."""
    history = f"silver.{name}_history"
    return tables.read(spark, history, locations[history]).where(F.col("load_id") == load_id).drop("load_id")


def _write(spark: SparkSession, tables_of_file: dict[str, pa.Table], modified_at: datetime, audit: Audit) -> Taken:
    """Raises ReferenceError where a critical expectation fails."""
    snapshot_date = modified_at.astimezone(ZoneInfo(TIME_ZONE)).date()
    current = spark.table(CURRENT_SNAPSHOT).first()
    taken = Taken({})
    written: dict[str, DataFrame] = {}
    for name, table in tables_of_file.items():
        history = f"silver.{name}_history"
        rows = _of_load(table, audit.load_id, tables.schema(spark, history))
        if current and current.snapshot_date == snapshot_date:
            # It stays in place until the pointer moves to the new one.
            is_shown = pc.field("load_id").is_null() | (pc.field("load_id") == current.load_id)
            locations = tables.locations(spark, history, [snapshot_date])
            shown = tables.read_rows(spark, history, locations, is_shown)
            rows = pa.concat_tables([rows, _of_load(shown, current.load_id, rows.schema)])
        taken.locations[history] = tables.write_rows(spark, rows, history, audit.load_id, snapshot_date)
        written[name] = content(spark, name, taken.locations, audit.load_id)
    _judge(spark, written, audit)
    if current is None or current.snapshot_date <= snapshot_date:
        row = {"snapshot_date": snapshot_date, "load_id": audit.load_id}
        pointer = pa.Table.from_pylist([row], tables.schema(spark, CURRENT_SNAPSHOT))
        taken.locations[CURRENT_SNAPSHOT] = tables.write_rows(
            spark, pointer, CURRENT_SNAPSHOT, audit.load_id, "reference"
        )
        taken.current = snapshot_date
    return taken


def _of_load(rows: pa.Table, load_id: str, schema: pa.Schema) -> pa.Table:
    rows = rows.select([name for name in rows.column_names if name != "load_id"])
    rows = rows.append_column("load_id", pa.repeat(load_id, rows.num_rows))
    return rows.select(schema.names).cast(schema)


def _judge(spark: SparkSession, written: dict[str, DataFrame], audit: Audit) -> None:
    """Raises ReferenceError where a critical expectation fails."""
    agreement = written["agreement"]
    counted = {
        "agreements": agreement,
        "agreements_before": spark.table("silver.agreement"),
        "unknown_products": agreement.join(written["product"], on="product_id", how="left_anti"),
        "unknown_meterpoints": agreement.join(written["meterpoint"], on="meterpoint_id", how="left_anti"),
        "overlapping_agreements": reference.overlapping_agreements(agreement),
    }
    # In one Spark action, as one of its own takes a second.
    counts = reduce(DataFrame.unionAll, [rows.agg(F.lit(name), F.count("*")) for name, rows in counted.items()])
    rows, *measured = at_once(
        counts.collect, *[partial(measure, f"silver.{name}", rows) for name, rows in written.items()]
    )
    count = dict(rows)
    before = count["agreements_before"]
    of_agreement: Measures = count | {"row_change_share": count["agreements"] / before - 1 if before else None}
    failed: list[str] = []
    for name, measures in zip(written, measured, strict=True):
        verdict = audit.judge(f"silver.{name}", measures, of_agreement if name == "agreement" else None)
        failed += verdict.critical
    if failed:
        raise reference.ReferenceError("expectation_failed", "; ".join(failed))
