"""Read what the front page and the loads' pages show. Small tables are read without a Spark job."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from jobs import check, tables
from jobs.ledger import loads as ledger
from jobs.ledger.days import partitions_of
from jobs.ledger.writer import day_of
from jobs.reports.facts import NAMES, DateChange, LoadFacts, Recorded, RejectedFile
from jobs.reports.overview import (
    DayCompleteness,
    DayTotal,
    Freshness,
    Overview,
    WorstMeterpoint,
    local,
    since_yesterday,
)
from jobs.settings import Settings
from jobs.spark import at_once
from jobs.tables import (
    CURRENT_SNAPSHOT,
    DAILY_COMPLETENESS,
    DAILY_METERPOINT,
    DAILY_PRODUCT,
    HALF_HOURLY,
    HALF_HOURLY_PRODUCT,
    LOAD_FILES,
    LOADS,
    PUBLICATIONS,
    READINGS,
    ROLLBACKS,
    VALIDATIONS,
)

WORST_DAYS, WORST_NAMED = 7, 10
# Tables of which the newest date is shown, and what they hold.
BY_DATE = {
    READINGS: "Readings",
    HALF_HOURLY: "Consumption by half hour",
    DAILY_METERPOINT: "Consumption by meterpoint and day",
    HALF_HOURLY_PRODUCT: "Consumption by product and half hour",
    DAILY_PRODUCT: "Consumption by product and day",
}
COUNTED = ("kind", "status", "rows_read", "rows_rejected")

# --- loads ---------------------------------------------------------------------------------------------------------


def load_days(spark: SparkSession) -> set[str]:
    """UTC dates on which there were loads."""
    return {str(day_of(load_id)) for load_id in ledger.recorded_loads(spark)}


def recorded(spark: SparkSession, days: Collection[str], known: Collection[str]) -> Recorded:
    """Loads that ran on these dates, those in `known` left out."""
    loads = [
        row
        for row in _rows(spark, LOADS, partitions_of(map(date.fromisoformat, days))).to_pylist()
        if row["load_id"] not in known and str(day_of(row["load_id"])) in days
    ]
    wanted = ledger.is_of([row["load_id"] for row in loads])
    partitions = partitions_of(day_of(row["load_id"]) for row in loads)
    only = ("load_id", "source_file", "note", *COUNTED)
    files = _rows(spark, LOAD_FILES, partitions, wanted, only)
    changes = _rows(spark, PUBLICATIONS, partitions, wanted & (pc.field("readings_added") >= 0))
    return Recorded(
        loads=loads,
        files=_by_load(_counts(files)),
        rejected_files=_rejected_files(files),
        changes=_changes(changes),
        validations=_by_load(_rows(spark, VALIDATIONS, partitions, wanted).to_pylist()),
        rollbacks={row["load_id"]: row for row in _rows(spark, ROLLBACKS, partitions, wanted).to_pylist()},
    )


def _rows(
    spark: SparkSession,
    table: str,
    days: Collection[str],
    where: pc.Expression | None = None,
    only: Collection[str] | None = None,
) -> pa.Table:
    return tables.read_rows(spark, table, tables.locations(spark, table, days), where, only)


def _by_load(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in rows:
        found[row["load_id"]].append(row)
    return dict(found)


def _counts(files: pa.Table) -> list[dict[str, Any]]:
    """Files and rows by load, kind and status."""
    counted = files.group_by(["load_id", "kind", "status"]).aggregate(
        [("source_file", "count"), ("rows_read", "sum"), ("rows_rejected", "sum")]
    )
    named = {"source_file_count": "files", "rows_read_sum": "rows_read", "rows_rejected_sum": "rows_rejected"}
    return [{named.get(name, name): value for name, value in row.items()} for row in counted.to_pylist()]


def _rejected_files(files: pa.Table) -> dict[str, list[RejectedFile]]:
    """The first names of each load."""
    found: dict[str, list[RejectedFile]] = defaultdict(list)
    rejected = files.filter(pc.equal(files["status"], "rejected")).select(["load_id", "source_file", "note"])
    for row in rejected.sort_by("source_file").to_pylist():
        if len(found[row["load_id"]]) < NAMES:
            found[row["load_id"]].append(RejectedFile(row["source_file"], row["note"] or ""))
    return dict(found)


def _changes(publications: pa.Table) -> dict[str, list[DateChange]]:
    """Corrections by load."""
    found = defaultdict(list)
    for row in publications.filter(pc.equal(publications["table_name"], READINGS)).to_pylist():
        added, changed, removed = (row[f"readings_{name}"] for name in ("added", "changed", "removed"))
        if added is None and tables.is_late(row["partition_value"]):
            continue  # it became empty, because the date was written whole
        day = date.fromisoformat(tables.date_of(row["partition_value"]))
        found[row["load_id"]].append(DateChange(day, added, changed, removed))
    return dict(found)


# --- the lakehouse now ---------------------------------------------------------------------------------------------


def overview(
    spark: SparkSession, settings: Settings, now: datetime, loads: Sequence[LoadFacts], years: Sequence[int]
) -> Overview:
    """What the front page shows. `loads` are the newest ones, the newest first."""
    today = local(now).date()
    # Each waits for the metastore and the store, so they are read side by side.
    of_all, complete, snapshot, *of_tables = at_once(
        partial(day_totals, spark),
        partial(completeness, spark),
        partial(snapshot_date, spark),
        *(partial(newest_date, spark, table, today) for table in BY_DATE),
    )
    totals = [total for total in of_all if total.date <= today]  # later ones are a fault of a clock
    newest, wanted = totals[-1].date if totals else None, check.expected_date(settings, now)
    silent = silent_meterpoints(spark, min(newest, today - timedelta(days=1))) if newest else []
    worst = worst_meterpoints(spark, newest) if newest else []
    rows, files = since_yesterday(loads, now)
    if rows or files:  # which costs Spark jobs; mostly there are none
        by_date = spark.sql(check.newly_rejected(now)).collect()
        rows, files = sum(each["rows"] for each in by_date), sum(each["files"] for each in by_date)
    last = loads[check.telling([(load.kind, load.state) for load in loads])] if loads else None
    facts = check.Facts(
        now=now,
        loaded=bool(loads),
        last_reading_date=newest,
        days_read={total.date for total in totals[-check.RECENT.days :]},
        snapshot_date=snapshot,
        last_load_id=last.load_id if last else None,
        last_load_status=last.state if last else None,
        last_load_error=last.error if last else None,
        silent=len(silent),
        silent_examples=silent[: check.SILENT_NAMED],
        newly_rejected_rows=rows,
        newly_rejected_files=files,
        **check.machine_facts(settings),
    )
    return Overview(
        now=now,
        due=check.deadline_of(settings, max(newest or wanted, wanted) + timedelta(days=1)),
        findings=check.judge(facts, settings),
        freshness=[
            *(Freshness(what, table, of, wanted) for (table, what), of in zip(BY_DATE.items(), of_tables, strict=True)),
            Freshness(
                "Agreements, products, meterpoints",
                "silver.agreement, product, meterpoint",
                snapshot,
                today - timedelta(days=settings.snapshot_days),
            ),
        ],
        loads=loads,
        years=years,
        totals=totals,
        completeness=[each for each in complete if newest and each.date <= newest],
        worst=worst,
        worst_days=WORST_DAYS,
    )


def snapshot_date(spark: SparkSession) -> date | None:
    """Local date of the reference snapshot that is shown."""
    shown = tables.read_rows(spark, CURRENT_SNAPSHOT, tables.all_locations(spark, CURRENT_SNAPSHOT))
    return max(shown["snapshot_date"].to_pylist(), default=None)


def day_totals(spark: SparkSession) -> list[DayTotal]:
    """Readings and kWh by local date, of all dates."""
    only = ("date", "meterpoint_count", "consumption_kwh")
    rows = tables.read_rows(spark, HALF_HOURLY, tables.all_locations(spark, HALF_HOURLY), only=only)
    # A meterpoint has one reading a half hour, so meterpoints are readings.
    summed = rows.group_by("date").aggregate([("meterpoint_count", "sum"), ("consumption_kwh", "sum")])
    return [
        DayTotal(row["date"], row["meterpoint_count_sum"], row["consumption_kwh_sum"])
        for row in summed.sort_by("date").to_pylist()
    ]


def completeness(spark: SparkSession) -> list[DayCompleteness]:
    """Expected and received readings by local date, of all dates."""
    rows = tables.read_rows(spark, DAILY_COMPLETENESS, tables.all_locations(spark, DAILY_COMPLETENESS))
    return [
        DayCompleteness(
            date=row["date"],
            expected=row["expected_readings"],
            received=row["received_readings"],
            complete=row["complete_meterpoints"],
            silent=row["silent_meterpoints"],
            meterpoints=row["meterpoint_count"],
        )
        for row in rows.sort_by("date").to_pylist()
    ]


def read_since(spark: SparkSession, first: date) -> list[date]:
    """Local dates from `first` on that have readings."""
    places = tables.all_locations(spark, DAILY_COMPLETENESS)
    recent = {year: folder for year, folder in places.items() if year >= str(first.year)}
    rows = tables.read_rows(spark, DAILY_COMPLETENESS, recent, pc.field("date") >= first, ["date"])
    return sorted(rows["date"].to_pylist())


def worst_meterpoints(spark: SparkSession, newest: date) -> list[WorstMeterpoint]:
    """Meterpoints that lack most readings in the WORST_DAYS days up to `newest`, the worst first."""
    only = ("meterpoint_id", "agreement_id", "reading_count", "expected_readings")
    lacking = pc.field("reading_count") < pc.field("expected_readings")
    rows = _rows(spark, DAILY_METERPOINT, _up_to(newest, WORST_DAYS), lacking, only)
    columns = {
        "meterpoint_id": rows["meterpoint_id"],
        "missing_readings": pc.subtract(rows["expected_readings"], rows["reading_count"]),
        "silent": pc.cast(pc.equal(rows["reading_count"], 0), pa.int32()),
        "has_agreement": rows["agreement_id"].is_valid(),
    }
    summed = (
        pa.table(columns)
        .group_by("meterpoint_id")
        .aggregate([("missing_readings", "sum"), ("silent", "count"), ("silent", "sum"), ("has_agreement", "max")])
        .sort_by([("missing_readings_sum", "descending"), ("meterpoint_id", "ascending")])
    )
    return [
        WorstMeterpoint(
            meterpoint_id=row["meterpoint_id"],
            missing=row["missing_readings_sum"],
            days=row["silent_count"],
            silent_days=row["silent_sum"],
            has_agreement=bool(row["has_agreement_max"]),
        )
        for row in summed.slice(0, WORST_NAMED).to_pylist()
    ]


def silent_meterpoints(spark: SparkSession, day: date) -> list[str]:
    """Meterpoints that have readings in the week before `day` and none on it."""
    locations = tables.locations(spark, DAILY_METERPOINT, _up_to(day, 8))

    def ids(of: tables.Locations) -> pa.Array:
        rows = tables.read_rows(spark, DAILY_METERPOINT, of, pc.field("reading_count") > 0, ["meterpoint_id"])
        return pc.unique(rows["meterpoint_id"])

    now = ids({value: location for value, location in locations.items() if tables.date_of(value) == str(day)})
    before = ids({value: location for value, location in locations.items() if tables.date_of(value) != str(day)})
    return sorted(before.filter(pc.invert(pc.is_in(before, now))).to_pylist())


def newest_date(spark: SparkSession, table: str, today: date) -> date | None:
    """The newest local date of which a table has rows, of a table partitioned by date or by year."""
    by_year = tables.root_and_column(spark, table)[1] == "year"
    known = (value for value in tables.partitions(spark, table) if value <= str(today))
    for partition in sorted(known, reverse=True):
        locations = tables.locations(spark, table, [partition])
        if not tables.full_dates(locations):
            continue
        if not by_year:
            return date.fromisoformat(partition)
        rows = tables.read_rows(spark, table, locations, pc.field("date") <= today, ["date"])
        if rows.num_rows:
            newest: date = pc.max(rows["date"]).as_py()
            return newest
    return None


def _up_to(day: date, count: int) -> list[str]:
    """So many days, of which `day` is the last, the newest first."""
    return [str(day - timedelta(days=number)) for number in range(count)]
