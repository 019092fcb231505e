"""Keep no longer: what is older than the settings LAKE_KEEP_… allow is taken away, as a load of its own.

A partition that is too old is switched to an empty folder, as any other switch, so that a run that is killed leaves no
half of it. Files of readings and snapshots go when LAKE_RETENTION_HOURS are over, until when they can be rolled back.
Totals stay: sums of all meterpoints of a date, by half hour, product and region, are of nobody. What is kept of a
meterpoint goes with its readings.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pyspark.sql import SparkSession

from jobs import collect, tables
from jobs.erasure import state as erasures
from jobs.errors import LakeError
from jobs.ledger import loads as ledger
from jobs.ledger import writer as ledger_writer
from jobs.readings.rules import TIME_ZONE
from jobs.settings import Settings
from jobs.tables import (
    CLAIMS,
    CONTESTED,
    CURRENT_SNAPSHOT,
    DAILY_METERPOINT,
    READINGS,
    REJECTED_FILES,
    REJECTED_READINGS,
    REJECTED_REFERENCE,
    SUPERSEDED,
    Locations,
)

OF_READINGS = (READINGS, CONTESTED, CLAIMS, DAILY_METERPOINT)
OF_SNAPSHOTS = ("silver.agreement_history", "silver.product_history", "silver.meterpoint_history")
OF_QUARANTINE = (REJECTED_READINGS, REJECTED_FILES, REJECTED_REFERENCE)


class Expired(NamedTuple):
    """Partitions of a table that are older than a setting allows."""

    table: str
    setting: str
    values: list[str]  # dates, in order


def months_before(day: date, months: int) -> date:
    """The same day so many months before, or the last one of that month."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    first_after = date(year + (month + 1) // 12, (month + 1) % 12 + 1, 1)
    last = date.fromordinal(first_after.toordinal() - 1).day
    return date(year, month + 1, min(day.day, last))


def first_day(months: int, today: date) -> date | None:
    """First local date of what is kept for so many months, None if all is."""
    return months_before(today, months) if months else None


def local_today(now: datetime) -> date:
    return now.astimezone(ZoneInfo(TIME_ZONE)).date()


def find(spark: SparkSession, settings: Settings, today: date) -> list[Expired]:
    """What is too old on a day. The snapshot that is shown is never."""
    shown = spark.table(CURRENT_SNAPSHOT).first()
    limits = (
        (OF_READINGS, "LAKE_KEEP_READINGS_MONTHS", settings.keep_readings_months),
        (OF_SNAPSHOTS, "LAKE_KEEP_SNAPSHOTS_MONTHS", settings.keep_snapshots_months),
        (OF_QUARANTINE, "LAKE_KEEP_QUARANTINE_MONTHS", settings.keep_quarantine_months),
        ((SUPERSEDED,), "LAKE_KEEP_SUPERSEDED_MONTHS", settings.keep_superseded_months),
    )
    found = []
    for names, setting, months in limits:
        first = first_day(months, today)
        for table in names if first else ():
            kept = {str(shown.snapshot_date)} if shown and table in OF_SNAPSHOTS else set()
            held = tables.all_locations(spark, table)
            days = tables.full_dates(held)
            if values := sorted(day for day in days - kept if day < str(first)):
                found.append(Expired(table, setting, values))
    return found


def run(spark: SparkSession, settings: Settings, expired: list[Expired], tell: Callable[[str], None]) -> str | None:
    """Take it away, and record it; the id of the load that did, None if there is nothing.

    Folders that earlier expiries replaced are deleted when their time has come, also where there is nothing new.
    Raises LakeError where a run was killed while it published, or an erasure was: only the next load can tell what was
    there before, and finish it. Totals of dates that an erasure wants anew need the readings of these dates.
    """
    load_id = _take_away(spark, settings, expired) if expired else None
    gone = collect.collect(spark, settings)
    if gone:
        tell(f"deleted the files of {len(gone)} folders that were replaced more than LAKE_RETENTION_HOURS ago")
    return load_id


def _take_away(spark: SparkSession, settings: Settings, expired: list[Expired]) -> str:
    started_at = datetime.now(UTC)
    writer = ledger_writer.writer(spark)
    if erasures.pending(settings.state):
        raise LakeError("an erasure was killed; `lake run` has to finish it first")
    if erasures.to_restate(settings.state):
        raise LakeError("an erasure left totals to be built anew; `lake run` has to do it first")
    if ledger.interrupted(spark):
        raise LakeError("a run was killed while it published; `lake run` has to put that right first")
    load_id = ledger.begin(spark, writer)
    new: dict[str, Locations] = {}
    for table, _, values in expired:
        root, column = tables.root_and_column(spark, table)
        held = tables.locations(spark, table, values)
        full = [value for value, folder in held.items() if not tables.is_empty(folder)]
        new[table] = {value: tables.folder_of(root, column, value) for value in full}
    ledger.begin_publication(spark, load_id)
    replaced = {table: ledger_writer.publish(spark, table, folders, load_id) for table, folders in new.items()}
    ledger.append_publications(spark, new, replaced, {}, load_id)
    accepted = sorted({each.setting for each in expired})
    ledger.append_change(spark, load_id, "expire", started_at, new, accepted=accepted)
    return load_id
