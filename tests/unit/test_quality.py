"""Each rule of each suite is broken once, on real rows; the reports are read as files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.quality import (
    INDEX,
    LISTED,
    Measure,
    Suite,
    SuiteError,
    Verdict,
    acceptable,
    build_docs,
    judge,
    load_suite,
    measure,
    measure_in_memory,
)

REFERENCE = ("silver.agreement", "silver.product", "silver.meterpoint")
EXPECTATIONS = Path(__file__).parents[2] / "expectations"
TABLES = sorted(path.stem for path in EXPECTATIONS.glob("*.json"))
LOADED_AT = datetime(2021, 1, 6, 7, 30, tzinfo=UTC)
DAY = date(2021, 1, 5)

Rows = list[dict[str, Any]]
Given = dict[str, Measure]
Change = Callable[[Rows, Given], object]

LEFT_OUT: Given = {"rejected_rows": 0, "rejected_share": None}  # of a reference table
KEPT: Given = {"other_dates_lost_rows": 0}  # of a mart by year
COUNTS = "expected_readings bigint, received_readings bigint, actual_readings bigint, rated_readings bigint"
SCHEMAS = {
    "ops.load_files": "source_file string",
    "silver.readings": "meterpoint_id string, interval_start timestamp, interval_start_utc timestamp,"
    " consumption_kwh decimal(9,6), source_file string, load_id string, date date",
    "silver.agreement": "agreement_id bigint, agreement_valid_from date, agreement_valid_to date, product_id string,"
    " meterpoint_id string, account_id string, snapshot_date date",
    "silver.product": "product_id string, display_name string, is_variable boolean, id bigint, snapshot_date date",
    "silver.meterpoint": "meterpoint_id string, region string, snapshot_date date",
    "mart.daily_meterpoint_consumption": "meterpoint_id string, agreement_id bigint, product_id string,"
    " product_display_name string, is_variable boolean, account_id string, reading_count int,"
    " consumption_kwh decimal(18,6), expected_readings int, first_missing timestamp, last_missing timestamp,"
    " actual_readings int, rated_readings int, min_kwh decimal(9,6), max_kwh decimal(9,6), date date",
    "mart.half_hourly": "interval_start timestamp, interval_start_utc timestamp, meterpoint_count bigint,"
    f" consumption_kwh decimal(18,6), {COUNTS}, date date",
    "mart.half_hourly_by_region": "region string, interval_start timestamp, interval_start_utc timestamp,"
    f" meterpoint_count bigint, consumption_kwh decimal(18,6), {COUNTS}, date date",
    "mart.daily_by_product_and_region": "product_display_name string, region string, meterpoint_count bigint,"
    f" consumption_kwh decimal(18,6), {COUNTS}, date date",
    "mart.half_hourly_by_product": "product_display_name string, interval_start timestamp,"
    " interval_start_utc timestamp, meterpoint_count bigint, consumption_kwh decimal(18,6),"
    f" average_kwh decimal(18,6), {COUNTS}, date date",
    "mart.daily_completeness": "meterpoint_count bigint, complete_meterpoints bigint, silent_meterpoints bigint,"
    " expected_readings bigint, received_readings bigint, date date",
    "mart.daily_by_product": "product_display_name string, meterpoint_count bigint,"
    f" consumption_kwh decimal(18,6), {COUNTS}, date date",
}


def half_hours(day: date) -> list[datetime]:
    """The starts of a winter day's half hours, in which local time is UTC."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [start + timedelta(minutes=30 * n) for n in range(48)]


def counts(expected: int, received: int) -> dict[str, int]:
    """What stands beside each sum."""
    rated = min(received, 2)
    return {
        "expected_readings": expected,
        "received_readings": received,
        "actual_readings": rated // 2,
        "rated_readings": rated,
    }


def good(table: str) -> tuple[Rows, Given]:
    """Rows that break no rule, and the measures that the load gives with them."""
    if table == "silver.readings":
        readings: Rows = [
            {
                "meterpoint_id": "m1",
                "interval_start": start,
                "interval_start_utc": start,
                "consumption_kwh": Decimal("0.100000") + n * Decimal("0.001"),
                "source_file": "m1.json",
                "load_id": "L1",
                "date": DAY,
            }
            for n, start in enumerate(half_hours(DAY))
        ]
        return readings, {"rows_expected": 48}
    if table == "ops.load_files":
        counted = ("rejected_share", "contested_readings", "lost_meterpoint_days", "warned_rows", "removed_share")
        return [], dict.fromkeys(counted, 0) | {"files_at_fault_share_of_many": None}
    if table == "silver.agreement":
        agreements: Rows = [
            {
                "agreement_id": number,
                "agreement_valid_from": date(2020, 6, 1),
                "agreement_valid_to": None,
                "product_id": "p1",
                "meterpoint_id": f"m{number}",
                "account_id": "a1",
                "snapshot_date": DAY,
            }
            for number in (1, 2)
        ]
        given = {"unknown_products": 0, "unknown_meterpoints": 0, "overlapping_agreements": 0}
        return agreements, {**given, **LEFT_OUT, "row_change_share": None}
    if table == "silver.product":
        products: Rows = [
            {
                "product_id": f"p{number}",
                "display_name": f"Product {number}",
                "is_variable": True,
                "id": number,
                "snapshot_date": DAY,
            }
            for number in (1, 2)
        ]
        return products, {**LEFT_OUT}
    if table == "silver.meterpoint":
        meterpoints: Rows = [{"meterpoint_id": f"m{n}", "region": "London", "snapshot_date": DAY} for n in (1, 2)]
        return meterpoints, {**LEFT_OUT}
    if table == "mart.daily_meterpoint_consumption":
        days: Rows = [
            {
                "meterpoint_id": f"m{number}",
                "agreement_id": number,
                "product_id": "p1",
                "product_display_name": "Product 1",
                "is_variable": True,
                "account_id": "a1",
                "reading_count": 48,
                "consumption_kwh": Decimal("7.5"),
                "expected_readings": 48,
                "first_missing": None,
                "last_missing": None,
                "actual_readings": 40,
                "rated_readings": 48,
                "min_kwh": Decimal("0.1"),
                "max_kwh": Decimal("0.9"),
                "date": DAY,
            }
            for number in (1, 2)
        ]
        of_silver: Given = {"silver_reading_count": 96, "silver_consumption_kwh": Decimal("15.000000")}
        return days, of_silver | {"unknown_meterpoints": 0}
    if table == "mart.daily_by_product":
        product_days: Rows = [
            {
                "product_display_name": f"Product {number}",
                "meterpoint_count": 1,
                "consumption_kwh": Decimal("7.5"),
                **counts(expected=48, received=47),
                "date": DAY,
            }
            for number in (1, 2)
        ]
        return product_days, {"kwh_with_agreement": Decimal("15.000000"), **KEPT}
    if table == "mart.daily_by_product_and_region":
        silent = {"meterpoint_count": 0, "consumption_kwh": None, **counts(expected=48, received=0)}
        region_days: Rows = [
            {"product_display_name": "Product 1", "region": None, **silent, "date": DAY},
            {**silent, "region": "London", "meterpoint_count": 2, "consumption_kwh": Decimal("7.5"), "date": DAY},
        ]
        region_days[1] |= counts(expected=0, received=0)
        return region_days, {"meterpoints_read": 2, "silver_consumption_kwh": Decimal("7.5"), **KEPT}
    if table == "mart.daily_completeness":
        names = ("meterpoint_count", "complete_meterpoints", "silent_meterpoints")
        completeness = dict(zip(names, (3, 1, 1), strict=True))
        dates: Rows = [{**completeness, "expected_readings": 144, "received_readings": 50, "date": DAY}]
        return dates, {"silver_reading_count": 50, **KEPT}
    slots: Rows = [
        {
            "interval_start": start,
            "interval_start_utc": start,
            "meterpoint_count": 3,
            "consumption_kwh": Decimal("0.500000"),
            **counts(expected=4, received=3),
            "date": DAY,
        }
        for start in half_hours(DAY)
    ]
    if table == "mart.half_hourly_by_region":
        regional = [{**slot, "region": region} for slot in slots for region in ("London", None)]
        return regional, {"silver_reading_count": 288, "silver_consumption_kwh": Decimal("48.000000"), **KEPT}
    if table == "mart.half_hourly":
        return slots, {"silver_consumption_kwh": Decimal("24.000000"), **KEPT}
    name = {"product_display_name": "Product 1", "average_kwh": Decimal("0.166667")}
    return [{**slot, **name} for slot in slots], {"kwh_with_agreement": Decimal("24.000000"), **KEPT}


def first(**values: object) -> Change:
    """Override columns of the first row."""
    return lambda rows, given: rows[0].update(values)


def given(**values: Measure) -> Change:
    """Override what the load gives."""
    return lambda rows, known: known.update(values)


def none(rows: Rows, known: Given) -> None:
    rows.clear()


def twice(rows: Rows, known: Given) -> None:
    rows.append(dict(rows[0]))


LATE = datetime(2021, 1, 5, 12, 7, tzinfo=UTC)

# For each critical expectation: table, measure, how the good rows are spoilt, what the verdict must say.
READINGS, FILES = "silver.readings", "ops.load_files"
DAILY, HALF_HOURLY = "mart.daily_meterpoint_consumption", "mart.half_hourly"
BY_PRODUCT, DAILY_BY_PRODUCT = "mart.half_hourly_by_product", "mart.daily_by_product"
COMPLETENESS = "mart.daily_completeness"
BY_REGION, DAILY_BY_REGION = "mart.half_hourly_by_region", "mart.daily_by_product_and_region"
BY_YEAR = (HALF_HOURLY, BY_PRODUCT, DAILY_BY_PRODUCT, COMPLETENESS, BY_REGION, DAILY_BY_REGION)
CRITICAL: list[tuple[str, str, Change, str]] = [
    (COMPLETENESS, "null_keys", first(date=None), "null_keys is 1, expected 0"),
    (COMPLETENESS, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (COMPLETENESS, "impossible_counts", first(silent_meterpoints=3), "impossible_counts is 1, expected 0"),
    (COMPLETENESS, "impossible_counts", first(expected_readings=137), "impossible_counts is 1, expected 0"),
    (COMPLETENESS, "silver_reading_count", given(silver_reading_count=51), "received_readings is 50, expected 51"),
    *(
        (
            name,
            "other_dates_lost_rows",
            given(other_dates_lost_rows=1),
            "other_dates_lost_rows is 1, expected 0",
        )
        for name in BY_YEAR
    ),
    (READINGS, "rows_expected", given(rows_expected=49), "rows is 48, expected 49 (rows_expected)"),
    (READINGS, "missing_meterpoint_ids", first(meterpoint_id=" "), "missing_meterpoint_ids is 1, expected 0"),
    (READINGS, "missing_meterpoint_ids", first(meterpoint_id=None), "missing_meterpoint_ids is 1, expected 0"),
    (READINGS, "null_interval_starts", first(interval_start=None), "null_interval_starts is 1, expected 0"),
    (READINGS, "null_interval_starts_utc", first(interval_start_utc=None), "null_interval_starts_utc is 1, expected 0"),
    (READINGS, "null_consumption", first(consumption_kwh=None), "null_consumption is 1, expected 0"),
    (READINGS, "null_lineage", first(load_id=None), "null_lineage is 1, expected 0"),
    (READINGS, "duplicate_readings", twice, "No meterpoint is read twice in one half hour: duplicate_readings is 1"),
    (READINGS, "min_kwh", first(consumption_kwh=Decimal("-0.1")), "min_kwh is -0.100000, expected at least 0"),
    (READINGS, "max_kwh", first(consumption_kwh=Decimal("100.5")), "max_kwh is 100.500000, expected at most 100"),
    (READINGS, "off_half_hour", first(interval_start=LATE, interval_start_utc=LATE), "off_half_hour is 1, expected 0"),
    (READINGS, "wrong_dates", first(date=date(2021, 1, 4)), "wrong_dates is 1, expected 0"),
    (READINGS, "wrong_dates", first(date=None), "wrong_dates is 1, expected 0"),
    (READINGS, "utc_mismatches", first(interval_start=half_hours(DAY)[2]), "utc_mismatches is 1, expected 0"),
    (
        FILES,
        "files_at_fault_share_of_many",
        given(files_at_fault_share_of_many=0.0512),
        "5.1 % of the load's files are at fault, expected at most 5 % (add --accept faults to the command",
    ),
    (FILES, "removed_share", given(removed_share=0.011), "a date loses 1.1 % of its readings, expected at most 1 %"),
    *(
        (f"silver.{name}", "rejected_share", given(rejected_share=0.011), "--accept reference-faults")
        for name in ("agreement", "product", "meterpoint")
    ),
    ("silver.agreement", "rows", none, "rows is 0, expected at least 1"),
    ("silver.agreement", "null_agreement_ids", first(agreement_id=None), "null_agreement_ids is 1, expected 0"),
    ("silver.agreement", "duplicate_keys", twice, "No agreement id occurs twice: duplicate_keys is 1, expected 0"),
    ("silver.agreement", "missing_meterpoint_ids", first(meterpoint_id=""), "missing_meterpoint_ids is 1, expected 0"),
    ("silver.agreement", "missing_product_ids", first(product_id=None), "missing_product_ids is 1, expected 0"),
    ("silver.agreement", "null_valid_from", first(agreement_valid_from=None), "null_valid_from is 1, expected 0"),
    ("silver.agreement", "unknown_products", given(unknown_products=3), "unknown_products is 3, expected 0"),
    ("silver.agreement", "unknown_meterpoints", given(unknown_meterpoints=4), "unknown_meterpoints is 4, expected 0"),
    ("silver.product", "rows", none, "rows is 0, expected at least 1"),
    ("silver.product", "missing_product_ids", first(product_id=None), "missing_product_ids is 1, expected 0"),
    ("silver.product", "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    ("silver.meterpoint", "rows", none, "rows is 0, expected at least 1"),
    ("silver.meterpoint", "missing_meterpoint_ids", first(meterpoint_id=""), "missing_meterpoint_ids is 1, expected 0"),
    ("silver.meterpoint", "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (DAILY, "rows", none, "rows is 0, expected at least 1"),
    (DAILY, "null_keys", first(meterpoint_id=None), "null_keys is 1, expected 0"),
    (DAILY, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (DAILY, "min_reading_count", first(reading_count=-1), "min_reading_count is -1, expected at least 0"),
    (DAILY, "kwh_without_readings", first(reading_count=0), "kwh_without_readings is 1, expected 0"),
    (DAILY, "kwh_without_readings", first(consumption_kwh=None), "kwh_without_readings is 1, expected 0"),
    (DAILY, "wrong_missing", first(reading_count=47), "wrong_missing is 1, expected 0"),
    (DAILY, "wrong_missing", first(first_missing=LATE, last_missing=LATE), "wrong_missing is 1, expected 0"),
    (DAILY, "max_reading_count", first(reading_count=51), "max_reading_count is 51, expected at most 50"),
    (DAILY, "min_kwh", first(consumption_kwh=Decimal(-1)), "min_kwh is -1.000000, expected at least 0"),
    (DAILY, "silver_reading_count", given(silver_reading_count=97), "reading_count is 96, expected 97 (silver_"),
    (
        DAILY,
        "silver_consumption_kwh",
        given(silver_consumption_kwh=Decimal("15.000001")),
        "consumption_kwh is 15.000000, expected 15.000001 (silver_consumption_kwh)",
    ),
    (HALF_HOURLY, "rows", none, "rows is 0, expected at least 1"),
    (HALF_HOURLY, "null_keys", first(interval_start_utc=None), "null_keys is 1, expected 0"),
    (HALF_HOURLY, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (HALF_HOURLY, "wrong_dates", first(date=date(2021, 1, 4)), "wrong_dates is 1, expected 0"),
    (HALF_HOURLY, "min_meterpoint_count", first(meterpoint_count=0), "min_meterpoint_count is 0, expected at least 1"),
    (HALF_HOURLY, "min_kwh", first(consumption_kwh=Decimal(-1)), "min_kwh is -1.000000, expected at least 0"),
    (HALF_HOURLY, "silver_consumption_kwh", lambda rows, known: rows.pop(), "is 23.500000, expected 24.000000 (silver"),
    (BY_PRODUCT, "null_keys", first(product_display_name=None), "null_keys is 1, expected 0"),
    (BY_PRODUCT, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (BY_PRODUCT, "wrong_dates", first(date=date(2021, 1, 4)), "wrong_dates is 1, expected 0"),
    (BY_PRODUCT, "min_meterpoint_count", first(meterpoint_count=-1), "min_meterpoint_count is -1, expected at least 0"),
    (BY_PRODUCT, "impossible_counts", first(meterpoint_count=0), "impossible_counts is 1, expected 0"),
    (BY_PRODUCT, "impossible_counts", first(expected_readings=2), "impossible_counts is 1, expected 0"),
    *(
        (table, "impossible_counts", first(**{name: 1000}), "impossible_counts is 1, expected 0")
        for table in (HALF_HOURLY, DAILY_BY_PRODUCT, BY_REGION, DAILY_BY_REGION)
        for name in ("received_readings", "actual_readings")
    ),
    (DAILY, "impossible_counts", first(rated_readings=49), "impossible_counts is 1, expected 0"),
    (DAILY, "impossible_counts", first(max_kwh=Decimal(8)), "impossible_counts is 1, expected 0"),
    (BY_REGION, "impossible_counts", first(meterpoint_count=0), "impossible_counts is 1, expected 0"),
    (BY_REGION, "null_keys", first(interval_start_utc=None), "null_keys is 1, expected 0"),
    (BY_REGION, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (BY_REGION, "wrong_dates", first(date=date(2021, 1, 4)), "wrong_dates is 1, expected 0"),
    (BY_REGION, "silver_reading_count", given(silver_reading_count=289), "reading_count is 288, expected 289"),
    (BY_REGION, "silver_consumption_kwh", first(consumption_kwh=Decimal(1)), "is 48.500000, expected 48.000000"),
    (DAILY_BY_REGION, "null_keys", first(date=None), "null_keys is 1, expected 0"),
    (DAILY_BY_REGION, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (DAILY_BY_REGION, "impossible_counts", first(product_display_name=None), "impossible_counts is 1, expected 0"),
    (DAILY_BY_REGION, "impossible_counts", first(consumption_kwh=Decimal(0)), "impossible_counts is 1, expected 0"),
    (DAILY_BY_REGION, "meterpoints_read", given(meterpoints_read=3), "reading_days is 2, expected 3"),
    (DAILY_BY_REGION, "silver_consumption_kwh", given(silver_consumption_kwh=Decimal(7)), "is 7.500000, expected 7"),
    (BY_PRODUCT, "min_average_kwh", first(average_kwh=Decimal(-1)), "min_average_kwh is -1.000000, expected at least"),
    (BY_PRODUCT, "max_average_kwh", first(average_kwh=Decimal(101)), "max_average_kwh is 101.000000, expected at most"),
    (BY_PRODUCT, "wrong_averages", first(average_kwh=Decimal("0.166669")), "wrong_averages is 1, expected 0"),
    (BY_PRODUCT, "kwh_with_agreement", lambda rows, known: rows.pop(), "is 23.500000, expected 24.000000 (kwh_with"),
    (DAILY_BY_PRODUCT, "null_keys", first(product_display_name=None), "null_keys is 1, expected 0"),
    (DAILY_BY_PRODUCT, "duplicate_keys", twice, "duplicate_keys is 1, expected 0"),
    (DAILY_BY_PRODUCT, "min_meterpoint_count", first(meterpoint_count=0), "min_meterpoint_count is 0, expected at"),
    (DAILY_BY_PRODUCT, "min_kwh", first(consumption_kwh=Decimal(-1)), "min_kwh is -1.000000, expected at least 0"),
    (DAILY_BY_PRODUCT, "kwh_with_agreement", lambda rows, known: rows.pop(), "is 7.500000, expected 15.000000 (kwh"),
]


def frame(spark: SparkSession, table: str, rows: Rows) -> DataFrame:
    return spark.createDataFrame(rows, SCHEMAS[table])


def verdict_on(spark: SparkSession, table: str, reports: Path, *changes: Change) -> Verdict:
    rows, known = good(table)
    for change in changes:
        change(rows, known)
    suite = load_suite(EXPECTATIONS, table)
    content = frame(spark, table, rows)
    measures = measure(content, suite) if suite.measures else {}
    if suite.measures:
        # Fractions are added up in another order.
        same = {name: pytest.approx(each) if isinstance(each, float) else each for name, each in measures.items()}
        assert measure_in_memory(content.toArrow(), suite) == same
    return judge(suite, {**measures, **known}, load_id="L1", loaded_at=LOADED_AT, reports=reports)


def judged(suite: Suite) -> list[tuple[str, set[str]]]:
    """Severity and measures of each expectation of a suite."""
    names = ("column", "column_A", "column_B")
    return [
        (e["severity"], {e["kwargs"][n] for n in names if n in e["kwargs"]}) for e in suite.definition["expectations"]
    ]


def some_measures(suite: Suite) -> dict[str, Measure]:
    """Measures that pass, made of the limits alone."""
    measures: dict[str, Measure] = {}
    for expectation in suite.definition["expectations"]:
        kwargs = expectation["kwargs"]
        if "column" in kwargs:
            measures.setdefault(kwargs["column"], kwargs.get("min_value", kwargs.get("max_value")))
        else:
            measures[kwargs["column_B"]] = measures.setdefault(kwargs["column_A"], 1)
    return measures


@pytest.mark.parametrize("table", SCHEMAS)
def test_suite__should_judge_every_measure_and_measure_all_that_it_judges(table: str) -> None:
    suite = load_suite(EXPECTATIONS, table)

    measures = [*suite.measures, *(name for each in suite.groups for name in each["measures"]), *suite.given]

    assert len(measures) == len(set(measures)), "a name is used twice"
    assert set(measures) == set().union(*(names for _, names in judged(suite)))


@pytest.mark.parametrize("table", SCHEMAS)
def test_suite__should_be_native_and_give_a_reason_for_each_rule(table: str) -> None:
    from great_expectations import ExpectationSuite

    definition = load_suite(EXPECTATIONS, table).definition

    suite = ExpectationSuite(**definition)

    assert suite.name == table
    assert len(suite.expectations) == len(definition["expectations"])
    assert all(e.description and e.notes for e in suite.expectations)


def test_suites__should_be_one_for_each_table() -> None:
    assert sorted(SCHEMAS) == TABLES


def test_load_suite__should_name_the_file_that_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "silver.readings.json").write_text('{"name": "silver.readings", "expectations": []}')

    with pytest.raises(ValueError, match=r"silver\.readings\.json is not an expectation suite"):
        load_suite(tmp_path, "silver.readings")


@pytest.mark.parametrize("table", SCHEMAS)
def test_good_rows__should_pass_without_a_warning(spark: SparkSession, table: str, tmp_path: Path) -> None:
    verdict = verdict_on(spark, table, tmp_path)

    assert verdict.passed
    assert (verdict.critical, verdict.warnings, verdict.notes) == ((), (), ())
    assert verdict.evaluated == len(load_suite(EXPECTATIONS, table).definition["expectations"])


@pytest.mark.parametrize(
    ("table", "change", "text"),
    [pytest.param(table, change, text, id=f"{table}-{name}") for table, name, change, text in CRITICAL],
)
def test_critical_rule__should_stop_the_load_and_say_why(
    spark: SparkSession, table: str, change: Change, text: str, tmp_path: Path
) -> None:
    verdict = verdict_on(spark, table, tmp_path, change)

    assert not verdict.passed
    assert any(text in failure for failure in verdict.critical), verdict.critical


def test_critical_rules__should_all_be_broken_once_here() -> None:
    broken = {(table, name) for table, name, _, _ in CRITICAL}

    for table in TABLES:
        for severity, names in judged(load_suite(EXPECTATIONS, table)):
            assert severity != "critical" or broken & {(table, name) for name in names}, (table, names)


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2021, 3, 28), 23), (date(2021, 10, 31), 25)], ids=["46 in March", "50 in October"]
)
def test_readings__should_pass_on_the_days_the_clock_changes(
    spark: SparkSession, day: date, hours: int, tmp_path: Path
) -> None:
    from zoneinfo import ZoneInfo

    london = ZoneInfo("Europe/London")
    midnight = datetime(day.year, day.month, day.day, tzinfo=london).astimezone(UTC)

    def change(rows: Rows, known: Given) -> None:
        template = rows[0]
        starts = [midnight + timedelta(minutes=30 * n) for n in range(2 * hours)]
        rows[:] = [
            {
                **template,
                "interval_start": start.astimezone(london).replace(tzinfo=UTC),
                "interval_start_utc": start,
                "consumption_kwh": Decimal("0.1") + n * Decimal("0.001"),
                "date": day,
            }
            for n, start in enumerate(starts)
        ]
        known["rows_expected"] = len(rows)

    verdict = verdict_on(spark, "silver.readings", tmp_path, change)

    assert (verdict.critical, verdict.warnings) == ((), ())


@pytest.mark.parametrize(
    ("table", "change", "text"),
    [
        (
            "silver.readings",
            lambda rows, known: (rows.pop(), known.update(rows_expected=47)),
            "100 % of meterpoint days are incomplete, expected at most 5 %",
        ),
        (
            "silver.readings",
            lambda rows, known: [r.update(consumption_kwh=Decimal(0)) for r in rows],
            "100 % of readings are zero, expected at most 10 %",
        ),
        (
            "silver.readings",
            lambda rows, known: [r.update(consumption_kwh=Decimal(1)) for r in rows],
            "100 % of meterpoint days show one unchanging value",
        ),
        (
            "silver.readings",
            lambda rows, known: [r.update(consumption_kwh=Decimal(12)) for r in rows],
            "the mean reading is 12 kWh, expected 0.05 to 1",
        ),
        ("silver.readings", first(consumption_kwh=Decimal(12)), "2.1 % of readings exceed"),
        (FILES, given(rejected_share=0.02), "2 % of the load's rows were rejected, expected at most 1 %"),
        (FILES, given(contested_readings=2), "readings that two files give: 2, expected none"),
        (FILES, given(lost_meterpoint_days=2), "every row was rejected: 2, expected none"),
        (FILES, given(warned_rows=2), "noticed in the files: 2, expected none"),
        ("silver.product", given(rejected_rows=2), "product rows that were left out: 2, expected none"),
        (DAILY, given(unknown_meterpoints=2), "does not have: 2, expected none"),
        (
            "silver.agreement",
            first(agreement_valid_to=date(2020, 5, 31)),
            "agreements that end before they begin: 1, expected none",
        ),
        ("silver.agreement", given(overlapping_agreements=2), "another one of their meterpoint: 2, expected none"),
        (
            "silver.agreement",
            given(row_change_share=-0.25),
            "the number of agreements changed by -25 %, expected at least -10 %",
        ),
        ("silver.product", first(display_name=None), "products without a name: 1, expected none"),
        ("silver.meterpoint", first(region=None), "meterpoints without a region: 1, expected none"),
        (DAILY, first(agreement_id=None), "50 % of meterpoint days have no agreement, expected at most 5 %"),
        (
            HALF_HOURLY,
            first(meterpoint_count=1, received_readings=1, rated_readings=1),
            "100 % of dates have a half hour with under 80 %",
        ),
    ],
)
def test_warning__should_be_reported_and_not_stop_the_load(
    spark: SparkSession, table: str, change: Change, text: str, tmp_path: Path
) -> None:
    verdict = verdict_on(spark, table, tmp_path, change)

    assert verdict.passed
    assert any(text in warning for warning in verdict.warnings), verdict.warnings


def test_critical_rule_that_a_person_accepts__should_be_a_warning(spark: SparkSession, tmp_path: Path) -> None:
    suite = load_suite(EXPECTATIONS, FILES)
    measures = some_measures(suite) | {"removed_share": 0.5}

    stopped = judge(suite, measures, load_id="L1", loaded_at=LOADED_AT, reports=tmp_path)
    accepted = judge(suite, measures, load_id="L2", loaded_at=LOADED_AT, reports=tmp_path, accept={"removals"})
    other = judge(suite, measures, load_id="L3", loaded_at=LOADED_AT, reports=tmp_path, accept={"faults"})

    assert (stopped.passed, accepted.passed, other.passed) == (False, True, False)
    assert "a date loses 50 % of its readings, expected at most 1 %" in accepted.warnings[0]
    assert {"faults", "removals", "reference-faults"} == acceptable(EXPECTATIONS)


def test_result_that_is_cut_off__should_not_fail_the_next_report(tmp_path: Path) -> None:
    reported(tmp_path, "load-1", 1)
    (result, *_) = tmp_path.rglob("silver.product.json")
    result.write_text("")

    reported(tmp_path, "load-2", 2)

    assert "load-2" in (tmp_path / INDEX).read_text()


def test_fact__should_be_counted_and_be_no_warning(spark: SparkSession, tmp_path: Path) -> None:
    cancelled = first(agreement_valid_to=date(2020, 6, 1))

    verdict = verdict_on(spark, "silver.agreement", tmp_path, cancelled)

    assert (verdict.passed, verdict.warnings) == (True, ())
    assert verdict.notes == ("agreements that end on the day they begin: 1, expected none",)


@pytest.mark.parametrize("table", [BY_PRODUCT, DAILY_BY_PRODUCT])
def test_product_mart__should_only_warn_while_no_agreement_is_known(
    spark: SparkSession, table: str, tmp_path: Path
) -> None:
    verdict = verdict_on(spark, table, tmp_path, none, given(kwh_with_agreement=Decimal(0)))

    assert verdict.critical == ()
    assert len(verdict.warnings) == 1


def test_measure__should_give_every_measure_exactly(spark: SparkSession) -> None:
    rows, _ = good("silver.readings")
    suite = load_suite(EXPECTATIONS, "silver.readings")

    measures = measure(frame(spark, "silver.readings", rows), suite)

    assert set(measures) == {*suite.measures, *(name for grouping in suite.groups for name in grouping["measures"])}
    assert (measures["rows"], measures["min_kwh"], measures["max_kwh"]) == (48, Decimal("0.1"), Decimal("0.147"))
    assert measures["mean_kwh"] == pytest.approx(0.1235)


@pytest.mark.parametrize(
    "sql",
    [
        "max(region",
        "max(regoin)",
        "no_such(region)",
        "max(region) = 'London'",
        "count_if(region LIKE 'L\\\\_%')",
        "avg(length(region))",
        "count_if(from_utc_timestamp(region, 'Europe/London') IS NULL)",
    ],
)
def test_measure_that_cannot_be_taken__should_be_told_with_its_table(
    spark: SparkSession, sql: str, tmp_path: Path
) -> None:
    definition = json.loads((EXPECTATIONS / "silver.meterpoint.json").read_text())
    definition["meta"]["measures"]["odd"] = sql
    (tmp_path / "silver.meterpoint.json").write_text(json.dumps(definition))
    rows, _ = good("silver.meterpoint")

    with pytest.raises(SuiteError, match=r"^silver\.meterpoint: measure odd: ") as error:
        measure_in_memory(frame(spark, "silver.meterpoint", rows).toArrow(), load_suite(tmp_path, "silver.meterpoint"))

    assert "\n" not in str(error.value)


def test_expectation_of_the_developers_guide__should_judge_as_it_says(spark: SparkSession, tmp_path: Path) -> None:
    """The guide adds a measure of the rows, a second grouping, and an expectation of each."""
    text = (EXPECTATIONS.parent / "docs" / "development.md").read_text()
    added = json.loads("".join(re.findall(r"```json\n(.*?)```", text, re.DOTALL)))
    definition = json.loads((EXPECTATIONS / f"{READINGS}.json").read_text())
    definition["meta"]["measures"] |= added["measures"]
    definition["meta"]["groups"].append(added["groups"])
    definition["expectations"] += added["expectations"]
    (tmp_path / f"{READINGS}.json").write_text(json.dumps(definition))
    suite = load_suite(tmp_path, READINGS)
    rows, known = good(READINGS)
    warnings = []
    for kwh in ("0.3", "9"):
        rows[0]["consumption_kwh"] = Decimal(kwh)
        measures = {**measure(frame(spark, READINGS, rows), suite), **known}
        verdict = judge(suite, measures, load_id="L1", loaded_at=LOADED_AT, reports=tmp_path)
        warnings.append(verdict.warnings)

    assert warnings == [
        (),
        (
            "2.1 % of readings are above 8 kWh, expected at most 0.1 %",
            "files with a reading above 8 kWh: 1, expected none",
        ),
    ]


@pytest.mark.parametrize("name", ["duplicate_readings", "flat_day_share", "rows_expected"])
def test_missing_measure__should_be_critical_whatever_the_severity(name: str, tmp_path: Path) -> None:
    suite = load_suite(EXPECTATIONS, "silver.readings")
    measures = {key: value for key, value in some_measures(suite).items() if key != name}

    verdict = judge(suite, measures, load_id="L1", loaded_at=LOADED_AT, reports=tmp_path)

    assert not verdict.passed
    assert any(failure.endswith(f"could not be evaluated: no measure {name}") for failure in verdict.critical)


def test_exception_in_an_expectation__should_be_critical(tmp_path: Path) -> None:
    suite = load_suite(EXPECTATIONS, "silver.readings")
    measures = {**some_measures(suite), "zero_share": "a tenth"}  # text cannot be compared with a limit

    verdict = judge(suite, measures, load_id="L1", loaded_at=LOADED_AT, reports=tmp_path)

    assert not verdict.passed
    assert any("zero" in failure and "could not be evaluated" in failure for failure in verdict.critical)


@pytest.mark.parametrize(
    ("table", "name", "passed"),
    [
        (FILES, "files_at_fault_share_of_many", True),
        (FILES, "removed_share", True),
        ("silver.product", "rejected_share", True),
        (READINGS, "duplicate_readings", False),
    ],
)
def test_null_measure__should_pass_only_where_the_suite_allows_it(
    table: str, name: str, passed: bool, tmp_path: Path
) -> None:
    suite = load_suite(EXPECTATIONS, table)
    measures = {**some_measures(suite), name: None}

    verdict = judge(suite, measures, load_id="L1", loaded_at=LOADED_AT, reports=tmp_path)

    assert verdict.passed is passed
    assert passed or f"{name} is no value, expected 0" in verdict.critical[0]


def reported(reports: Path, load_id: str, day: int, **spoilt: Measure) -> list[Verdict]:
    """Judge two tables of a load and build the docs."""
    verdicts = []
    for table in ("silver.readings", "silver.product"):
        suite = load_suite(EXPECTATIONS, table)
        measures = some_measures(suite) | (spoilt if table == "silver.readings" else {})
        loaded_at = LOADED_AT + timedelta(days=day)
        verdicts.append(judge(suite, measures, load_id=load_id, loaded_at=loaded_at, reports=reports))
    assert build_docs(reports) == reports / INDEX
    return verdicts


def test_index__should_show_all_loads_newest_first(tmp_path: Path) -> None:
    earlier = reported(tmp_path, "load-1", 0)
    old_page = (tmp_path / earlier[0].page).stat()
    later = reported(tmp_path, "load-2", 1, duplicate_readings=2, zero_share=0.5)

    index = (tmp_path / INDEX).read_text()

    assert index.index("load-2") < index.index("load-1")
    for verdict in earlier + later:
        assert f'href="{verdict.page}"' in index
        assert (tmp_path / verdict.page).is_file()
    assert "1 critical" in index
    assert "1 warning" in index
    assert "2021-01-07 07:30:00 UTC" in index
    assert (tmp_path / earlier[0].page).stat().st_mtime_ns == old_page.st_mtime_ns, "only new results are rendered"


def test_index__should_leave_old_loads_to_their_pages(tmp_path: Path) -> None:
    old = reported(tmp_path, "load-00", 0)
    suite = load_suite(EXPECTATIONS, "silver.product")
    for number in range(1, LISTED + 1):
        load_id = f"load-{number:02}"
        judge(suite, some_measures(suite), load_id=load_id, loaded_at=LOADED_AT, reports=tmp_path)

    index = build_docs(tmp_path).read_text()

    assert "load-00" not in index
    assert index.count("<tbody") == LISTED
    assert all((tmp_path / verdict.page).is_file() for verdict in old)


def test_page__should_say_rule_value_limit_and_reason(tmp_path: Path) -> None:
    [readings, _] = reported(tmp_path, "load-1", 0, duplicate_readings=2)

    page = (tmp_path / readings.page).read_text()

    for text in ("silver.readings", "load-1", "No meterpoint is read twice in one half hour", "Critical failures"):
        assert text in page
    assert re.search(r"<b>2</b>\s*<code[^>]*>duplicate_readings</code>", page)
    for name in ("index.html", INDEX):
        [link] = re.findall(rf'href="([./]+{re.escape(name)})"', page)
        assert ((tmp_path / readings.page).parent / link).resolve() == (tmp_path / name).resolve()


def test_docs__should_load_nothing_and_link_to_nothing_outside(tmp_path: Path) -> None:
    reported(tmp_path, "load-1", 0, duplicate_readings=2, zero_share=0.5)

    pages = list(tmp_path.rglob("*.html"))

    assert len(pages) == 3
    for page in pages:
        html = page.read_text()
        assert not re.search(r"https?://|//[\w.-]+\.\w+/|@import|url\(", html)
        assert not re.search(r"<(script|img|iframe|object)[^>]*\bsrc=", html)
        assert "default-src 'none'" in html


def test_docs__should_render_what_an_earlier_run_left_unrendered(tmp_path: Path) -> None:
    suite = load_suite(EXPECTATIONS, "silver.product")
    verdict = judge(suite, some_measures(suite), load_id="killed", loaded_at=LOADED_AT, reports=tmp_path)

    reported(tmp_path, "load-2", 1)

    assert (tmp_path / verdict.page).is_file()


def test_judging_again__should_replace_the_result_and_its_page(tmp_path: Path) -> None:
    reported(tmp_path, "load-1", 0, duplicate_readings=2)
    [readings, _] = reported(tmp_path, "load-1", 0)

    assert "Critical failures: not" not in (tmp_path / readings.page).read_text()
    assert "1 critical" not in (tmp_path / INDEX).read_text()


def test_text_from_data__should_be_escaped(tmp_path: Path) -> None:
    suite = load_suite(EXPECTATIONS, "silver.product")
    hostile = {**some_measures(suite), "regions <script>": "<script>alert(1)</script>"}

    verdict = judge(suite, hostile, load_id="load-1", loaded_at=LOADED_AT, reports=tmp_path)
    build_docs(tmp_path)

    assert "<script>" not in (tmp_path / verdict.page).read_text()


def test_results__should_be_kept_as_native_json(tmp_path: Path) -> None:
    reported(tmp_path, "load-1", 0)

    [result] = [json.loads(path.read_text()) for path in tmp_path.rglob("silver.readings.json")]

    assert result["success"] is True
    assert result["suite_name"] == "silver.readings"
    assert {r["expectation_config"]["severity"] for r in result["results"]} == {"critical", "warning"}


def test_quality__should_print_nothing_and_import_great_expectations_only_to_judge(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom datetime import UTC, datetime\nfrom pathlib import Path\nfrom jobs.quality import *\n"
        "assert 'great_expectations' not in sys.modules\n"
        f"suite = load_suite(Path({str(EXPECTATIONS)!r}), 'silver.product')\n"
        f"judge(suite, {{}}, load_id='L', loaded_at=datetime.now(UTC), reports=Path({str(tmp_path)!r}))\n"
        f"build_docs(Path({str(tmp_path)!r}))\n"
    )

    environment = {"PYTHONPATH": str(EXPECTATIONS.parent), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=120, check=False, env=environment
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
