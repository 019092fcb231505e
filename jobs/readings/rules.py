"""What a row of a readings file may say. docs/rules.md tells what each reason means and what to do."""

import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

TIME_ZONE = "Europe/London"
MAX_KWH = 100  # no household's supply delivers more in half an hour; more is a fault of meter or file
FIRST_DATE, LAST_DATE = date(2000, 1, 1), date(2099, 12, 31)  # before smart meters or far ahead: a fault of the clock
LONGEST_ID = 256
LONGEST_QUALITY = 32
FORM = "YYYY-MM-DD HH:MM:SS"
COLUMNS = ("interval_start", "consumption_delta", "meterpoint_id")
# Where senders write whether a reading is actual or estimated; of several the first one counts.
QUALITY_COLUMNS = ("reading_quality", "quality", "reading_type", "read_type", "estimated", "is_estimated")
EPOCH = datetime(1970, 1, 1)
HALF_HOUR, HOUR, DAY = 1_800_000_000, 3_600_000_000, 86_400_000_000  # microseconds

FileReason = Literal[
    "unreadable",  # this and the next are found where files are opened, in landing.py
    "outside_landing",
    "not_gzip",
    "too_large",
    "empty_file",
    "not_json",
    "key_twice",
    "not_an_object",
    "columns_missing",
    "data_missing",
    "column_missing",
    "columns_not_distinct_names",
    "columns_differ",
]
RowReason = Literal[
    "wrong_length",
    "meterpoint_id_not_text",
    "meterpoint_id_empty",
    "meterpoint_id_too_long",
    "meterpoint_id_padded_or_invisible",
    "meterpoint_id_spreadsheet_number",
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
    "day_held_quarter_hours",
    "day_held_minutes",
    "day_held_off_grid",
    "day_held_register",
    "day_held_watt_hours",
    "day_held_absurd",
]
# Rows that are counted, and neither loaded nor put into quarantine.
NotKept = Literal["erased"]
Warning = Literal[
    "repeated_hour_not_told",
    "hourly_values",
    "rising_values",
    "whole_numbers",
    "stamps_at_interval_end",
    "date_not_kept",
]


class FileRejected(Exception):
    """A file that gives no rows: its reason, and what exactly is wrong."""

    def __init__(self, reason: FileReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class LocalTime(NamedTuple):
    """A time on the clocks of TIME_ZONE, in microseconds since 1970."""

    start: int  # what the clock shows, as if it were UTC
    utc: int  # the instant; where there are two, the first
    instants: int  # 2 for the half hours of October that occur twice, else 1


class Row(NamedTuple):
    """What a row says, as far as it can be told, and the rule that it breaks by itself."""

    meterpoint_id: str | None = None
    date: int | None = None  # days since 1970
    time: LocalTime | None = None  # also off the half hours; None where the reason is one of the time
    consumption_kwh: float | None = None  # also more than MAX_KWH; None where the reason is one of the consumption
    reason: RowReason | None = None


def judged(values: Any, width: int, order: list[int], modified_at: int) -> Row:
    """A row without regard to the others of its file. `order` says where the values of COLUMNS are, `modified_at`
    when the file was written, in microseconds UTC."""
    if not isinstance(values, list) or len(values) != width:
        return Row(reason="wrong_length")
    start, consumption, meterpoint_id = (values[index] for index in order)
    if not is_text(meterpoint_id):
        return Row(date=date_of(start), reason="meterpoint_id_not_text")
    if fault := fault_of_id(meterpoint_id):
        return Row(date=date_of(start), reason=fault)
    time = local_time(start) if isinstance(start, str) and len(start) == len(FORM) else "interval_start_not_a_timestamp"
    if not isinstance(time, LocalTime):
        return Row(meterpoint_id, date_of(start), reason=time)
    row = Row(meterpoint_id, time.start // DAY, time)
    if time.utc > modified_at:
        return row._replace(time=None, reason="interval_start_after_file")
    if fault := fault_of_consumption(consumption):
        # Off the half hours the whole day is at fault, and says more than the consumption of one row.
        return row._replace(reason=None if time.start % HALF_HOUR else fault)
    return row._replace(consumption_kwh=float(consumption))


def is_text(value: Any) -> bool:
    """False too for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not _SURROGATE.search(value)


_SURROGATE = re.compile("[\ud800-\udfff]")
# Numbers as spreadsheets write them. `1234567e12` is none: ids of hexadecimal digits look like this.
_SPREADSHEET_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+[eE][+-]?[0-9]+|[eE]\+[0-9]+|\.0+)")
# Drawn as nothing, though Unicode calls them letters, marks or symbols.
_DRAWN_AS_NOTHING = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def fault_of_id(text: str) -> RowReason | None:
    """The rule that a meterpoint's id breaks: two ids that look alike must not be two meterpoints."""
    if len(text) <= LONGEST_ID:
        # Of letters and digits alone, as nearly all are, nothing is at fault.
        return None if text.isascii() and text.isalnum() else _fault_of_id(text)
    # Not remembered: a hundred thousand long ones are more than memory holds.
    is_blank = all(unicodedata.category(character)[0] in "CZ" for character in text)
    return "meterpoint_id_empty" if is_blank else "meterpoint_id_too_long"


@lru_cache(maxsize=100_000)
def _fault_of_id(text: str) -> RowReason | None:
    hidden = [character for character in text if unicodedata.category(character)[0] in "CZ"]
    if len(hidden) == len(text):
        return "meterpoint_id_empty"
    if set(hidden) - {" "} or text.strip() != text or _DRAWN_AS_NOTHING.search(text):
        return "meterpoint_id_padded_or_invisible"
    if not unicodedata.is_normalized("NFC", text):
        return "meterpoint_id_padded_or_invisible"
    return "meterpoint_id_spreadsheet_number" if _SPREADSHEET_NUMBER.fullmatch(text) else None


def clock(text: Any) -> datetime | None:
    """The time that a text of FORM shows; None of another."""
    if not isinstance(text, str):
        return None
    form = re.fullmatch("([0-9]{4})-([0-9]{2})-([0-9]{2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", text)
    try:
        if form:
            year, month, day, hour, minute, second = map(int, form.groups())
            return datetime(
                year or 4, month, day, hour, minute, second
            )  # Python has no year 0; 4 is out of range as well
    except ValueError:
        pass
    return None


def spelling(text: str) -> str:
    """An id in the one spelling that rows are loaded with: what `fault_of_id` finds fault with is put right, if it can
    be. Capitals stay: they make another id."""
    return _short_spelling(text) if len(text) <= LONGEST_ID else _spelling(text)


def _spelling(text: str) -> str:
    shown = _DRAWN_AS_NOTHING.sub("", unicodedata.normalize("NFC", text))
    return "".join(each for each in shown if each == " " or unicodedata.category(each)[0] not in "CZ").strip()


_short_spelling = lru_cache(maxsize=100_000)(_spelling)


def date_of(text: Any) -> int | None:
    """The local date of a text of FORM as days since 1970."""
    shown = clock(text)
    return (shown - EPOCH).days if shown else None


@lru_cache(maxsize=100_000)  # files that come together are of the same days; these are the half hours of five years
def local_time(text: str) -> LocalTime | RowReason:
    """The time that a text tells, or the rule that it breaks. Times off the half hours are for days.py to judge."""
    local = clock(text)
    if local is None:
        return "interval_start_not_a_timestamp"
    if not FIRST_DATE <= local.date() <= LAST_DATE:
        return "interval_start_out_of_range"
    utc = local.replace(tzinfo=ZoneInfo(TIME_ZONE)).astimezone(UTC)
    start, instant = ((time - EPOCH) // timedelta(microseconds=1) for time in (local, utc.replace(tzinfo=None)))
    if start % HALF_HOUR:
        return LocalTime(start, instant, 1)
    if _on_the_clock(utc) != local:
        return "interval_start_does_not_exist"
    return LocalTime(start, instant, 2 if _on_the_clock(utc + timedelta(hours=1)) == local else 1)


def _on_the_clock(instant: datetime) -> datetime:
    return instant.astimezone(ZoneInfo(TIME_ZONE)).replace(tzinfo=None)


def fault_of_consumption(value: Any) -> RowReason | None:
    """The rule that a consumption breaks. How large it may be depends on its day: see days.py."""
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


def quality_column(columns: Iterable[str]) -> str | None:
    """The column that says whether a reading is actual or estimated."""
    by_name = {name.lower(): name for name in columns}
    return next((by_name[name] for name in QUALITY_COLUMNS if name in by_name), None)


def quality(value: Any, column: str) -> str | None:
    """A for an actual reading, E for an estimated one, else what was delivered, trimmed; None where nothing was."""
    if isinstance(value, bool) or value is None:
        text = {True: "true", False: "false", None: ""}[value]
    else:
        text = str(value).strip() if is_text(value) or (isinstance(value, int) and abs(value) < 10**9) else ""
    word = text.lower()
    if "estimated" in column.lower():  # such a column asks whether, not what
        word = {"true": "e", "yes": "e", "y": "e", "1": "e", "false": "a", "no": "a", "n": "a", "0": "a"}.get(
            word, word
        )
    if word in ("a", "actual", "e", "estimated", "estimate"):
        return word[0].upper()
    return (text.upper() if len(text) == 1 else text[:LONGEST_QUALITY].strip()) or None
