"""The audit of a load: what it wrote and has not published, judged by the suites in `expectations/`."""

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import quality
from jobs.settings import EXPECTATIONS
from jobs.spark import at_once
from jobs.tables import DAILY_METERPOINT, HALF_HOURLY, READINGS

FEW_REJECTED_ROWS, FEW_REJECTED_FILES = 1_000, 50


@dataclass
class Audit:
    """Judges table by table, and keeps the verdicts of a load."""

    load_id: str
    loaded_at: datetime  # UTC
    reports: Path
    verdicts: list[quality.Verdict] = field(default_factory=list)

    def judge(self, table: str, measures: quality.Measures, given: quality.Measures | None = None) -> quality.Verdict:
        """Judge a table by what was measured of it, and by those of the `given` measures that its suite asks for."""
        suite = quality.load_suite(EXPECTATIONS, table)
        known = measures | {name: value for name, value in (given or {}).items() if name in suite.given}
        verdict = quality.judge(suite, known, load_id=self.load_id, loaded_at=self.loaded_at, reports=self.reports)
        self.verdicts.append(verdict)
        return verdict


def measure(table: str, content: DataFrame) -> quality.Measures:
    """What the suite of a table measures."""
    return quality.measure(content, quality.load_suite(EXPECTATIONS, table))


def measure_marts(
    built: dict[str, DataFrame], readings: DataFrame
) -> tuple[dict[str, quality.Measures], quality.Measures]:
    """What the suites measure of marts, by mart, and what they are given of the readings that these were built from."""
    without_agreement = built[DAILY_METERPOINT].where("agreement_id IS NULL")
    [(rows, kwh)], [(kwh_without_agreement,)], *measured = at_once(
        readings.agg(F.count("*"), _kwh()).collect,
        without_agreement.agg(_kwh()).collect,
        *[partial(measure, *mart) for mart in built.items()],
    )
    measures = dict(zip(built, measured, strict=True))
    return measures, {
        "silver_reading_count": rows,
        "silver_consumption_kwh": kwh,
        "kwh_with_agreement": measures[HALF_HOURLY]["consumption_kwh"] - kwh_without_agreement,
    }


def judge_readings(
    audit: Audit,
    measures: quality.Measures,
    *,
    expected: int,
    rows: tuple[int, int] = (0, 0),
    files: tuple[int, int] = (0, 0),
) -> None:
    """Judge the dates that were written of silver.readings: they have to have `expected` rows. `rows` and `files` are
    how many were loaded, and how many rejected, of the load's input."""
    # In a small delivery a few bad ones are a large share: they go to quarantine, and the good ones are loaded.
    many_rows, many_files = rows[1] >= FEW_REJECTED_ROWS, files[1] >= FEW_REJECTED_FILES
    if not (expected or many_rows or many_files):
        return  # a correction emptied the dates, or all of a small delivery is in quarantine
    given: quality.Measures = {
        "rows_expected": expected,
        "rejected_share": _share(rows),
        "rejected_share_of_many": _share(rows) if many_rows else None,
        "rejected_file_share_of_many": _share(files) if many_files else None,
    }
    audit.judge(READINGS, measures, given)


def _share(counts: tuple[int, int]) -> float:
    loaded, rejected = counts
    return rejected / (loaded + rejected) if rejected else 0.0


def judge_marts(audit: Audit, measures: dict[str, quality.Measures], given: quality.Measures) -> None:
    """Judge the dates that were built of each mart, against the readings that they were built from, if any."""
    for mart in measures if given["silver_reading_count"] else ():
        audit.judge(mart, measures[mart], given)


def _kwh() -> Column:
    return F.coalesce(F.sum("consumption_kwh"), F.lit(0))
