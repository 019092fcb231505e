"""Write the reports' pages: of loads that have none yet, the lists of their years, and the front page.

What is written for a load stays as it is, so a report costs the same after ten years: it reads the newest days of ops,
the facts of the newest loads, and a few small tables.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import SparkSession

from jobs import expire
from jobs.reports import facts, gather, pages, site
from jobs.reports.facts import LoadFacts
from jobs.reports.overview import LOADS_SHOWN, RECENT, Overview
from jobs.settings import Settings

LOADS = "loads"


def publish(
    spark: SparkSession,
    settings: Settings,
    notes: Mapping[str, Sequence[str]] | None = None,
    now: datetime | None = None,
) -> Path:
    """Write the pages of all recorded loads that have none, then the front page; return it.

    `notes` are oddities that a run has seen and the tables do not hold, by load.
    """
    now = now or datetime.now(UTC)
    reports = settings.reports
    known = load_ids(reports)
    with_pages = {f"{load_id[:4]}-{load_id[4:6]}-{load_id[6:8]}" for load_id in known}
    # Every report writes all that is missing, so only the newest of these days can lack a load: that of a run which was
    # killed before its report. Whole days have no page after an upgrade, or where the reports were deleted.
    newest = max(with_pages, default="")
    first = expire.first_day(settings.keep_reports_months, expire.local_today(now))
    days = {day for day in gather.load_days(spark) if not first or day >= str(first)}
    missing = {day for day in days if day not in with_pages or day >= newest}
    added = facts.of_recorded(gather.recorded(spark, missing, set(known)), notes or {})
    keep(reports, added)
    known = load_ids(reports)
    shown = recent(reports, known, now)
    years = sorted({int(load_id[:4]) for load_id in known}, reverse=True)
    return write_front(reports, gather.overview(spark, settings, now, shown, years))


def keep(reports: Path, added: Sequence[LoadFacts]) -> None:
    """Write facts and pages of loads, and the lists of their years anew."""
    changed = set()
    for of_load in added:
        _keep(reports, of_load)
        changed.add(of_load.load_id[:4])
        if of_load.undid and (undone := read(reports, of_load.undid)):
            _keep(reports, replace(undone, rolled_back_by=None if of_load.in_effect else of_load.load_id))
            changed.add(undone.load_id[:4])
    write_years(reports, changed)


def write_years(reports: Path, years: Collection[str]) -> None:
    """Write the lists of the loads of years anew; a year of which nothing is kept has none."""
    for year in sorted(years):
        in_year = [read(reports, load_id) for load_id in load_ids(reports) if load_id.startswith(year)]
        page = reports / pages.year_page(int(year))
        if in_year:
            site.write(page, pages.year(int(year), [of_load for of_load in in_year if of_load]))
        else:
            page.unlink(missing_ok=True)


def _keep(reports: Path, of_load: LoadFacts) -> None:
    """The facts come last: a load that has them has its page."""
    site.write(reports / pages.load_page(of_load.load_id), pages.load(of_load))
    site.write(facts_file(reports, of_load.load_id), facts.to_json(of_load))


def write_front(reports: Path, value: Overview) -> Path:
    site.write(reports / pages.FRONT, pages.front(value))
    return reports / pages.FRONT


def load_ids(reports: Path) -> list[str]:
    """Ids of loads that have a page, the newest first."""
    return sorted((path.stem for path in (reports / LOADS).glob("*.json")), reverse=True)


def recent(reports: Path, known: Sequence[str], now: datetime) -> list[LoadFacts]:
    """The newest loads: those of the last RECENT, and LOADS_SHOWN at least."""
    first = f"{now - RECENT:%Y%m%d}"
    wanted = [load_id for place, load_id in enumerate(known) if place < LOADS_SHOWN or load_id >= first]
    return [of_load for load_id in wanted if (of_load := read(reports, load_id))]


def read(reports: Path, load_id: str) -> LoadFacts | None:
    """What is kept of a load; None if there is nothing, or if it is cut off, as a disk that was full leaves it."""
    try:
        return facts.from_json(facts_file(reports, load_id).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def facts_file(reports: Path, load_id: str) -> Path:
    """What is kept of a load, and told again on the front page."""
    return reports / LOADS / f"{load_id}.json"
