"""Which days of loads are folded into which partition."""

from datetime import date
from pathlib import Path

import pytest

from jobs import compact
from jobs.compact import OF_MONTH, OF_YEAR, Fold, groups, kept_for_some_months
from jobs.ledger.days import last_of_month, last_of_year, last_that_is_over, partitions_of
from jobs.settings import Settings
from jobs.tables import REJECTED_FILES, REJECTED_READINGS, REJECTED_REFERENCE

UNTIL = date(2026, 2, 28)


@pytest.mark.parametrize(
    ("day", "last"),
    [("2024-02-01", "2024-02-29"), ("2026-02-28", "2026-02-28"), ("2026-12-31", "2026-12-31")],
)
def test_last_of_month(day: str, last: str) -> None:
    assert str(last_of_month(date.fromisoformat(day))) == last


def test_rows_of_a_day_are_in_its_partition_or_in_that_of_its_month_or_year() -> None:
    assert partitions_of([date(2026, 2, 3)]) == {"2026-02-03", "2026-02-28", "2026-12-31"}
    assert str(last_of_year(date(2026, 2, 3))) == "2026-12-31"


@pytest.mark.parametrize(
    ("today", "last"),
    [("2026-03-02", "2026-01-31"), ("2026-03-03", "2026-02-28"), ("2026-01-03", "2025-12-31")],
)
def test_a_month_is_over_some_days_after_its_end(today: str, last: str) -> None:
    assert str(last_that_is_over(date.fromisoformat(today))) == last


def test_a_small_year_that_is_over_is_folded_whole_and_later_days_by_month() -> None:
    sizes = dict.fromkeys(["2025-03-01", "2025-11-30", "2026-01-02", "2026-01-31", "2026-02-01"], 1)

    assert groups(sizes, UNTIL, "") == {
        "2025-12-31": ["2025-03-01", "2025-11-30"],
        "2026-01-31": ["2026-01-02", "2026-01-31"],
    }


def test_months_of_a_large_year_are_folded_where_they_are_small() -> None:
    sizes = {"2025-03-01": 1, "2025-03-02": 1, "2025-04-01": OF_YEAR, "2025-05-01": OF_MONTH, "2025-05-02": 1}

    assert groups(sizes, UNTIL, "") == {"2025-03-31": ["2025-03-01", "2025-03-02"]}


def test_what_was_looked_at_before_is_not_looked_at_again() -> None:
    sizes = dict.fromkeys(["2025-12-01", "2025-12-02", "2026-01-02", "2026-01-03", "2026-02-01", "2026-02-03"], 1)

    assert groups(sizes, UNTIL, "2026-01-31") == {"2026-02-28": ["2026-02-01", "2026-02-03"]}


def test_months_are_folded_into_their_year() -> None:
    months = ["2025-11-30", "2025-12-01", "2025-12-31"]

    assert groups(dict.fromkeys(months, 1), UNTIL, "2025-11-30") == {"2025-12-31": months}


def test_what_is_kept_for_some_months_stays_by_day(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, keep_quarantine_months=12, keep_superseded_months=0)

    assert kept_for_some_months(settings) == {REJECTED_READINGS, REJECTED_FILES, REJECTED_REFERENCE}


def test_a_load_folds_the_oldest_first_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "MOST", 5)
    first, then, last = (
        Fold("ops.loads", value, "folder", {f"{value}-{day}": "" for day in range(days)})
        for value, days in (("2025-01-31", 3), ("2025-02-28", 2), ("2025-03-31", 1))
    )

    assert compact.some_of([last, then, first]) == [first, then]
    assert compact.some_of([first._replace(parts=dict.fromkeys(map(str, range(9)), ""))]) != []
    assert compact.some_of([]) == []
