"""The audit of a load: what it wrote and has not published, judged by the suites in `expectations/`."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.compute as pc
from pyarrow.dataset import Dataset
from pyspark.sql import SparkSession

from jobs import quality, tables
from jobs.readings.ingest import Receipt
from jobs.relations import Rows, as_table, query
from jobs.settings import EXPECTATIONS
from jobs.silver import Written
from jobs.spark import at_once
from jobs.tables import (
    BY_YEAR,
    DAILY_METERPOINT,
    DAILY_REGION,
    HALF_HOURLY,
    HALF_HOURLY_PRODUCT,
    LOAD_FILES,
    READINGS,
    Locations,
)

# In a small delivery a few bad files are a large share, and a small date loses a large share with a few readings: the
# shares of expectations are told only beyond these numbers.
FEW_FILES_AT_FAULT, FEW_REMOVED = 50, 100


@dataclass
class Audit:
    """Judges table by table, and keeps the verdicts of a load."""

    load_id: str
    loaded_at: datetime  # UTC
    reports: Path
    kind: str = "load"
    accept: Collection[str] = ()  # what a person lets pass
    verdicts: list[quality.Verdict] = field(default_factory=list)

    def judge(self, table: str, measures: quality.Measures, given: quality.Measures | None = None) -> quality.Verdict:
        """Judge a table by what was measured of it, and by those of the `given` measures that its suite asks for."""
        suite = suite_of(table)
        known = measures | {name: value for name, value in (given or {}).items() if name in suite.given}
        verdict = quality.judge(
            suite, known, load_id=self.load_id, loaded_at=self.loaded_at, reports=self.reports, accept=self.accept
        )
        # Where a snapshot failed, the next one is judged in its place.
        self.verdicts = [*(each for each in self.verdicts if each.table != table), verdict]
        return verdict


def suite_of(table: str) -> quality.Suite:
    """What is measured and expected of a table."""
    return quality.load_suite(EXPECTATIONS, table)


def measure(table: str, content: Rows) -> quality.Measures:
    """What the suite of a table measures."""
    return quality.measure(content, suite_of(table))


def by_year(spark: SparkSession, places: dict[str, Locations], dates: Collection[str]) -> dict[str, Dataset]:
    """Marts by year in the given folders, of the given dates alone: their partitions hold others, too."""
    return {mart: tables.scan(spark, mart, places[mart], tables.is_of_dates(dates)) for mart in BY_YEAR}


def lost_of_other_dates(spark: SparkSession, places: dict[str, Locations], dates: Collection[str]) -> dict[str, int]:
    """How many rows of other dates live partitions have, and those that are to take their place do not, by mart."""
    others = ~tables.is_of_dates(dates)
    lost = {}
    for mart in BY_YEAR:
        live = tables.locations(spark, mart, places[mart])
        before, after = (
            tables.read_rows(spark, mart, folders, others, ["date"]).num_rows for folders in (live, places[mart])
        )
        lost[mart] = before - after
    return lost


def lost_of_totals(spark: SparkSession, places: dict[str, Locations], dates: Collection[date]) -> list[float]:
    """What share of the readings in their totals dates would lose that have no readings, because these are kept no
    longer, when others take their place in `places`. Nothing could make them anew, so few count as well."""
    held = tables.locations(spark, READINGS, dates)
    without = [day for day in dates if tables.is_empty(held.get(str(day), ""))]
    if not without:
        return []
    live = tables.locations(spark, HALF_HOURLY, places[HALF_HOURLY])
    these, names = tables.is_of_dates(without), ["date", "meterpoint_count"]
    before, after = (
        tables.read_rows(spark, HALF_HOURLY, folders, these, names).group_by("date").aggregate([(names[1], "sum")])
        for folders in (live, places[HALF_HOURLY])
    )
    both = before.join(after, "date", join_type="left outer", right_suffix="_after").to_pylist()
    counted = [(row["meterpoint_count_sum"], row["meterpoint_count_sum_after"] or 0) for row in both]
    return [1 - now / then for then, now in counted if then > now]


class Rest(NamedTuple):
    """What sums of dates have beside the meterpoints that were built: of a date that was corrected the others."""

    readings: int = 0
    kwh: Decimal = Decimal(0)
    kwh_without_agreement: Decimal = Decimal(0)
    meterpoints_read: int = 0  # added up over the dates


def rest_of(spark: SparkSession, dates: Collection[str], before: Rows, daily_before: Rows) -> Rest:
    """What live marts have of dates, without the meterpoints whose readings and rows of the mart by meterpoint are
    given."""
    these = tables.is_of_dates(dates)

    def live(mart: str, column: str) -> Any:
        places = tables.locations(spark, mart, tables.holding(mart, dates))
        return pc.sum(tables.read_rows(spark, mart, places, these, [column])[column]).as_py() or 0

    kwh = live(HALF_HOURLY, "consumption_kwh")
    [readings], [daily] = at_once(
        lambda: as_table(_of_readings(before)).to_pylist(), lambda: as_table(_of_daily(daily_before)).to_pylist()
    )
    return Rest(
        live(HALF_HOURLY, "meterpoint_count") - readings["readings"],
        kwh - readings["kwh"],
        kwh - live(HALF_HOURLY_PRODUCT, "consumption_kwh") - daily["kwh_without_agreement"],
        live(DAILY_REGION, "meterpoint_count") - daily["meterpoints_read"],
    )


def measure_marts(
    sums: dict[str, Dataset],
    daily: Rows,
    readings: Sequence[Rows],
    meterpoints: Rows | None,
    rest: Rest | None = None,
) -> tuple[dict[str, quality.Measures], dict[str, quality.Measures]]:
    """What the suites measure of marts, by mart, and what they are given of the readings that these were built from.

    `sums` are the marts by year, `daily` is that by meterpoint, which lacks the `rest` that the sums have, and
    `meterpoints` are those of the reference snapshot, None if there is none.
    """
    rest = rest or Rest()
    others = [_of_readings(*readings), _of_daily(daily)]
    if meterpoints is not None:
        unknown = """
            SELECT count(DISTINCT meterpoint_id) AS unknown_meterpoints
            FROM {daily} AS daily LEFT ANTI JOIN {meterpoints} AS known USING (meterpoint_id) WHERE reading_count > 0
        """
        others.append(query(unknown, daily=daily, meterpoints=meterpoints))
    measures: dict[str, quality.Measures]
    measures, (of_daily, counts) = at_once(
        lambda: {mart: quality.measure_in_memory(rows, suite_of(mart)) for mart, rows in sums.items()},
        lambda: quality.measure_with(daily, suite_of(DAILY_METERPOINT), others),
    )
    measures[DAILY_METERPOINT] = of_daily
    kwh_of_sums: Any = measures[HALF_HOURLY]["consumption_kwh"]
    counted = {name: value for each in counts for name, value in each.items()}
    with_rest = Rest(
        counted["readings"] + rest.readings,
        counted["kwh"] + rest.kwh,
        counted["kwh_without_agreement"] + rest.kwh_without_agreement,
        counted["meterpoints_read"] + rest.meterpoints_read,
    )
    of_sums = {
        "silver_reading_count": with_rest.readings,
        "silver_consumption_kwh": with_rest.kwh,
        "meterpoints_read": with_rest.meterpoints_read,
        "kwh_with_agreement": kwh_of_sums - with_rest.kwh_without_agreement,
    }
    of_meterpoints = {
        "silver_reading_count": counted["readings"],
        "silver_consumption_kwh": counted["kwh"],
        "unknown_meterpoints": counted.get("unknown_meterpoints", 0),
    }
    return measures, {mart: of_meterpoints if mart == DAILY_METERPOINT else of_sums for mart in tables.MARTS}


def _of_readings(*readings: Rows) -> Rows:
    of_each = {f"of_{number}": each for number, each in enumerate(readings)}
    all_of_them = " UNION ALL ".join(f"SELECT consumption_kwh FROM {{{name}}}" for name in of_each)
    return query(
        f"SELECT count(*) AS readings, coalesce(sum(consumption_kwh), 0) AS kwh FROM ({all_of_them}) AS readings",
        **of_each,
    )


def _of_daily(daily: Rows) -> Rows:
    return query(
        """
        SELECT coalesce(sum(CASE WHEN agreement_id IS NULL THEN consumption_kwh END), 0) AS kwh_without_agreement,
          count(*) AS meterpoints_read
        FROM {daily} WHERE reading_count > 0
        """,
        daily=daily,
    )


def judge_delivery(audit: Audit, receipt: Receipt, written: Written, lost: list[float]) -> None:
    """Judge what the load's files brought, and what they take away; `lost` is what `lost_of_totals` says."""
    files = receipt.files["loaded"] + receipt.files["rejected"]
    removed = [
        each.removed / each.before for each in written.changes.values() if each.removed > FEW_REMOVED and each.before
    ]
    rows = receipt.readings.total() + receipt.rows_rejected
    given: quality.Measures = {
        "files_at_fault_share_of_many": receipt.files_at_fault / files
        if receipt.files_at_fault >= FEW_FILES_AT_FAULT
        else None,
        "removed_share": None if audit.kind == "retract" else max(removed + lost, default=0.0),
        "rejected_share": receipt.rows_rejected / rows if rows else 0.0,
        "contested_readings": written.contested,
        "lost_meterpoint_days": receipt.lost_days,
        "warned_rows": receipt.warnings.total(),
    }
    audit.judge(LOAD_FILES, {}, given)


def judge_readings(audit: Audit, measures: quality.Measures, *, expected: int) -> None:
    """Judge the dates that were written of silver.readings: they have to have `expected` rows."""
    if expected:  # else the load emptied them
        audit.judge(READINGS, measures, {"rows_expected": expected})


def judge_marts(
    audit: Audit, measures: dict[str, quality.Measures], given: dict[str, quality.Measures], lost: dict[str, int]
) -> None:
    """Judge the dates that were built of each mart, against the readings that they were built from, if any, and that
    other dates lost no rows."""
    for mart, of_readings in given.items():
        if of_readings["silver_reading_count"]:
            audit.judge(mart, measures[mart], of_readings | {"other_dates_lost_rows": lost.get(mart)})
