"""What follows from the values that the front page shows."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest

from jobs import reference
from jobs.check import Finding, Level, deadline_of, expected_date
from jobs.readings import rules
from jobs.reports.advice import ADVICE, UNKNOWN, advice
from jobs.reports.facts import Recorded, from_json, of_recorded, same_warning, to_json
from jobs.reports.overview import (
    DAYS,
    Cell,
    DayCompleteness,
    DayTotal,
    days,
    months,
    rejected,
    since_yesterday,
    verdict,
    warned,
    weeks,
    years,
)
from jobs.settings import Settings
from tests.unit.reports import samples

NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
NEWEST = date(2026, 11, 26)


def total(day: date) -> DayTotal:
    return DayTotal(day, 48, Decimal("12"))


def complete(day: date, received: int = 48) -> DayCompleteness:
    return DayCompleteness(day, 48, received, int(received == 48), int(received == 0), 1)


@pytest.mark.parametrize(
    ("levels", "title"),
    [
        ({}, "Nothing is known yet"),
        ({"load": "ok", "disk": "ok"}, "Right and fresh"),
        ({"load": "ok", "disk": "warning"}, "1 warning: disk"),
        ({"snapshot": "warning", "delivery": "critical", "disk": "warning"}, "1 alarm: delivery; 2 warnings"),
        ({"delivery": "critical", "load": "critical"}, "2 alarms: delivery, load"),
    ],
)
def test_verdict__should_name_what_is_worst(levels: dict[str, str], title: str) -> None:
    assert verdict([Finding(name, Level[level], "") for name, level in levels.items()]).title == title


def test_days__should_show_dates_without_readings() -> None:
    bars = days([total(NEWEST - timedelta(days=3)), total(NEWEST)])

    assert [bar.readings for bar in bars] == [48, None, None, 48]


def test_days__should_end_with_the_newest_and_be_no_more_than_13_weeks() -> None:
    bars = days([total(NEWEST - timedelta(days=number)) for number in range(400, -1, -1)])

    assert (len(bars), bars[-1].date) == (DAYS, NEWEST)


def test_months__should_hold_every_month_before_the_days() -> None:
    totals = [total(date(2026, 1, 31)), total(date(2026, 3, 1)), total(date(2026, 3, 2)), total(NEWEST)]

    found = {bar.date: (bar.readings, bar.kwh) for bar in months(totals)}

    assert list(found) == [date(2026, month, 1) for month in range(1, 9)]
    assert found[date(2026, 2, 1)] == (None, None)
    assert found[date(2026, 3, 1)] == (96, Decimal("24"))


def test_months__should_be_none_where_the_days_show_all() -> None:
    assert months([total(NEWEST - timedelta(days=DAYS - 1)), total(NEWEST)]) == []
    assert months([]) == days([]) == []


@pytest.mark.parametrize(
    ("expected", "received", "percent", "exact", "shade"),
    [
        (1000, 1000, 100, "100", "full"),
        (1000, 999, 99, "99.9", "high"),
        (100_000, 99_999, 99, "99.9", "high"),
        (1000, 989, 98, "98.9", "good"),
        (1000, 800, 80, "80.0", "fair"),
        (1000, 1, 0, "0.1", "low"),
        (1000, 0, 0, "0", "none"),
        (0, 0, None, "None", "unknown"),
    ],
)
def test_cell__should_round_down(expected: int, received: int, percent: int | None, exact: str, shade: str) -> None:
    cell = Cell(NEWEST, expected, received)

    assert (cell.percent, cell.exact, cell.shade) == (percent, exact, shade)


def test_weeks__should_run_from_monday_to_sunday_the_newest_first() -> None:
    thursday = NEWEST
    rows = weeks([complete(thursday - timedelta(days=8), 24), complete(thursday)])

    assert [[cell and cell.date.day for cell in row] for row in rows] == [
        [23, 24, 25, 26, None, None, None],
        [None, None, 18, 19, 20, 21, 22],
    ]
    assert [cell.shade for cell in rows[1] if cell] == ["low", *["unknown"] * 4]


def test_years__should_sum_a_month_and_leave_out_what_is_not_there() -> None:
    by_year = years([complete(date(2024, 12, 30)), complete(date(2024, 12, 31), 0), complete(NEWEST)])

    assert [year for year, _ in by_year] == [2026, 2025, 2024]
    december = by_year[2][1][11]
    assert december and december.percent == 50
    assert by_year[1][1] == [None] * 12


def test_rejected__should_count_by_reason_and_forget_after_thirty_days() -> None:
    loads = [
        samples.load(NOW, rejected={"a": 1}),
        samples.load(NOW - timedelta(days=29), rejected={"a": 2, "b": 9}),
        samples.load(NOW - timedelta(days=31), rejected={"a": 4, "c": 1}),
    ]

    found = rejected(loads, NOW)

    assert [(each.reason, each.newest, each.recent) for each in found] == [("a", 1, 3), ("b", 0, 9)]
    assert [each.last_load for each in found] == [loads[0].load_id, loads[1].load_id]


def test_rejected__should_take_the_newest_load_that_read_files() -> None:
    loads = [samples.load(NOW, kind="rollback", files={}), samples.load(NOW - timedelta(days=1), rejected={"a": 5})]

    assert [(each.reason, each.newest) for each in rejected(loads, NOW)] == [("a", 5)]


def test_warned__should_tell_new_warnings_from_those_that_were_there() -> None:
    def of(day: int, *notes: str) -> object:
        return samples.load(NOW - timedelta(days=day), notes=notes, checks=(replace(usual, warnings=()),))

    usual = samples.load(NOW).checks[0]
    loads = [of(0, "7 % are late", "new one"), of(1, "gone"), of(2, "12.5 % are late"), of(3, "3 % are late")]

    found = warned(loads, NOW)  # type: ignore[arg-type]

    assert [(each.text, each.earlier, each.since) for each in found] == [
        ("new one", 0, None),
        ("7 % are late", 2, NOW - timedelta(days=3)),
    ]


def test_since_yesterday__should_count_days_of_the_calendar() -> None:
    loads = [samples.load(NOW - timedelta(days=day), rows_rejected=1, files={"rejected": 10}) for day in range(4)]

    assert since_yesterday(loads, NOW) == (2, 20)


def test_same_warning__should_ignore_numbers_alone() -> None:
    assert same_warning("x is 1,234.5, expected 0 to 0.05") == same_warning("x is 7, expected 0 to 0.05")
    assert same_warning("x is 7") != same_warning("y is 7")


def test_facts__should_be_the_same_when_read_again() -> None:
    for of_load in samples.rich_loads():
        assert from_json(to_json(of_load).encode()) == of_load


def test_facts__should_be_made_of_rows_that_an_older_version_recorded() -> None:
    row = dict.fromkeys(
        ("kind", "rejected_by_reason", "first_date", "last_date", "snapshot_date", "warnings_by_name", "accepted")
    ) | {"load_id": "20210101T000000-0", "status": "published", "started_at": NOW, "finished_at": NOW, "error": None}
    row |= dict.fromkeys(("readings_loaded", "readings_rejected", "dates_published", "mart_dates_published"), 0)
    row |= {"stage_seconds": None}

    [of_load] = of_recorded(Recorded([row], {}, {}, {}, {}, {}), {})

    assert (of_load.kind, of_load.state, of_load.rejected, of_load.balanced) == ("load", "published", {}, True)


def test_advice__should_be_there_for_every_reason_and_no_other() -> None:
    reasons = [rules.FileReason, rules.RowReason, rules.NotKept, rules.Warning, reference.Reason, reference.RowReason]

    assert set(ADVICE) == {name for kind in reasons for name in get_args(kind)}
    assert advice("a reason of a later version") == UNKNOWN


@pytest.mark.parametrize(
    ("day", "deadline"),
    [
        (date(2026, 11, 26), "2026-11-27T08:30:00+00:00"),
        (date(2026, 3, 28), "2026-03-29T07:30:00+00:00"),  # clocks go forward
        (date(2026, 10, 24), "2026-10-25T08:30:00+00:00"),  # and back
    ],
)
def test_deadline__should_be_when_one_more_date_is_expected(day: date, deadline: str) -> None:
    settings = Settings()

    found = deadline_of(settings, day)

    assert found == datetime.fromisoformat(deadline)
    assert expected_date(settings, found) == day
    assert expected_date(settings, found - timedelta(seconds=1)) == day - timedelta(days=1)
