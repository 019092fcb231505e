"""The main job: discover, write, audit, publish, record.

Silver and the marts are written into fresh folders and judged there. Only when no critical expectation failed, the
metastore is told of them, table by table; then the load is recorded in ops. Killed at any point and run again, it ends
in the same state: a load that is not recorded did not happen. Its files are loaded again, and what it had switched is
made anew from what was there before it.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs import audit, collect, landing, marts, ops, quality, readings, snapshots, tables, versions
from jobs.settings import SQL, Settings
from jobs.spark import at_once
from jobs.tables import (
    CURRENT_SNAPSHOT,
    DAILY_METERPOINT,
    DAILY_PRODUCT,
    HALF_HOURLY,
    HALF_HOURLY_PRODUCT,
    MARTS,
    READINGS,
    Locations,
)

Stage = Callable[[str], AbstractContextManager[None]]

FEW_ROWS_A_FILE, MOST_ROWS_A_FILE = 250_000, 2_000_000
EXAMPLES = 10


@dataclass
class Summary:
    """What a load did. Counts are of files and rows of input."""

    load_id: str
    started_at: datetime  # UTC
    files: dict[str, int] = field(default_factory=dict)  # by status: loaded, unchanged, rejected
    readings_loaded: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)  # rows and files
    readings_rejected: int = 0
    readings_rejected_again: int = 0  # of files that nobody delivered, but whose readings count again
    dates: list[date] = field(default_factory=list)
    # Keys of readings added, changed and removed, by date that had readings before.
    changes: dict[date, tuple[int, int, int]] = field(default_factory=dict)
    mart_dates: list[date] = field(default_factory=list)
    snapshot_date: date | None = None
    verdicts: list[quality.Verdict] = field(default_factory=list)
    rejections: list[str] = field(default_factory=list)  # a sentence each, the first EXAMPLES
    errors: list[str] = field(default_factory=list)  # what makes the run fail

    @property
    def published(self) -> bool:
        """Whether readers got it. A reference snapshot that failed is left out of a load; it does not stop the load."""
        return not self.blocking

    @property
    def blocking(self) -> list[str]:
        """Failed critical expectations that keep the load from readers."""
        judged = [verdict for verdict in self.verdicts if verdict.table in (READINGS, *MARTS)]
        return [f"{verdict.table}: {text}" for verdict in judged for text in verdict.critical]

    @property
    def warnings(self) -> list[str]:
        return [f"{verdict.table}: {text}" for verdict in self.verdicts for text in verdict.warnings]


def run(spark: SparkSession, settings: Settings, stage: Stage, retry: Collection[str] | None = None) -> Summary | None:
    """Load all that is new in the landing place. None if nothing is.

    `retry` names files in quarantine that are to be read again, though they are the same; an empty one means all.

    Raises versions.VersionError where the SQL files do not go with what was applied, ops.Overtaken where another run
    began meanwhile, ops.NotInQuarantine, FileNotFoundError where a file of `retry` is gone.
    """
    started_at = datetime.now(UTC)
    summary = Summary(ops.new_load_id(started_at), started_at)
    judge = audit.Audit(summary.load_id, started_at, settings.reports, summary.verdicts)
    new: dict[str, Locations] = {}  # what is written and not published, by table
    with stage("apply versioned SQL"):
        versions.apply_versions(spark, SQL, settings.warehouse)
    with stage("discover"):
        writer = ops.writer(spark)
        file_system, folder = landing.open_folder(settings.landing, settings.s3_endpoint)
        delivered = landing.delivered_readings(file_system, folder) + landing.delivered_reference(file_system, folder)
        again = ops.in_quarantine(spark, retry) if retry is not None else set()
        if gone := sorted(set(retry or ()) - {file.source_file for file in delivered}):
            raise FileNotFoundError(f"{', '.join(gone)}: no longer in the landing place")
        new_files = ops.new_files(spark, delivered, again)
        interrupted = ops.interrupted(spark)
        if not new_files.num_rows and not interrupted:
            return None
        quality.preload()
        ops.become_writer(spark, summary.load_id, after=writer)
        begun = ops.recover(spark, summary.load_id, started_at.date()) if interrupted else {}
        is_readings = pc.starts_with(new_files["source_file"], "readings/")
        new_readings, new_reference = new_files.filter(is_readings), new_files.filter(pc.invert(is_readings))

    with stage("read and check"):
        parsed = readings.parse(spark, new_readings, file_system, folder).persist()
        files = _files(parsed).persist()
        dates = _summarise(parsed, files, summary)
        dates |= _dates_of_earlier_versions(files, new_readings) | set(map(date.fromisoformat, begun))
    with stage("write silver"):
        expected_rows, reference_files = at_once(
            lambda: _write_readings(parsed, files, dates, begun, new, summary),
            lambda: [snapshots.take(spark, file, file_system, folder, judge) for file in new_reference.to_pylist()],
        )
        snapshot = _summarise_reference(reference_files, summary)
    with stage("build marts"):
        _write_marts(spark, new, snapshot, summary)
    with stage("validate"):
        _audit(spark, judge, expected_rows, new, summary)
        quality.keep_input(
            settings.reports,
            load_id=summary.load_id,
            loaded_at=started_at,
            readings=summary.readings_loaded,
            rejected_by_reason=summary.rejected_by_reason,
        )
    if summary.published:
        with stage("publish"):
            ops.begin_publication(spark, summary.load_id)
            # The snapshot's pointer comes last: which marts a new one changes is found by comparing it with the one in
            # place.
            published = new | snapshot
            for table in tables.DATA:
                ops.publish(spark, table, published.get(table, {}), summary.load_id)
    else:
        summary.errors.append(f"not published, readers keep what they had: {'; '.join(summary.blocking)}")
    with stage("record"):
        _record(spark, parsed, files, reference_files, new | snapshot, summary)
        for cached in (parsed, files):
            cached.unpersist()
    with stage("report"):
        quality.build_docs(settings.reports)
    with stage("collect"):
        collect.collect(spark, settings)
    return summary


def _files(parsed: DataFrame) -> DataFrame:
    """One row per readings file: what became of it, as ops.load_files and quarantine.files have it."""
    return parsed.where("file IS NOT NULL").select(
        "source_file",
        F.lit("readings").alias("kind"),
        "file.status",
        "file.reason",
        F.col("file.detail").alias("note"),
        "file.size_bytes",
        "modified_at",
        "file.sha256",
        "file.again",
        "file.content",
        "file.rows_read",
        F.coalesce("file.rows_rejected", F.lit(0)).alias("rows_rejected"),
        F.array_min("file.counts.date").alias("first_date"),
        F.array_max("file.counts.date").alias("last_date"),
        "file.counts",
    )


def _summarise(parsed: DataFrame, files: DataFrame, summary: Summary) -> set[date]:
    """Count files and rows into the summary, and return the dates of good rows."""
    for row in files.groupBy("status", "reason").count().collect():
        summary.files[row.status] = summary.files.get(row.status, 0) + row["count"]
        if row.reason:
            summary.rejected_by_reason[row.reason] = row["count"]
    dates = set()
    counts = files.select("again", F.inline("counts")).groupBy("again", "date", "reason")
    for row in counts.agg(F.sum("rows").alias("rows")).collect():
        if not row.reason:
            dates.add(row.date)
            summary.readings_loaded += row.rows
        elif row.again:  # the load that was given it has counted it
            summary.readings_rejected_again += row.rows
        else:
            summary.rejected_by_reason[row.reason] = row.rows
            summary.readings_rejected += row.rows
    if summary.rejected_by_reason:
        # Without their content, which may be more than the driver holds.
        in_words = files.where("status = 'rejected'").select("source_file", "reason", "note")
        bad_files = in_words.orderBy("source_file").limit(EXAMPLES).collect()
        summary.rejections += [f"{row.source_file}: {row.reason}: {row.note}" for row in bad_files]
        bad_rows = readings.rejected(parsed).orderBy("source_file", "position").limit(EXAMPLES).collect()
        summary.rejections += [
            f"{row.source_file} row {row.position}: {row.reason}: {row.row_json}" for row in bad_rows
        ]
    return dates


def _dates_of_earlier_versions(files: DataFrame, new_readings: pa.Table) -> set[date]:
    """Dates on which silver has readings of earlier versions of files that were delivered again: the new version may
    lack them."""
    known = new_readings.filter(new_readings["first_date"].is_valid())
    if not known.num_rows:
        return set()
    span = F.lit(pc.min(known["first_date"]).as_py()), F.lit(pc.max(known["last_date"]).as_py())
    earlier = files.sparkSession.table(READINGS).where(F.col("date").between(*span))
    delivered_again = files.where("status = 'loaded'").select("source_file")
    rows = earlier.join(delivered_again, on="source_file", how="left_semi").select("date").distinct().collect()
    return {row.date for row in rows}


def _write_readings(
    parsed: DataFrame,
    files: DataFrame,
    dates: set[date],
    begun: Locations,
    new: dict[str, Locations],
    summary: Summary,
) -> int:
    """Write the whole new content of the dates, and return the number of rows that it has to have. `begun` is as
    `ops.recover` tells."""
    if not dates:
        return 0
    spark = parsed.sparkSession
    content = readings.good(parsed, summary.load_id)
    rows = summary.readings_loaded
    held = tables.locations(spark, READINGS, dates) | begun
    held = {day: folder for day, folder in held.items() if not tables.is_empty(folder)}
    if held:
        before = tables.read(spark, READINGS, held)
        rows += before.count()
        delivered_again = files.where("status = 'loaded'").select("source_file")
        kept = before.join(delivered_again, on="source_file", how="left_anti")
        modified_at = ops.recorded_files(spark).select("load_id", "source_file", "modified_at")
        content = content.unionByName(kept.join(modified_at, on=["load_id", "source_file"], how="inner"))
    merged = readings.merge(content, dates=len(dates), buckets=_buckets(spark, rows // len(dates), len(dates)))
    counted = Observation()
    observed = merged.observe(counted, F.count("*").alias("rows"))
    new[READINGS] = tables.write(observed, READINGS, summary.load_id, dates)
    summary.dates = sorted(dates)
    if held:
        after = tables.read(spark, READINGS, {day: new[READINGS][day] for day in held})
        changes = readings.changes(before, after).collect()
        summary.changes = {
            row.date: (row.readings_added, row.readings_changed, row.readings_removed) for row in changes
        }
    return int(counted.get["rows"])


def _buckets(spark: SparkSession, rows_a_date: int, dates: int) -> int:
    """In how many files a date is written: enough that every core has work, while none is small or too large."""
    tasks = 2 * spark.sparkContext.defaultParallelism
    return max(1 + rows_a_date // MOST_ROWS_A_FILE, min(-(-tasks // dates), rows_a_date // FEW_ROWS_A_FILE))


def _summarise_reference(reference_files: list[snapshots.Taken], summary: Summary) -> dict[str, Locations]:
    """Count reference files into the summary, and return what is to be published of them."""
    snapshot: dict[str, Locations] = {}
    for taken in reference_files:
        snapshot |= taken.locations
        summary.snapshot_date = taken.current
        if taken.error:
            summary.errors.append(taken.error)
            reason = taken.file["reason"]  # which files of readings may have, too
            summary.rejected_by_reason[reason] = summary.rejected_by_reason.get(reason, 0) + 1
            summary.files["rejected"] = summary.files.get("rejected", 0) + 1
    return snapshot


def _write_marts(
    spark: SparkSession, new: dict[str, Locations], snapshot: dict[str, Locations], summary: Summary
) -> None:
    """Write the marts of the dates that the load changes: those of new readings, and those which a change of agreements
    reaches."""
    dates = set(new.get(READINGS, {}))
    before = after = spark.table("silver.agreement"), spark.table("silver.product")
    if CURRENT_SNAPSHOT in snapshot:
        agreement, product = (
            snapshots.content(spark, name, snapshot, summary.load_id) for name in ("agreement", "product")
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

    def daily() -> None:
        by_meterpoint = write(DAILY_METERPOINT, marts.daily_meterpoint_consumption(consumption, agreements))
        write(DAILY_PRODUCT, marts.daily_product_consumption(by_meterpoint).repartition("date"))

    def half_hourly() -> None:
        write(HALF_HOURLY, marts.half_hourly_consumption(by_product).repartition("date"))
        write(HALF_HOURLY_PRODUCT, marts.half_hourly_product_consumption(by_product).repartition("date"))

    at_once(daily, half_hourly)
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
    spark: SparkSession, judge: audit.Audit, expected_rows: int, new: dict[str, Locations], summary: Summary
) -> None:
    """Judge what was written, table by table, and each mart against the readings that it was built from."""
    written = tables.read(spark, READINGS, new.get(READINGS, {}))
    built = {mart: tables.read(spark, mart, new[mart]) for mart in MARTS if mart in new}
    of_readings, of_marts = at_once(
        lambda: audit.measure(READINGS, written),
        lambda: audit.measure_marts(built, _readings_of(spark, set(new[DAILY_METERPOINT]), new)) if built else None,
    )
    audit.judge_readings(
        judge,
        of_readings,
        expected=expected_rows,
        rows=(summary.readings_loaded, summary.readings_rejected),
        files=(summary.files.get("loaded", 0), summary.files.get("rejected", 0)),
    )
    if built:
        audit.judge_marts(judge, *of_marts)


def _record(
    spark: SparkSession,
    parsed: DataFrame,
    files: DataFrame,
    reference_files: list[snapshots.Taken],
    published: dict[str, Locations],
    summary: Summary,
) -> None:
    """Record what the load did. ops.loads comes last: with it the load has happened.

    Of a load that was not published only its failure is recorded, so that its files are tried again.
    """
    load_id, load_date = summary.load_id, summary.started_at.date()
    appends = [lambda: ops.append_validations(spark, summary.verdicts, load_id, load_date)]
    if summary.published:
        if reference_files:
            rows = [taken.file for taken in reference_files]
            files = files.unionByName(spark.createDataFrame(rows, files.schema))
        if summary.readings_rejected or summary.readings_rejected_again:
            rejected = readings.rejected(parsed)
            appends.append(lambda: ops.append(rejected, ops.REJECTED_READINGS, load_id, load_date))
        if summary.files.get("rejected"):
            rejected_files = files.where("status = 'rejected'").withColumnRenamed("note", "detail")
            appends.append(lambda: ops.append(rejected_files, ops.REJECTED_FILES, load_id, load_date))
        noted = F.when(F.col("status") == "rejected", F.concat_ws(": ", "reason", "note")).otherwise(F.col("note"))
        noted_files = files.withColumn("note", noted)
        appends.append(lambda: ops.append(noted_files, ops.LOAD_FILES, load_id, load_date))
        appends.append(lambda: ops.append_publications(spark, published, summary.changes, load_id, load_date))
    at_once(*appends)
    load = {
        "status": "published" if summary.published else "failed",
        "started_at": summary.started_at,
        "finished_at": datetime.now(UTC),
        "files_loaded": summary.files.get("loaded", 0),
        "files_rejected": summary.files.get("rejected", 0),
        "readings_loaded": summary.readings_loaded,
        "readings_rejected": summary.readings_rejected,
        "rejected_by_reason": [*summary.rejected_by_reason.items()],
        "dates_published": len(summary.dates),
        "mart_dates_published": len(summary.mart_dates),
        "first_date": min(summary.dates, default=None),
        "last_date": max(summary.dates, default=None),
        "snapshot_date": summary.snapshot_date,
        "warnings": len(summary.warnings),
        "error": "; ".join(summary.errors) or None,
    }
    ops.append_few(spark, [load], ops.LOADS, load_id, load_date)
