"""The main job: discover, write, audit, publish, record.

Silver and the marts are written into fresh folders and judged there. Only when no critical expectation failed, the
metastore is told of them, table by table; then the load is recorded in ops. Killed at any point and run again, it ends in
the same state: a load that is not recorded did not happen, and its files are loaded again, to the same content.
"""

import secrets
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs import landing, marts, ops, quality, readings, tables, versions
from jobs import reference as ref
from jobs.settings import EXPECTATIONS, SQL, Settings

Stage = Callable[[str], AbstractContextManager[None]]
Locations = dict[str, str]  # partition value to folder

READINGS = "silver.readings"
POINTER = "silver.current_snapshot"
ROWS_A_FILE = 2_000_000
EXAMPLES = 10
FEW_REJECTED_ROWS = 1_000
DAILY_METERPOINT = "mart.daily_meterpoint_consumption"
HALF_HOURLY = "mart.half_hourly_consumption"
HALF_HOURLY_PRODUCT = "mart.half_hourly_product_consumption"
DAILY_PRODUCT = "mart.daily_product_consumption"
MARTS = (DAILY_METERPOINT, HALF_HOURLY, HALF_HOURLY_PRODUCT, DAILY_PRODUCT)


@dataclass
class Summary:
    """What a load did. Counts are of files and rows of input."""

    load_id: str
    started_at: datetime  # UTC
    files: dict[str, int] = field(default_factory=dict)  # by status: loaded, unchanged, rejected
    readings_loaded: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)  # rows and files
    readings_rejected: int = 0
    dates: list[date] = field(default_factory=list)
    mart_dates: list[date] = field(default_factory=list)
    snapshot_date: date | None = None
    verdicts: list[quality.Verdict] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)  # a sentence each, the first EXAMPLES
    errors: list[str] = field(default_factory=list)  # what makes the run fail

    @property
    def published(self) -> bool:
        """Whether readers got it. A reference snapshot that failed is left out of a load; it does not stop the load."""
        return all(verdict.passed for verdict in self.verdicts if verdict.table in (READINGS, *MARTS))

    @property
    def warnings(self) -> list[str]:
        return [f"{verdict.table}: {text}" for verdict in self.verdicts for text in verdict.warnings]


def run(spark: SparkSession, settings: Settings, stage: Stage) -> Summary | None:
    """Load all that is new in the landing place. None if nothing is.

    Raises versions.VersionError where the SQL files do not go with what was applied.
    """
    started_at = datetime.now(UTC)
    summary = Summary(f"{started_at:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", started_at)
    with stage("apply versioned SQL"):
        versions.apply_versions(spark, SQL, settings.warehouse)
    with stage("discover"):
        file_system, folder = landing.open_landing(settings.landing, settings.s3_endpoint)
        delivered = landing.delivered_readings(file_system, folder) + landing.delivered_reference(file_system, folder)
        new_files = ops.new_files(spark, delivered)
        if not new_files.num_rows:
            return None
        is_readings = pc.starts_with(new_files["source_file"], "readings/")
        new_readings, new_reference = new_files.filter(is_readings), new_files.filter(pc.invert(is_readings))

    new: dict[str, Locations] = {}  # what is written and not published, by table
    with stage("read and check"):
        classified = readings.classify(readings.parse(spark, new_readings, file_system, folder)).persist()
        files = _files(classified).persist()
        dates = _summarise(classified, files, new_readings, summary)
    with stage("write silver"):
        reference_file = _write_reference(spark, settings, new_reference, file_system, folder, new, summary)
        expected_rows = _write_readings(classified, files, dates, new, summary) if dates else 0
    with stage("build marts"):
        _write_marts(spark, new, summary)
    with stage("validate"):
        _audit(spark, settings, expected_rows, new, summary)
    if summary.published:
        with stage("publish"):
            for table, locations in new.items():
                tables.publish(spark, table, locations)
    else:
        failed = [f"{verdict.table}: {text}" for verdict in summary.verdicts for text in verdict.critical]
        summary.errors.append(f"not published, readers keep what they had: {'; '.join(failed)}")
    with stage("record"):
        _record(spark, classified, files, reference_file, summary)
        classified.unpersist()
        files.unpersist()
    with stage("report"):
        quality.build_docs(settings.reports)
    return summary


def _files(classified: DataFrame) -> DataFrame:
    """One row per readings file: what became of it, as ops.load_files and quarantine.files have it."""
    is_row = F.col("file").isNull()
    return (
        classified.groupBy("source_file", "modified_at")
        .agg(
            F.first("file", ignorenulls=True).alias("file"),
            F.count_if(F.col("reason").isNotNull()).alias("rows_rejected"),
            F.min(F.when(is_row & F.col("reason").isNull(), F.col("date"))).alias("first_date"),
            F.max(F.when(is_row & F.col("reason").isNull(), F.col("date"))).alias("last_date"),
        )
        .select(
            "source_file",
            F.lit("readings").alias("kind"),
            "file.status",
            "file.reason",
            F.col("file.detail").alias("note"),
            "file.size_bytes",
            "modified_at",
            "file.sha256",
            "file.content",
            "file.rows_read",
            "rows_rejected",
            "first_date",
            "last_date",
        )
    )


def _summarise(classified: DataFrame, files: DataFrame, new_readings: pa.Table, summary: Summary) -> set[date]:
    """Count into the summary, and return the dates that the load touches: those of good readings, and those of earlier
    versions of files that were delivered again, which may have had readings that the new version has not."""
    for row in files.groupBy("status", "reason").count().collect():
        summary.files[row.status] = summary.files.get(row.status, 0) + row["count"]
        if row.reason:
            summary.rejected_by_reason[row.reason] = row["count"]
    dates = set()
    rows = classified.where("file IS NULL").withColumn("date", F.when(F.col("reason").isNull(), F.col("date")))
    for row in rows.groupBy("date", "reason").count().collect():
        if row.reason:
            summary.rejected_by_reason[row.reason] = row["count"]
            summary.readings_rejected += row["count"]
        else:
            dates.add(row.date)
            summary.readings_loaded += row["count"]
    if summary.rejected_by_reason:
        bad_files = files.where("status = 'rejected'").orderBy("source_file").limit(EXAMPLES).collect()
        summary.rejections += [f"{row.source_file}: {row.reason}: {row.note}" for row in bad_files]
        bad_rows = readings.rejected(classified).orderBy("source_file", "position").limit(EXAMPLES).collect()
        summary.rejections += [f"{row.source_file} row {row.position}: {row.reason}: {row.row_json}" for row in bad_rows]
    return dates | _dates_of_earlier_versions(files, new_readings)


def _dates_of_earlier_versions(files: DataFrame, new_readings: pa.Table) -> set[date]:
    known = new_readings.filter(new_readings["first_date"].is_valid()) if new_readings.num_rows else new_readings
    if not known.num_rows:
        return set()
    spark = files.sparkSession
    earlier = spark.createDataFrame(known.select(["source_file", "first_date", "last_date"]))
    loaded = files.where("status = 'loaded'").select("source_file")
    spans = earlier.join(loaded, on="source_file", how="left_semi").select("first_date", "last_date").distinct().collect()
    published = map(date.fromisoformat, tables.partitions(spark, READINGS))
    return {day for day in published if any(span.first_date <= day <= span.last_date for span in spans)}


def _write_readings(
    classified: DataFrame, files: DataFrame, dates: set[date], new: dict[str, Locations], summary: Summary
) -> int:
    """Write the whole new content of the dates, and return the number of rows that it has to have."""
    spark = classified.sparkSession
    content = readings.good(classified, summary.load_id)
    live = tables.locations(spark, READINGS, dates)
    if live:
        delivered_again = files.where("status = 'loaded'").select("source_file")
        modified_at = spark.table(ops.LOAD_FILES).select("load_id", "source_file", "modified_at")
        kept = tables.read(spark, READINGS, live).join(delivered_again, on="source_file", how="left_anti")
        content = content.unionByName(kept.join(modified_at, on=["load_id", "source_file"], how="left"))
    rows_a_date = summary.readings_loaded / len(dates)
    merged = readings.merge(content, dates=len(dates), buckets=1 + int(rows_a_date / ROWS_A_FILE))
    counted = Observation()
    new[READINGS] = tables.write(
        merged.observe(counted, F.count("*").alias("rows")), READINGS, summary.load_id, dates
    )
    summary.dates = sorted(dates)
    return int(counted.get["rows"])


def _write_reference(
    spark: SparkSession,
    settings: Settings,
    new_reference: pa.Table,
    file_system: FileSystem,
    folder: str,
    new: dict[str, Locations],
    summary: Summary,
) -> dict[str, Any] | None:
    """Write the snapshot of a new reference file, and return what became of the file. A snapshot that fails its audit is
    not published: the one before it stays in place, and the readings of the load go on."""
    if not new_reference.num_rows:
        return None
    (file,) = new_reference.to_pylist()
    taken = {"source_file": file["source_file"], "kind": "reference", "modified_at": file["modified_at"], "rows_rejected": 0}
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "reference.db"
        with file_system.open_input_stream(f"{folder}/{file['source_file']}") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
        taken |= {"size_bytes": path.stat().st_size, "sha256": ref.checksum(path)}
        if taken["sha256"] == file["known_sha256"]:
            return taken | {"status": "unchanged"}
        try:
            source_tables = ref.read_reference(path)
            snapshot = _write_snapshot(spark, settings, source_tables, file["modified_at"], summary)
        except ref.ReferenceError as error:
            summary.errors.append(f"{file['source_file']}: {error.reason}: {error.detail}; the snapshot before it stays")
            summary.rejected_by_reason[error.reason] = 1
            summary.files["rejected"] = summary.files.get("rejected", 0) + 1
            small = path.stat().st_size <= readings.MAX_QUARANTINED_BYTES
            content = path.read_bytes() if small else None
            return taken | {"status": "rejected", "reason": error.reason, "note": error.detail, "content": content}
    new |= snapshot
    return taken | {"status": "loaded", "rows_read": sum(table.num_rows for table in source_tables.values())}


def _write_snapshot(
    spark: SparkSession,
    settings: Settings,
    source_tables: dict[str, pa.Table],
    modified_at: datetime,
    summary: Summary,
) -> dict[str, Locations]:
    """Write and audit a snapshot. Raises ReferenceError where a critical expectation fails."""
    snapshot_date = modified_at.astimezone(ZoneInfo(readings.TIME_ZONE)).date()
    new: dict[str, Locations] = {}
    for name, table in source_tables.items():
        history = f"silver.{name}_history"
        rows = spark.createDataFrame(table).withColumn("snapshot_date", F.lit(snapshot_date))
        new[history] = tables.write(rows.coalesce(1), history, summary.load_id, [snapshot_date])
    written = {name: tables.read(spark, f"silver.{name}_history", new[f"silver.{name}_history"]) for name in source_tables}
    agreement = written["agreement"]
    before = spark.table("silver.agreement").count()
    given: dict[str, quality.Measures] = {
        "agreement": {
            "unknown_products": agreement.join(written["product"], on="product_id", how="left_anti").count(),
            "unknown_meterpoints": agreement.join(written["meterpoint"], on="meterpoint_id", how="left_anti").count(),
            "overlapping_agreements": ref.overlapping_agreements(agreement),
            "row_change_share": agreement.count() / before - 1 if before else None,
        }
    }
    verdicts = [
        _judge(settings, summary, f"silver.{name}", _measure(f"silver.{name}", rows), given.get(name, {}))
        for name, rows in written.items()
    ]
    failed = [text for verdict in verdicts for text in verdict.critical]
    if failed:
        raise ref.ReferenceError("expectation_failed", "; ".join(failed))
    current = spark.table(POINTER).agg(F.max("snapshot_date")).first()
    if current is None or current[0] is None or current[0] <= snapshot_date:
        pointer = spark.createDataFrame(
            [(snapshot_date, summary.load_id, "reference")], "snapshot_date DATE, load_id STRING, kind STRING"
        )
        new[POINTER] = tables.write(pointer, POINTER, summary.load_id, ["reference"])
        summary.snapshot_date = snapshot_date
    return new


def _write_marts(spark: SparkSession, new: dict[str, Locations], summary: Summary) -> None:
    """Write the marts of the dates that the load changes: dates of new readings, and dates which a change of agreements
    reaches."""
    before = spark.table("silver.agreement"), spark.table("silver.product")
    after = before
    touched = new.get(READINGS, {})
    dates = set(touched)
    if POINTER in new:
        agreement, product = (
            tables.read(spark, table, new[table]) for table in ("silver.agreement_history", "silver.product_history")
        )
        after = agreement, product
        others = tables.partitions(spark, READINGS) - dates
        if others:
            dates |= {str(row.date) for row in marts.changed_dates(_dates(spark, others), before, after).collect()}
    if not dates:
        return
    consumption = _readings_of(spark, dates, new)
    agreements = marts.agreements_on(_dates(spark, dates), *after).persist()
    by_product = marts.consumption_by_product_and_half_hour(consumption, agreements).persist()

    def write(mart: str, content: DataFrame) -> DataFrame:
        new[mart] = tables.write(content, mart, summary.load_id, dates)
        return tables.read(spark, mart, new[mart])

    daily = write(DAILY_METERPOINT, marts.daily_meterpoint_consumption(consumption, agreements))
    write(HALF_HOURLY, marts.half_hourly_consumption(by_product).repartition("date"))
    write(HALF_HOURLY_PRODUCT, marts.half_hourly_product_consumption(by_product).repartition("date"))
    write(DAILY_PRODUCT, marts.daily_product_consumption(daily).repartition("date"))
    agreements.unpersist()
    by_product.unpersist()
    summary.mart_dates = sorted(map(date.fromisoformat, dates))


def _readings_of(spark: SparkSession, dates: set[str], new: dict[str, Locations]) -> DataFrame:
    """The readings of dates as they will be when the load is published."""
    written = new.get(READINGS, {})
    return tables.read(spark, READINGS, tables.locations(spark, READINGS, dates - set(written)) | written)


def _dates(spark: SparkSession, dates: set[str]) -> DataFrame:
    return spark.createDataFrame([(date.fromisoformat(day),) for day in sorted(dates)], "date DATE")


def _audit(
    spark: SparkSession, settings: Settings, expected_rows: int, new: dict[str, Locations], summary: Summary
) -> None:
    """Judge what was written, table by table, and each mart against the readings that it was built from."""
    if expected_rows:
        all_rows = summary.readings_loaded + summary.readings_rejected
        # In a small delivery a few bad rows are a large share: they go to quarantine, and the good ones are loaded.
        share = summary.readings_rejected / all_rows if all_rows else 0.0
        given: quality.Measures = {
            "rows_expected": expected_rows,
            "rejected_share": share,
            "rejected_share_of_many": share if summary.readings_rejected >= FEW_REJECTED_ROWS else None,
        }
        written = tables.read(spark, READINGS, new[READINGS])
        _judge(settings, summary, READINGS, _measure(READINGS, written), given)
    if DAILY_METERPOINT not in new:
        return
    source = _readings_of(spark, set(new[DAILY_METERPOINT]), new)
    rows, kwh = source.agg(F.count("*"), F.coalesce(F.sum("consumption_kwh"), F.lit(0))).collect()[0]
    if not rows:
        return
    built = {mart: tables.read(spark, mart, new[mart]) for mart in MARTS}
    measures = {mart: _measure(mart, content) for mart, content in built.items()}
    without_agreement = built[DAILY_METERPOINT].where("agreement_id IS NULL")
    kwh_without = without_agreement.agg(F.coalesce(F.sum("consumption_kwh"), F.lit(0))).collect()[0][0]
    totals: quality.Measures = {
        "silver_reading_count": rows,
        "silver_consumption_kwh": kwh,
        "kwh_with_agreement": measures[HALF_HOURLY]["consumption_kwh"] - kwh_without,
    }
    for mart in MARTS:
        _judge(settings, summary, mart, measures[mart], totals)


def _measure(table: str, content: DataFrame) -> quality.Measures:
    return quality.measure(content, quality.load_suite(EXPECTATIONS, table))


def _judge(
    settings: Settings, summary: Summary, table: str, measures: quality.Measures, given: quality.Measures
) -> quality.Verdict:
    suite = quality.load_suite(EXPECTATIONS, table)
    known = measures | {name: value for name, value in given.items() if name in suite.given}
    verdict = quality.judge(
        suite, known, load_id=summary.load_id, loaded_at=summary.started_at, reports=settings.reports
    )
    summary.verdicts.append(verdict)
    return verdict


def _record(
    spark: SparkSession,
    classified: DataFrame,
    files: DataFrame,
    reference_file: dict[str, Any] | None,
    summary: Summary,
) -> None:
    """Record what the load did. ops.loads comes last: with it the load has happened.

    Of a load that was not published only its failure is recorded, so that its files are tried again.
    """

    def append(table: str, rows: DataFrame) -> None:
        ops.append(rows, table, summary.load_id, summary.started_at.date())

    if reference_file:
        files = files.unionByName(spark.createDataFrame([reference_file], files.schema))
    if summary.published:
        if summary.readings_rejected:
            append("quarantine.readings", readings.rejected(classified))
        if summary.files.get("rejected"):
            append("quarantine.files", files.where("status = 'rejected'").withColumnRenamed("note", "detail"))
        noted = F.when(F.col("status") == "rejected", F.concat_ws(": ", "reason", "note")).otherwise(F.col("note"))
        append("ops.load_files", files.withColumn("note", noted))
    validations = [
        (v.table, v.passed, v.evaluated, list(v.critical), list(v.warnings), v.page) for v in summary.verdicts
    ]
    if validations:
        append(
            "ops.validations",
            spark.createDataFrame(
                validations,
                """table_name STRING, passed BOOLEAN, expectations BIGINT, critical_failures ARRAY<STRING>,
                warnings ARRAY<STRING>, page STRING""",
            ),
        )
    row = (
        "published" if summary.published else "failed",
        summary.started_at,
        datetime.now(UTC),
        summary.files.get("loaded", 0),
        summary.files.get("rejected", 0),
        summary.readings_loaded,
        summary.readings_rejected,
        summary.rejected_by_reason,
        len(summary.dates),
        len(summary.mart_dates),
        min(summary.dates, default=None),
        max(summary.dates, default=None),
        summary.snapshot_date,
        len(summary.warnings),
        "; ".join(summary.errors) or None,
    )
    schema = spark.table(ops.LOADS).drop("load_id", "load_date").schema
    append(ops.LOADS, spark.createDataFrame([row], schema))
