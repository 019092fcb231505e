"""The audit of a load: what it wrote and has not published, judged by the suites in `expectations/`."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import marts, quality, tables
from jobs.readings.ingest import Receipt
from jobs.settings import EXPECTATIONS
from jobs.silver import Written
from jobs.spark import at_once
from jobs.tables import BY_YEAR, DAILY_METERPOINT, HALF_HOURLY, LOAD_FILES, READINGS, Locations

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
        suite = quality.load_suite(EXPECTATIONS, table)
        known = measures | {name: value for name, value in (given or {}).items() if name in suite.given}
        verdict = quality.judge(
            suite, known, load_id=self.load_id, loaded_at=self.loaded_at, reports=self.reports, accept=self.accept
        )
        self.verdicts.append(verdict)
        return verdict


def measure(table: str, content: DataFrame) -> quality.Measures:
    """What the suite of a table measures."""
    return quality.measure(content, quality.load_suite(EXPECTATIONS, table))


def on_dates(spark: SparkSession, places: dict[str, Locations], dates: Collection[str]) -> dict[str, DataFrame]:
    """Marts in the given folders, of the given dates alone: their partitions may hold others, too."""
    these = marts.calendar(spark, map(date.fromisoformat, dates))
    return {
        mart: tables.read(spark, mart, folders).join(F.broadcast(these.select("date")), on="date", how="left_semi")
        if mart in BY_YEAR
        else tables.read(spark, mart, folders)
        for mart, folders in places.items()
    }


def lost_of_other_dates(spark: SparkSession, places: dict[str, Locations], dates: Collection[str]) -> dict[str, int]:
    """How many rows of other dates live partitions have, and those that are to take their place do not, by mart."""
    others = ~pc.field("date").isin(pa.array(map(date.fromisoformat, dates), pa.date32()))
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
    longer, when others take their place in `places`; dates that lose few are left out."""
    held = tables.locations(spark, READINGS, dates)
    without = [day for day in dates if tables.is_empty(held.get(str(day), ""))]
    if not without:
        return []
    live = tables.locations(spark, HALF_HOURLY, places[HALF_HOURLY])
    these, names = pc.field("date").isin(pa.array(without, pa.date32())), ["date", "meterpoint_count"]
    before, after = (
        tables.read_rows(spark, HALF_HOURLY, folders, these, names).group_by("date").aggregate([(names[1], "sum")])
        for folders in (live, places[HALF_HOURLY])
    )
    both = before.join(after, "date", join_type="left outer", right_suffix="_after").to_pylist()
    counted = [(row["meterpoint_count_sum"], row["meterpoint_count_sum_after"] or 0) for row in both]
    return [1 - now / then for then, now in counted if then - now > FEW_REMOVED]


def measure_marts(
    built: dict[str, DataFrame], readings: DataFrame, meterpoints: DataFrame | None
) -> tuple[dict[str, quality.Measures], quality.Measures]:
    """What the suites measure of marts, by mart, and what they are given of the readings that these were built from.
    `meterpoints` are those of the reference snapshot, None if there is none."""
    daily = built[DAILY_METERPOINT]
    read = daily.where("reading_count > 0")
    unknown = read.limit(0) if meterpoints is None else read.join(meterpoints, "meterpoint_id", "left_anti")
    without_agreement = F.sum(F.when(F.col("agreement_id").isNull(), F.col("consumption_kwh")))
    [(rows, kwh)], [(kwh_without_agreement, meterpoints_read)], [(unknown_meterpoints,)], *measured = at_once(
        readings.agg(F.count("*"), _kwh()).collect,
        read.agg(F.coalesce(without_agreement, F.lit(0)), F.count("*")).collect,
        unknown.agg(F.count_distinct("meterpoint_id")).collect,
        *[partial(measure, *mart) for mart in built.items()],
    )
    measures = dict(zip(built, measured, strict=True))
    return measures, {
        "silver_reading_count": rows,
        "unknown_meterpoints": unknown_meterpoints,
        "silver_consumption_kwh": kwh,
        "meterpoints_read": meterpoints_read,
        "kwh_with_agreement": measures[HALF_HOURLY]["consumption_kwh"] - kwh_without_agreement,
    }


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
    audit: Audit, measures: dict[str, quality.Measures], given: quality.Measures, lost: dict[str, int]
) -> None:
    """Judge the dates that were built of each mart, against the readings that they were built from, if any, and that
    other dates lost no rows."""
    for mart in measures if given["silver_reading_count"] else ():
        audit.judge(mart, measures[mart], given | {"other_dates_lost_rows": lost.get(mart)})


def _kwh() -> Column:
    return F.coalesce(F.sum("consumption_kwh"), F.lit(0))
