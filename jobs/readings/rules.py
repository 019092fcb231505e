"""The rules of a single row of a readings file. docs/rules.md says what each reason means and what to do."""

import math
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

TIME_ZONE = "Europe/London"
MAX_KWH = 100  # a household's supply cannot deliver it in half an hour; more is a fault of meter or file
FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2099, 12, 31)  # before smart meters or far ahead: a fault of the clock
FORM = "YYYY-MM-DD HH:MM:SS"
EPOCH = datetime(1970, 1, 1)
HALF_HOUR, HOUR, DAY = 1_800_000_000, 3_600_000_000, 86_400_000_000  # microseconds
LONGEST_ID = 256
COLUMNS = ("interval_start", "consumption_delta", "meterpoint_id")
# Columns that say whether a reading is actual or estimated; the first one that a file has.
QUALITY_COLUMNS = ("reading_quality", "quality", "reading_type", "read_type", "estimated")
LONGEST_QUALITY = 32

FileReason = Literal[
    "unreadable",  # this and the next two are found where files are opened, landing.py
    "outside_landing",
    "too_large",
    "not_gzip",
    "empty_file",
    "not_json",
    "not_an_object",
    "key_twice",
    "columns_missing",
    "data_missing",
    "column_missing",
    "columns_not_distinct_names",
]
RowReason = Literal[
    "wrong_length",
    "meterpoint_id_not_text",
    "meterpoint_id_empty",
    "meterpoint_id_padded_or_invisible",
    "meterpoint_id_spreadsheet_number",
    "meterpoint_id_too_long",
    "interval_start_not_a_timestamp",
    "interval_start_out_of_range",
    "interval_start_does_not_exist",
    "interval_start_after_file",
    "consumption_null",
    "consumption_not_a_number",
    "consumption_not_finite",
    "consumption_negative",
    "conflicting_readings",
    "duplicate_reading",
    # Of a whole meterpoint-day, see days.py. The first two are of rows at fault, the others of the day's other rows.
    "interval_start_not_a_half_hour",
    "consumption_absurd",
    "day_of_quarter_hours",
    "day_off_the_grid",
    "day_in_watt_hours",
    "day_of_register_values",
    "day_with_absurd_values",
]
Warning = Literal[
    "repeated_hour_not_told",
    "stamps_at_interval_end",
    "hourly_values",
    "rising_values",
]


class FileRejected(Exception):
    """A file that cannot be read at all: its reason and what exactly is wrong."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class LocalTime(NamedTuple):
    """A time on the clocks of TIME_ZONE, in microseconds since 1970."""

    start: int  # what the clock shows, as if it were UTC
    utc: int  # the instant; where there are two, the first
    instants: int  # 2 in the hour of October that occurs twice, else 1
    on_grid: bool  # whether a half hour begins


@lru_cache(maxsize=100_000)  # files that come together are of the same days; these are the half hours of five years
def local_time(text: str) -> LocalTime | RowReason:
    """The time that a text as long as FORM tells, or the rule that it breaks."""
    form = re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", text)
    if not form:
        return "interval_start_not_a_timestamp"
    year, month, day, hour, minute, second = map(int, form.groups())
    try:
        local = datetime(year or 4, month, day, hour, minute, second)  # Python has no year 0; 4 is out of range as well
    except ValueError:
        return "interval_start_not_a_timestamp"
    if not FIRST_DATE <= local.date() <= LAST_DATE:
        return "interval_start_out_of_range"
    utc = local.replace(tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
    if _on_the_clock(utc) != local:
        return "interval_start_does_not_exist"
    start, instant = ((time - EPOCH) // timedelta(microseconds=1) for time in (local, utc.replace(tzinfo=None)))
    twice = _on_the_clock(utc + timedelta(hours=1)) == local
    return LocalTime(start, instant, 2 if twice else 1, not (local.minute % 30 or local.second))


def _on_the_clock(instant: datetime) -> datetime:
    return instant.astimezone(ZoneInfo(TIME_ZONE)).replace(tzinfo=None)


# A spreadsheet that takes an id for a number writes 7.22E+12. An id of hexadecimal digits may be 12e4567 and is good.
_SPREADSHEET_NUMBER = re.compile(r"[0-9]+[.,][0-9]+[eE][+-]?[0-9]{1,3}|[0-9]+[eE]\+[0-9]{1,3}")


@lru_cache(maxsize=100_000)
def fault_of_id(name: str) -> RowReason | None:
    """The rule that a text breaks as a meterpoint's id.

    Two ids that look alike must be one: so no blank at an end, and no character that cannot be seen. Capitals, blanks
    inside and accents are taken as they are; ids that the reference file does not know are counted after the load.
    """
    if not is_text(name):
        return "meterpoint_id_not_text"
    categories = [unicodedata.category(character) for character in name]
    if all(category[0] in "CZ" for category in categories):
        return "meterpoint_id_empty"
    if name != name.strip() or any(c[0] in "CZ" and x != " " for x, c in zip(name, categories, strict=True)):
        return "meterpoint_id_padded_or_invisible"
    if _SPREADSHEET_NUMBER.fullmatch(name):
        return "meterpoint_id_spreadsheet_number"
    return "meterpoint_id_too_long" if len(name) > LONGEST_ID else None


def fault_of_consumption(value: Any) -> RowReason | None:
    """The rule that a value breaks as kWh, but for MAX_KWH, which is judged with the day."""
    if value is None:
        return "consumption_null"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "consumption_not_a_number"
    try:
        number = float(value)
    except OverflowError:
        return "consumption_not_finite"
    if not math.isfinite(number):
        return "consumption_not_finite"
    return "consumption_negative" if number < 0 else None


def quality_of(value: Any) -> str | None:
    """What a file says of a reading: A for actual, E for estimated, or its own word."""
    if isinstance(value, bool):  # of a column `estimated`
        return "E" if value else "A"
    if not isinstance(value, str) or not is_text(value) or not value.strip():
        return None
    word = value.strip()[:LONGEST_QUALITY]
    return {"ACTUAL": "A", "ESTIMATED": "E", "ESTIMATE": "E"}.get(
        word.upper(), word.upper() if len(word) == 1 else word
    )


def is_text(value: Any) -> bool:
    """False too for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
