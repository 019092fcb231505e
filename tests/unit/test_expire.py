"""Until when something is kept."""

from datetime import UTC, date, datetime

import pytest
from pydantic import ValidationError

from jobs.expire import first_day, local_today, months_before
from jobs.settings import Settings


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        (date(2021, 3, 15), 1, date(2021, 2, 15)),
        (date(2021, 3, 31), 1, date(2021, 2, 28)),
        (date(2024, 3, 31), 1, date(2024, 2, 29)),
        (date(2021, 1, 31), 1, date(2020, 12, 31)),
        (date(2021, 12, 31), 14, date(2020, 10, 31)),
        (date(2021, 1, 1), 12, date(2020, 1, 1)),
        (date(2021, 12, 5), 24, date(2019, 12, 5)),
    ],
)
def test_months_are_those_of_the_calendar(day: date, months: int, expected: date) -> None:
    assert months_before(day, months) == expected


def test_what_has_no_setting_is_kept_for_ever() -> None:
    assert first_day(0, date(2021, 1, 1)) is None
    assert first_day(24, date(2021, 1, 1)) == date(2019, 1, 1)


def test_a_time_that_no_calendar_reaches_back_to_is_a_mistake_of_the_setting() -> None:
    assert first_day(Settings(keep_readings_months=1200).keep_readings_months, date(2021, 1, 1)) == date(1921, 1, 1)
    with pytest.raises(ValidationError):
        Settings(keep_readings_months=30_000)


def test_today_is_the_local_date() -> None:
    assert local_today(datetime(2021, 6, 30, 23, 30, tzinfo=UTC)) == date(2021, 7, 1)
